//! What a hub warns of, each once a minute at the most, as peers can cause it at any rate.

use crate::seldom::Seldom;

#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// A page of another origin, or a host that is not allowed.
    pub(crate) foreign: Seldom,
    pub(crate) not_its_user: Seldom,
    /// There is no way to tell users.
    pub(super) no_principal_hook: Seldom,
}
