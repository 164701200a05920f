//! Serves a single-page application built with Vite: its files, and tickets for its sessions.

use std::env;

use axum::Json;
use axum::extract::State;
use stillhere_axum::{Hub, Session, Ticket};
use tower_http::services::ServeDir;

pub(crate) async fn ticket(State(hub): State<Hub>) -> Json<Ticket> {
    Json(hub.open(echo).ticket()) // a POST is neither cached nor prefetched
}

/// Serves the files that `vite build` has written.
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
