//! The connection that carries the session: its heartbeat, and what is written on it (PROTOCOL.md sections 5 and 9).

use std::time::{Duration, Instant};

use crate::code::Code;
use crate::machine::lanes::Lanes;
use crate::machine::session::{Cause, ConnectionKey, SessionMachine, Timing, millis};
use crate::machine::tail::Tail;
use crate::wire::{Frame, Welcome};

/// The connection that carries the session.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) key: ConnectionKey,
    pub(super) keep: u64,
    pub(super) welcome_due: bool,
    pub(super) heard: Instant,
    /// After how much quiet to ping.
    pub(super) quiet: Duration,
    pub(super) ping: Ping,
    pub(super) pong_due: Option<u64>,
    pub(super) tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ping {
    None,
    Due { nonce: u64, since: Instant },
    Outstanding { since: Instant },
}

impl Ping {
    /// Since when it is without an answer.
    pub(super) fn since(self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Due { since, .. } | Self::Outstanding { since } => Some(since),
        }
    }
}

impl SessionMachine {
    pub(super) fn check_heartbeat(&mut self, now: Instant) {
        let Some(attached) = &mut self.attached else { return };
        if attached.heartbeat_deadline(&self.timing, &self.lanes) > now {
            return;
        }
        if attached.ping != Ping::None {
            let key = attached.key;
            self.detach(Cause::Silent, now);
            return self.refuse(key, Code::Silent, "two heartbeats without a sign of life");
        }
        self.nonce += 1;
        attached.ping = Ping::Due {
            nonce: self.nonce,
            since: now,
        };
        let quiet = self.next_quiet();
        if let Some(attached) = &mut self.attached {
            attached.quiet = quiet;
        }
    }

    /// Three quarters of the heartbeat to all of it, so that many sessions do not ping together.
    pub(super) fn next_quiet(&mut self) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let quarter = self.timing.heartbeat / 4;
        self.timing.heartbeat - quarter * (self.jitter % 256) as u32 / 256
    }

    pub(super) fn poll_attached(&mut self, now: Instant) -> Option<Frame> {
        let attached = self.attached.as_mut()?;
        if std::mem::take(&mut attached.welcome_due) {
            let keep = attached.keep;
            return Some(Frame::Welcome(self.welcome(keep)));
        }
        if let Some(nonce) = attached.pong_due.take() {
            return Some(Frame::Pong {
                nonce,
                counts: self.lanes.report(),
            });
        }
        if let Ping::Due { nonce, since } = attached.ping {
            attached.ping = Ping::Outstanding { since };
            attached.tail.ask(nonce, &self.lanes, now);
            return Some(Frame::Ping {
                nonce,
                counts: self.lanes.report(),
            });
        }
        if let Some(ack) = self.lanes.poll_due_ack(now) {
            return Some(ack);
        }
        self.lanes
            .poll_data(true)
            .map(Frame::Data)
            .or_else(|| self.lanes.poll_riding_ack())
    }

    fn welcome(&mut self, keep: u64) -> Welcome {
        Welcome {
            incarnation: self.incarnation,
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
            // Asked late, because the process was stopped or starved: the answer gets its time all the same. Due counts
            // like outstanding, because a blocked socket may never let it out.
            Some(since) => (self.heard + 2 * timing.heartbeat).max(since + timing.heartbeat),
        }
    }
}
