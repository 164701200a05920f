//! The loop that an adapter runs for each connection.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::coop::cooperative;

use crate::arrival::Arrival;
use crate::carrier::{ClosingFrames, carry};
use crate::connection::{Connection, Packet};
use crate::plain::carry_plain;
use stillhere_proto::Code;
use stillhere_proto::wire::Frame;

/// Carries a session over `connection` until the connection is over: all that an adapter has to run.
///
/// A plain session's connection carries its client's messages instead of frames; that is all the difference it makes to a transport.
/// Dropping the future is the loss of the connection; the session waits for another one. The future is `Send` if the connection is.
pub fn run_connection_loop(arrival: Arrival, connection: impl Connection) -> impl Future<Output = ()> {
    // Boxed before the future begins, which would keep room for it twice.
    let mut connection = Box::pin(connection);
    let Arrival {
        protocol,
        admitted,
        hub,
    } = arrival;
    // Whoever has not offered our protocol understands no frames, only codes.
    let speaks_frames = protocol.is_some();
    // Only this goes along: a connection does not keep the hub alive.
    let tracked = hub.connections.token();
    async move {
        let _tracked = tracked;
        let closing_frames = match admitted {
            Err(end) => Some(ClosingFrames::new(end)),
            Ok(admitted) => match admitted.session.plain_document() {
                None => carry(admitted, connection.as_mut()).await,
                // Boxed, so that the others' connections do not pay for its state.
                Some((session, document)) => {
                    let interpreted = carry_plain(session, document, admitted, connection.as_mut());
                    Box::pin(interpreted).await
                }
            },
        };
        match closing_frames {
            // Boxed: it needs a kilobyte, which no connection is to keep ready for its end.
            Some(closing_frames) => {
                Box::pin(send_closing_frames(connection.as_mut(), closing_frames, speaks_frames)).await
            }
            // A peer that has closed gets its answer; one that is gone costs nothing.
            None => drop(Box::pin(tokio::time::timeout(CLOSING_WAIT, connection.close())).await),
        }
    }
}

/// Says why, closes, and listens a little longer: unread input would turn the close into a reset that destroys it.
async fn send_closing_frames<C: Connection>(
    mut connection: Pin<&mut C>,
    closing_frames: ClosingFrames,
    speaks_frames: bool,
) {
    let ClosingFrames { ack, end } = closing_frames;
    let code = u16::try_from(end.code).unwrap_or(Code::Malformed as u16);
    let saying = async {
        let frames = ack.into_iter().chain([Frame::End(end)]);
        for frame in frames.filter(|_| speaks_frames) {
            connection.feed(Packet::Binary(frame.to_bytes())).await?;
        }
        connection.send(Packet::Close(code)).await
    };
    // Whether the peer heard it or not, the connection is over.
    let Ok(Ok(())) = tokio::time::timeout(CLOSING_WAIT, saying).await else {
        return;
    };
    let listening = async { while let Some(Ok(_)) = cooperative(connection.next()).await {} };
    let _ = tokio::time::timeout(LINGER, listening).await;
}

/// How long the closing frames may take to be written.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

const LINGER: Duration = Duration::from_secs(1);
