//! Pings of the current connection and their round trips.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Pings {
    /// True if a ping must be written. One ping serves all requests for one.
    pub(super) is_due: bool,
    nonce: u64,
    /// Unanswered nonces, and when the ping that serves each was written.
    waiting: VecDeque<(u64, Option<Instant>)>,
}

impl Pings {
    /// Asks for a ping and returns the nonce of its answer.
    pub(super) fn ask(&mut self) -> u64 {
        self.nonce += 1;
        self.waiting.push_back((self.nonce, None));
        self.is_due = true;
        self.nonce
    }

    /// Returns the nonce of the ping to write now, if one is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<u64> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        for (_, written) in &mut self.waiting {
            written.get_or_insert(now);
        }
        Some(self.nonce)
    }

    /// Removes the answered pings and returns them with their round trips. The server answers only
    /// the newest of several pings, so a pong settles all pings before it.
    pub(super) fn settle(&mut self, nonce: u64, now: Instant) -> impl Iterator<Item = (u64, Duration)> {
        let last = self.waiting.iter().position(|ping| ping.0 == nonce);
        self.waiting
            .drain(..last.map_or(0, |last| last + 1))
            .map(move |(nonce, written)| (nonce, now.saturating_duration_since(written.unwrap_or(now))))
    }

    /// Forgets the pings of a connection that is no longer in use.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.is_due = false;
    }
}
