//! Servers of a cluster within the test.

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::Client;
use serde::{Deserialize, Serialize};
use stillhere::durable::{Durability, DurableKind, State};
use stillhere::{Hub, HubBuilder, Session};
use stillhere_nats::{NatsCluster, NatsClusterOptions, NatsStore, NatsStoreOptions};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::NatsServer;

/// A server with threads and a NATS client of its own.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) cluster: NatsCluster,
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Node {
    /// Starts a server.
    pub(crate) async fn start(nats: &NatsServer, configure: impl FnOnce(HubBuilder) -> HubBuilder) -> Self {
        Self::start_with(nats.url(), async |_, hub| configure(hub)).await
    }

    /// Starts a server with a store that it shares with the others.
    pub(crate) async fn start_durable(nats: &NatsServer) -> Self {
        Self::start_durable_at(nats.url()).await
    }

    /// Does the same with NATS at this URL.
    pub(crate) async fn start_durable_at(url: String) -> Self {
        Self::start_with(url, async |node_client, hub| {
            let store = NatsStore::new(node_client, NatsStoreOptions::default()).await;
            hub.store(store.expect("the store opens"))
        })
        .await
    }

    async fn start_with(url: String, configure: impl AsyncFnOnce(Client, HubBuilder) -> HubBuilder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let joining = runtime.spawn(async move {
            let client = async_nats::connect(url).await.expect("NATS runs");
            let cluster = NatsCluster::new(client.clone(), NatsClusterOptions::default()).await;
            (client, cluster.expect("it joins"))
        });
        let (client, cluster) = joining.await.expect("it joins");
        let builder = Hub::builder()
            .runtime(runtime.handle().clone())
            .cluster(cluster.clone());
        let hub = configure(client, builder).await.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let listener = listener.into_std().expect("it is a listener");
        let address = listener.local_addr().expect("it is bound");
        let app = stillhere_axum::routes(&hub);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it is not blocking");
            axum::serve(listener, app).await.expect("it serves");
        });
        let node = Self {
            hub,
            cluster,
            address,
            runtime: Some(runtime),
        };
        until("the server hears itself", || node.cluster.is_ready()).await;
        node
    }

    /// Registers sessions that count what they receive.
    pub(crate) fn counters(&self) -> DurableKind<Count> {
        self.hub.durable("count", Durability::Crash, count)
    }

    /// Stops the server's only thread, as SIGSTOP does, until the result is dropped.
    pub(crate) async fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, frozen) = std::sync::mpsc::channel();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let runtime = self.runtime.as_ref().expect("it is not killed");
        runtime.spawn(async move {
            let _ = begun.send(());
            let _ = frozen.recv();
        });
        begins.await.expect("it freezes");
        thaw
    }

    /// Ends the server as a crash does: nobody is told anything.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) count: u64,
}

/// Answers each message with the number of messages so far.
async fn count(mut session: Session, state: State<Count>) {
    while session.recv().await.is_some() {
        let count = state.update(|state| {
            state.count += 1;
            state.count
        });
        if session.send(count.to_string()).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

/// Answers each number with one of its own and the count of those that were not the next.
pub(crate) async fn numbers(mut session: Session) {
    let (mut last, mut errors) = (0u64, 0u64);
    while let Some(message) = session.recv().await {
        let number = u64::from_le_bytes(message[..].try_into().expect("a number has 8 bytes"));
        errors += u64::from(number != last + 1);
        last = number;
        let answer = [number, errors].map(u64::to_le_bytes).concat();
        if session.send(answer).await.is_err() {
            return;
        }
    }
}

/// Waits until this is true.
pub(crate) async fn until(what: &str, is_true: impl Fn() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "not within 30 s: {what}");
}
