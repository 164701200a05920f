//! The hub's warnings. Each is logged at most once a minute, because peers can cause them at any
//! rate.

use crate::rate_limited_log::RateLimitedLog;

#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// The page's origin or the host is not allowed.
    pub(crate) foreign: RateLimitedLog,
    pub(crate) not_its_user: RateLimitedLog,
    /// The session that had waited longest for its browser ended to make room for a new one.
    pub(super) unconnected_ended: RateLimitedLog,
    pub(crate) too_many_hellos: RateLimitedLog,
    pub(crate) too_many_connections: RateLimitedLog,
    pub(crate) too_many_sessions: RateLimitedLog,
    pub(crate) too_many_posts: RateLimitedLog,
    /// It is not known which server has a session.
    #[cfg(feature = "cluster")]
    pub(super) cluster_away: RateLimitedLog,
    /// The hub has the maximum number of sessions.
    pub(super) full: RateLimitedLog,
    /// A session belongs to a user, but the hub cannot determine users.
    pub(super) no_principal_hook: RateLimitedLog,
}
