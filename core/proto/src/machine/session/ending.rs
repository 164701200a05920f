//! How a session ends, and how a connection is told that it is over (PROTOCOL.md section 10).

use std::time::{Duration, Instant};

use crate::code::{Code, EndReason};
use crate::machine::Violation;
use crate::machine::session::{ConnectionKey, Event, Phase, SessionMachine};
use crate::wire::{End, Frame, millis};

/// A connection that still has to be told why it is over.
#[derive(Debug)]
pub(super) struct Departing {
    pub(super) key: ConnectionKey,
    pub(super) ack: bool,
    pub(super) end: End,
}

/// What an ending session tells and how long it waits.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) retry_after: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) unacknowledged: usize,
}

impl SessionMachine {
    /// Ends the session once what was sent has been acknowledged. Nothing can be sent from now on.
    pub fn close(&mut self, reason: EndReason, now: Instant) {
        self.close_with(reason, Duration::ZERO, self.timing.ending, now);
    }

    /// [`SessionMachine::close`] with a hint when to try again and a wait of its own.
    pub fn close_with(&mut self, reason: EndReason, retry_after: Duration, wait: Duration, now: Instant) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Closed(_)) {
            return;
        }
        self.ending.retry_after = millis(retry_after);
        self.ending.deadline = Some(now + wait);
        self.timing.ending = wait;
        self.dismiss_newcomer(&reason);
        self.enter(Phase::Ending(reason), now);
        self.close_if_delivered(now);
    }

    /// Ends the session now, whatever is on its way.
    pub fn abort(&mut self, reason: EndReason, now: Instant) {
        self.enter_closed(reason, now);
    }

    /// What was taken cannot be inflated.
    pub fn handle_bad_payload(&mut self, too_large: bool, now: Instant) {
        let violation = if too_large {
            Violation::TooLarge
        } else {
            Violation::Malformed
        };
        self.enter_closed(violation.reason(), now);
    }

    pub(super) fn close_if_delivered(&mut self, now: Instant) {
        if let Phase::Ending(reason) = &self.phase
            && self.lanes.is_delivered()
        {
            let reason = reason.clone();
            self.enter_closed(reason, now);
        }
    }

    pub(super) fn enter_closed(&mut self, reason: EndReason, now: Instant) {
        self.enter_closed_with(None, reason, now);
    }

    /// The one place where a session becomes Closed. The connection that carries it is told `text`, if there is one, and else the reason.
    pub(super) fn enter_closed_with(&mut self, text: Option<&str>, reason: EndReason, now: Instant) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.dismiss_newcomer(&reason);
        if let Some(attached) = self.attached.take() {
            let mut end = End {
                code: reason.code() as u64,
                ..self.end_of(&reason)
            };
            if let Some(text) = text {
                end.text = text.to_owned();
            }
            self.depart(attached.key, !attached.welcome_due, end);
        }
        self.ending.unacknowledged = self.lanes.unacknowledged();
        self.lanes.clear_outgoing();
        self.enter(Phase::Closed(reason.clone()), now);
        self.events.push_back(Event::Ended(reason));
    }

    /// Returns the last frame for a connection that has no part in how the session ends.
    pub(super) fn end_of(&self, reason: &EndReason) -> End {
        End::of(reason).retry_after(self.ending.retry_after)
    }

    pub(super) fn depart(&mut self, key: ConnectionKey, ack: bool, end: End) {
        self.departing.push(Departing { key, ack, end });
    }

    /// Ends a connection and nothing else.
    pub(super) fn refuse(&mut self, key: ConnectionKey, code: Code, text: &str) {
        self.refuse_for(key, code, None, text);
    }

    pub(super) fn refuse_for(&mut self, key: ConnectionKey, code: Code, retry_after: Option<Duration>, text: &str) {
        let retry_after = retry_after.map_or(0, millis);
        self.depart(key, false, End::connection(code, text).retry_after(retry_after));
    }

    /// Whether a connection is over and only has to be told why.
    pub fn is_departing(&self, key: ConnectionKey) -> bool {
        self.departing.iter().any(|departing| departing.key == key)
    }

    pub(super) fn poll_departing(&mut self, position: usize) -> Frame {
        if std::mem::take(&mut self.departing[position].ack)
            && let Some(ack) = self.lanes.poll_last_ack()
        {
            return ack;
        }
        Frame::End(self.departing.swap_remove(position).end)
    }
}
