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
        let mut taken = Poll::Pending;
        self.touch(|inner| ((), inner.poll_take(known, &mut taken)));
        if taken.is_pending() {
            self.reader.register(context.waker());
            self.touch(|inner| ((), inner.poll_take(known, &mut taken)));
        }
        taken
    }

    /// Ends the turn of a durable session, and begins the next with the message that is taken.
    fn poll_take_in_turn(self: &Arc<Self>, known: Option<u64>) -> Poll<Option<Taken>> {
        self.begin_read();
        let mut has_ended = false;
        let taken = self.touch(|inner| {
            let tells;
            (has_ended, tells) = inner.end_turn_at_once();
            let mut taken = Poll::Pending;
            let touched = if inner.is_held() && !inner.is_over() {
                Touched::Nothing
            } else {
                inner.poll_take(known, &mut taken)
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
    /// Sets `taken` if there is something to take. To return it would move it several times.
    fn poll_take(&mut self, known: Option<u64>, taken: &mut Poll<Option<Taken>>) -> Touched {
        let next = self.machine.next_incarnation();
        let current = self.machine.incarnation();
        if self.gate.is_some() && next.is_none_or(|next| next == current) {
            return Touched::Nothing;
        }
        let next_or_current = next.unwrap_or(current);
        if known.is_some_and(|known| known < next_or_current) {
            *taken = Poll::Ready(Some(Taken::Restored(next_or_current)));
            return Touched::Nothing;
        }
        let before = self.machine.next_ack();
        let Some((lane, received)) = next.and_then(|_| self.machine.take_at(crate::clock::now)) else {
            if self.is_over() {
                *taken = Poll::Ready(None);
            }
            return Touched::Nothing;
        };
        *taken = Poll::Ready(Some(Taken::Message(lane, received)));
        // The peer may have new credit. The connection has to know if that should be reported.
        let credit = self.machine.next_ack() != before;
        Touched::Inbox { credit }
    }
}
