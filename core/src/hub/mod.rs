//! The hub: it holds all sessions of one application.

#[cfg(feature = "durable")]
mod absent;
mod builder;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
#[cfg(feature = "durable")]
mod durable;
#[cfg(feature = "cluster")]
mod elsewhere;
mod ended_session;
mod host;
mod id_hasher;
mod inner;
mod judge;
mod kinds;
mod memory_limit;
mod pending_hello;
mod places;
mod reach;
#[cfg(feature = "durable")]
mod records;
mod registry;
mod schedule;
#[cfg(feature = "durable")]
mod search;
mod sessions;
mod shrink;
mod sweep;
mod unconnected;
#[cfg(feature = "durable")]
mod unwritten;
mod warnings;
mod whereabouts;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::lazy;

use crate::cleanup::CleanupPolicy;
use crate::kind::ConnectionSetup;
use crate::options::{PlainOptions, SessionOptions};
use crate::peer::client_address;
use crate::request::SessionRequest;
use crate::session::{Application, Session, SessionHandle};
use stillhere_proto::Message;
use stillhere_proto::SessionId;

pub use builder::HubBuilder;
#[cfg(feature = "cluster")]
pub use cluster::{BoxConnection, Cluster, ClusterError, ClusterFuture, PostOutcome, UserSession, Visitor, WeakHub};
pub(crate) use config::Config;
#[cfg(feature = "durable")]
pub use durable::DurableKind;
pub(crate) use inner::HubInner;
pub(crate) use pending_hello::{PendingHello, RETRY_FIRST};
pub(crate) use places::Place;
pub(crate) use registry::Found;
#[cfg(feature = "cluster")]
pub(crate) use whereabouts::Hop;
pub(crate) use whereabouts::{Whereabouts, unknown};

use judge::observe;

/// Holds all sessions of one application. It is cheap to clone, and its sessions live as long as
/// any clone.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<HubInner>,
}

impl Hub {
    /// Opens a session for a page that is about to be sent. `application` is the session's
    /// function: it starts when a browser first connects. When it returns, the session ends as soon
    /// as everything that it sent has been delivered.
    ///
    /// This never fails. Beyond the hub's limits, and while the hub shuts down, the session is
    /// closed from the start, and its script tells the page why and when to try again.
    pub fn open<F, R>(&self, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.inner.open(Arc::clone(&self.inner.defaults), boxed(application))
    }

    /// Opens a session like [`Hub::open`], for one user: it accepts only connections for which
    /// [`HubBuilder::principal`] returns this principal.
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

    /// Opens a session like [`Hub::open`], with options of its own. Start from
    /// [`Hub::session_options`].
    pub fn open_with<F, R>(&self, options: SessionOptions, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = self.inner.within_cluster(options);
        self.inner.open(Arc::new(options.normalised()), boxed(application))
    }

    /// Opens a session like [`Hub::open`], for a client with a protocol of its own. The client
    /// needs only [`SessionHandle::url`]. [`PlainOptions`] describes such sessions.
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

    /// Returns the options of sessions that are opened without options of their own.
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

    /// Returns the session with this id, unless it has ended.
    pub fn session(&self, id: &SessionId) -> Option<SessionHandle> {
        self.inner.find(id).map(SessionHandle::new)
    }

    /// Returns all live sessions.
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.inner.all().into_iter().map(SessionHandle::new).collect()
    }

    /// Returns the live sessions of this principal. To log out a user:
    ///
    /// ```
    /// # async fn log_out(hub: stillhere::Hub) {
    /// for session in hub.sessions_of("ada") {
    ///     session.abort("logged out");
    /// }
    /// # }
    /// ```
    pub fn sessions_of(&self, principal: &str) -> Vec<SessionHandle> {
        let all = self.inner.all().into_iter();
        let theirs = all.filter(|session| session.principal() == Some(principal));
        theirs.map(SessionHandle::new).collect()
    }

    /// Prepares a message for many sessions. However many outboxes hold it, its bytes count once
    /// against the hub's memory limit and are compressed once.
    pub fn share(&self, message: impl Into<Message>) -> Message {
        self.inner.memory.share(message.into())
    }

    /// Returns the value of this type that is kept with the hub. The first call creates it, unless
    /// [`HubBuilder::extension`] did. It is for crates that build on this one, and keep something
    /// of their own for each hub; they find it from a session too ([`SessionHandle::extension`]).
    /// The value must not hold the hub, which would then never be freed.
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use stillhere::{Hub, SessionHandle};
    /// #[derive(Default)]
    /// struct Visits(AtomicU64);
    ///
    /// fn count(session: &SessionHandle) -> u64 {
    ///     session.extension::<Visits>().0.fetch_add(1, Ordering::Relaxed)
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let hub = Hub::new();
    /// # let session = hub.open(|session| async move { drop(session) });
    /// # count(&session);
    /// assert_eq!(hub.extension::<Visits>().0.load(Ordering::Relaxed), 1);
    /// # }
    /// ```
    pub fn extension<T: Default + Any + Send + Sync>(&self) -> Arc<T> {
        self.inner.common.extensions.get()
    }

    /// Replaces the cleanup policy. The new policy judges every session: 1,000 of them before this
    /// returns, and the others in short steps right after, so that a hub with very many sessions
    /// does not stop for it.
    ///
    /// Before that, it observes all sessions, so that it can compare them.
    pub fn set_cleanup_policy(&self, policy: impl CleanupPolicy) {
        let policy: Arc<dyn CleanupPolicy> = Arc::new(policy);
        // The policy must know all sessions before it judges the first one. Otherwise it would
        // take the oldest that it knows for the oldest of all.
        let known = self.inner.all();
        for session in &known {
            observe(session, |session| policy.observe(session));
        }
        #[cfg(feature = "cluster")]
        let known_elsewhere = self.inner.observe_all_elsewhere(&*policy);
        let replaced = std::mem::replace(&mut *self.inner.policy.lock(), policy);
        // Not under the lock, because dropping a policy may run code of the application.
        drop(replaced);
        // Only the old policy was told of sessions that have ended in the meantime.
        let policy = self.inner.policy();
        for session in known.iter().filter(|session| session.end_reason().is_some()) {
            observe(session, |session| policy.observe(session));
        }
        #[cfg(feature = "cluster")]
        self.inner.observe_again_elsewhere(&*policy, known_elsewhere);
        let now = crate::clock::now();
        for (number, session) in self.inner.all().into_iter().enumerate() {
            if number < JUDGED_AT_ONCE {
                self.inner.check(&session, now);
            } else {
                self.inner.schedule.check_soon(&session);
            }
        }
    }

    /// Registers a kind of connection. `condition` returns how the page of a session connects, or
    /// `None` to leave the decision to the conditions that were registered earlier.
    ///
    /// The hub calls the conditions whenever it makes a ticket or a script tag, the last registered
    /// first, until one returns a setup. If none does, the page connects by WebSocket. A condition
    /// must not block, must not make a ticket or a script tag of the session, and must not hold a
    /// clone of the hub, which would then never be freed. A panic is logged and counts as `None`.
    /// [`ConnectionSetup`] describes what a kind consists of.
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

    /// Returns the path under which the adapter's routes are mounted; it is empty for the root.
    pub fn mount(&self) -> &str {
        &self.inner.config.mount
    }

    /// Returns counts for dashboards and tests.
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

/// Counts of a hub at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of live sessions.
    pub sessions: usize,
    /// Number of them to which no browser has connected yet.
    pub unconnected: usize,
    /// Number of connections, including those that have not sent a hello.
    pub connections: usize,
    /// Total number of bytes that all sessions buffer.
    pub buffered: u64,
    /// Number of sessions opened since the hub was built.
    pub opened: u64,
    /// Number of times the cleanup policy has judged a session.
    pub policy_evaluations: u64,
}

/// The number of sessions that a new cleanup policy judges before it is set.
const JUDGED_AT_ONCE: usize = 1000;

fn boxed<F, R>(application: F) -> Application
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    // Unlike an `async` block, this needs no room for the function beside its future.
    Box::new(|session| Box::pin(lazy(|_| application(session)).flatten()))
}
