//! Looks for sessions that are not here: on the other servers, then in the store.

use std::sync::Arc;

#[cfg(feature = "cluster")]
use bytes::Bytes;
#[cfg(feature = "cluster")]
use tokio::runtime::Handle;

#[cfg(feature = "cluster")]
use crate::hub::Hub;
use crate::hub::absent::{Absent, Finder, Search};
#[cfg(feature = "cluster")]
use crate::hub::cluster::BoxConnection;
#[cfg(feature = "cluster")]
use crate::hub::cluster::{AnyHub, Cluster, ClusterError, PostOutcome, Visitor, WeakHub};
use crate::hub::inner::HubInner;
#[cfg(feature = "cluster")]
use crate::hub::whereabouts::Hop;
use crate::hub::whereabouts::{Whereabouts, busy};
use stillhere_proto::Secret;
#[cfg(feature = "cluster")]
use stillhere_proto::SessionId;

impl Finder for HubInner {
    /// Asks the other servers, then the store.
    fn search(self: Arc<Self>, absent: Absent, secret: Secret) -> Search {
        Box::pin(async move {
            #[cfg(not(feature = "cluster"))]
            let is_answered = true;
            #[cfg(feature = "cluster")]
            let is_answered = match self.connect_to(&absent).await {
                Ok(Some(far)) => {
                    let leaving = self.leaving.clone();
                    return Ok(Whereabouts::There(Hop { far, leaving }));
                }
                Ok(None) => true,
                Err(ClusterError::Silent) => false,
                Err(error @ ClusterError::Away(_)) => {
                    self.note_away(&error);
                    return Err(busy("the server cannot reach the others at present"));
                }
            };
            // In a task of its own, so that a takeover is not abandoned halfway if the connection
            // is lost.
            let runtime = self.runtime.clone();
            let opened = runtime.spawn(async move { self.reopen(&absent, &secret, is_answered).await });
            let opened = opened.await;
            let opened = opened.unwrap_or_else(|_| Err(busy("the session could not be opened")));
            opened.map(Whereabouts::Here)
        })
    }
}

#[cfg(feature = "cluster")]
impl HubInner {
    async fn connect_to(&self, absent: &Absent) -> Result<Option<BoxConnection>, ClusterError> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let mut visitor = Visitor::new(absent.id);
        visitor.principal.clone_from(&absent.principal);
        visitor.address = absent.address;
        cluster.connect(visitor).await
    }
}

#[cfg(feature = "cluster")]
impl HubInner {
    pub(crate) fn passes_posts(&self) -> bool {
        self.cluster.is_some()
    }

    /// Lets other servers reach a connection over HTTP until the result is dropped.
    pub(crate) fn make_reachable(&self, session: &str) -> Option<Reachable> {
        let (cluster, session) = (self.cluster.clone()?, session.parse().ok()?);
        cluster.exchange_opened(&session);
        Some(Reachable { cluster, session })
    }

    /// Passes a POST on to the server that has its connection, if there is one.
    pub(crate) async fn pass_post(&self, session: SessionId, body: Bytes) -> Option<PostOutcome> {
        let passed = self.cluster.as_ref()?.pass_post(session, body).await;
        passed.unwrap_or_else(|error| {
            self.note_away(&error);
            None
        })
    }

    fn note_away(&self, error: &ClusterError) {
        if let Some(count) = self.warnings.cluster_away.count(crate::clock::now()) {
            tracing::error!(%error, count, "pages wait: their sessions may be on other servers");
        }
    }
}

/// A connection over HTTP that other servers can reach.
#[cfg(feature = "cluster")]
pub(crate) struct Reachable {
    cluster: Arc<dyn Cluster>,
    session: SessionId,
}

#[cfg(feature = "cluster")]
impl Drop for Reachable {
    fn drop(&mut self) {
        self.cluster.exchange_closed(&self.session);
    }
}

#[cfg(feature = "cluster")]
impl AnyHub for HubInner {
    fn hub(self: Arc<Self>) -> Hub {
        Hub { inner: self }
    }
}

#[cfg(feature = "cluster")]
impl Hub {
    /// Returns the runtime on which the hub runs its tasks.
    pub fn runtime(&self) -> Handle {
        self.inner.runtime.clone()
    }

    /// Returns a reference that does not keep the hub alive.
    pub fn downgrade(&self) -> WeakHub {
        WeakHub(Arc::downgrade(&(Arc::clone(&self.inner) as Arc<dyn AnyHub>)))
    }
}
