//! When a session without a connection is given up: the application's choice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::SessionId;
use crate::machine::Cause;

mod default;

pub use default::DefaultCleanupPolicy;

/// Decides which sessions are freed.
///
/// The hub asks when something changed and at the times the policy names itself, never under a lock: a policy may call back into the hub.
/// A policy that panics costs that one check; it is reported and asked again a second later.
///
/// ```
/// use std::time::{Duration, Instant};
/// use stillhere::{CleanupPolicy, SessionSnapshot, SessionState};
///
/// /// Keeps what was used for long, drops the rest soon.
/// struct ByAge;
///
/// impl CleanupPolicy for ByAge {
///     fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
///         let patience = if session.reconnects > 3 { 600 } else { 60 };
///         session.state != SessionState::Open && now - session.since >= Duration::from_secs(patience)
///     }
///
///     fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
///         true
///     }
/// }
/// ```
pub trait CleanupPolicy: Send + Sync + 'static {
    /// Whether the session is to be closed now. The decision holds only if nothing about the session has changed meanwhile.
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool;

    /// Whether a session that has just lost its connection may wait for the browser to come back.
    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool;

    /// When to ask again if nothing changes first; `None`: not before something changes. By default every second.
    fn next_check(&self, _session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        Some(now + Duration::from_secs(1))
    }

    /// How long a session is kept without a connection, as browsers are told: they retry at least that long. By default 120 s.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        DefaultCleanupPolicy::default().soft_closed
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
    /// How often a browser connected again.
    pub reconnects: u64,
    /// Whose session it is, if it was opened for somebody.
    pub principal: Option<Arc<str>>,
    pub(crate) version: u64,
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionState {
    /// Opened; no browser has come yet.
    Waiting,
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
