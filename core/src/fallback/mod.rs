//! The connection kind for networks that block WebSockets: HTTP requests (PROTOCOL.md, section 16).
//!
//! The server sends frames in the answer to the POST that carried the hello or, with polling, in
//! the answer to each POST. The client sends frames in POSTs of their own, one at a time.

mod body;
mod connection;
mod down_stream;
mod poll;
mod post;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;

use crate::admission::Accepted;
use crate::connection_loop::run_connection_loop;
use crate::exchange::{Exchange, LeadsTo};
use crate::guard::guarded_principal;
use crate::http_answer::{Answer, AnswerBody, Chunks};
#[cfg(feature = "cluster")]
use crate::hub::PostOutcome;
use crate::hub::{Found, Hub};
use crate::request::SessionRequest;
use stillhere_proto::EndReason;
use stillhere_proto::Secret;
use stillhere_proto::code::Code;
use stillhere_proto::machine::Phase;
use stillhere_proto::wire::{End, Frame};

use body::Body;
use connection::OverPosts;
use down_stream::DownStream;
use post::{Operation, Post};

/// Answers a POST, unless its address or its user has too many in progress.
pub(crate) async fn answer_post<C, B, E>(
    hub: &Hub,
    request: &SessionRequest<'_>,
    body: C,
    principal: Option<impl Future<Output = Option<String>>>,
) -> Answer
where
    C: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let peers = hub.inner.peers(request, request.known_principal().flatten());
    let Some(_place) = hub.inner.posts.take(&peers, |peer| hub.inner.share_of(peer).posts) else {
        if let Some(count) = hub.inner.warnings.too_many_posts.count(crate::clock::now()) {
            tracing::warn!(
                count,
                "refused POSTs: too many in progress from one address or user; HubBuilder::address_share and principal_share set the limits"
            );
        }
        return too_many();
    };
    match tokio::time::timeout(BODY_DEADLINE, Body::read(&hub.inner, request, &peers, body)).await {
        Ok(Ok(body)) => hub.answer_body(request, body, principal).await,
        Ok(Err(refused)) => refused,
        Err(_) => Answer::text(408, "the request did not arrive in time"),
    }
}

impl Hub {
    async fn answer_body(
        &self,
        request: &SessionRequest<'_>,
        body: Body,
        principal: Option<impl Future<Output = Option<String>>>,
    ) -> Answer {
        let Body { bytes, place } = body;
        let Some(post) = Post::parse(bytes.clone()) else {
            return Answer::text(400, "the body is not in the format of the stillhere client");
        };
        if let Operation::Send { number } = post.operation {
            let Some(exchange) = self.inner.exchanges.find(&post.token) else {
                return self.pass_post(request.name(), bytes).await;
            };
            return send(&exchange, number, post, place).await.map_or_else(gone, of_whole);
        }
        let accepted = match principal {
            Some(principal) => {
                let principal = guarded_principal(principal).await;
                self.accept(&request.clone().principal(principal.as_deref()))
            }
            None => self.accept(request),
        };
        match accepted {
            Ok(accepted) if accepted.protocol().is_none() => {
                Answer::text(400, "a plain session accepts only WebSockets")
            }
            Ok(accepted) if post.operation == Operation::Discard => discard(accepted, &post.packets),
            Ok(accepted) => self.open_exchange(request.name(), accepted, post).await,
            Err(error) => Answer::text(400, error.to_string()),
        }
    }

    async fn open_exchange(&self, name: &str, accepted: Accepted, post: Post) -> Answer {
        let leads_to = match accepted.admitted.as_ref().map(|admitted| &admitted.session) {
            Ok(Found::Live(session)) => LeadsTo::Session(Arc::clone(session)),
            Ok(Found::Ended(_)) => LeadsTo::Nowhere,
            #[cfg(feature = "durable")]
            Ok(Found::Absent(_)) => LeadsTo::Elsewhere,
            // A refused connection needs no exchange, because there is nothing to read.
            Err(end) => return of_end(end.clone()),
        };
        let (bodies, incoming) = mpsc::channel(BODIES);
        bodies.try_send(post.packets).expect("the channel is new");
        let exchange = Arc::new(Exchange::new(leads_to, bodies));
        let down = Arc::clone(&exchange.down);
        let Some(registration) = self.inner.exchanges.insert(post.token, &exchange) else {
            return gone();
        };
        let connection = OverPosts::new(incoming, Arc::clone(&down), accepted.packet_limit());
        let registration = (registration, self.inner.make_reachable(name));
        self.inner.spawn(async move {
            let _registration = registration;
            run_connection_loop(accepted, connection).await;
        });
        match post.wait {
            None => of_packets(AnswerBody::Stream(Chunks(Box::pin(DownStream::new(down))))),
            Some(wait) => of_whole(poll::next_chunk(&down, wait).await),
        }
    }

    /// Passes a POST on to the server that has its connection.
    #[cfg(feature = "cluster")]
    async fn pass_post(&self, name: &str, body: Bytes) -> Answer {
        let Ok(session) = name.parse() else { return gone() };
        match self.inner.pass_post(session, body).await {
            Some(PostOutcome::Answered(packets)) => of_whole(packets),
            Some(PostOutcome::Gone) | None => gone(),
        }
    }

    #[cfg(not(feature = "cluster"))]
    async fn pass_post(&self, _name: &str, _body: Bytes) -> Answer {
        gone()
    }

    /// Takes a POST that has reached another server. Returns `None` if this server does not have
    /// its connection. The future completes when there is something to answer: within 20 s. For a
    /// [`Cluster`](crate::cluster::Cluster).
    #[cfg(feature = "cluster")]
    pub fn take_post(&self, body: Bytes) -> Option<impl Future<Output = PostOutcome> + Send + use<>> {
        let post = Post::parse(body)?;
        let Operation::Send { number } = post.operation else {
            return None;
        };
        let exchange = self.inner.exchanges.find(&post.token)?;
        Some(async move {
            let packets = send(&exchange, number, post, ()).await;
            packets.map_or(PostOutcome::Gone, PostOutcome::Answered)
        })
    }
}

/// Gives the packets of a POST to its connection, and returns those for its answer. `place` is
/// dropped as soon as the packets are taken. Returns `None` if the connection has ended.
async fn send<P>(exchange: &Exchange, number: u32, post: Post, place: P) -> Option<Bytes> {
    if !exchange.take(number, post.packets, post.wait.is_some()).await {
        exchange.down.close();
        return None;
    }
    drop(place);
    match post.wait {
        // The packets for the client travel in the streamed answer.
        None => Some(Bytes::new()),
        Some(wait) => Some(poll::next_chunk(&exchange.down, wait).await),
    }
}

fn of_whole(packets: Bytes) -> Answer {
    of_packets(AnswerBody::Whole(packets))
}

/// Returns an answer whose body contains packets.
fn of_packets(body: AnswerBody) -> Answer {
    let headers = [
        ("content-type", "application/stillhere.v1"),
        // Proxies must not cache, buffer or transform the answer.
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("content-encoding", "identity"),
        ("x-content-type-options", "nosniff"),
    ];
    Answer {
        status: 200,
        headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
        body,
    }
}

/// Returns an answer that consists of this status.
fn of_end(end: End) -> Answer {
    let end = Frame::End(end).to_bytes();
    let mut packet = BytesMut::new();
    packet.put_u32_le(u32::try_from(end.len()).expect("an end is small"));
    packet.put(end);
    of_packets(AnswerBody::Whole(packet.freeze()))
}

/// Ends the session if no page has connected to it. A session that has had a page is not affected.
fn discard(accepted: Accepted, secret: &[u8]) -> Answer {
    let session = match accepted.admitted {
        Ok(admitted) => admitted.session,
        Err(end) => return of_end(end),
    };
    let Ok(secret) = <[u8; 32]>::try_from(secret) else {
        return Answer::text(400, "the body is not in the format of the stillhere client");
    };
    if !session.has_secret(&Secret::from_bytes(secret)) {
        return of_end(End::connection(Code::WrongSecret, "the secret is wrong"));
    }
    let session = match session {
        Found::Live(session) => session,
        Found::Ended(session) => return of_end(session.end()),
        // A page that was never shown again has had one.
        #[cfg(feature = "durable")]
        Found::Absent(_) => return of_whole(Bytes::new()),
    };
    session.update(|machine, now| {
        if *machine.phase() == Phase::Unconnected {
            machine.abort(EndReason::NeverConnected, now);
        }
    });
    of_whole(Bytes::new())
}

fn too_many() -> Answer {
    let mut answer = Answer::text(429, "too many requests in progress: try again in a second");
    answer.headers.push(("retry-after", "1".to_owned()));
    answer
}

fn gone() -> Answer {
    Answer::text(410, "this connection has ended: open a new one")
}

/// How long a POST may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Number of POSTs that may wait for the loop to read them.
const BODIES: usize = 2;
