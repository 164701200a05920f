//! All sessions of one application.

mod builder;
mod config;
mod ended_session;
mod host;
mod inner;
mod judge;
mod kinds;
mod memory_limit;
mod pending_hello;
mod places;
mod reach;
mod registry;
mod schedule;
mod sweep;
mod unconnected;
mod warnings;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cleanup::CleanupPolicy;
use crate::kind::ConnectionSetup;
use crate::options::{PlainOptions, SessionOptions};
use crate::peer::client_address;
use crate::request::SessionRequest;
use crate::session::{Application, Session, SessionHandle};
use stillhere_proto::SessionId;
use stillhere_proto::{Message, SharedBytes};

pub use builder::HubBuilder;
pub(crate) use config::Config;
pub(crate) use inner::HubInner;
pub(crate) use pending_hello::{PendingHello, RETRY_FIRST};
pub(crate) use places::Place;
pub(crate) use registry::Found;

use judge::observe;

/// All sessions of one application. Cheap to clone; the sessions live as long as any clone.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<HubInner>,
}

impl Hub {
    /// A session for a page that is about to be sent. `application` is its function: it starts when
    /// a browser first connects, and when it returns the session ends once everything sent has been
    /// delivered.
    ///
    /// Never fails: beyond the hub's limits, or while it shuts down, the handle is closed already
    /// and its script tells the page why and when to try again.
    pub fn open<F, R>(&self, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.inner.open(Arc::clone(&self.inner.defaults), boxed(application))
    }

    /// [`Hub::open`] for a user: only connections of this principal are let in, as
    /// [`HubBuilder::principal`] tells.
    pub fn open_for<F, R>(&self, principal: &str, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = SessionOptions {
            principal: Some(principal.into()),
            ..self.session_options()
        };
        self.open_with(options, application)
    }

    /// [`Hub::open`] with options of its own; begin with [`Hub::session_options`].
    pub fn open_with<F, R>(&self, options: SessionOptions, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.inner.open(Arc::new(options.normalised()), boxed(application))
    }

    /// [`Hub::open`] for a client with a protocol of its own, which finds the session at
    /// [`SessionHandle::url`] and needs nothing else. What that means is told at [`PlainOptions`].
    ///
    /// ```
    /// # use stillhere::{Hub, PlainOptions};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let hub = Hub::new();
    /// let robot = hub.open_plain(PlainOptions::default(), |mut session| async move {
    ///     while let Some(position) = session.recv().await {
    ///         if session.send(position.into_bytes()).await.is_err() {
    ///             return;
    ///         }
    ///     }
    /// });
    /// assert_eq!(robot.url(), format!("/stillhere/{}", robot.id()));
    /// # }
    /// ```
    pub fn open_plain<F, R>(&self, plain: PlainOptions, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = SessionOptions {
            plain: Some(plain),
            ..self.session_options()
        };
        self.open_with(options, application)
    }

    /// What sessions get that are opened without options of their own.
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions::clone(&self.inner.defaults)
    }

    /// Returns the address of the client that makes this request, for [`SessionOptions::address`].
    /// It is the other end of the connection or, if proxies are
    /// [trusted](HubBuilder::trusted_hops), the address that called the outermost of them.
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use stillhere::{Hub, Session, SessionHandle, SessionRequest};
    /// # async fn run(session: Session) { session.ended().await; }
    /// /// Opens a page's session, in the page's handler. `headers` are the request's.
    /// fn open<'a>(hub: &Hub, headers: impl Iterator<Item = (&'a str, &'a [u8])>, peer: SocketAddr) -> SessionHandle {
    ///     let request = SessionRequest::new("", headers).peer_address(Some(peer.ip()));
    ///     let mut options = hub.session_options();
    ///     options.address = hub.client_address(&request);
    ///     hub.open_with(options, run)
    /// }
    /// ```
    pub fn client_address(&self, request: &SessionRequest<'_>) -> Option<IpAddr> {
        client_address(request, self.inner.config.trusted_hops)
    }

    /// The session with this id, unless it is over.
    pub fn session(&self, id: &SessionId) -> Option<SessionHandle> {
        self.inner.find(id).map(SessionHandle::new)
    }

    /// All sessions that are not over.
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.inner.all().into_iter().map(SessionHandle::new).collect()
    }

    /// The sessions that were opened for this principal and are not over. To log a user out:
    ///
    /// ```
    /// # async fn log_out(hub: stillhere::Hub) {
    /// for session in hub.sessions_of("ada") {
    ///     session.abort("logged out");
    /// }
    /// # }
    /// ```
    pub fn sessions_of(&self, principal: &str) -> Vec<SessionHandle> {
        let registry = self.inner.registry();
        let theirs = registry
            .sessions
            .values()
            .filter(|session| session.principal() == Some(principal));
        theirs.cloned().map(SessionHandle::new).collect()
    }

    /// A message for many sessions: its bytes are counted once against the hub's memory, however
    /// many outboxes hold it, and compressed once.
    pub fn share(&self, message: impl Into<Message>) -> Message {
        let (message, memory) = (message.into(), &self.inner.memory);
        let size = message.len() as u64;
        let shared = SharedBytes::new(memory.counter(), size);
        let held = memory.held();
        memory.notice(held.saturating_sub(size), held);
        message.into_shared(shared)
    }

    /// Changes the cleanup policy; every session is judged by the new one at once.
    ///
    /// A policy that judges sessions by each other first gets to know them all.
    pub fn set_cleanup_policy(&self, policy: impl CleanupPolicy) {
        let policy: Arc<dyn CleanupPolicy> = Arc::new(policy);
        // Before it judges the first, so that it does not take the oldest it knows for the oldest
        // there is.
        let known = self.inner.all();
        for session in &known {
            observe(&*policy, session);
        }
        let replaced = std::mem::replace(&mut *self.inner.policy.lock(), policy);
        // Not under the lock: dropping it may run code of the application's.
        drop(replaced);
        // Those that ended meanwhile, which only its predecessor was told.
        let policy = self.inner.policy();
        for session in known.iter().filter(|session| session.end_reason().is_some()) {
            observe(&*policy, session);
        }
        let now = crate::clock::now();
        for session in self.inner.all() {
            self.inner.check(&session, now);
        }
    }

    /// Registers a kind of connection: `condition` says how a session's page is to connect, or
    /// `None` if it has no opinion.
    ///
    /// Asked, the last registered first, whenever a ticket or script tag is made; the first answer
    /// counts, and without any a page connects by WebSocket. It must neither block nor make a
    /// ticket or script tag of the session itself. One that panics is reported and has no opinion.
    /// A clone of the hub in it would keep the hub for ever. What a kind consists of is told at
    /// [`ConnectionSetup`].
    ///
    /// ```
    /// # use stillhere::{ConnectionSetup, Hub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hub = Hub::new();
    /// hub.register_connection(|session| {
    ///     let is_staff = session.principal() == Some("ada");
    ///     is_staff.then(|| ConnectionSetup::web_socket().url("https://staff.example/stillhere"))
    /// });
    /// # }
    /// ```
    pub fn register_connection<F>(&self, condition: F)
    where
        F: Fn(&SessionHandle) -> Option<ConnectionSetup> + Send + Sync + 'static,
    {
        self.inner.kinds.register(Arc::new(condition));
    }

    /// The path under which the adapter's routes are mounted; empty for the root.
    pub fn mount(&self) -> &str {
        &self.inner.config.mount
    }

    /// Numbers for dashboards and tests.
    pub fn stats(&self) -> Stats {
        let registry = self.inner.registry();
        Stats {
            sessions: registry.sessions.len(),
            unconnected: registry.unconnected.len(),
            connections: self.inner.connections.len(),
            buffered: self.inner.memory.held(),
            opened: self.inner.opened.load(Ordering::Relaxed),
            policy_evaluations: self.inner.evaluations.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stats", &self.stats()).finish()
    }
}

/// Numbers of a hub at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions that are not over.
    pub sessions: usize,
    /// Those of them whose first browser has not come.
    pub unconnected: usize,
    /// Connections, including those that have not said hello.
    pub connections: usize,
    /// Bytes that all sessions buffer together.
    pub buffered: u64,
    /// Sessions ever opened.
    pub opened: u64,
    /// How often a cleanup policy was asked.
    pub policy_evaluations: u64,
}

fn boxed<F, R>(application: F) -> Application
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Box::new(|session| Box::pin(application(session)))
}
