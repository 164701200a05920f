//! Sends the newest message of a key, which replaces one that still waits.

use std::sync::Arc;

use tokio::sync::watch;

use crate::latest::Due;
use crate::session::SessionHandle;
use crate::session::send::SendError;
use crate::session::shared::{Shared, Touched};
use crate::session::state::Inner;
use stillhere_proto::machine::{ConnectionKey, Phase};
use stillhere_proto::{EndReason, Lane, Limits, Message};

/// Why the newest message of a key was not taken. Contains the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendLatestError {
    /// The session has ended or is closing.
    #[error("the session has ended or is closing: {reason}")]
    Ended {
        /// Why the session has ended or closes.
        reason: EndReason,
        /// The message that was not taken.
        message: Message,
    },
    /// The message is above the session's limit and can never be sent.
    #[error("the message has {size} bytes, but this session's limit is {limit}")]
    TooLarge {
        /// Size of the message in bytes, after compression.
        size: u64,
        /// Largest size in bytes that the session accepts.
        limit: u64,
        /// The message that was not taken.
        message: Message,
    },
    /// The browser has not acknowledged the newest message of 1,024 other keys.
    #[error("messages of too many keys wait for the browser")]
    TooManyKeys(Message),
}

impl SendLatestError {
    /// Returns the original message.
    pub fn into_message(self) -> Message {
        let (Self::Ended { message, .. } | Self::TooLarge { message, .. } | Self::TooManyKeys(message)) = self;
        message
    }
}

impl From<SendError> for SendLatestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Ended { reason, message } => Self::Ended { reason, message },
            SendError::TooLarge { size, limit, message } => Self::TooLarge { size, limit, message },
        }
    }
}

impl SessionHandle {
    /// Sends the newest message of a key, on the interactive lane. It replaces one of the same key
    /// that waits. So messages that are set faster than they can be sent, or while the browser is
    /// away, take the memory of one, and one is sent.
    ///
    /// - *When it is sent*: once a connection has written everything that was sent before the key
    ///   began to wait. What is sent later may overtake it. Of one key at most 16 messages, or 64
    ///   KiB, are on their way at a time; the next one waits until the browser has acknowledged
    ///   one.
    /// - *Order*: the messages of a key arrive in order. Keys are sent in the order in which they
    ///   began to wait; a message that replaces another keeps its place.
    /// - *What was written stays*: a message that has been put on a connection is never replaced.
    ///   If that connection is lost, it is sent again, and the newest one follows.
    /// - A message that waits when the session closes is still delivered. When another document
    ///   takes over, it is dropped, as all other messages to the document before are.
    ///
    /// ```
    /// # use stillhere::{Hub, Session};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hub = Hub::new();
    /// let session = hub.open(|_: Session| async {});
    /// for percent in 0..=100_u8 {
    ///     session.send_latest("progress", [percent]).expect("the session is open");
    /// }
    /// assert_eq!(session.unacknowledged(), 1);
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns a [`SendLatestError`] with the message if the session has ended or is closing, if
    /// the message exceeds its limit, or if the newest message of 1,024 other keys is not
    /// acknowledged.
    pub fn send_latest(&self, key: &str, message: impl Into<Message>) -> Result<(), SendLatestError> {
        self.shared.send_latest(key, message.into())
    }

    /// Sends the value of a watch as [`SessionHandle::send_latest`] does, now and after each
    /// change, until the watch's sender is dropped or the session closes. Cancel safe.
    ///
    /// ```no_run
    /// # async fn function(session: stillhere::Session, progress: tokio::sync::watch::Receiver<String>) {
    /// tokio::select! {
    ///     followed = session.follow("progress", progress) => followed.expect("the texts are short"),
    ///     reason = session.ended() => println!("{reason}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::send_latest`] except [`SendLatestError::Ended`].
    pub async fn follow<T>(&self, key: &str, mut newest: watch::Receiver<T>) -> Result<(), SendLatestError>
    where
        T: Clone + Into<Message>,
    {
        loop {
            let value = newest.borrow_and_update().clone();
            match self.send_latest(key, value) {
                Ok(()) => {}
                Err(SendLatestError::Ended { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
            tokio::select! {
                biased;
                changed = newest.changed() => if changed.is_err() {
                    return Ok(());
                },
                _ = self.ended() => return Ok(()),
            }
        }
    }
}

impl Shared {
    fn send_latest(self: &Arc<Self>, key: &str, message: Message) -> Result<(), SendLatestError> {
        let message = self.pack(message)?;
        let refused = self.touch(|inner| match inner.set_latest(key, message, &self.options.limits) {
            Ok(()) => (None, Touched::Outbox),
            Err(refused) => (Some(refused), Touched::Nothing),
        });
        match refused {
            None => {
                self.end_outside_turn();
                Ok(())
            }
            Some((None, message)) => Err(SendLatestError::TooManyKeys(self.unpacked(message))),
            Some((Some(reason), message)) => {
                let message = self.unpacked(message);
                Err(SendLatestError::Ended { reason, message })
            }
        }
    }
}

impl Inner {
    /// Sets the newest message of a key. Returns a message for which there is no room, or with it
    /// the reason why the session closes.
    fn set_latest(&mut self, key: &str, message: Message, limits: &Limits) -> Result<(), (Option<EndReason>, Message)> {
        if let Phase::Ending(reason) | Phase::Closed(reason) = self.machine.phase() {
            return Err((Some(reason.clone()), message));
        }
        if let Some(reason) = self.refusal() {
            return Err((Some(reason), message));
        }
        if self.is_frozen() {
            return Err((Some(EndReason::Draining), message));
        }
        let latest = self.latest.get_or_insert_default();
        if !latest.admits(key) {
            return Err((None, message));
        }
        latest.set(key, message, self.machine.queued().interactive, limits);
        Ok(())
    }

    /// Queues the newest message of a key, if this connection carries the session and may have it
    /// now. Returns true if it has queued one.
    #[inline]
    pub(super) fn queue_latest(&mut self, connection: ConnectionKey) -> bool {
        self.latest.is_some() && !self.has_ledger() && self.queue_next_latest(connection)
    }

    /// Out of the way of sessions that have no newest messages.
    #[cold]
    fn queue_next_latest(&mut self, connection: ConnectionKey) -> bool {
        let Some(latest) = &mut self.latest else { return false };
        if self.gate.is_some() || !self.machine.is_attached(connection) {
            return false;
        }
        let Some(Due { key, charge, message }) = latest.poll(self.machine.written().interactive) else {
            return false;
        };
        self.machine.send(Lane::Interactive, message);
        latest.note_queued(key, charge, self.machine.queued().interactive);
        true
    }

    /// Queues the newest messages of all keys, because the session is about to close and nothing
    /// can be queued afterwards.
    #[cold]
    pub(super) fn queue_all_latest(&mut self) {
        for message in self.latest.take().into_iter().flat_map(|mut latest| latest.take_all()) {
            self.queue(Lane::Interactive, message);
        }
    }

    /// Forgets the newest messages that the browser has acknowledged.
    #[cold]
    pub(super) fn release_latest(&mut self) {
        if let Some(latest) = &mut self.latest {
            latest.acknowledge(self.machine.acknowledged().interactive);
        }
        self.latest.take_if(|latest| latest.is_empty());
    }
}
