//! Decides whether to admit a connection, before its first frame.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "cluster")]
use crate::hub::Visitor;
use crate::hub::{Config, Found, Hub, HubInner, PendingHello, Place, unknown};
use crate::origin::{check_host, check_origin};
use crate::peer::Peer;
use crate::rate_limited_log::RateLimitedLog;
use crate::request::SessionRequest;
use crate::session::Home;
use stillhere_proto::SessionId;
use stillhere_proto::code::Code;
use stillhere_proto::wire::{End, SUBPROTOCOL};

/// The error for a request that names no `stillhere.*` protocol although the session is not plain.
/// Answer it with HTTP 400 and this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is a stillhere session: connect with the WebSocket subprotocol {SUBPROTOCOL}, or send POSTs of type application/{SUBPROTOCOL}"
)]
pub struct NotOurProtocol;

/// A connection for [`run_connection_loop`](crate::run_connection_loop). If the hub refuses the
/// session, the loop tells the client why.
#[must_use]
pub struct Accepted {
    pub(crate) protocol: Option<String>,
    pub(crate) admitted: Result<Admitted, End>,
    pub(crate) hub: Arc<HubInner>,
}

/// A connection that may send its hello, to a live or an ended session.
pub(crate) struct Admitted {
    pub(crate) session: Found,
    pub(crate) pending: PendingHello,
    /// How long the hello may take.
    pub(crate) deadline: Duration,
    /// Where the session's function runs if this connection starts it.
    pub(crate) home: Home,
    /// The place that this connection takes in the share of its address and user.
    pub(crate) place: Place,
}

impl Accepted {
    /// Returns the subprotocol to select in the answer. It is `None`, and nothing is selected, if
    /// the client of a plain session offered none of ours.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Returns the maximum size in bytes of a packet from the client. The transport should refuse
    /// larger ones.
    pub fn packet_limit(&self) -> usize {
        let limit = match &self.admitted {
            Ok(Admitted {
                session: Found::Live(session),
                ..
            }) if session.plain.is_some() => session.limits().message,
            Ok(Admitted {
                session: Found::Live(session),
                ..
            }) => session.limits().fragment + stillhere_proto::wire::DATA_HEADER_MAX as u64,
            #[cfg(feature = "durable")]
            Ok(Admitted {
                session: Found::Absent(_),
                ..
            }) => self.hub.session_fragment() + stillhere_proto::wire::DATA_HEADER_MAX as u64,
            Ok(_) | Err(_) => PACKET_MIN,
        };
        usize::try_from(limit.max(PACKET_MIN)).unwrap_or(usize::MAX)
    }

    /// Makes a session that starts over this connection run its function on the
    /// [`LocalSet`](tokio::task::LocalSet) on which the connection loop runs, so that no message
    /// has to go from one thread to another. Has no effect if the hub has a
    /// [`runtime`](crate::HubBuilder::runtime) of its own.
    ///
    /// The function ends with the `LocalSet`, and so does its session.
    ///
    /// # Panics
    /// The connection loop panics if it does not run on a `LocalSet`.
    pub fn on_local_set(mut self) -> Self {
        if let Ok(admitted) = &mut self.admitted
            && !self.hub.has_own_runtime
        {
            admitted.home = Home::LocalSet;
        }
        self
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.admitted.as_ref().err();
        f.debug_struct("Accepted")
            .field("protocol", &self.protocol)
            .field("refused", &refused)
            .finish()
    }
}

impl Hub {
    /// Accepts or refuses a request that opens a connection to a session: a WebSocket request, the
    /// first POST of the fallback, or a request that sets up a connection of your own kind. Except
    /// for a wrong protocol, errors are reported over the connection, because a browser cannot read
    /// the status of a failed WebSocket request.
    ///
    /// # Errors
    /// Returns [`NotOurProtocol`] if the request names none of our protocols and the session exists
    /// and is not plain.
    pub fn accept(&self, request: &SessionRequest<'_>) -> Result<Accepted, NotOurProtocol> {
        self.inner.reach.note_page();
        let offered = || request.protocols();
        let ours = offered().find(|protocol| *protocol == SUBPROTOCOL);
        let protocol = ours.or_else(|| offered().find(|protocol| protocol.starts_with("stillhere.")));
        if protocol.is_none() && self.is_durable(request.name()) {
            return Err(NotOurProtocol);
        }
        Ok(Accepted {
            protocol: protocol.map(str::to_owned),
            admitted: self.admit(request, protocol),
            hub: Arc::clone(&self.inner),
        })
    }

    /// Returns true if `name` is the id of a live or recently ended session that is not plain.
    fn is_durable(&self, name: &str) -> bool {
        let session = SessionId::from_str(name).ok().and_then(|id| self.inner.look_up(&id));
        session.is_some_and(|session| !session.is_plain())
    }

    fn admit(&self, request: &SessionRequest<'_>, protocol: Option<&str>) -> Result<Admitted, End> {
        let Config { hosts, origins, .. } = &self.inner.config;
        if let Err(text) = check_host(request, hosts).and_then(|()| check_origin(request, origins)) {
            if let Some(count) = self.inner.warnings.foreign.count(crate::clock::now()) {
                tracing::warn!(%text, count, "refused connections");
            }
            return Err(End::connection(Code::Forbidden, text));
        }
        if protocol.is_some_and(|protocol| protocol != SUBPROTOCOL) {
            return Err(End::connection(
                Code::Version,
                format!("this server speaks {SUBPROTOCOL}: reload the page"),
            ));
        }
        let id =
            SessionId::from_str(request.name()).map_err(|error| End::connection(Code::Unknown, error.to_string()))?;
        let absent = || self.inner.look_up_absent(&id, request).filter(|_| protocol.is_some());
        let Some(session) = self.inner.look_up(&id).or_else(absent) else {
            return Err(unknown());
        };
        if session.is_plain() && protocol.is_some() {
            let text = "this is a plain session: connect without a subprotocol";
            return Err(End::connection(Code::Version, text));
        }
        self.check_principal(&id, &session, request)?;
        if let Found::Ended(ended) = &session
            && ended.is_plain()
        {
            // The client of a plain session has no secret to prove.
            return Err(ended.end());
        }
        let peers = self.inner.peers(request, session.principal());
        self.admit_to(session, &peers)
    }

    /// Admits a connection to this session within the limits of its peers.
    fn admit_to(&self, session: Found, peers: &[Peer]) -> Result<Admitted, End> {
        let most = |peer: &Peer| self.inner.share_of(peer).connections;
        let Some(place) = self.inner.connections_of.take(peers, most) else {
            return Err(busy(
                &self.inner.warnings.too_many_connections,
                "too many connections from one address or user",
                SHARES,
            ));
        };
        if let Found::Live(session) = &session
            && !self.inner.hold(session, peers)
        {
            return Err(busy(
                &self.inner.warnings.too_many_sessions,
                "too many sessions from one address or user",
                SHARES,
            ));
        }
        let Some(pending) = self.inner.admit_hello(peers) else {
            return Err(busy(
                &self.inner.warnings.too_many_hellos,
                "too many connections have not sent a hello yet",
                "max_pending_hellos, address_share and principal_share",
            ));
        };
        let deadline = match &session {
            Found::Live(session) => session.hello_deadline(),
            Found::Ended(_) => self.inner.hello_deadline(),
            #[cfg(feature = "durable")]
            Found::Absent(_) => self.inner.hello_deadline(),
        };
        Ok(Admitted {
            session,
            pending,
            deadline,
            home: Home::Hub,
            place,
        })
    }

    /// Accepts a connection that has reached another server: its packets are carried by
    /// [`run_connection_loop`](crate::run_connection_loop) as those of any other. Returns `None` if
    /// the session is no longer here. For a [`Cluster`](crate::cluster::Cluster), which vouches for
    /// what it says of the visitor.
    #[cfg(feature = "cluster")]
    pub fn accept_visitor(&self, visitor: &Visitor) -> Option<Accepted> {
        let session = self.inner.look_up(&visitor.session);
        let session = session.filter(|session| !session.is_plain())?;
        Some(Accepted {
            protocol: Some(SUBPROTOCOL.to_owned()),
            admitted: self.admit_visitor(session, visitor),
            hub: Arc::clone(&self.inner),
        })
    }

    #[cfg(feature = "cluster")]
    fn admit_visitor(&self, session: Found, visitor: &Visitor) -> Result<Admitted, End> {
        let owner = session.principal();
        if owner.is_some() && owner != visitor.principal.as_deref() {
            return Err(self.inner.not_its_user(&visitor.session));
        }
        let peers = self.inner.peers_of(visitor.address, owner);
        self.admit_to(session, &peers)
    }

    fn check_principal(&self, id: &SessionId, session: &Found, request: &SessionRequest<'_>) -> Result<(), End> {
        let Some(owner) = session.principal() else {
            return Ok(());
        };
        if self.inner.is_principal(id, owner, request) {
            return Ok(());
        }
        Err(self.inner.not_its_user(id))
    }
}

/// Logs that connections were refused, and returns the answer: the client may try again in a
/// second. `limits` names the methods that set the limits.
fn busy(warning: &RateLimitedLog, text: &'static str, limits: &str) -> End {
    if let Some(count) = warning.count(crate::clock::now()) {
        tracing::warn!(
            count,
            "refused connections: {text}; HubBuilder::{limits} set the limits"
        );
    }
    End::connection(Code::Busy, text).retry_after(1000)
}

/// The methods of [`HubBuilder`](crate::HubBuilder) that limit one address or user.
const SHARES: &str = "address_share and principal_share";

/// The packet limit in bytes of a connection without a session.
const PACKET_MIN: u64 = 1024;
