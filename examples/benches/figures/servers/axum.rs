//! axum: its WebSockets as they come, with a small read buffer, and with a loop that batches; and
//! sessions.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use stillhere::Hub;

use super::bare::{self, Packet};
use super::{Member, Role, Shared, sessions};

/// A read buffer of the size that ours has. axum's default, 128 KiB, is zeroed for each connection.
const READ_BUFFER: usize = 4096;

impl Packet for Message {
    fn binary(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }

    fn into_binary(self) -> Option<Bytes> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }
}

pub(super) fn bare(role: Role) -> Router {
    router(role, |upgrade, member| {
        upgrade.on_upgrade(|socket: WebSocket| async { bare::serve(socket, member).await.unwrap_or_default() })
    })
}

pub(super) fn tuned(role: Role) -> Router {
    router(role, |upgrade, member| {
        let upgrade = upgrade.read_buffer_size(READ_BUFFER);
        upgrade.on_upgrade(|socket: WebSocket| async { bare::serve(socket, member).await.unwrap_or_default() })
    })
}

pub(super) fn batching(role: Role) -> Router {
    router(role, |upgrade, member| {
        let upgrade = upgrade.read_buffer_size(READ_BUFFER);
        upgrade.on_upgrade(|socket: WebSocket| async { bare::serve_batching(socket, member).await.unwrap_or_default() })
    })
}

fn router(role: Role, answer: fn(WebSocketUpgrade, Member) -> Response) -> Router {
    let shared = Shared::new(role);
    let handler = async move |upgrade: WebSocketUpgrade| answer(upgrade, shared.member());
    Router::new().route("/ws", get(handler))
}

pub(super) fn sessions(role: Role) -> Router {
    let hub = sessions::hub();
    // One route for all that the load asks of the server, because axum clones all routes for each
    // connection.
    let asked = async move |State(hub): State<Hub>, Path((what, number)): Path<(String, usize)>| match &*what {
        "tickets" => sessions::tickets(&hub, role, number),
        "soft-closed" => {
            sessions::soft_close(&hub, number).await;
            String::new()
        }
        "expire-in" => {
            sessions::expire_in(&hub, number as u64);
            String::new()
        }
        "sessions" => hub.stats().sessions.to_string(),
        unknown => panic!("there is nothing called {unknown}"),
    };
    Router::new()
        .route("/{what}/{number}", get(asked))
        .merge(stillhere_axum::routes(&hub))
        .with_state(hub)
}
