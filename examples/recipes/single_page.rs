//! A ticket for a single-page application, whose HTML is built elsewhere.

use axum::Json;
use axum::extract::State;
use stillhere_axum::{Hub, Session, Ticket};

pub(crate) async fn ticket(State(hub): State<Hub>) -> Json<Ticket> {
    Json(hub.open(echo).ticket()) // POST: nothing caches or prefetches it
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message.into_bytes()).await.is_err() {
            return;
        }
    }
}
