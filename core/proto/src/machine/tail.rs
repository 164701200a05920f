//! What was written last on a connection: should it be lost, no gap shows it, because nothing follows.

use std::time::{Duration, Instant};

use crate::machine::Violation;
use crate::machine::lanes::Lanes;
use crate::message::{Lane, PerLane};

/// Finds out whether the peer lacks what was written last, by pings: it has taken in what came before one when it answers.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The nonce of the oldest ping without an answer, and the last sequences written before it.
    asked: Option<(u64, PerLane<u64>)>,
    /// The nonce of the newest.
    newest: u64,
    acknowledged: PerLane<u64>,
    /// When one of those last rose, or nothing was without acknowledgement, or a ping was written.
    progress: Instant,
    /// Nothing has come since that ping.
    is_silent: bool,
}

impl Tail {
    /// Of a connection on which nothing has been written.
    pub(crate) fn new(lanes: &Lanes, now: Instant) -> Self {
        Self {
            asked: None,
            newest: 0,
            acknowledged: lanes.acknowledged(),
            progress: now,
            is_silent: false,
        }
    }

    /// A ping is being written.
    pub(crate) fn ask(&mut self, nonce: u64, lanes: &Lanes, now: Instant) {
        // What answers a later ping answers this one too. One that moved on with each ping might never be answered.
        self.asked.get_or_insert_with(|| (nonce, lanes.written()));
        self.newest = nonce;
        self.progress = now;
        self.is_silent = true;
    }

    /// A frame has come, and its counts are taken in.
    pub(crate) fn handle_frame(&mut self, lanes: &Lanes, now: Instant) {
        self.is_silent = false;
        let acknowledged = lanes.acknowledged();
        if acknowledged != self.acknowledged || !lanes.has_outstanding() {
            self.acknowledged = acknowledged;
            self.progress = now;
        }
    }

    /// A pong has come, and its counts are taken in.
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

    /// When to send a ping, if frames wait for their acknowledgement. Silence is another's concern.
    pub(crate) fn deadline(&self, lanes: &Lanes, heartbeat: Duration) -> Option<Instant> {
        let waits = lanes.has_outstanding() && !self.is_silent;
        waits.then(|| self.progress + heartbeat)
    }
}
