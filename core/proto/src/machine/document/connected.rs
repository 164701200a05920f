//! A connection on which the server has welcomed the document: frames, pings and the detection of
//! a silent server (PROTOCOL.md, sections 7 to 9).

use std::time::{Duration, Instant};

use crate::code::Code;
use crate::machine::Violation;
use crate::machine::inbox::Accepted;
use crate::machine::lanes::Lanes;
use crate::machine::tail::Tail;
use crate::wire::Frame;

use super::DocumentMachine;
use super::event::DocumentEvent;
use super::phase::Phase;
use super::pings::Pings;

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) connection: u64,
    /// Interval at which the server sends something, from the welcome.
    pub(super) heartbeat: Duration,
    /// Time of the last frame.
    pub(super) heard: Instant,
    /// Detects the loss of the frames that were written last.
    pub(super) tail: Tail,
    /// Nonce of the newest ping to answer.
    pub(super) pong_due: Option<u64>,
    /// When the silence after a probe has lasted too long.
    pub(super) probed_until: Option<Instant>,
}

impl Connected {
    /// Returns when to act if no frame arrives: to probe the server, to give up the connection, or
    /// to ask what the server has received.
    pub(super) fn timeout(&self, lanes: &Lanes, pings: &Pings) -> Instant {
        let ask_at = self.ask_at(lanes, pings);
        let suspect_at = self.suspect_at();
        self.probed_until
            .unwrap_or_else(|| ask_at.map_or(suspect_at, |at| at.min(suspect_at)))
    }

    fn suspect_at(&self) -> Instant {
        self.heard + 2 * self.heartbeat + PATIENCE
    }

    /// Returns when to ask whether the server has received the frames that were written last.
    fn ask_at(&self, lanes: &Lanes, pings: &Pings) -> Option<Instant> {
        let at = self.tail.deadline(lanes, self.heartbeat);
        at.filter(|_| !pings.is_due)
    }

    /// Sends a ping, to check whether the server answers.
    pub(super) fn probe(&mut self, pings: &mut Pings, now: Instant) {
        pings.ask();
        self.probed_until = Some(now + PATIENCE);
    }
}

impl DocumentMachine {
    pub(super) fn handle_connected(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let Phase::Connected(connected) = &mut self.phase else {
            return Ok(());
        };
        self.backoff.waits = 0;
        match frame {
            Frame::Data(data) => {
                if self.lanes.handle_data(data, now)? != Accepted::Duplicate {
                    self.gaps = 0;
                }
            }
            Frame::Ack(counts) => self.lanes.handle_counts(&counts)?,
            Frame::Ping { nonce, counts } => {
                connected.pong_due = Some(nonce);
                self.lanes.handle_counts(&counts)?;
            }
            Frame::Pong { nonce, counts } => {
                for (nonce, round_trip) in self.pings.settle(nonce, now) {
                    self.events.push_back(DocumentEvent::Pong { nonce, round_trip });
                }
                self.lanes.handle_counts(&counts)?;
                connected.tail.handle_pong(nonce, &self.lanes)?;
            }
            _ => return Err(Violation::Malformed),
        }
        connected.tail.handle_frame(&self.lanes, now);
        Ok(())
    }

    pub(super) fn check_silence(&mut self, now: Instant) {
        let Phase::Connected(connected) = &mut self.phase else {
            return;
        };
        if now < connected.timeout(&self.lanes, &self.pings) {
            return;
        }
        if connected.probed_until.is_some() {
            self.lose(Code::Silent, now);
        } else if connected.suspect_at() <= now {
            connected.probe(&mut self.pings, now);
        } else {
            self.pings.ask();
        }
    }

    pub(super) fn poll_connected(&mut self, bulk_allowed: bool, now: Instant) -> Option<Frame> {
        let Phase::Connected(connected) = &mut self.phase else {
            return None;
        };
        if let Some(nonce) = connected.pong_due.take() {
            let counts = self.lanes.report();
            return Some(Frame::Pong { nonce, counts });
        }
        if let Some(nonce) = self.pings.poll(now) {
            connected.tail.ask(nonce, &self.lanes, now);
            let counts = self.lanes.report();
            return Some(Frame::Ping { nonce, counts });
        }
        if let Some(ack) = self.lanes.poll_due_ack(now) {
            return Some(ack);
        }
        if let Some(lane) = self.lanes.ready_lane(bulk_allowed) {
            return self.lanes.transmit(lane).map(|data| Frame::Data(data.to_data()));
        }
        self.lanes.poll_riding_ack(now)
    }
}

/// Longest silence after a ping, and beyond two heartbeats.
const PATIENCE: Duration = Duration::from_secs(5);
