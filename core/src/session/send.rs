//! Queues messages: errors, the order of senders, and waiting for room.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::compression::{deflate, inflate};
use crate::session::shared::{Shared, Touched};
use crate::session::state::Inner;
use stillhere_proto::machine::Phase;
use stillhere_proto::{EndReason, Lane, Limits, Message};

/// Why a message was not queued. Contains the message.
///
/// ```
/// # use stillhere::{Hub, SendError, Session};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let session = Hub::new().open(|_: Session| async {});
/// session.abort("no longer needed");
/// let error = session.send("the result").await.expect_err("the session has ended");
/// assert!(matches!(error, SendError::Ended { .. }));
/// // Keep it for the user's next session.
/// let result = error.into_message();
/// assert_eq!(&result[..], b"the result");
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session has ended or is closing.
    #[error("the session has ended or is closing: {reason}")]
    Ended {
        /// Why the session has ended or closes.
        reason: EndReason,
        /// The message that was not queued.
        message: Message,
    },
    /// The message is above the session's limit and can never be sent.
    #[error("the message has {size} bytes, but this session's limit is {limit}")]
    TooLarge {
        /// Size of the message in bytes, after compression.
        size: u64,
        /// Largest size in bytes that the session accepts.
        limit: u64,
        /// The message that was not queued.
        message: Message,
    },
}

/// Why a message was not queued without waiting. Contains the message.
///
/// ```
/// # use stillhere::{Hub, Session, TrySendError};
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
/// # let _guard = runtime.enter();
/// # let hub = Hub::new();
/// # let session = hub.open(|_: Session| async {});
/// let mut backlog = Vec::new();
/// for _ in 0..100 {
///     match session.try_send([0; 60_000]) {
///         Ok(()) => {}
///         Err(TrySendError::Full(message)) => backlog.push(message),
///         Err(error) => panic!("{error}"),
///     }
/// }
/// assert!(!backlog.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// The lane's outbox is full, because the browser is slow or away. `send` would wait.
    #[error("the session's outbox is full")]
    Full(Message),
    /// The session has ended or is closing.
    #[error("the session has ended or is closing: {reason}")]
    Ended {
        /// Why the session has ended or closes.
        reason: EndReason,
        /// The message that was not queued.
        message: Message,
    },
    /// The message is above the session's limit and can never be sent.
    #[error("the message has {size} bytes, but this session's limit is {limit}")]
    TooLarge {
        /// Size of the message in bytes, after compression.
        size: u64,
        /// Largest size in bytes that the session accepts.
        limit: u64,
        /// The message that was not queued.
        message: Message,
    },
}

impl SendError {
    /// Returns the original message.
    pub fn into_message(self) -> Message {
        let (Self::Ended { message, .. } | Self::TooLarge { message, .. }) = self;
        message
    }
}

impl TrySendError {
    /// Returns the original message.
    pub fn into_message(self) -> Message {
        let (Self::Full(message) | Self::Ended { message, .. } | Self::TooLarge { message, .. }) = self;
        message
    }
}

impl From<SendError> for TrySendError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Ended { reason, message } => Self::Ended { reason, message },
            SendError::TooLarge { size, limit, message } => Self::TooLarge { size, limit, message },
        }
    }
}

/// The sender of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Handle,
    /// The restore function for this document.
    Restore(u64),
}

impl Shared {
    /// Not an `async fn`: that would store its arguments twice, in every function that sends.
    pub(crate) fn send(
        self: &Arc<Self>,
        lane: Lane,
        message: Message,
        via: Via,
    ) -> impl Future<Output = Result<(), SendError>> {
        let mut message = Some(message);
        async move {
            self.pack_in_place(&mut message)?;
            if self.push(lane, &mut message, via)? {
                return Ok(());
            }
            let _waiting = Waiting::new(&self.senders);
            // Boxed, so that a function that sends is small while it waits for something else.
            let mut changed = Box::pin(self.changed.notified());
            loop {
                changed.as_mut().enable();
                if self.push(lane, &mut message, via)? {
                    return Ok(());
                }
                changed.as_mut().await;
                changed.set(self.changed.notified());
            }
        }
    }

    pub(crate) fn try_send(self: &Arc<Self>, lane: Lane, message: Message, via: Via) -> Result<(), TrySendError> {
        let mut message = Some(message);
        self.pack_in_place(&mut message)?;
        if self.push(lane, &mut message, via)? {
            return Ok(());
        }
        let message = message.expect("a message that is not queued is still here");
        Err(TrySendError::Full(self.unpacked(message)))
    }

    /// Does the same as [`Shared::pack`]. Does not move a small message, as most are.
    #[inline]
    fn pack_in_place(&self, message: &mut Option<Message>) -> Result<(), SendError> {
        let threshold = self.options.compress_from.unwrap_or(usize::MAX);
        let limit = self.options.session_message_limit();
        if let Some(large) = message.take_if(|message| message.len() >= threshold || message.len() as u64 > limit) {
            *message = Some(self.pack(large)?);
        }
        Ok(())
    }

    /// Compresses the message if that makes it smaller, and refuses it if it is too large.
    pub(super) fn pack(&self, mut message: Message) -> Result<Message, SendError> {
        let threshold = self.options.compress_from.unwrap_or(usize::MAX);
        if message.len() >= threshold && message.len() as u64 <= self.options.limits.inflated {
            let deflated = match message.shared_bytes() {
                Some(shared) => shared.deflated(|| deflate(&message)),
                None => deflate(&message),
            };
            if let Some(deflated) = deflated {
                message = message.into_deflated(deflated);
            }
        }
        let (size, limit) = (message.len() as u64, self.options.session_message_limit());
        if size > limit {
            let message = self.unpacked(message);
            Err(SendError::TooLarge { size, limit, message })
        } else {
            Ok(message)
        }
    }

    /// Undoes [`Shared::pack`]. Inflating on an error costs less than keeping the original of every
    /// message that waits for room.
    pub(super) fn unpacked(&self, message: Message) -> Message {
        message.into_inflated(|deflated| {
            inflate(deflated, self.options.limits.inflated).expect("what was deflated here can be inflated")
        })
    }

    /// Queues the message and returns true if there is room. Otherwise leaves it in `message` and
    /// returns false.
    fn push(self: &Arc<Self>, lane: Lane, message: &mut Option<Message>, via: Via) -> Result<bool, SendError> {
        let pushed = self.touch(|inner| match inner.push(lane, message, via, &self.options.limits) {
            Ok(true) => (Ok(true), Touched::Outbox),
            pushed => (pushed, Touched::Nothing),
        });
        if matches!(pushed, Ok(true)) {
            self.end_outside_turn();
        }
        pushed.map_err(|reason| {
            let message = message.take().expect("a message that is not queued is still here");
            let message = self.unpacked(message);
            SendError::Ended { reason, message }
        })
    }
}

impl Inner {
    fn push(
        &mut self,
        lane: Lane,
        message: &mut Option<Message>,
        via: Via,
        limits: &Limits,
    ) -> Result<bool, EndReason> {
        if let Phase::Ending(reason) | Phase::Closed(reason) = self.machine.phase() {
            return Err(reason.clone());
        }
        if let Some(reason) = self.refusal() {
            return Err(reason);
        }
        if self.is_frozen() {
            return Ok(false);
        }
        if matches!(via, Via::Restore(incarnation) if incarnation != self.machine.incarnation()) {
            // Another document has taken over, so messages to this one are dropped.
            *message = None;
            return Ok(true);
        }
        let admitted = message.take_if(|message| match &self.gate {
            Some(gate) if via == Via::Handle => {
                let outgoing = self.machine.outgoing(lane) + self.ledger_charge();
                gate.admits(lane, message.len(), outgoing, limits)
            }
            _ => self.admits(lane, message.len()),
        });
        let Some(message) = admitted else {
            return Ok(false);
        };
        if via == Via::Handle
            && let Some(gate) = &mut self.gate
        {
            gate.push(lane, message, limits);
        } else {
            self.queue(lane, message);
        }
        Ok(true)
    }
}

/// Counts a sender that waits for room.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
