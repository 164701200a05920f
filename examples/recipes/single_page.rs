//! A single-page application, whose HTML is built elsewhere: its ticket, and its files.

use std::env;

use axum::Json;
use axum::extract::State;
use stillhere_axum::{Hub, Session, Ticket};
use tower_http::services::ServeDir;

pub(crate) async fn ticket(State(hub): State<Hub>) -> Json<Ticket> {
    Json(hub.open(echo).ticket()) // POST: nothing caches or prefetches it
}

/// What `vite build` has made.
pub(crate) fn files() -> ServeDir {
    ServeDir::new(env::var_os("DIST").unwrap_or_else(|| "dist".into()))
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message.into_bytes()).await.is_err() {
            return;
        }
    }
}
