//! Reads the body of a POST, within limits, and counts it for its session or its sender.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use crate::exchange::{Exchange, LeadsTo};
use crate::fallback::gone;
use crate::fallback::post::Post;
#[cfg(feature = "cluster")]
use crate::fallback::too_many;
use crate::http_answer::Answer;
use crate::hub::HubInner;
#[cfg(feature = "cluster")]
use crate::hub::Place as PeersPlace;
use crate::memory::Account;
use crate::peer::Peer;
use crate::request::SessionRequest;
use crate::session::Beside;
#[cfg(feature = "cluster")]
use stillhere_proto::SessionId;

/// The body of a POST, and the memory that it counts for until its packets are taken.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) place: Place,
}

/// Where a body's bytes are counted.
#[derive(Debug)]
pub(super) enum Place {
    /// A small body of any sender.
    Small(Account),
    /// The body of a session whose connection is open.
    Large {
        counted: Counted,
        exchange: Arc<Exchange>,
        _permit: OwnedSemaphorePermit,
    },
    /// A large body for a connection of another server.
    #[cfg(feature = "cluster")]
    Passed {
        account: Account,
        _permit: OwnedSemaphorePermit,
        _place: PeersPlace,
    },
}

/// What a large body counts for.
#[derive(Debug)]
pub(super) enum Counted {
    Session(Beside),
    /// The hub, because the session is not here.
    #[cfg(feature = "durable")]
    Hub(Account),
}

impl Body {
    /// Reads all of a request's body. The error is the answer to a body that may not be read.
    pub(super) async fn read<C, B, E>(
        hub: &HubInner,
        request: &SessionRequest<'_>,
        peers: &[Peer],
        body: C,
    ) -> Result<Self, Answer>
    where
        C: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let mut body = pin!(body);
        let mut bytes = BytesMut::new();
        let mut place = Place::Small(hub.account());
        let length = request.header("content-length").and_then(|length| length.parse().ok());
        // If the request has `Upgrade: websocket`, actix-web's body does not end at
        // `Content-Length`.
        while length.is_none_or(|length: usize| bytes.len() < length) {
            let chunk = tokio::select! {
                biased;
                () = place.over() => return Err(gone()),
                chunk = body.next() => chunk,
            };
            let Some(chunk) = chunk else { break };
            let Ok(chunk) = chunk else { return Err(refused()) };
            if bytes.len() + chunk.remaining() > BODY_LIMIT {
                return Err(refused());
            }
            bytes.put(chunk);
            if bytes.len() > SMALL && matches!(place, Place::Small(_)) {
                place = Place::large(hub, request.name(), peers, &bytes)?;
            }
            place.set(bytes.capacity() as u64);
        }
        let bytes = bytes.freeze();
        Ok(Self { bytes, place })
    }
}

impl Place {
    /// Allows a large body only on an open connection, and only two at once.
    fn large(hub: &HubInner, name: &str, peers: &[Peer], body: &[u8]) -> Result<Self, Answer> {
        let exchange = Post::token(body).and_then(|token| hub.exchanges.find(&token));
        let Some(exchange) = exchange else {
            return if Post::sends(body) {
                Self::passed(hub, name, peers)
            } else {
                Err(refused())
            };
        };
        let counted = match &exchange.leads_to {
            LeadsTo::Session(session) => Counted::Session(Beside::new(Arc::clone(session))),
            #[cfg(feature = "durable")]
            LeadsTo::Elsewhere => Counted::Hub(hub.account()),
            LeadsTo::Nowhere => return Err(refused()),
        };
        let permit = Arc::clone(&exchange.large).try_acquire_owned();
        Ok(Self::Large {
            _permit: permit.map_err(|_| refused())?,
            counted,
            exchange,
        })
    }

    /// Allows a large body whose connection another server may have.
    #[cfg(feature = "cluster")]
    fn passed(hub: &HubInner, name: &str, peers: &[Peer]) -> Result<Self, Answer> {
        if !hub.passes_posts() || name.parse::<SessionId>().is_err() {
            return Err(gone());
        }
        let place = hub
            .large_posts_of
            .take(peers, |_| LARGE_POSTS_OF_ONE)
            .ok_or_else(too_many)?;
        let permit = Arc::clone(&hub.large_posts).try_acquire_owned();
        Ok(Self::Passed {
            _permit: permit.map_err(|_| too_many())?,
            _place: place,
            account: hub.account(),
        })
    }

    #[cfg(not(feature = "cluster"))]
    fn passed(_hub: &HubInner, _name: &str, _peers: &[Peer]) -> Result<Self, Answer> {
        Err(gone())
    }

    fn set(&mut self, size: u64) {
        match self {
            Self::Small(account) => account.set(size),
            Self::Large { counted, .. } => match counted {
                Counted::Session(beside) => beside.set(size),
                #[cfg(feature = "durable")]
                Counted::Hub(account) => account.set(size),
            },
            #[cfg(feature = "cluster")]
            Self::Passed { account, .. } => account.set(size),
        }
    }

    /// Completes once nobody will read the body.
    async fn over(&self) {
        match self {
            Self::Small(_) => std::future::pending().await,
            Self::Large { exchange, .. } => exchange.over().await,
            #[cfg(feature = "cluster")]
            Self::Passed { .. } => std::future::pending().await,
        }
    }
}

fn refused() -> Answer {
    Answer::text(413, "the body is too large or incomplete")
}

/// Maximum size of a POST in bytes. The client sends at most 64 KiB and one frame.
const BODY_LIMIT: usize = 1 << 20;

/// Maximum size in bytes of a POST that may open a connection or belong to none. It is larger than
/// any hello.
const SMALL: usize = 4 * 1024;

/// Most large bodies for connections of other servers that are read at once from one address or
/// user.
#[cfg(feature = "cluster")]
const LARGE_POSTS_OF_ONE: usize = 8;
