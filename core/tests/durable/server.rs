//! A server that can be killed, on a store that outlives it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillhere::durable::{Commit, Durability, DurableKind, MemoryStore, Record, State, Store, StoreError, StoreFuture};
use stillhere::{DrainReport, Hub, HubBuilder, Session, SessionId};

use crate::support::browser::Browser;
use crate::support::pipe::pipe;
use crate::support::{Access, connect, settled};

/// The address of a server: whoever runs there gets the connections.
#[derive(Clone, Default)]
pub(crate) struct Address(Arc<Mutex<Option<Hub>>>);

impl Address {
    pub(crate) fn set(&self, hub: Option<&Hub>) {
        let before = std::mem::replace(&mut *self.0.lock().expect("no test panics here"), hub.cloned());
        drop(before);
    }

    /// Opens a page that connects to whoever runs at this address.
    pub(crate) fn page(&self, access: Access) -> Browser {
        let (address, id) = (self.clone(), access.id.clone());
        Browser::load_over(access, move || {
            match address.0.lock().expect("no test panics here").as_ref() {
                Some(hub) => connect(hub, &id).0,
                // The other end is dropped.
                None => pipe().1,
            }
        })
    }
}

/// A process: a hub with one kind of session.
pub(crate) struct Process<S> {
    pub(crate) hub: Hub,
    pub(crate) kind: DurableKind<S>,
}

impl<S> Process<S> {
    /// Ends as a process does that is killed.
    pub(crate) async fn kill(self, address: &Address) {
        address.set(None);
        drop(self);
        settled().await;
    }

    /// Ends as a process does that is told to stop.
    pub(crate) async fn stop(self, address: &Address) -> DrainReport {
        let report = self.hub.shutdown(Duration::from_secs(5)).await;
        address.set(None);
        drop(self);
        settled().await;
        report
    }
}

/// What the counting function keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) count: u64,
    pub(crate) texts: Vec<String>,
}

/// Starts a process whose sessions answer each message with their number of messages.
pub(crate) fn counting(builder: HubBuilder, durability: Durability, address: &Address) -> Process<Count> {
    let hub = builder.build();
    let kind = hub.durable("counting", durability, count);
    address.set(Some(&hub));
    Process { hub, kind }
}

pub(crate) async fn count(mut session: Session, state: State<Count>) {
    while let Some(message) = session.recv().await {
        let text = String::from_utf8(message.to_vec()).expect("it is text");
        let answer = state.update(|state| {
            state.count += 1;
            state.texts.push(text.clone());
            format!("{} {text}", state.count)
        });
        if session.send(answer).await.is_err() {
            return;
        }
    }
}

pub(crate) fn on(store: &impl TestStore) -> HubBuilder {
    store.builder()
}

/// Stores that a test uses.
pub(crate) trait TestStore {
    fn builder(&self) -> HubBuilder;
}

impl TestStore for MemoryStore {
    fn builder(&self) -> HubBuilder {
        Hub::builder().store(self.clone())
    }
}

/// A store whose commits take time, before and after they take effect.
#[derive(Debug, Clone)]
pub(crate) struct SlowStore {
    pub(crate) store: MemoryStore,
    random: Arc<Mutex<u64>>,
    most: u64,
}

impl SlowStore {
    pub(crate) fn new(store: MemoryStore, seed: u64, most: u64) -> Self {
        Self {
            store,
            random: Arc::new(Mutex::new(seed | 1)),
            most,
        }
    }

    fn pause(&self) -> Duration {
        let mut random = self.random.lock().expect("no test panics here");
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        Duration::from_millis(*random % (self.most + 1))
    }
}

impl TestStore for SlowStore {
    fn builder(&self) -> HubBuilder {
        Hub::builder().store(self.clone())
    }
}

impl Store for SlowStore {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            tokio::time::sleep(self.pause()).await;
            let revision = self.store.commit(commit).await?;
            tokio::time::sleep(self.pause()).await;
            Ok(revision)
        })
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        Box::pin(async move {
            tokio::time::sleep(self.pause()).await;
            self.store.load(id).await
        })
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        self.store.remove(id, revision)
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        self.store.expired(most)
    }
}

pub(crate) fn full() -> Option<StoreError> {
    Some(StoreError::Full)
}
