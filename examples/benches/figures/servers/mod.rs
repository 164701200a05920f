//! The servers: each does the same over its own WebSockets or over sessions.

mod actix;
mod axum;
mod bare;
mod sessions;
mod socket_io;
mod waiting;
mod warp;

use std::str::FromStr;

use ::axum::Router;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::client::ACKNOWLEDGEMENT;

/// What a transfer sends, again and again.
pub(crate) static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// What a server does with the messages of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// It sends each message back.
    Echo,
    /// It sends as many messages as the page asks for.
    Stream,
    /// It sends each message to all pages.
    FanOut,
    /// It sends messages back, and meanwhile sends on the bulk lane as many bytes as a page asks
    /// for.
    Transfer,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Stream => "stream",
            Self::FanOut => "fan-out",
            Self::Transfer => "transfer",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut roles = [Self::Echo, Self::Stream, Self::FanOut, Self::Transfer].into_iter();
        roles.find(|role| role.name() == name).ok_or(())
    }
}

/// Prints the address, and serves until the process is killed.
pub(crate) async fn serve(kind: &str, role: Role) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("a bound address"));
    match kind {
        "axum" => serve_axum(axum::bare(role), listener).await,
        "axum 4 KiB" => serve_axum(axum::tuned(role), listener).await,
        "axum 4 KiB + batch" => serve_axum(axum::batching(role), listener).await,
        "socketioxide" => serve_axum(socket_io::router(role), listener).await,
        "stillhere axum" => serve_axum(axum::sessions(role), listener).await,
        "actix-ws" => actix::serve_bare(role, listener).await,
        "stillhere actix" => actix::serve_sessions(role, listener).await,
        "warp" => warp::serve_bare(role, listener).await,
        "stillhere warp" => warp::serve_sessions(role, listener).await,
        unknown => panic!("there is no server {unknown}"),
    }
}

async fn serve_axum(app: Router, listener: TcpListener) {
    ::axum::serve(listener, app).await.expect("serving goes on");
}

/// What the pages of a server without sessions share.
#[derive(Debug, Clone)]
struct Shared {
    role: Role,
    /// Messages to all pages.
    room: broadcast::Sender<Bytes>,
}

impl Shared {
    fn new(role: Role) -> Self {
        let (room, _) = broadcast::channel(1024);
        Self { role, room }
    }

    /// Returns what one page has of it, from before the page knows that it is connected.
    fn member(&self) -> Member {
        Member {
            role: self.role,
            room: self.room.clone(),
            published: self.room.subscribe(),
        }
    }
}

/// A page of a server without sessions.
struct Member {
    role: Role,
    room: broadcast::Sender<Bytes>,
    published: broadcast::Receiver<Bytes>,
}

impl Member {
    /// Sends a message to all pages, unless it is an acknowledgement.
    fn publish(&self, message: Bytes) {
        if message.len() > ACKNOWLEDGEMENT {
            drop(self.room.send(message));
        }
    }
}

/// Returns how many messages a page asks for, and one of them.
fn requested(request: &[u8]) -> (usize, Vec<u8>) {
    let request = std::str::from_utf8(request).expect("a request is text");
    let (count, size) = request.split_once(' ').expect("a count and a size");
    let mut message = Vec::new();
    crate::client::payload(0, size.parse().expect("a size"), &mut message);
    (count.parse().expect("a count"), message)
}
