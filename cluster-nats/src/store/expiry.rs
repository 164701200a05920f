//! Finds the records that have expired.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use stillhere::SessionId;

use crate::store::NatsStoreOptions;
use crate::store::label::Kind;
use crate::store::reading::revision_of;
use crate::store::stream::Scanned;

/// What is known of records that have expired.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// When the last scan began.
    scanned: Option<Instant>,
    /// Those of the last scan that nobody was told of yet.
    due: VecDeque<(SessionId, u64)>,
    /// Those that another process wrote, with their revision, and since when they are overdue.
    overdue: HashMap<SessionId, (u64, Instant)>,
}

/// What a scan has found.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    options: &'a NatsStoreOptions,
    writer: u64,
    /// How long the store has been open.
    open: Duration,
    own: Vec<(SessionId, u64)>,
    others: Vec<(SessionId, u64)>,
    /// The marks of removals whose process ended before it could delete them.
    removals: Vec<(SessionId, u64)>,
}

impl Expiry {
    /// Returns true if it is time for a scan, which then begins.
    pub(super) fn begin_scan(&mut self, now: Instant, options: &NatsStoreOptions) -> bool {
        let is_time = self
            .scanned
            .is_none_or(|at| now.saturating_duration_since(at) >= options.scan_interval);
        let begins = self.due.is_empty() && is_time;
        if begins {
            self.scanned = Some(now);
        }
        begins
    }

    pub(super) fn handle_failed_scan(&mut self) {
        self.scanned = None;
    }

    /// Takes in what a scan has found. Returns the marks of removals to delete.
    pub(super) fn handle_scan(&mut self, scan: Scan<'_>, now: Instant) -> Vec<(SessionId, u64)> {
        let before = std::mem::take(&mut self.overdue);
        self.due.extend(scan.own);
        for (id, revision) in scan.others {
            let since = match before.get(&id) {
                Some((of, since)) if *of == revision => *since,
                _ => now,
            };
            if now.saturating_duration_since(since) >= scan.options.grace {
                self.due.push_back((id, revision));
            }
            self.overdue.insert(id, (revision, since));
        }
        scan.removals
    }

    /// Takes out up to `most` records that have expired.
    pub(super) fn take(&mut self, most: usize) -> Vec<(SessionId, u64)> {
        self.due.drain(..most.min(self.due.len())).collect()
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(options: &'a NatsStoreOptions, writer: u64, open: Duration) -> Self {
        Self {
            options,
            writer,
            open,
            own: Vec::new(),
            others: Vec::new(),
            removals: Vec::new(),
        }
    }

    pub(super) fn visit(&mut self, scanned: &Scanned) {
        let Scanned {
            id,
            sequence,
            label,
            age,
        } = scanned;
        if label.kind == Kind::Removal {
            if *age > REMOVAL && self.removals.len() < MOST_REMOVALS {
                self.removals.push((*id, *sequence));
            }
            return;
        }
        let least = label.keep.max(self.options.least_keep);
        if *age < label.keep || self.open < least {
            return;
        }
        let found = (*id, revision_of(label, *sequence));
        if label.commit.writer == self.writer {
            self.own.push(found);
        } else {
            self.others.push(found);
        }
    }
}

/// The age after which the mark of a removal was forgotten by its process.
const REMOVAL: Duration = Duration::from_secs(60);

/// The most marks of removals that are deleted after one scan.
const MOST_REMOVALS: usize = 1000;
