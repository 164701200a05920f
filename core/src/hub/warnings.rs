//! The hub's warnings. Each is logged at most once a minute, because peers can cause them at any
//! rate.

use crate::rate_limited_log::RateLimitedLog;

#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// A page of another origin, or a host that is not allowed.
    pub(crate) foreign: RateLimitedLog,
    pub(crate) not_its_user: RateLimitedLog,
    /// The session that had waited longest for its browser was ended for a new one.
    pub(super) unconnected_ended: RateLimitedLog,
    pub(crate) too_many_hellos: RateLimitedLog,
    pub(crate) too_many_connections: RateLimitedLog,
    pub(crate) too_many_sessions: RateLimitedLog,
    pub(crate) too_many_posts: RateLimitedLog,
    /// There is no room for a session.
    pub(super) full: RateLimitedLog,
    /// A session has a user, but the hub has no way to find out who connects.
    pub(super) no_principal_hook: RateLimitedLog,
}
