//! The first frame of a connection, which proves its right to a session.

use std::pin::{Pin, pin};
#[cfg(feature = "cluster")]
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::task::coop::cooperative;

use crate::connection::{Connection, ConnectionError, Packet};
use crate::hub::{Found, PendingHello, RETRY_FIRST, Whereabouts};
#[cfg(feature = "cluster")]
use crate::session::Shared;
use stillhere_proto::code::Code;
use stillhere_proto::wire::{End, Frame, Hello, Sender, millis};

/// Waits for the hello and returns it with its session. The error is what to tell the peer, or
/// `None` if the peer has disconnected.
pub(crate) async fn await_hello<C: Connection>(
    session: Found,
    pending: PendingHello,
    deadline: Duration,
    connection: Pin<&mut C>,
) -> Result<(Hello, Whereabouts), Option<End>> {
    let mut pending = pending;
    let hello = first_hello(&session, &mut pending, deadline, connection).await?;
    let session = match session {
        Found::Live(session) => {
            #[cfg(feature = "cluster")]
            check_ownership(&session).await.map_err(Some)?;
            session
        }
        Found::Ended(session) => return Err(Some(session.end())),
        #[cfg(feature = "durable")]
        Found::Absent(absent) => match absent.find(&hello.secret).await.map_err(Some)? {
            Whereabouts::Here(session) => session,
            #[cfg(feature = "cluster")]
            there @ Whereabouts::There(_) => return Ok((hello, there)),
        },
    };
    if session.is_stopping() {
        let text = "the server restarts: this session goes on in a moment";
        return Err(Some(
            End::connection(Code::Draining, text).retry_after(millis(RETRY_FIRST)),
        ));
    }
    Ok((hello, Whereabouts::Here(session)))
}

/// Makes sure that no other server has taken a durable session over, while this one was paused or
/// could not be reached.
#[cfg(feature = "cluster")]
async fn check_ownership(session: &Arc<Shared>) -> Result<(), End> {
    let text = match session.proves_ownership().await {
        Some(true) => return Ok(()),
        Some(false) => "another server has this session now",
        None => "the server cannot reach its store at present",
    };
    Err(End::connection(Code::Busy, text).retry_after(millis(RETRY_FIRST)))
}

/// Returns the first frame if it is a hello with the right secret and arrives in time.
async fn first_hello<C: Connection>(
    session: &Found,
    pending: &mut PendingHello,
    deadline: Duration,
    mut connection: Pin<&mut C>,
) -> Result<Hello, Option<End>> {
    let late = || Err(Some(End::connection(Code::HelloDeadline, "no hello arrived in time")));
    let mut deadline = pin!(tokio::time::sleep(deadline));
    loop {
        let packet = tokio::select! {
            biased;
            // Not every connection yields to the runtime on its own.
            packet = cooperative(connection.next()) => packet,
            end = pending.drained() => return Err(Some(end)),
            () = &mut deadline => return late(),
        };
        let bytes = match packet {
            Some(Ok(Packet::Binary(bytes))) => bytes,
            // A stream of such packets must not keep the deadline from being checked.
            Some(Ok(Packet::Ping | Packet::Other)) if crate::clock::now() >= deadline.deadline().into_std() => {
                return late();
            }
            Some(Ok(Packet::Ping | Packet::Other)) => continue,
            Some(Ok(Packet::Text(_))) => {
                return Err(Some(End::connection(
                    Code::Malformed,
                    "expected a hello, got a text message",
                )));
            }
            Some(Err(ConnectionError::TooLarge)) => {
                return Err(Some(End::connection(
                    Code::TooLarge,
                    "the hello exceeds the size limit",
                )));
            }
            Some(Ok(Packet::Close(_)) | Err(_)) | None => return Err(None),
        };
        return match Frame::decode(bytes, Sender::Client) {
            Ok(Frame::Hello(hello)) if session.has_secret(&hello.secret) => Ok(hello),
            Ok(Frame::Hello(_)) => Err(Some(End::connection(Code::WrongSecret, "the secret is wrong"))),
            Ok(_) => Err(Some(End::connection(Code::Malformed, "the first frame is not a hello"))),
            Err(error) => Err(Some(End::connection(Code::Malformed, error.to_string()))),
        };
    }
}
