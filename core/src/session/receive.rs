//! Taking what was received, in order with the news of other documents.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::compression::{InflateError, inflate};
use crate::session::shared::{Resized, Shared};
use stillhere_proto::machine::Received;
use stillhere_proto::{Lane, Message};

pub(crate) enum Taken {
    Message(Lane, Received),
    /// What follows comes from this incarnation.
    Restored(u64),
}

impl Shared {
    /// The next message; before it, if `known` is given, the news that a later document has taken the session over.
    pub(crate) fn poll_take(&self, known: Option<u64>, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        self.reader.register(context.waker());
        let mut inner = self.lock();
        let next = inner.machine.next_incarnation();
        let current = inner.machine.incarnation();
        if inner.gate.is_some() && next.is_none_or(|next| next == current) {
            return Poll::Pending;
        }
        let next_or_current = next.unwrap_or(current);
        if known.is_some_and(|known| known < next_or_current) {
            return Poll::Ready(Some(Taken::Restored(next_or_current)));
        }
        let before = (inner.machine.is_ack_due(), inner.machine.poll_timeout());
        let Some((lane, received)) = inner.machine.take(crate::clock::now()) else {
            return if inner.is_over() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        inner.settle_account();
        // Credit has come back: the connection must hear of it if that is to be reported, now or soon.
        let has_credit = (inner.machine.is_ack_due(), inner.machine.poll_timeout()) != before;
        let connections = has_credit.then(|| inner.wakers(None));
        let is_soft_closed = inner.is_soft_closed();
        drop(inner);
        connections.into_iter().flatten().for_each(|waker| waker.wake());
        if is_soft_closed {
            self.tell_resized(Resized::Buffer);
        }
        Poll::Ready(Some(Taken::Message(lane, received)))
    }

    pub(crate) fn unpack(&self, (lane, received): (Lane, Received)) -> Result<Message, InflateError> {
        let compressed = received.compressed;
        let payload = received.into_bytes();
        let payload = if compressed {
            inflate(&payload, self.options.limits.inflated)?
        } else {
            payload
        };
        Ok(Message::new(payload).on(lane))
    }

    pub(crate) fn reader_is_gone(self: &Arc<Self>) {
        self.change(None, |inner, _| inner.reader_is_gone = true);
        // It belongs to a task that may be over, whose memory it would keep.
        drop(self.reader.take());
    }
}
