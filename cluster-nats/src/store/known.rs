//! What a store remembers of the records that it wrote.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stillhere::durable::Commit;
use stillhere::machine::Row;
use stillhere::{Lane, PerLane, SessionId};

use crate::store::content::{change_rows, encode, encoded_size};
use crate::store::label::{CommitId, Kind};
use crate::store::reading::{Place, Read};

/// The records that this process wrote last, as far as is needed to write them again.
#[derive(Debug, Default)]
pub(super) struct KnownRecords(Mutex<HashMap<SessionId, (Known, Instant)>>);

/// A record that this process wrote.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The revision, as whoever commits knows it.
    pub(super) revision: u64,
    /// The revision that the stream has. It is another one if a commit counted that seemed lost.
    pub(super) there: u64,
    /// The last message of the session.
    pub(super) tail: u64,
    base: u64,
    sizes: (usize, usize),
    changes: u32,
    rows: PerLane<Vec<Row>>,
    /// Commits of which nobody knows whether they will count.
    lost: Vec<u64>,
}

/// What is to be published for a commit.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// [`Label::base`](crate::store::label::Label::base).
    pub(super) base: u64,
    pub(super) payload: Bytes,
}

/// What the last message of a session means for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The commit counts.
    Counts,
    /// The record is still the one to be replaced.
    Unchanged,
    /// Somebody else has replaced it.
    Foreign,
}

impl KnownRecords {
    /// Takes out a record, if its revision is this one.
    pub(super) fn take(&self, id: &SessionId, revision: u64) -> Option<Known> {
        let mut records = self.lock();
        let (known, _) = records.get(id)?;
        if known.revision != revision {
            return None;
        }
        records.remove(id).map(|(known, _)| known)
    }

    /// Remembers a record for so long at least.
    pub(super) fn put(&self, id: SessionId, known: Known, keep: Duration) {
        let mut records = self.lock();
        if records
            .get(&id)
            .is_none_or(|(other, _)| other.revision <= known.revision)
        {
            let until = Instant::now() + keep.min(LONGEST);
            records.insert(id, (known, until));
        }
    }

    /// Forgets records whose time is over, which then are read before they are written.
    pub(super) fn forget_old(&self) {
        let now = Instant::now();
        let mut records = self.lock();
        records.retain(|_, (_, until)| *until > now);
        records.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (Known, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Read> for Known {
    fn from(read: Read) -> Self {
        Self {
            revision: read.record.revision,
            there: read.record.revision,
            tail: read.tail,
            base: read.base,
            sizes: read.sizes,
            changes: read.changes,
            rows: read.record.rows,
            lost: Vec::new(),
        }
    }
}

impl Known {
    /// A record of which only the revision is known.
    pub(super) fn of_revision(revision: u64) -> Self {
        Self {
            revision,
            there: revision,
            ..Self::default()
        }
    }

    /// Decides whether to write the whole record or its changes, and encodes that.
    pub(super) fn plan(&self, commit: &Commit) -> Plan {
        let added = PerLane::new(commit.rows.interactive.iter(), commit.rows.bulk.iter());
        let whole = PerLane::new(
            self.kept(commit, Lane::Interactive).chain(added.interactive.clone()),
            self.kept(commit, Lane::Bulk).chain(added.bulk.clone()),
        );
        let whole_size = encoded_size(&commit.head, &whole);
        let changes_size = encoded_size(&commit.head, &added);
        let is_whole = commit.clears_rows
            || self.there == 0
            || self.there != self.revision
            || whole_size <= SMALL
            || self.sizes.1 + changes_size > self.sizes.0.max(SMALL)
            || self.changes >= MOST_CHANGES;
        let nothing = PerLane::default();
        if is_whole {
            Plan {
                kind: Kind::Whole,
                base: 0,
                payload: encode(&commit.head, true, nothing, whole, whole_size),
            }
        } else {
            Plan {
                kind: Kind::Changes,
                base: self.base,
                payload: encode(&commit.head, false, commit.acknowledged, added, changes_size),
            }
        }
    }

    fn kept<'a>(&'a self, commit: &Commit, lane: Lane) -> impl Iterator<Item = &'a Row> + Clone + use<'a> {
        let (clears, acknowledged) = (commit.clears_rows, commit.acknowledged[lane]);
        self.rows[lane]
            .iter()
            .filter(move |row| !clears && row.last > acknowledged)
    }

    /// Compares the commit with the last message of the session.
    pub(super) fn judge(&mut self, place: &Place, commit: CommitId) -> Verdict {
        let counted = place
            .last
            .filter(|last| last.is_last_part && last.kind != Kind::Removal);
        let own = counted.filter(|last| last.commit.writer == commit.writer);
        if own.is_some_and(|last| last.commit.number == commit.number) {
            return Verdict::Counts;
        }
        let is_lost_one = own.is_some_and(|last| self.lost.contains(&last.commit.number));
        if place.revision != self.there && !is_lost_one {
            return Verdict::Foreign;
        }
        self.there = place.revision;
        self.tail = place.tail;
        Verdict::Unchanged
    }

    /// Notes that nobody knows whether a commit will count.
    pub(super) fn handle_lost(&mut self, commit: CommitId) {
        self.lost.push(commit.number);
    }

    /// Returns the only message of the record, if there is one alone.
    pub(super) fn lone_message(&self) -> Option<u64> {
        (self.tail != 0 && self.base == self.tail).then_some(self.tail)
    }

    /// Applies a commit that counts.
    pub(super) fn handle_stored(&mut self, commit: Commit, plan: &Plan, base: u64, revision: u64) {
        let size = plan.payload.len();
        match plan.kind {
            Kind::Changes => {
                self.sizes.1 += size;
                self.changes += 1;
            }
            Kind::Whole | Kind::Removal => {
                self.base = base;
                self.sizes = (size, 0);
                self.changes = 0;
            }
        }
        change_rows(&mut self.rows, commit.clears_rows, commit.acknowledged, commit.rows);
        (self.revision, self.there, self.tail) = (revision, revision, revision);
        // Those that come yet are refused.
        self.lost = Vec::new();
    }
}

/// A record of at most so many bytes is written as a whole each time.
const SMALL: usize = 64 << 10;

/// The most changes of a record before it is written as a whole again. Each costs a request when
/// the record is read.
const MOST_CHANGES: u32 = 128;

/// A record that is kept for longer may be read again in between.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
