//! The interface to a cluster, which lets several servers work as one.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use bytes::Bytes;

use crate::cleanup::SessionState;
use crate::connection::Connection;
use crate::hub::Hub;
use stillhere_proto::SessionId;

/// Connects this server with others, so that each of them accepts connections of any page.
///
/// A page may reach a server that does not have its session. That server then asks the cluster for
/// the one that has it, and passes packets between the page and that one. This is called a *hop*.
/// Losing a hop is like losing a connection: the page reconnects, and no message is lost.
///
/// Implementations must not block.
pub trait Cluster: Send + Sync + 'static {
    /// Called once, when the hub has been built. From then on other servers may reach its sessions.
    fn start(&self, hub: WeakHub);

    /// Called when this server has a session that it did not have before. The hub holds no locks
    /// meanwhile.
    fn entered(&self, session: &SessionId);

    /// Called when a session of this server has ended, or belongs to another server. An ended one
    /// should stay reachable for some time, so that its page learns why it ended.
    fn left(&self, session: &SessionId, is_ended: bool);

    /// Connects to the server that has this session. Returns `None` only if it is certain that no
    /// server has it. Dropping the future or the connection gives up the hop.
    ///
    /// # Errors
    /// Returns a [`ClusterError`] if it cannot be known which server has the session.
    fn connect(&self, visitor: Visitor) -> ClusterFuture<'_, Option<BoxConnection>>;

    /// Called when this server has a connection over HTTP to a session of any server. POSTs of
    /// the connection may reach other servers, which then [pass](Self::pass_post) them on.
    fn exchange_opened(&self, session: &SessionId);

    /// Called when such a connection has ended.
    fn exchange_closed(&self, session: &SessionId);

    /// Passes a POST on to the server that has its connection, which gives it to
    /// [`Hub::take_post`]. Returns `None` if no server has it.
    ///
    /// # Errors
    /// Returns a [`ClusterError`] if that cannot be known.
    fn pass_post(&self, session: SessionId, body: Bytes) -> ClusterFuture<'_, Option<PostOutcome>>;

    /// Called when a user's session on this server has changed, if the cleanup policy compares the
    /// sessions on [all servers](crate::CleanupPolicy::spans_servers). Other servers should be told
    /// of it, which give it to [`Hub::observe_elsewhere`]. May be called again although nothing has
    /// changed; the last call for a session is final. By default nobody is told.
    fn user_session_changed(&self, _session: &UserSession) {}

    /// Called when the hub has been dropped. Nothing is called afterwards.
    fn stop(&self);
}

/// A [`Connection`](crate::Connection) to another server.
pub type BoxConnection = Pin<Box<dyn Connection + Send>>;

/// What a method of a [`Cluster`] returns.
pub type ClusterFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ClusterError>> + Send + 'a>>;

/// Why it is not known which server has a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A server seems to have the session, but does not answer.
    #[error("the server that has the session does not answer")]
    Silent,
    /// This server cannot reach the others.
    #[error("the other servers cannot be reached: {0}")]
    Away(String),
}

/// What has become of a POST that was passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostOutcome {
    /// Its connection has taken it, and answers with these packets.
    Answered(Bytes),
    /// Its connection has ended.
    Gone,
}

/// A page that has reached a server which does not have its session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Visitor {
    /// The session.
    pub session: SessionId,
    /// The user who makes the request. `None` if nobody is logged in.
    pub principal: Option<String>,
    /// The address of the client, if the limits for addresses apply to it.
    pub address: Option<IpAddr>,
}

impl Visitor {
    /// Describes a visitor of this session, without a user or an address.
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            principal: None,
            address: None,
        }
    }
}

/// A session of a user, for servers that limit together how many a user has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserSession {
    /// The session.
    pub session: SessionId,
    /// The user for whom it was opened.
    pub principal: Arc<str>,
    /// `Open`, `SoftClosed`, or `Closed` if it does not count, or no more.
    pub state: SessionState,
    /// When it entered that state.
    pub since: SystemTime,
    /// When it was opened.
    pub opened: SystemTime,
}

impl UserSession {
    /// Describes a session that has been in this state since it was opened.
    pub fn new(session: SessionId, principal: &str, state: SessionState, opened: SystemTime) -> Self {
        Self {
            session,
            principal: principal.into(),
            state,
            since: opened,
            opened,
        }
    }
}

/// A [`Hub`] that is not kept alive by this reference.
#[derive(Clone)]
pub struct WeakHub(pub(super) Weak<dyn AnyHub>);

/// The state of a hub.
pub(super) trait AnyHub: Send + Sync {
    fn hub(self: Arc<Self>) -> Hub;
}

impl WeakHub {
    /// Returns the hub, unless it has been dropped.
    pub fn upgrade(&self) -> Option<Hub> {
        self.0.upgrade().map(AnyHub::hub)
    }
}

impl fmt::Debug for WeakHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakHub")
    }
}
