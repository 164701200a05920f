//! The loop that an adapter runs for each connection.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::coop::cooperative;

use crate::admission::Accepted;
use crate::carrier::{ClosingFrames, carry};
use crate::connection::{Connection, Packet};
use crate::plain::carry_plain;
use stillhere_proto::code::Code;
use stillhere_proto::wire::Frame;

/// Carries a session over `connection` until the connection ends. An adapter runs nothing else.
///
/// A plain session's connection carries its client's messages instead of frames, which is the only
/// difference for a transport. Dropping the future loses the connection, and the session waits for
/// another one. The future is `Send` if the connection is.
pub fn run_connection_loop(accepted: Accepted, connection: impl Connection) -> impl Future<Output = ()> {
    // Boxed outside the future, which would otherwise reserve room for it twice.
    let mut connection = Box::pin(connection);
    let Accepted {
        protocol,
        admitted,
        hub,
    } = accepted;
    // A peer that has not offered our protocol does not understand frames, only close codes.
    let speaks_frames = protocol.is_some();
    // The future takes only the token: a connection must not keep the hub alive.
    let tracked = hub.connections.token();
    async move {
        let _tracked = tracked;
        let closing_frames = match admitted {
            Err(end) => Some(ClosingFrames::new(end)),
            Ok(admitted) => match admitted.session.plain_document() {
                None => carry(admitted, connection.as_mut()).await,
                // Boxed, so that its state does not enlarge the other connections.
                Some((session, document)) => {
                    let interpreted = carry_plain(session, document, admitted, connection.as_mut());
                    Box::pin(interpreted).await
                }
            },
        };
        match closing_frames {
            // Boxed, because it needs a kilobyte that an open connection should not reserve.
            Some(closing_frames) => {
                Box::pin(send_closing_frames(connection.as_mut(), closing_frames, speaks_frames)).await;
            }
            // Answers the close, if the peer is still connected.
            None => drop(Box::pin(tokio::time::timeout(CLOSING_WAIT, connection.close())).await),
        }
    }
}

/// Sends the reason, closes, and keeps reading for a moment. If input were left unread, the
/// operating system would reset the connection, and the peer would lose the close.
async fn send_closing_frames<C: Connection>(
    mut connection: Pin<&mut C>,
    closing_frames: ClosingFrames,
    speaks_frames: bool,
) {
    let ClosingFrames { ack, end } = closing_frames;
    let code = u16::try_from(end.code).unwrap_or(Code::Malformed as u16);
    let saying = async {
        let frames = ack.into_iter().chain([Frame::End(end).to_bytes()]);
        for frame in frames.filter(|_| speaks_frames) {
            connection.feed(Packet::Binary(frame)).await?;
        }
        connection.send(Packet::Close(code)).await
    };
    // The connection ends even if the peer could not be told why.
    let Ok(Ok(())) = tokio::time::timeout(CLOSING_WAIT, saying).await else {
        return;
    };
    let listening = async { while let Some(Ok(_)) = cooperative(connection.next()).await {} };
    let _ = tokio::time::timeout(LINGER, listening).await;
}

/// How long writing the closing frames may take.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

/// How long to read after the close.
const LINGER: Duration = Duration::from_secs(1);
