//! Changes of a room's members that its pages have not been told yet.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::wire::Change;

/// What the pages have not been told yet, by member: of several changes of a member the newest
/// counts.
#[derive(Default)]
pub(super) struct Untold {
    changes: Vec<UntoldChange>,
    /// The place of each member in `changes`.
    places: HashMap<u64, usize>,
    /// Members that have joined and that are to be shown the room.
    newcomers: Vec<u64>,
    /// When the pages were last told.
    told: Option<Instant>,
    /// A task waits to tell the pages.
    is_due: bool,
}

/// How a member has changed since the pages were last told.
pub(super) struct UntoldChange {
    pub(super) member: u64,
    /// The version with which it left, if it was a member before and has left.
    pub(super) left: Option<u64>,
    /// How the member has changed that it is now, if it is one.
    pub(super) changed: Option<UntoldMember>,
}

#[derive(Clone, Copy)]
pub(super) struct UntoldMember {
    pub(super) version: u64,
    pub(super) change: Change,
    /// Nothing but its state has changed, and its own page has set it.
    pub(super) is_own: bool,
}

impl Untold {
    pub(super) fn joined(&mut self, member: u64, version: u64) {
        self.shows(member);
        self.of(member).changed = Some(UntoldMember {
            version,
            change: Change::Joined,
            is_own: false,
        });
    }

    pub(super) fn left(&mut self, member: u64, version: u64) {
        let change = self.of(member);
        (change.left, change.changed) = (Some(version), None);
    }

    /// `is_own` says that the member's own page has made this change.
    pub(super) fn changed(&mut self, member: u64, version: u64, change: Change, is_own: bool) {
        let before = &mut self.of(member).changed;
        let new = UntoldMember {
            version,
            change,
            is_own,
        };
        *before = Some(match *before {
            Some(before) => before.followed_by(new),
            None => new,
        });
    }

    /// Has a member shown the room instead of told of the changes.
    pub(super) fn shows(&mut self, member: u64) {
        self.newcomers.push(member);
    }

    fn of(&mut self, member: u64) -> &mut UntoldChange {
        let place = *self.places.entry(member).or_insert(self.changes.len());
        if place == self.changes.len() {
            self.changes.push(UntoldChange {
                member,
                left: None,
                changed: None,
            });
        }
        &mut self.changes[place]
    }

    /// Returns true if the pages know everything.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns when the pages are to be told.
    /// `pages` is how many there are.
    pub(super) fn wait(&mut self, pages: usize) -> Wait {
        let window = window(pages);
        let Some(told) = self.told.filter(|_| window >= SHORTEST) else {
            return Wait::Over;
        };
        let due = told + window;
        if due <= Instant::now() {
            Wait::Over
        } else if std::mem::replace(&mut self.is_due, true) {
            Wait::Begun
        } else {
            Wait::Until(due)
        }
    }

    /// Called when no task waits any more.
    pub(super) fn end_wait(&mut self) {
        self.is_due = false;
    }

    /// Takes the changes, in the order in which their members changed first, and the members that
    /// are to be shown the room. From now on the pages know them.
    pub(super) fn take(&mut self, pages: usize) -> (Vec<UntoldChange>, Vec<u64>) {
        // Small rooms do not look at the clock.
        self.told = (window(pages) >= SHORTEST).then(Instant::now);
        self.places.clear();
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.newcomers))
    }
}

impl UntoldChange {
    /// Returns true if nothing but the member's state has changed.
    pub(super) fn is_state(&self) -> bool {
        let is_state = self.changed.is_some_and(|changed| changed.change == Change::State);
        is_state && self.left.is_none()
    }
}

impl UntoldMember {
    /// Returns this change and a later one as one change.
    fn followed_by(self, later: Self) -> Self {
        let change = match (self.change, later.change) {
            (Change::Joined, _) => Change::Joined,
            (before, Change::State) => before,
            (_, later) => later,
        };
        Self {
            version: later.version,
            change,
            is_own: self.is_own && later.is_own,
        }
    }
}

/// When to tell the pages.
pub(super) enum Wait {
    /// Now.
    Over,
    /// A task waits already.
    Begun,
    /// A task has to wait until then.
    Until(Instant),
}

/// Returns the least time between two times that so many pages are told of changes. It grows with
/// what that costs, so that it takes at most about a third of a processor.
fn window(pages: usize) -> Duration {
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    WINDOW_OF_PAGE.saturating_mul(pages).min(LONGEST)
}

/// To tell a page and to write to its connection costs some 6 us.
const WINDOW_OF_PAGE: Duration = Duration::from_micros(20);

/// The resolution of timers. Smaller rooms are told at once.
const SHORTEST: Duration = Duration::from_millis(1);

const LONGEST: Duration = Duration::from_millis(250);
