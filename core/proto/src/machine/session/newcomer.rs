//! A takeover by another document: probe of the current document, offer, confirmation (PROTOCOL.md
//! section 6).

use std::time::Instant;

use crate::code::{Code, EndReason};
use crate::machine::Violation;
use crate::machine::session::attached::Ping;
use crate::machine::session::{ConnectionKey, Document, Event, SessionMachine, Timing};
use crate::wire::{Counts, Hello};

/// A document that asks for the session of another document, the incumbent.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) key: ConnectionKey,
    keep: u64,
    document: Document,
    counts: Counts,
    pub(super) probe: Option<Probe>,
    pub(super) offer: Offer,
    confirmed: bool,
}

/// A ping that asks the incumbent whether it is alive.
#[derive(Debug)]
pub(super) struct Probe {
    nonce: u64,
    until: Instant,
}

/// The offer of the session to the newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    NotYet,
    Due(Instant),
    Sent(Instant),
}

impl SessionMachine {
    pub(super) fn handle_newcomer(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        if let Some(waiting) = &self.newcomer {
            if waiting.document.id != hello.document {
                return self.refuse_for(
                    key,
                    Code::Busy,
                    self.timing.probe,
                    "another page is asking for this session",
                );
            }
            if hello.attempt <= waiting.document.attempt {
                return self.refuse(key, Code::Stale, "this document has sent a newer hello");
            }
            let older = waiting.key;
            self.refuse(older, Code::Replaced, "this document has a newer connection");
        }
        let mut newcomer = Box::new(Newcomer {
            key,
            keep,
            document: Document {
                id: hello.document,
                attempt: hello.attempt,
            },
            counts: hello.counts,
            probe: None,
            offer: Offer::NotYet,
            confirmed: false,
        });
        newcomer.probe = self.begin_probe(now);
        newcomer.offer_unless_probing(now);
        self.newcomer = Some(newcomer);
    }

    /// Asks the incumbent whether it is alive. Returns `None` if it has no connection, or if probes
    /// are turned off.
    fn begin_probe(&mut self, now: Instant) -> Option<Probe> {
        let wait = self.timing.probe?;
        let attached = self.attached.as_mut()?;
        self.nonce += 1;
        // A ping that is not answered yet keeps its age. Otherwise a series of newcomers could keep
        // a silent incumbent alive.
        let since = attached.ping.since().unwrap_or(now);
        attached.ping = Ping::Due {
            nonce: self.nonce,
            since,
        };
        Some(Probe {
            nonce: self.nonce,
            until: now + wait,
        })
    }

    pub(super) fn handle_confirm(&mut self, now: Instant) {
        let Some(newcomer) = &mut self.newcomer else { return };
        // An offer that is due counts as sent: which it is depends on timing alone.
        if newcomer.offer == Offer::NotYet {
            let key = newcomer.key;
            return self.handle_violation(key, Violation::Malformed, now);
        }
        newcomer.confirmed = true;
        self.welcome_if_confirmed(now);
    }

    /// Makes the newcomer the document of the session once it has confirmed and the incumbent has
    /// not answered in time.
    pub(super) fn welcome_if_confirmed(&mut self, now: Instant) {
        let Some(newcomer) = self
            .newcomer
            .take_if(|newcomer| newcomer.confirmed && newcomer.probe.is_none())
        else {
            return;
        };
        if let Some(old) = self.attached.take() {
            self.refuse(
                old.key,
                Code::Superseded,
                "another document has taken over this session",
            );
        }
        let incarnation = self.incarnation() + 1;
        self.lanes.restart(incarnation);
        self.lanes
            .handle_counts(&newcomer.counts)
            .expect("a newcomer has received nothing and any credit is new");
        self.document = Some(newcomer.document);
        self.gaps = 0;
        self.attach(newcomer.key, newcomer.keep, now);
        self.note(Event::Restored { incarnation });
    }

    /// Probes an incumbent that has connected again while a newcomer waits.
    pub(super) fn probe_again(&mut self, now: Instant) {
        if self.newcomer.is_some() {
            let probe = self.begin_probe(now);
            if let Some(newcomer) = &mut self.newcomer {
                newcomer.probe = probe;
                newcomer.offer_unless_probing(now);
            }
        }
    }

    /// Handles a pong of the incumbent. One that answers the probe or a later ping proves that the
    /// incumbent is alive, and the newcomer is refused.
    pub(super) fn settle_probe(&mut self, nonce: u64) {
        let alive = |newcomer: &mut Box<Newcomer>| {
            newcomer
                .probe
                .as_ref()
                .is_some_and(|probe| (probe.nonce..=self.nonce).contains(&nonce))
        };
        if let Some(newcomer) = self.newcomer.take_if(alive) {
            self.refuse(newcomer.key, Code::Duplicate, "this session is in use in another tab");
        }
    }

    pub(super) fn check_newcomer(&mut self, now: Instant) {
        let Some(newcomer) = &mut self.newcomer else { return };
        if newcomer.deadline(&self.timing).is_none_or(|deadline| deadline > now) {
            return;
        }
        if newcomer.probe.take().is_some() {
            newcomer.offer_unless_probing(now);
            return self.welcome_if_confirmed(now);
        }
        let key = newcomer.key;
        self.newcomer = None;
        self.refuse(key, Code::HelloDeadline, "the offer was not confirmed in time");
    }

    pub(super) fn dismiss_newcomer(&mut self, reason: &EndReason) {
        if let Some(newcomer) = self.newcomer.take() {
            self.depart(newcomer.key, false, self.end_of(reason));
        }
    }
}

impl Newcomer {
    pub(super) fn offer_unless_probing(&mut self, now: Instant) {
        if self.probe.is_none() && self.offer == Offer::NotYet {
            self.offer = Offer::Due(now);
        }
    }

    pub(super) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        match (&self.probe, self.offer) {
            (Some(probe), _) => Some(probe.until),
            // An offer that is due counts as sent: a blocked socket must not keep other newcomers
            // out.
            (None, Offer::Due(at) | Offer::Sent(at)) => Some(at + timing.hello),
            (None, Offer::NotYet) => None,
        }
    }
}
