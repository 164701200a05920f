//! Durable sessions: what was saved of them, and what their browsers may be told (PROTOCOL.md,
//! section 18).

use std::time::{Duration, Instant};

use crate::code::{Code, EndReason};
use crate::id::DocumentId;
use crate::machine::outbox::Outbox;
use crate::machine::saved::{Row, Saved, SavedLane, Taken};
use crate::machine::session::{Cause, Document, Phase, SessionMachine};
use crate::message::{Message, PerLane};

impl SessionMachine {
    /// Makes the session durable: its browser is told that a message was received only once
    /// [`SessionMachine::handle_counted`] says so. With `waits`, a document is welcomed and credit
    /// granted only as far as that was counted, too.
    #[must_use]
    pub fn into_durable(mut self, waits: bool) -> Self {
        self.lanes.make_durable(waits);
        self
    }

    /// Opens a session again, from what an earlier process has saved. It waits for its document.
    /// [`Saved::generation`] must be greater than at every earlier opening. `rows` are the messages
    /// that the browser may not have.
    #[must_use]
    pub fn reopen(mut self, saved: &Saved, rows: PerLane<Vec<Row>>, now: Instant) -> Self {
        let fragment = self.limits().fragment;
        let PerLane { interactive, bulk } = rows;
        let mut rows = PerLane::new(Some(interactive), Some(bulk));
        let outboxes = PerLane::each(|lane| {
            let rows = rows[lane].take().unwrap_or_default();
            let acknowledged = rows.first().map_or(saved.queued[lane], |row| row.before);
            let messages = rows
                .into_iter()
                .map(|row| Message::from_parts(row.payload, row.compressed));
            Outbox::reopen(acknowledged, messages, fragment)
        });
        self.lanes.reopen(saved.incarnation, saved.lanes, outboxes);
        self.epoch = saved.generation << GENERATION;
        self.document = saved.document.map(|(id, attempt)| Document {
            id: DocumentId(id),
            attempt,
        });
        if self.document.is_some() {
            self.phase = Phase::SoftClosed(Cause::Lost);
            self.cause = Some(Cause::Lost);
        }
        self.changed(now);
        self
    }

    /// Returns what the application has taken, and how far credit may go once that counts.
    pub fn save(&self) -> PerLane<SavedLane> {
        self.lanes.save()
    }

    /// Does the same as [`SessionMachine::save`], as if the application had taken nothing of the
    /// current document.
    pub(crate) fn save_untaken(&self) -> PerLane<SavedLane> {
        let saved = self.lanes.save();
        PerLane::each(|lane| SavedLane {
            taken: Taken::default(),
            ..saved[lane]
        })
    }

    /// Returns the current document and its last attempt.
    pub fn document(&self) -> Option<([u8; 16], u64)> {
        let document = self.document.as_ref()?;
        Some((document.id.0, document.attempt))
    }

    /// Returns everything that the browser has not acknowledged, as messages.
    pub fn rows(&self) -> PerLane<Vec<Row>> {
        self.lanes.rows()
    }

    /// Returns what was queued for the current document.
    pub fn queued_charge(&self) -> PerLane<Taken> {
        self.lanes.queued_charge()
    }

    /// What was saved counts: whatever happens to the process, it stays so.
    pub fn handle_counted(&mut self, saved: &Saved, now: Instant) {
        self.lanes.count(saved.incarnation, saved.lanes, now);
    }

    /// Ends the connection because another process goes on with the session. The browser is told to
    /// come back after `retry_after`.
    pub fn hand_over(&mut self, retry_after: Duration, now: Instant) {
        self.dismiss_newcomer_for(retry_after);
        if let Some(attached) = &self.attached {
            let key = attached.key;
            self.detach(Cause::Asked, now);
            self.refuse_for(key, Code::Draining, Some(retry_after), HANDED_OVER);
        }
    }

    /// Ends the session in this process without telling its browser, which belongs to another
    /// process from now on. `reason` is for this process alone.
    pub fn leave(&mut self, reason: EndReason, now: Instant) {
        self.newcomer = None;
        self.attached = None;
        self.enter_closed(reason, now);
    }

    fn dismiss_newcomer_for(&mut self, retry_after: Duration) {
        if let Some(newcomer) = self.newcomer.take() {
            self.refuse_for(newcomer.key, Code::Draining, Some(retry_after), HANDED_OVER);
        }
    }
}

const HANDED_OVER: &str = "the server restarts: this session goes on in a moment";

/// The epochs of a process begin at its generation, shifted by this many bits, so that they are
/// above those of all earlier processes and stay below 2^53.
pub(super) const GENERATION: u32 = 24;
