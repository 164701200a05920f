//! Reads received messages, and reports other documents in order with them.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::compression::{InflateError, inflate};
use crate::session::shared::{Shared, Touched};
use crate::session::state::Inner;
use stillhere_proto::machine::Received;
use stillhere_proto::{Lane, Message};

pub(crate) enum Taken {
    Message(Lane, Received),
    /// The messages that follow come from this incarnation.
    Restored(u64),
}

impl Shared {
    /// Takes the next message. If `known` is given, a document with a higher incarnation is
    /// reported before its first message.
    pub(crate) fn poll_take(self: &Arc<Self>, known: Option<u64>, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        if self.is_durable() {
            self.reader.register(context.waker());
            return self.poll_take_in_turn(known);
        }
        // A reader that does not have to wait needs no waker.
        let taken = self.touch(|inner| inner.poll_take(known));
        if taken.is_ready() {
            return taken;
        }
        self.reader.register(context.waker());
        self.touch(|inner| inner.poll_take(known))
    }

    /// Ends the turn of a durable session, and begins the next with the message that is taken.
    fn poll_take_in_turn(self: &Arc<Self>, known: Option<u64>) -> Poll<Option<Taken>> {
        self.begin_read();
        let mut has_ended = false;
        let taken = self.touch(|inner| {
            let tells;
            (has_ended, tells) = inner.end_turn_at_once();
            let (taken, touched) = if inner.is_held() && !inner.is_over() {
                (Poll::Pending, Touched::Nothing)
            } else {
                inner.poll_take(known)
            };
            if let Poll::Ready(taken) = &taken {
                inner.begin_turn(taken.as_ref());
            }
            let touched = if tells {
                Touched::Inbox { credit: true }
            } else {
                touched
            };
            (taken, touched)
        });
        if has_ended {
            // A process that is about to stop waits for it.
            self.changed.notify_waiters();
        }
        taken
    }

    /// Returns the message for the application, inflated.
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

    /// Called when the application has dropped its [`Session`](crate::Session).
    pub(crate) fn reader_is_gone(self: &Arc<Self>) {
        self.change(|inner, _| inner.reader_is_gone = true);
        // The waker may belong to a finished task, whose memory it would keep.
        drop(self.reader.take());
    }
}

impl Inner {
    fn poll_take(&mut self, known: Option<u64>) -> (Poll<Option<Taken>>, Touched) {
        let next = self.machine.next_incarnation();
        let current = self.machine.incarnation();
        if self.gate.is_some() && next.is_none_or(|next| next == current) {
            return (Poll::Pending, Touched::Nothing);
        }
        let next_or_current = next.unwrap_or(current);
        if known.is_some_and(|known| known < next_or_current) {
            return (Poll::Ready(Some(Taken::Restored(next_or_current))), Touched::Nothing);
        }
        let before = self.machine.next_ack();
        let taken = next.and_then(|_| self.machine.take_at(crate::clock::now));
        let Some((lane, received)) = taken else {
            let poll = if self.is_over() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
            return (poll, Touched::Nothing);
        };
        // The peer may have new credit. The connection has to know if that should be reported.
        let credit = self.machine.next_ack() != before;
        (
            Poll::Ready(Some(Taken::Message(lane, received))),
            Touched::Inbox { credit },
        )
    }
}
