//! Looks for sessions that are not here: on the other servers, then in the store.

use std::sync::Arc;

#[cfg(feature = "cluster")]
use tokio::runtime::Handle;

#[cfg(feature = "cluster")]
use crate::hub::Hub;
use crate::hub::absent::{Absent, Finder, Search};
#[cfg(feature = "cluster")]
use crate::hub::cluster::{AnyHub, ClusterError, Visitor, WeakHub};
use crate::hub::inner::HubInner;
#[cfg(feature = "cluster")]
use crate::hub::whereabouts::Hop;
use crate::hub::whereabouts::{Whereabouts, busy};
#[cfg(feature = "cluster")]
use crate::pair::PairEnd;
use stillhere_proto::Secret;

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
                Err(ClusterError::Away(error)) => {
                    if let Some(count) = self.warnings.cluster_away.count(crate::clock::now()) {
                        tracing::error!(%error, count, "pages wait whose sessions may be on other servers");
                    }
                    return Err(busy("the servers cannot reach each other at present"));
                }
            };
            // In a task of its own, so that a claim is not abandoned half-way if the connection is
            // lost.
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
    async fn connect_to(&self, absent: &Absent) -> Result<Option<PairEnd>, ClusterError> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let mut visitor = Visitor::new(absent.id);
        visitor.principal.clone_from(&absent.principal);
        visitor.address = absent.address;
        cluster.connect(visitor).await
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
