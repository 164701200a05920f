//! The hub's warnings. Each is logged at most once a minute, because peers can cause them at any
//! rate.

use crate::seldom::Seldom;

#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// A page of another origin, or a host that is not allowed.
    pub(crate) foreign: Seldom,
    pub(crate) not_its_user: Seldom,
    /// The session that had waited longest for its browser was ended for a new one.
    pub(super) unconnected_ended: Seldom,
    pub(crate) too_many_hellos: Seldom,
    pub(crate) too_many_connections: Seldom,
    pub(crate) too_many_sessions: Seldom,
    pub(crate) too_many_posts: Seldom,
    /// There is no room for a session.
    pub(super) full: Seldom,
    /// A session has a user, but the hub has no way to find out who connects.
    pub(super) no_principal_hook: Seldom,
}
