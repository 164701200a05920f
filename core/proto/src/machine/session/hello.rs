//! The hello of a connection, which is then refused or carries the session (PROTOCOL.md, section
//! 5).

use std::time::{Duration, Instant};

use crate::code::Code;
use crate::machine::session::attached::{Attached, Ping};
use crate::machine::session::{ConnectionKey, Document, Event, Phase, SessionMachine};
use crate::machine::tail::Tail;
use crate::wire::{Counts, Hello};

impl SessionMachine {
    /// Handles a hello with the right secret. The welcome reports `keep`: how long the session is
    /// kept without a connection, in milliseconds.
    pub fn handle_hello(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        if let Phase::Closed(reason) = &self.phase {
            let end = self.end_of(reason);
            return self.depart(key, false, end);
        }
        if hello.incarnation == 0 && hello.counts.received != Counts::default().received {
            return self.refuse(
                key,
                Code::Malformed,
                "a document that was never welcomed cannot have these counts",
            );
        }
        let known = self
            .document
            .as_ref()
            .is_some_and(|document| document.id == hello.document);
        if hello.incarnation != 0 && (hello.incarnation != self.incarnation() || !known) {
            return self.refuse(key, Code::Superseded, "another document has taken over this session");
        }
        if known {
            return self.handle_return(key, hello, keep, now);
        }
        if self.document.is_none() {
            return self.handle_first(key, hello, keep, now);
        }
        if let Phase::Ending(reason) = &self.phase {
            let end = self.end_of(reason);
            return self.depart(key, false, end);
        }
        self.handle_newcomer(key, hello, keep, now);
    }

    /// Handles the hello of the session's first document.
    fn handle_first(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        if self.lanes.handle_counts(&hello.counts).is_err() {
            return self.refuse(
                key,
                Code::Malformed,
                "a document that was never welcomed cannot have these counts",
            );
        }
        self.lanes.begin(1);
        self.document = Some(Document {
            id: hello.document,
            attempt: hello.attempt,
        });
        self.attach(key, keep, now);
        self.note(Event::Opened);
        self.close_if_delivered(now);
    }

    /// Handles the hello of the current document, which has lost its connection or its welcome.
    fn handle_return(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        let document = self.document.as_mut().expect("a known document is there");
        if hello.attempt <= document.attempt {
            return self.refuse(key, Code::Stale, "this document has sent a newer hello");
        }
        if self.lanes.handle_counts(&hello.counts).is_err() {
            return self.refuse(key, Code::Malformed, "this document cannot have these counts");
        }
        document.attempt = hello.attempt;
        let replayed = self.lanes.unacknowledged();
        let gap = if self.attached.is_some() {
            Duration::ZERO
        } else {
            now.saturating_duration_since(self.since)
        };
        self.attach(key, keep, now);
        self.note(Event::Resumed { gap, replayed });
        self.close_if_delivered(now);
    }

    /// Makes a connection the one that carries the session.
    pub(super) fn attach(&mut self, key: ConnectionKey, keep: u64, now: Instant) {
        if let Some(old) = self.attached.take() {
            self.refuse(old.key, Code::Replaced, "this document has a newer connection");
        }
        self.epoch += 1;
        self.cause = None;
        self.lanes.rewind();
        let quiet = self.next_quiet();
        self.attached = Some(Box::new(Attached {
            key,
            keep,
            welcome_due: true,
            heard: now,
            quiet,
            ping: Ping::None,
            pong_due: None,
            tail: Tail::new(&self.lanes, now),
        }));
        if let Phase::Ending(_) = self.phase {
            self.restart_ending(now);
            self.changed(now);
        } else {
            self.enter(Phase::Open, now);
        }
        self.probe_again(now);
    }
}
