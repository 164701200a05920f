//! Cleanup policies: they decide when a session without a connection ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stillhere_proto::SessionId;
use stillhere_proto::machine::Cause;

mod combined;
mod default;
mod memory_budget;
mod principal_cap;
mod ranking;
mod while_authenticated;

pub use combined::{And, Or};
pub use default::DefaultCleanupPolicy;
pub use memory_budget::MemoryBudget;
pub use principal_cap::PrincipalCap;
pub use while_authenticated::WhileAuthenticated;

/// Decides which sessions are freed.
///
/// The hub calls the policy when something has changed and at the times that the policy itself
/// requests. It holds no lock during a call, so a policy may call the hub. The call runs on the
/// thread that made the change, so a policy must not take a lock that the application holds while
/// it opens or closes sessions. If a policy panics, the hub logs the panic, skips that check and
/// calls the policy again a second later.
///
/// The ready-made policies are [`DefaultCleanupPolicy`], [`MemoryBudget`], [`PrincipalCap`] and
/// [`WhileAuthenticated`]. Combine them with [`CleanupPolicy::or`] and [`CleanupPolicy::and`]. A
/// custom policy that looks at the resources of sessions and their users takes a few lines:
///
/// ```
#[doc = include_str!("../../examples/by_worth.rs")]
/// ```
pub trait CleanupPolicy: Send + Sync + 'static {
    /// Returns true if the session should be closed now. The hub closes it only if nothing about
    /// the session has changed in the meantime.
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool;

    /// Returns true if a session that has lost its connection may wait for its browser. Called
    /// again whenever such a session changes.
    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool;

    /// Returns when to call [`CleanupPolicy::should_cleanup`] if nothing changes before; `None`
    /// means only after a change. The default is one second from now.
    ///
    /// After a change the hub calls only this method, and then `should_cleanup` at the returned
    /// time. A time in the past means as soon as possible.
    fn next_check(&self, _session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        Some(now + Duration::from_secs(1))
    }

    /// Returns how long a session is kept without a connection. Browsers learn this time and retry
    /// for at least that long. Default 120 s.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        DefaultCleanupPolicy::default().soft_closed
    }

    /// Tells a policy that compares sessions how a session is now. Called after a change, before a
    /// check, and with [`SessionState::Closed`] after the session has ended. Returns the sessions
    /// that should be judged now because of this change; by default none. If nothing is new, return
    /// none: a session that stays would otherwise be judged forever.
    ///
    /// The hub may call this twice for one state, and from several threads out of order, but the
    /// last call for a session reports its final state. A policy that replaces its record of the
    /// session on every call, and removes it when the session is closed, therefore stays correct.
    /// The method must neither call the hub nor change the session.
    fn observe(&self, _session: &SessionSnapshot) -> Vec<SessionId> {
        Vec::new()
    }

    /// Returns true if a session without a connection must be judged whenever the size of its
    /// buffers changes, and not only after a change of its state or weight. The answer must never
    /// change. Default: false.
    fn weighs(&self) -> bool {
        false
    }

    /// Returns true if the policy compares the sessions of a user on all servers of a cluster. Then
    /// [`CleanupPolicy::observe`] is also called for users' sessions on other servers, with
    /// [`SessionSnapshot::is_elsewhere`], and each server ends only its own. The answer must never
    /// change. Default: false.
    fn spans_servers(&self) -> bool {
        false
    }

    /// Combines two policies into one that frees what either frees; see [`Or`].
    fn or<P: CleanupPolicy>(self, other: P) -> Or<Self, P>
    where
        Self: Sized,
    {
        Or(self, other)
    }

    /// Combines two policies into one that frees only what both free; see [`And`].
    fn and<P: CleanupPolicy>(self, other: P) -> And<Self, P>
    where
        Self: Sized,
    {
        And(self, other)
    }
}

/// The state of one session at one moment, for a policy to judge.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionSnapshot {
    /// Id of the session.
    pub id: SessionId,
    /// Stage of the session's life.
    pub state: SessionState,
    /// When the session entered `state`.
    pub since: Instant,
    /// When the session was opened.
    pub opened: Instant,
    /// Why the session has no connection, if it lost one.
    pub cause: Option<Cause>,
    /// Bytes buffered in both directions. Each frame counts for its payload plus 64 bytes.
    pub buffered: u64,
    /// Bytes that the application holds for the session, as declared with
    /// [`SessionHandle::set_weight`](crate::SessionHandle::set_weight). Default 0.
    pub weight: u64,
    /// How often a browser has reconnected.
    pub reconnects: u64,
    /// The user for whom the session was opened, if any.
    pub principal: Option<Arc<str>>,
    /// The session is on another server of a cluster, which reports only its id, principal and
    /// times, and a state only while it is `Open`, `SoftClosed` or `Closed`.
    pub is_elsewhere: bool,
    pub(crate) version: u64,
}

impl SessionSnapshot {
    /// Returns true if nothing relevant to a policy happened between this snapshot and `other` of
    /// the same session.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.version == other.version && (self.buffered == other.buffered || !self.state.is_soft_closed())
    }
}

/// Stage of a session's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionState {
    /// Open, and no browser has connected yet.
    Unconnected,
    /// Open, with a connection.
    Open,
    /// Open, without a connection, and waiting for the browser to reconnect.
    SoftClosed,
    /// Closing, with a connection on which the last messages are being delivered.
    Ending,
    /// Closing, without a connection: the last messages wait for the browser to reconnect.
    EndingSoftClosed,
    /// Closed.
    Closed,
}

impl SessionState {
    /// Returns true if the session has lost its connection and waits for the browser to reconnect.
    pub const fn is_soft_closed(self) -> bool {
        matches!(self, Self::SoftClosed | Self::EndingSoftClosed)
    }
}
