//! WebSockets without sessions, as axum and warp have them.

use bytes::Bytes;
use futures_util::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};

use super::{Member, Role, requested};

/// A framework's WebSocket message.
pub(crate) trait Packet: Sized {
    fn binary(bytes: Bytes) -> Self;
    /// Returns the bytes of a binary message.
    fn into_binary(self) -> Option<Bytes>;
}

/// A framework's WebSocket.
pub(crate) trait Socket<P, E>: Stream<Item = Result<P, E>> + Sink<P> + Unpin {}

impl<P, E, S: Stream<Item = Result<P, E>> + Sink<P> + Unpin> Socket<P, E> for S {}

/// Serves a page as most applications do: each message is sent, and so flushed, on its own.
pub(super) async fn serve<P: Packet, E>(mut socket: impl Socket<P, E>, mut member: Member) -> Option<()> {
    loop {
        let bytes = match member.role {
            Role::FanOut => tokio::select! {
                message = socket.next() => message?.ok()?.into_binary(),
                message = member.published.recv() => {
                    socket.send(P::binary(message.ok()?)).await.ok()?;
                    continue;
                }
            },
            _ => socket.next().await?.ok()?.into_binary(),
        };
        let Some(bytes) = bytes else { continue };
        match member.role {
            Role::Echo | Role::Transfer => socket.send(P::binary(bytes)).await.ok()?,
            Role::Stream => {
                let (count, message) = requested(&bytes);
                let message = Bytes::from(message);
                for _ in 0..count {
                    socket.send(P::binary(message.clone())).await.ok()?;
                }
            }
            Role::FanOut => member.publish(bytes),
        }
    }
}

/// Serves a page as fast as a loop by hand can: it reads all that is ready, writes all that there
/// is, and then flushes once.
pub(super) async fn serve_batching<P: Packet, E>(mut socket: impl Socket<P, E>, member: Member) -> Option<()> {
    match member.role {
        Role::Echo | Role::Transfer => loop {
            let mut next = socket.next().await;
            while let Some(message) = next {
                if let Some(bytes) = message.ok()?.into_binary() {
                    socket.feed(P::binary(bytes)).await.ok()?;
                }
                next = socket.next().now_or_never().flatten();
            }
            socket.flush().await.ok()?;
        },
        Role::Stream => loop {
            let Some(request) = socket.next().await?.ok()?.into_binary() else {
                continue;
            };
            let (count, message) = requested(&request);
            let message = Bytes::from(message);
            for _ in 0..count {
                socket.feed(P::binary(message.clone())).await.ok()?;
            }
            socket.flush().await.ok()?;
        },
        Role::FanOut => fan_out_batching(socket, member).await,
    }
}

async fn fan_out_batching<P: Packet, E>(mut socket: impl Socket<P, E>, mut member: Member) -> Option<()> {
    loop {
        tokio::select! {
            message = socket.next() => {
                if let Some(bytes) = message?.ok()?.into_binary() {
                    member.publish(bytes);
                }
            }
            message = member.published.recv() => {
                socket.feed(P::binary(message.ok()?)).await.ok()?;
                while let Ok(message) = member.published.try_recv() {
                    socket.feed(P::binary(message)).await.ok()?;
                }
                socket.flush().await.ok()?;
            }
        }
    }
}
