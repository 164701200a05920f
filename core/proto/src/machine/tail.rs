//! Detects the loss of the last frames written on a connection. No gap reveals it, because nothing
//! follows them.

use std::time::{Duration, Instant};

use crate::machine::Violation;
use crate::machine::lanes::Lanes;
use crate::message::{Lane, PerLane};

/// Pings to learn whether the peer lacks the last frames: when it answers a ping, it has processed
/// everything sent before that ping.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Nonce of the oldest unanswered ping, and the last sequences written before it.
    asked: Option<(u64, PerLane<u64>)>,
    /// Nonce of the newest ping.
    newest: u64,
    acknowledged: PerLane<u64>,
    /// When an acknowledgement last arrived, everything was acknowledged, or a ping was written.
    progress: Instant,
    /// Whether nothing has arrived since the newest ping.
    is_silent: bool,
}

impl Tail {
    /// Creates the state for a connection on which nothing has been written.
    pub(crate) fn new(lanes: &Lanes, now: Instant) -> Self {
        Self {
            asked: None,
            newest: 0,
            acknowledged: lanes.acknowledged(),
            progress: now,
            is_silent: false,
        }
    }

    /// Records that a ping is being written.
    pub(crate) fn ask(&mut self, nonce: u64, lanes: &Lanes, now: Instant) {
        // The answer to a later ping answers this one too. Moving on with each ping could mean that
        // none is ever answered.
        self.asked.get_or_insert_with(|| (nonce, lanes.written()));
        self.newest = nonce;
        self.progress = now;
        self.is_silent = true;
    }

    /// Records that a frame has arrived, after its counts were processed.
    pub(crate) fn handle_frame(&mut self, lanes: &Lanes, now: Instant) {
        self.is_silent = false;
        let acknowledged = lanes.acknowledged();
        if acknowledged != self.acknowledged || !lanes.has_outstanding() {
            self.acknowledged = acknowledged;
            self.progress = now;
        }
    }

    /// Records that a pong has arrived, after its counts were processed.
    pub(crate) fn handle_pong(&mut self, nonce: u64, lanes: &Lanes) -> Result<(), Violation> {
        let newest = self.newest;
        let is_answered = |asked: &mut (u64, PerLane<u64>)| (asked.0..=newest).contains(&nonce);
        let Some((_, written)) = self.asked.take_if(is_answered) else {
            return Ok(());
        };
        let acknowledged = lanes.acknowledged();
        if Lane::ALL.iter().any(|lane| acknowledged[*lane] < written[*lane]) {
            return Err(Violation::Loss);
        }
        Ok(())
    }

    /// Returns when to send a ping, if frames wait for acknowledgement. Silence is handled by the
    /// heartbeat.
    pub(crate) fn deadline(&self, lanes: &Lanes, heartbeat: Duration) -> Option<Instant> {
        let waits = lanes.has_outstanding() && !self.is_silent;
        waits.then(|| self.progress + heartbeat)
    }
}
