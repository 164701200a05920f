//! The server under test, and the ways to reach it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use stillhere::machine::Event;
use stillhere::{EndReason, Hub, HubBuilder, SessionHandle, SessionState};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::browser::Browser;
use crate::credentials::Credentials;
use crate::fault_proxy::{ConnectionHandle, FaultProxy};
use crate::patience::within;
use crate::raw_connection::RawConnection;
use crate::socket::Request;

/// A server of the adapter under test, with a fault proxy in front of it.
#[derive(Clone)]
pub struct Server {
    /// The hub that holds its sessions.
    pub hub: Hub,
    /// Address on which the server listens.
    pub address: SocketAddr,
    /// Proxy to the server, whose connections can be broken.
    pub proxy: FaultProxy,
    start: Start,
}

type Start = Arc<dyn Fn(Hub) -> Pin<Box<dyn Future<Output = SocketAddr> + Send>> + Send + Sync>;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("hub", &self.hub)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server for this hub with the adapter's `start`.
    pub async fn start<F, R>(hub: Hub, start: F) -> Self
    where
        F: Fn(Hub) -> R + Send + Sync + 'static,
        R: Future<Output = SocketAddr> + Send + 'static,
    {
        Self::start_boxed(hub, Arc::new(move |hub| Box::pin(start(hub)))).await
    }

    async fn start_boxed(hub: Hub, start: Start) -> Self {
        let address = start(hub.clone()).await;
        Self {
            proxy: proxy_to(address).await,
            hub,
            address,
            start,
        }
    }

    /// Starts another server, with a hub with other settings.
    pub async fn with_hub(&self, builder: HubBuilder) -> Self {
        self.another_for(builder.build()).await
    }

    /// Starts another server with this hub.
    pub async fn another_for(&self, hub: Hub) -> Self {
        Self::start_boxed(hub, Arc::clone(&self.start)).await
    }

    /// Starts another server on a runtime of its own, while its hub's sessions live on this one.
    /// Dropping the returned runtime drops everything that the server runs.
    pub async fn on_its_own_runtime(&self) -> (Self, ServerRuntime) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("the runtime starts");
        let hub = Hub::builder().runtime(Handle::current()).build();
        let start = Arc::clone(&self.start);
        let starting = runtime.spawn({
            let hub = hub.clone();
            async move { start(hub).await }
        });
        let address = starting.await.expect("the server starts");
        let server = Self {
            proxy: proxy_to(address).await,
            hub,
            address,
            start: Arc::clone(&self.start),
        };
        (server, ServerRuntime(Some(runtime)))
    }

    /// Opens a page of this session that connects directly.
    pub fn browse(&self, session: &SessionHandle) -> Browser {
        Browser::connect(self.address, &session.ticket_json())
    }

    /// Opens a page of this session that connects through the proxy.
    pub fn browse_through_proxy(&self, session: &SessionHandle) -> Browser {
        Browser::connect(self.proxy.address(), &session.ticket_json())
    }

    /// Waits for an open connection of this session through the proxy, and returns the newest.
    pub async fn newest_connection(&self, session: &SessionHandle) -> ConnectionHandle {
        let id = session.id().to_string();
        let newest = |open: &[ConnectionHandle]| {
            open.iter()
                .rev()
                .find(|open| open.session_id().as_deref() == Some(&id))
                .cloned()
        };
        let waiting = self.proxy.wait_until(|open| newest(open).is_some());
        newest(&within("a connection of the session through the proxy", waiting).await)
            .expect("a connection has appeared")
    }

    /// Opens a WebSocket for this session that sends nothing on its own.
    ///
    /// # Panics
    /// Panics if the request is not upgraded.
    pub async fn raw(&self, credentials: &Credentials) -> RawConnection {
        self.raw_to(credentials.path()).await
    }

    /// Opens a WebSocket at this path that sends nothing on its own.
    ///
    /// # Panics
    /// Panics if the request is not upgraded.
    pub async fn raw_to(&self, path: &str) -> RawConnection {
        RawConnection::open(&Request::new(self.address, path))
            .await
            .expect("the request is upgraded")
    }

    /// Opens a WebSocket whose document is welcomed as the session's first.
    ///
    /// # Panics
    /// Panics if it is not welcomed.
    pub async fn raw_welcomed(&self, session: &SessionHandle) -> RawConnection {
        let credentials = credentials(session);
        let mut raw = self.raw(&credentials).await;
        raw.say_hello(&credentials, 1, 0, 1).await;
        assert_eq!(raw.welcome().await.incarnation, 1);
        raw
    }
}

async fn proxy_to(address: SocketAddr) -> FaultProxy {
    FaultProxy::start(([127, 0, 0, 1], 0).into(), address)
        .await
        .expect("loopback has a free port")
}

/// Runs a server. Dropping it drops everything that the server runs, at once.
#[derive(Debug)]
pub struct ServerRuntime(Option<Runtime>);

impl Drop for ServerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the ticket that a page of this session gets.
///
/// # Panics
/// Panics if the hub had no room for the session.
pub fn credentials(session: &SessionHandle) -> Credentials {
    Credentials::parse(&session.ticket_json()).expect("the hub has room")
}

/// Waits until the session is in this state.
pub async fn wait_for_state(session: &SessionHandle, state: SessionState) {
    let mut events = session.events();
    let waiting = async {
        while session.state() != state {
            // After the end there are no more events, and the state no longer changes.
            events
                .next()
                .await
                .expect("the session reaches the state before it ends");
        }
    };
    within(format!("the session is {state:?}"), waiting).await;
}

/// Waits for the next event that `wanted` accepts.
pub async fn wait_for_event(events: &mut stillhere::Events, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let waiting = async {
        loop {
            let event = events.next().await.expect("the session has not ended");
            if wanted(&event) {
                return event;
            }
        }
    };
    within(what, waiting).await
}

/// Waits until the session ends, and returns the reason.
pub async fn end_of(session: &SessionHandle) -> EndReason {
    within("the session's end", session.ended()).await
}

/// Waits until the hub has no connections.
pub async fn wait_until_disconnected(hub: &Hub) {
    // The hub sends no event when a connection ends.
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let gone = async {
        while hub.stats().connections > 0 {
            looks.tick().await;
        }
    };
    within("the end of all connections", gone).await;
}
