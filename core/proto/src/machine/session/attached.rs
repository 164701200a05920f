//! The connection that carries the session: frames, heartbeat, loss (PROTOCOL.md, sections 5 and
//! 9).

use std::time::{Duration, Instant};

use crate::code::Code;
use crate::machine::inbox::Accepted;
use crate::machine::lanes::Lanes;
use crate::machine::session::{Cause, ConnectionKey, Event, Phase, SessionMachine, Timing, Transmit};
use crate::machine::tail::Tail;
use crate::machine::{GAPS_IN_A_ROW, Violation};
use crate::message::PerLane;
use crate::wire::{Counts, Data, Frame, Welcome, millis};

/// The connection that carries the session.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) key: ConnectionKey,
    /// How long the session is kept without a connection, in milliseconds, as the welcome reports
    /// it.
    pub(super) keep: u64,
    pub(super) welcome_due: bool,
    /// When the last frame arrived.
    pub(super) heard: Instant,
    /// How long to wait for a frame before sending a ping.
    pub(super) quiet: Duration,
    pub(super) ping: Ping,
    /// A ping that has to be answered.
    pub(super) pong_due: Option<PongDue>,
    pub(super) tail: Tail,
}

/// The answer to a ping of the browser.
#[derive(Debug, Clone, Copy)]
pub(super) struct PongDue {
    nonce: u64,
    /// What had arrived before the ping. The answer waits until this counts, and until then an
    /// acknowledgement shows that the server is alive.
    arrived: PerLane<u64>,
    is_alive_shown: bool,
}

/// The ping of the server to the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ping {
    None,
    /// Must be written.
    Due {
        nonce: u64,
        since: Instant,
    },
    /// Written and not answered.
    Outstanding {
        since: Instant,
    },
}

impl Ping {
    /// Returns since when an answer is missing.
    pub(super) fn since(self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Due { since, .. } | Self::Outstanding { since } => Some(since),
        }
    }
}

impl SessionMachine {
    /// Ends the connection and keeps the session.
    pub fn soft_close(&mut self, now: Instant) {
        if let Some(attached) = &self.attached {
            let key = attached.key;
            self.detach(Cause::Asked, now);
            self.refuse(key, Code::Replaced, "the server asks for a new connection");
        }
    }

    pub(super) fn handle_current(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let attached = self.attached.as_mut().expect("the current connection is attached");
        attached.heard = now;
        if let Ping::Outstanding { .. } = attached.ping {
            attached.ping = Ping::None;
        }
        match frame {
            Frame::Data(data) => self.handle_data(data, now)?,
            Frame::Ack(counts) => self.handle_counts(&counts, now)?,
            Frame::Ping { nonce, counts } => {
                let is_stalled = self.lanes.check_stall(self.timing.heartbeat / 2, now)?;
                attached.pong_due = Some(PongDue {
                    nonce,
                    arrived: self.lanes.arrived(),
                    is_alive_shown: false,
                });
                if is_stalled {
                    let nonce = self.ping(now);
                    self.lanes.ask_about_stall(nonce);
                }
                self.handle_counts(&counts, now)?;
            }
            Frame::Pong { nonce, counts } => {
                self.handle_counts(&counts, now)?;
                self.lanes.handle_pong(nonce, now);
                self.handle_pong(nonce)?;
            }
            Frame::Leave => self.detach(Cause::Left, now),
            Frame::Hello(_) | Frame::Confirm | Frame::Offer | Frame::Welcome(_) | Frame::End(_) => {
                return Err(Violation::Malformed);
            }
        }
        if let Some(attached) = &mut self.attached {
            attached.tail.handle_frame(&self.lanes, now);
        }
        Ok(())
    }

    fn handle_pong(&mut self, nonce: u64) -> Result<(), Violation> {
        self.settle_probe(nonce);
        self.attached
            .as_mut()
            .map_or(Ok(()), |attached| attached.tail.handle_pong(nonce, &self.lanes))
    }

    fn handle_counts(&mut self, counts: &Counts, now: Instant) -> Result<(), Violation> {
        self.lanes.handle_counts(counts)?;
        self.close_if_delivered(now);
        Ok(())
    }

    fn handle_data(&mut self, data: Data, now: Instant) -> Result<(), Violation> {
        match self.lanes.handle_data(data, now)? {
            Accepted::New { .. } => self.gaps = 0,
            Accepted::Duplicate => self.duplicates = self.duplicates.saturating_add(1),
        }
        Ok(())
    }

    /// Ends the session or its connection because the peer violated the protocol. The rules are the
    /// same before and after the welcome is written, because the peer cannot tell the difference.
    pub(super) fn handle_violation(&mut self, key: ConnectionKey, violation: Violation, now: Instant) {
        if !self.is_attached(key) {
            if self.newcomer.take_if(|newcomer| newcomer.key == key).is_some() {
                self.refuse(key, violation.code(), "");
            }
            return;
        }
        self.gaps += u8::from(violation == Violation::Gap);
        let text = match violation {
            Violation::Gap if self.gaps < GAPS_IN_A_ROW => "a sequence was skipped",
            Violation::Loss => "a frame sent before a ping is missing",
            _ => return self.enter_closed_with(violation.text(), violation.reason(), now),
        };
        self.detach(Cause::Gap, now);
        self.refuse(key, Code::Gap, text);
    }

    pub(super) fn detach(&mut self, cause: Cause, now: Instant) {
        self.attached = None;
        self.cause = Some(cause);
        self.lanes.rest();
        if self.phase == Phase::Open {
            self.enter(Phase::SoftClosed(cause), now);
            self.note(Event::SoftClosed(cause));
        } else {
            self.changed(now);
        }
        if let Some(newcomer) = &mut self.newcomer {
            newcomer.probe = None;
            newcomer.offer_unless_probing(now);
        }
        self.welcome_if_confirmed(now);
    }

    pub(super) fn check_heartbeat(&mut self, now: Instant) {
        let Some(attached) = &mut self.attached else { return };
        if attached.heartbeat_deadline(&self.timing, &self.lanes) > now {
            return;
        }
        if attached.ping != Ping::None {
            let key = attached.key;
            self.detach(Cause::Silent, now);
            return self.refuse(key, Code::Silent, "nothing was received for two heartbeats");
        }
        self.ping(now);
        let quiet = self.next_quiet();
        if let Some(attached) = &mut self.attached {
            attached.quiet = quiet;
        }
    }

    /// Makes the connection write a ping, unless one is due already. Returns its nonce.
    fn ping(&mut self, now: Instant) -> u64 {
        if let Some(attached) = &mut self.attached {
            if let Ping::Due { nonce, .. } = attached.ping {
                return nonce;
            }
            attached.ping = Ping::Due {
                nonce: self.nonce + 1,
                since: now,
            };
        }
        self.nonce += 1;
        self.nonce
    }

    /// Returns a time between 3/4 of the heartbeat and the whole, so that sessions do not all ping
    /// at once.
    pub(super) fn next_quiet(&mut self) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        let quarter = self.timing.heartbeat / 4;
        self.timing.heartbeat - quarter * (self.jitter % 256) / 256
    }

    pub(super) fn poll_attached(&mut self, now: Instant) -> Option<Transmit<'_>> {
        if let Some(frame) = self.poll_control(now) {
            return Some(Transmit::Frame(frame));
        }
        if let Some(lane) = self.lanes.ready_lane(true) {
            return self.lanes.transmit(lane).map(Transmit::Data);
        }
        self.lanes.poll_riding_ack(now).map(Transmit::Frame)
    }

    /// Returns what goes before data.
    fn poll_control(&mut self, now: Instant) -> Option<Frame> {
        let attached = self.attached.as_mut()?;
        if attached.welcome_due && !self.lanes.may_welcome() {
            return None;
        }
        if std::mem::take(&mut attached.welcome_due) {
            let keep = attached.keep;
            return Some(Frame::Welcome(self.welcome(keep)));
        }
        let lanes = &mut self.lanes;
        if let Some(pong) = attached.pong_due.take_if(|pong| lanes.covers(pong.arrived)) {
            return Some(Frame::Pong {
                nonce: pong.nonce,
                counts: lanes.report(),
            });
        }
        if let Some(pong) = &mut attached.pong_due
            && !std::mem::replace(&mut pong.is_alive_shown, true)
        {
            return Some(Frame::Ack(lanes.report()));
        }
        if let Ping::Due { nonce, since } = attached.ping {
            attached.ping = Ping::Outstanding { since };
            attached.tail.ask(nonce, &self.lanes, now);
            return Some(Frame::Ping {
                nonce,
                counts: self.lanes.report(),
            });
        }
        self.lanes.poll_due_ack(now)
    }

    fn welcome(&mut self, keep: u64) -> Welcome {
        Welcome {
            incarnation: self.incarnation(),
            epoch: self.epoch,
            counts: self.lanes.report(),
            heartbeat: millis(self.timing.heartbeat),
            keep,
            limits: *self.lanes.limits(),
        }
    }
}

impl Attached {
    pub(super) fn heartbeat_deadline(&self, timing: &Timing, lanes: &Lanes) -> Instant {
        match self.ping.since() {
            None => {
                let quiet = self.heard + self.quiet;
                self.tail
                    .deadline(lanes, timing.heartbeat)
                    .map_or(quiet, |tail| tail.min(quiet))
            }
            // The ping may be late, because the process was stopped or starved. The answer still
            // gets its full time. A ping that is due counts like one that is outstanding, because a
            // blocked socket may never let it out.
            Some(since) => (self.heard + 2 * timing.heartbeat).max(since + timing.heartbeat),
        }
    }
}
