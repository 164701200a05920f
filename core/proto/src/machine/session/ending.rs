//! How a session ends, and how a connection learns of its end (PROTOCOL.md, section 10).

use std::time::{Duration, Instant};

use crate::code::{Code, EndReason};
use crate::machine::Violation;
use crate::machine::session::{ConnectionKey, Event, Phase, SessionMachine};
use crate::wire::{End, Frame, millis};

/// A connection whose last frames have not been written yet.
#[derive(Debug)]
pub(super) struct Departing {
    pub(super) key: ConnectionKey,
    /// Whether an acknowledgement of what was received precedes the end.
    pub(super) ack: bool,
    pub(super) end: End,
}

/// Details of how the session ends.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Milliseconds after which browsers should try again.
    retry_after: u64,
    /// How long a connection has for the last messages.
    wait: Duration,
    /// When a closing session with a connection ends, whether everything is acknowledged or not.
    deadline: Option<Instant>,
    /// Number of messages that were never acknowledged. Set when the session ends.
    pub(super) unacknowledged: usize,
}

impl SessionMachine {
    /// Ends the session once all queued messages are acknowledged. No more can be queued.
    pub fn close(&mut self, reason: EndReason, now: Instant) {
        self.close_with(reason, Duration::ZERO, self.timing.ending, now);
    }

    /// Closes as [`SessionMachine::close`] does, and tells browsers to try again after
    /// `retry_after`. `wait` replaces [`Timing::ending`](crate::machine::Timing::ending).
    pub fn close_with(&mut self, reason: EndReason, retry_after: Duration, wait: Duration, now: Instant) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Closed(_)) {
            return;
        }
        self.ending = Some(Box::new(Ending {
            retry_after: millis(retry_after),
            wait,
            deadline: Some(now + wait),
            unacknowledged: 0,
        }));
        self.dismiss_newcomer(&reason);
        self.enter(Phase::Ending(reason), now);
        self.close_if_delivered(now);
    }

    /// Ends the session at once. Messages that are not acknowledged yet are dropped.
    pub fn abort(&mut self, reason: EndReason, now: Instant) {
        self.enter_closed(reason, now);
    }

    /// Ends the session because a message that was taken cannot be inflated.
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

    /// Ends the session: the only method that enters [`Phase::Closed`]. The connection that carries
    /// the session is told `text` or, without one, the reason.
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
        self.ending.get_or_insert_default().unacknowledged = self.lanes.unacknowledged();
        self.lanes.clear_outgoing();
        self.enter(Phase::Closed(reason.clone()), now);
        self.note(Event::Ended(reason));
    }

    /// Returns the last frame for a connection that has no part in how the session ends.
    pub(super) fn end_of(&self, reason: &EndReason) -> End {
        let retry_after = self.ending.as_ref().map_or(0, |ending| ending.retry_after);
        End::of(reason).retry_after(retry_after)
    }

    pub(super) fn ending_deadline(&self) -> Option<Instant> {
        self.ending.as_ref()?.deadline
    }

    /// Gives a new connection the full time for the last messages.
    pub(super) fn restart_ending(&mut self, now: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.deadline = Some(now + ending.wait);
        }
    }

    pub(super) fn depart(&mut self, key: ConnectionKey, ack: bool, end: End) {
        let departing = Departing { key, ack, end };
        self.news.get_or_insert_default().departing.push(departing);
    }

    /// Ends a connection. The session is not affected.
    pub(super) fn refuse(&mut self, key: ConnectionKey, code: Code, text: &str) {
        self.refuse_for(key, code, None, text);
    }

    pub(super) fn refuse_for(&mut self, key: ConnectionKey, code: Code, retry_after: Option<Duration>, text: &str) {
        let retry_after = retry_after.map_or(0, millis);
        self.depart(key, false, End::connection(code, text).retry_after(retry_after));
    }

    /// Returns true if a connection has ended and only has to be told why.
    pub fn is_departing(&self, key: ConnectionKey) -> bool {
        let mut departing = self.news.iter().flat_map(|news| &news.departing);
        departing.any(|departing| departing.key == key)
    }

    pub(super) fn poll_departing(&mut self, key: ConnectionKey) -> Option<Frame> {
        let departing = &mut self.news.as_mut()?.departing;
        let position = departing.iter().position(|departing| departing.key == key)?;
        if std::mem::take(&mut departing[position].ack)
            && let Some(ack) = self.lanes.poll_last_ack()
        {
            return Some(ack);
        }
        let Departing { end, .. } = departing.swap_remove(position);
        self.drop_old_news();
        Some(Frame::End(end))
    }
}
