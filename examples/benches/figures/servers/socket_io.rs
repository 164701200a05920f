//! socketioxide with its defaults, on axum.

use axum::Router;
use socketioxide::SocketIo;
use socketioxide::extract::{Data, SocketRef};

use super::{Role, requested};

const EVENT: &str = "m";

pub(super) fn router(role: Role) -> Router {
    let (layer, io) = SocketIo::new_layer();
    let everybody = io.clone();
    io.ns("/", async move |socket: SocketRef| match role {
        Role::Echo | Role::Transfer => socket.on(EVENT, async |socket: SocketRef, Data::<String>(message)| {
            drop(socket.emit(EVENT, &message));
        }),
        Role::Stream => socket.on(EVENT, stream),
        Role::FanOut => socket.on(EVENT, async move |Data::<String>(message)| {
            drop(everybody.emit(EVENT, &message).await);
        }),
    });
    Router::new().layer(layer)
}

async fn stream(socket: SocketRef, Data(request): Data<String>) {
    let (count, message) = requested(request.as_bytes());
    let message = String::from_utf8(message).expect("the message is text");
    for _ in 0..count {
        // It refuses messages while the page's buffer of them is full.
        while socket.emit(EVENT, &message).is_err() {
            if !socket.connected() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
