//! What a hub warns of, each once a minute at the most, as peers can cause it at any rate.

use crate::seldom::Seldom;

#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// A page of another origin, or a host that is not allowed.
    pub(crate) foreign: Seldom,
    pub(crate) not_its_user: Seldom,
    /// A session had waited longest for its browser when another came.
    pub(super) waiting_ended: Seldom,
    pub(crate) too_many_hellos: Seldom,
    pub(crate) too_many_connections: Seldom,
    pub(crate) too_many_posts: Seldom,
    /// There is no room for a session.
    pub(super) full: Seldom,
    /// There is no way to tell users.
    pub(super) no_principal_hook: Seldom,
}
