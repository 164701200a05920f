//! Queueing a message: what the application gets for it, who goes first, and how long it waits.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::compression::deflate;
use crate::session::shared::{Resized, Shared};
use stillhere_proto::EndReason;
use stillhere_proto::machine::Phase;
use stillhere_proto::{Lane, Message};

/// A message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is over, or ending.
    #[error("the session is over: {0}")]
    Ended(EndReason),
    /// The message is above the session's limit and can never be sent. Sizes are wire bytes.
    #[error("a message of {size} bytes is above this session's limit of {limit}")]
    TooLarge {
        /// The message's.
        size: u64,
        /// The session's.
        limit: u64,
    },
}

/// A message was not accepted without waiting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// The lane's outbox is full: the browser is slow or away. `send` would wait.
    #[error("the session's outbox is full")]
    Full,
    /// The session is over, or ending.
    #[error("the session is over: {0}")]
    Ended(EndReason),
    /// The message is above the session's limit and can never be sent. Sizes are wire bytes.
    #[error("a message of {size} bytes is above this session's limit of {limit}")]
    TooLarge {
        /// The message's.
        size: u64,
        /// The session's.
        limit: u64,
    },
}

impl From<SendError> for TrySendError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Ended(reason) => Self::Ended(reason),
            SendError::TooLarge { size, limit } => Self::TooLarge { size, limit },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Handle,
    /// The restore function for this document.
    Restore(u64),
}

impl Shared {
    /// Not an `async fn`, which would keep its arguments twice, in the memory of every function that sends.
    pub(crate) fn send(&self, lane: Lane, message: Message, via: Via) -> impl Future<Output = Result<(), SendError>> {
        let mut message = Some(message);
        async move {
            message = message.take().map(|message| self.pack(message)).transpose()?;
            if self.push(lane, &mut message, via)? {
                return Ok(());
            }
            let _waiting = Waiting::new(&self.senders);
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if self.push(lane, &mut message, via)? {
                    return Ok(());
                }
                changed.await;
            }
        }
    }

    pub(crate) fn try_send(&self, lane: Lane, message: Message, via: Via) -> Result<(), TrySendError> {
        let mut message = Some(self.pack(message)?);
        if self.push(lane, &mut message, via)? {
            Ok(())
        } else {
            Err(TrySendError::Full)
        }
    }

    /// Compresses what is worth it and refuses what could never be sent.
    fn pack(&self, mut message: Message) -> Result<Message, SendError> {
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
        let (size, limit) = (message.len() as u64, self.options.session_limits().message);
        if size > limit {
            Err(SendError::TooLarge { size, limit })
        } else {
            Ok(message)
        }
    }

    /// Takes the message out of `message` and queues it, if there is room.
    fn push(&self, lane: Lane, message: &mut Option<Message>, via: Via) -> Result<bool, SendError> {
        let limits = &self.options.limits;
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Phase::Ending(reason) | Phase::Closed(reason) = inner.machine.phase() {
            return Err(SendError::Ended(reason.clone()));
        }
        if matches!(via, Via::Restore(incarnation) if incarnation != inner.machine.incarnation()) {
            // That document is gone, and with it all that was on its way there.
            *message = None;
            return Ok(true);
        }
        let Some(size) = message.as_ref().map(|message| message.len()) else {
            return Ok(true);
        };
        let gate = inner.gate.as_mut().filter(|_| via == Via::Handle);
        let admitted = match &gate {
            Some(gate) => gate.admits(lane, size, inner.machine.outgoing(lane), limits),
            None => inner.machine.admits(lane, size),
        };
        let Some(message) = message.take_if(|_| admitted) else {
            return Ok(false);
        };
        match gate {
            Some(gate) => gate.push(lane, message, limits),
            None => inner.machine.send(lane, message),
        }
        inner.settle_account();
        let connections = inner.wakers(None);
        let is_soft_closed = inner.is_soft_closed();
        drop(guard);
        connections.for_each(|waker| waker.wake());
        if is_soft_closed {
            self.tell_resized(Resized::Buffer);
        }
        Ok(true)
    }
}

/// Counts a sender that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
