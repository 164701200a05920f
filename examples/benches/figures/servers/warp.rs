//! warp: its WebSockets, and sessions.

use bytes::Bytes;
use tokio::net::TcpListener;
use warp::Filter as _;
use warp::ws::{Message, Ws};

use super::bare::{self, Packet};
use super::{Role, Shared, sessions};

impl Packet for Message {
    fn binary(bytes: Bytes) -> Self {
        Self::binary(bytes)
    }

    fn into_binary(self) -> Option<Bytes> {
        self.is_binary().then(|| self.into_bytes())
    }
}

pub(super) async fn serve_bare(role: Role, listener: TcpListener) {
    let shared = Shared::new(role);
    let routes = warp::path!("ws").and(warp::ws()).map(move |upgrade: Ws| {
        let member = shared.member();
        upgrade.on_upgrade(async |socket| bare::serve(socket, member).await.unwrap_or_default())
    });
    warp::serve(routes).incoming(listener).run().await;
}

pub(super) async fn serve_sessions(role: Role, listener: TcpListener) {
    let hub = sessions::hub();
    let routes = stillhere_warp::routes(&hub);
    let tickets = warp::path!("tickets" / usize).map(move |count| sessions::tickets(&hub, role, count));
    warp::serve(routes.or(tickets)).incoming(listener).run().await;
}
