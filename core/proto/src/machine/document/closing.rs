//! How a connection ends, and what follows: another attempt, or the end of the session
//! (PROTOCOL.md, sections 9 to 11).

use std::time::{Duration, Instant};

use crate::code::{Class, Code};
use crate::machine::{GAPS_IN_A_ROW, Violation};
use crate::wire::End;

use super::event::{Action, DocumentEvent};
use super::phase::{Leaving, Phase, Wait};
use super::{DocumentMachine, from_wire};

impl DocumentMachine {
    /// Handles the server's `end` frame.
    pub(super) fn handle_end(&mut self, end: End, now: Instant) {
        let End {
            code,
            reason,
            retry_after,
            text,
        } = end;
        let retry_after = from_wire(retry_after);
        if reason != 0 {
            return self.enter_over(None, code, reason, retry_after, text);
        }
        match Class::of(code) {
            Class::Never => {
                self.phase = Phase::Over(None);
                self.events.push_back(DocumentEvent::Refused {
                    code,
                    text,
                    retry_at: None,
                });
            }
            Class::Later => {
                let retry_at = self.wait(retry_after.max(LATER), now);
                self.events.push_back(DocumentEvent::Refused { code, text, retry_at });
            }
            Class::Now | Class::Ignore => self.reconnect(code, now),
        }
    }

    /// Handles a frame that violates the protocol.
    pub(super) fn handle_violation(&mut self, violation: Violation, now: Instant) {
        let is_gap = violation == Violation::Gap;
        self.gaps += u8::from(is_gap);
        let is_repaired = violation == Violation::Loss || is_gap && self.gaps < GAPS_IN_A_ROW;
        if matches!(self.phase, Phase::Connected(_)) && !is_repaired {
            return self.fail(if is_gap { Violation::Malformed } else { violation });
        }
        // Before the welcome, a violation ends only the connection.
        self.lose(violation.code(), now);
    }

    /// Ends the session because the server violated the protocol.
    pub(super) fn fail(&mut self, violation: Violation) {
        let code = violation.code() as u64;
        let leaving = self.leave(code);
        let text = "the server violated the protocol".to_owned();
        self.enter_over(leaving, code, violation.reason().number(), Duration::ZERO, text);
    }

    fn enter_over(&mut self, leaving: Option<Leaving>, code: u64, reason: u64, retry_after: Duration, text: String) {
        self.phase = Phase::Over(leaving);
        self.events.push_back(DocumentEvent::Ended {
            code,
            reason,
            retry_after,
            text,
            unacknowledged: self.lanes.unacknowledged(),
        });
    }

    /// Closes the connection and tries another.
    pub(super) fn lose(&mut self, code: Code, now: Instant) {
        self.close_connection(code as u64);
        self.reconnect(code as u64, now);
    }

    fn reconnect(&mut self, code: u64, now: Instant) {
        let retry_at = self.wait(Duration::ZERO, now);
        self.events.push_back(DocumentEvent::Disconnected { code, retry_at });
        if retry_at == Some(now) {
            self.connect(now);
        }
    }

    /// Schedules the next attempt after at least `least`. Returns its time, or `None` if the page
    /// rests.
    fn wait(&mut self, least: Duration, now: Instant) -> Option<Instant> {
        if let Phase::Connected(connected) = &self.phase {
            self.presence.lost_at = now;
            // Connections that end right after their welcome must not follow each other at once.
            if now.saturating_duration_since(connected.heard) >= SHORT_LIFE {
                self.backoff.waits = 0;
            }
        }
        let retry_at = now + self.backoff.next(self.presence.backoff_cap()).max(least);
        // Even a page that was hidden for a long time makes the first attempt, which is due at
        // once.
        let is_resting = self.presence.rest_at().is_some_and(|at| at <= now) && self.backoff.waits > 1;
        self.phase = Phase::Waiting(Wait {
            retry_at,
            is_later: !least.is_zero(),
            is_resting,
        });
        (!is_resting).then_some(retry_at)
    }

    /// Closes the current connection, if there is one. The caller enters another phase.
    pub(super) fn close_connection(&mut self, code: u64) {
        if let Some(connection) = self.phase.connection() {
            self.actions.push_back(Action::Close(connection, code));
        }
    }

    /// Returns the connection on which `leave` must be written before it is closed. A connection
    /// without a welcome is closed at once. The caller enters another phase.
    pub(super) fn leave(&mut self, code: u64) -> Option<Leaving> {
        if let Phase::Connected(connected) = &self.phase {
            let connection = connected.connection;
            return Some(Leaving { connection, code });
        }
        self.close_connection(code);
        None
    }

    /// Closes a connection on which `leave` is being written. Returns false if there is none.
    pub(super) fn poll_leave(&mut self) -> bool {
        let (Phase::Left(leaving) | Phase::Over(leaving)) = &mut self.phase else {
            return false;
        };
        let Some(Leaving { connection, code }) = leaving.take() else {
            return false;
        };
        self.actions.push_back(Action::Close(connection, code));
        true
    }
}

/// Shortest wait after a code of the class *later*.
const LATER: Duration = Duration::from_millis(500);
/// A connection on which the last frame is younger than this when it ends is not replaced at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);
