//! The server under test, and the ways to it.

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

/// A server of the adapter under test, with a fault proxy before it.
#[derive(Clone)]
pub struct Server {
    /// Its sessions.
    pub hub: Hub,
    /// Where it listens.
    pub address: SocketAddr,
    /// Another way to it, which can be broken.
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
    /// Starts a server for this hub by the adapter's `start`.
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

    /// Another server with a hub of other settings.
    pub async fn with_hub(&self, builder: HubBuilder) -> Self {
        self.another_for(builder.build()).await
    }

    /// Another server with this hub.
    pub async fn another_for(&self, hub: Hub) -> Self {
        Self::start_boxed(hub, Arc::clone(&self.start)).await
    }

    /// Another server, on a runtime of its own; its hub's sessions live on this one. When the runtime is dropped, everything the server
    /// runs is dropped.
    pub async fn on_its_own_runtime(&self) -> (Self, ServerRuntime) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
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

    /// A page of this session, connected directly.
    pub fn browse(&self, session: &SessionHandle) -> Browser {
        Browser::connect(self.address, &session.ticket_json())
    }

    /// A page of this session, connected through the proxy.
    pub fn browse_through_proxy(&self, session: &SessionHandle) -> Browser {
        Browser::connect(self.proxy.address(), &session.ticket_json())
    }

    /// The proxy's newest open connection of this session, once there is one.
    pub async fn newest_connection(&self, session: &SessionHandle) -> ConnectionHandle {
        let id = session.id().to_string();
        let newest = |open: &[ConnectionHandle]| {
            open.iter()
                .rev()
                .find(|open| open.session_id().as_deref() == Some(&id))
                .cloned()
        };
        let waiting = self.proxy.wait_until(|open| newest(open).is_some());
        newest(&within("a connection of the session through the proxy", waiting).await).expect("it was waited for")
    }

    /// A WebSocket for this session that says nothing by itself.
    ///
    /// # Panics
    /// When it is not upgraded.
    pub async fn raw(&self, credentials: &Credentials) -> RawConnection {
        self.raw_to(credentials.path()).await
    }

    /// A WebSocket at this path that says nothing by itself.
    ///
    /// # Panics
    /// When it is not upgraded.
    pub async fn raw_to(&self, path: &str) -> RawConnection {
        RawConnection::open(&Request::new(self.address, path))
            .await
            .expect("the request is upgraded")
    }

    /// A WebSocket whose document has been welcomed as the session's first.
    ///
    /// # Panics
    /// When it is not.
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

/// Runs a server; dropping it drops all that the server runs, at once.
#[derive(Debug)]
pub struct ServerRuntime(Option<Runtime>);

impl Drop for ServerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a page of this session gets.
///
/// # Panics
/// When the hub had no room for the session.
pub fn credentials(session: &SessionHandle) -> Credentials {
    Credentials::parse(&session.ticket_json()).expect("the hub has room")
}

/// Waits until the session is in this state.
pub async fn wait_for_state(session: &SessionHandle, state: SessionState) {
    let mut events = session.events();
    let waiting = async {
        while session.state() != state {
            // After the end there are no events, and the state will not change.
            events
                .next()
                .await
                .expect("the session reaches the state before it ends");
        }
    };
    within(format!("the session is {state:?}"), waiting).await;
}

/// Waits for the next event of this kind.
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

/// Why the session ended, once it has.
pub async fn end_of(session: &SessionHandle) -> EndReason {
    within("the session's end", session.ended()).await
}

/// Waits until nothing is connected to the hub.
pub async fn wait_until_disconnected(hub: &Hub) {
    // The hub tells nobody when a connection is gone.
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let gone = async {
        while hub.stats().connections > 0 {
            looks.tick().await;
        }
    };
    within("the hub has no connections any more", gone).await;
}
