//! Sessions that are not here: on another server, or in the store.

#[cfg(feature = "cluster")]
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use crate::hub::whereabouts::{Whereabouts, unknown};
use crate::peer::Peer;
use stillhere_proto::wire::End;
use stillhere_proto::{Secret, SessionId};

/// A connection whose session is not here. The hub looks for the session when the hello arrives.
#[derive(Clone)]
pub(crate) struct Absent {
    pub(crate) id: SessionId,
    pub(super) hub: Weak<dyn Finder>,
    /// The user who makes the request.
    pub(super) principal: Option<String>,
    /// The hub has no hook that determines users.
    pub(super) has_no_hook: bool,
    #[cfg(feature = "cluster")]
    pub(super) address: Option<IpAddr>,
    pub(super) peers: Vec<Peer>,
}

/// A search for a session. The error is what to tell the peer.
pub(super) type Search = Pin<Box<dyn Future<Output = Result<Whereabouts, End>> + Send>>;

/// Looks for sessions: the hub.
pub(super) trait Finder: Send + Sync {
    fn search(self: Arc<Self>, absent: Absent, secret: Secret) -> Search;
}

impl Absent {
    /// Looks for the session. The error is what to tell the peer.
    pub(crate) async fn find(&self, secret: &Secret) -> Result<Whereabouts, End> {
        let Some(hub) = self.hub.upgrade() else {
            return Err(unknown());
        };
        hub.search(self.clone(), secret.clone()).await
    }
}
