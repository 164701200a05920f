//! When a session without a connection is given up: the application's choice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stillhere_proto::SessionId;
use stillhere_proto::machine::Cause;

mod combined;
mod default;
mod memory_budget;
mod principal_cap;
mod while_authenticated;

pub use combined::{And, Or};
pub use default::DefaultCleanupPolicy;
pub use memory_budget::MemoryBudget;
pub use principal_cap::PrincipalCap;
pub use while_authenticated::WhileAuthenticated;

/// Decides which sessions are freed.
///
/// The hub asks when something changed and at the times the policy names itself, never under a lock: a policy may call back into the hub.
/// It is asked on the thread that changed something, so it must not take a lock that the application holds while it opens or closes sessions.
/// A policy that panics costs that one check; it is reported and asked again a second later.
///
/// Ready-made: [`DefaultCleanupPolicy`], [`MemoryBudget`], [`PrincipalCap`], [`WhileAuthenticated`], joined by [`CleanupPolicy::or`] and
/// [`CleanupPolicy::and`]. By the resources that sessions use and by who uses them, in a few lines of one's own:
///
/// ```
#[doc = include_str!("../../examples/by_worth.rs")]
/// ```
pub trait CleanupPolicy: Send + Sync + 'static {
    /// Whether the session is to be closed now. The decision holds only if nothing about the session has changed meanwhile.
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool;

    /// Whether a session that has lost its connection may wait for the browser to come back. Asked again whenever such a session changes.
    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool;

    /// When to ask again if nothing changes first; `None`: not before something changes. By default every second. A time that is over means soon:
    /// after a change only this method is asked, for [`CleanupPolicy::should_cleanup`] to be asked at that time.
    fn next_check(&self, _session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        Some(now + Duration::from_secs(1))
    }

    /// How long a session is kept without a connection, as browsers are told: they retry at least that long. By default 120 s.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        DefaultCleanupPolicy::default().soft_closed
    }

    /// For a policy that judges a session by the others: told how each session is when it has changed, when it is to be judged, and, as
    /// [`SessionState::Closed`], when it is over. Answers with sessions to judge now because of what is new; where nothing is, with none, or
    /// one that stays would be judged for ever. By default with none.
    ///
    /// Calls for one session may come twice and, from several threads, late, but the last one tells how it is. So a book that each call puts
    /// right is right, and what is over has left it. Must not call back into the hub or change the session.
    fn observe(&self, _session: &SessionSnapshot) -> Vec<SessionId> {
        Vec::new()
    }

    /// Whether a session that buffers more or less than before while it has no connection is to be judged at once, and not only when its
    /// state or its weight changes. Always the same answer. By default not.
    fn weighs(&self) -> bool {
        false
    }

    /// Frees what either policy frees; see [`Or`].
    fn or<P: CleanupPolicy>(self, other: P) -> Or<Self, P>
    where
        Self: Sized,
    {
        Or(self, other)
    }

    /// Frees only what both policies free; see [`And`].
    fn and<P: CleanupPolicy>(self, other: P) -> And<Self, P>
    where
        Self: Sized,
    {
        And(self, other)
    }
}

/// What a policy judges: a session as it was at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionSnapshot {
    /// Which session.
    pub id: SessionId,
    /// Where it is in its life.
    pub state: SessionState,
    /// Since when.
    pub since: Instant,
    /// When it was opened.
    pub opened: Instant,
    /// Why it has no connection, if it lost one.
    pub cause: Option<Cause>,
    /// Bytes it buffers, both directions, frames charged at their payload plus 64.
    pub buffered: u64,
    /// Bytes the application holds for it, as it declared with [`SessionHandle::set_weight`](crate::SessionHandle::set_weight). 0 before that.
    pub weight: u64,
    /// How often a browser connected again.
    pub reconnects: u64,
    /// Whose session it is, if it was opened for somebody.
    pub principal: Option<Arc<str>>,
    pub(crate) version: u64,
}

impl SessionSnapshot {
    /// Whether nothing that a policy is told has happened between this snapshot and `other` of the same session.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.version == other.version && (self.buffered == other.buffered || !self.state.is_soft_closed())
    }
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionState {
    /// Opened; no browser has come yet.
    Unconnected,
    /// A connection carries it.
    Open,
    /// The connection is gone, the session waits.
    SoftClosed,
    /// Its last messages are on their way and a connection carries them.
    Ending,
    /// Its last messages wait for the browser to come back.
    EndingSoftClosed,
    /// Over.
    Closed,
}

impl SessionState {
    /// Whether the session once had a connection and waits for it to come back.
    pub const fn is_soft_closed(self) -> bool {
        matches!(self, Self::SoftClosed | Self::EndingSoftClosed)
    }
}
