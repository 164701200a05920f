//! What sessions do, on every framework.

use bytes::Bytes;
use stillhere::{Hub, Message, Session, SessionHandle};

use super::{Role, requested};

/// Most sessions of one server.
const SESSIONS: usize = 1_000_000;

pub(super) fn hub() -> Hub {
    Hub::builder().max_unconnected(SESSIONS).max_sessions(SESSIONS).build()
}

/// Opens sessions as a page's handler does. Returns one ticket in each line.
pub(super) fn tickets(hub: &Hub, role: Role, count: usize) -> String {
    let tickets = (0..count).map(|_| open(hub, role).ticket_json());
    tickets.collect::<Vec<_>>().join("\n")
}

fn open(hub: &Hub, role: Role) -> SessionHandle {
    match role {
        Role::Echo => hub.open(echo),
        Role::Stream => hub.open(stream),
        Role::FanOut => {
            let everybody = hub.clone();
            hub.open(|session| fan_out(session, everybody))
        }
    }
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

async fn stream(mut session: Session) {
    while let Some(request) = session.recv().await {
        let (count, message) = requested(&request);
        let message = Bytes::from(message);
        for _ in 0..count {
            if session.send(message.clone()).await.is_err() {
                return;
            }
        }
    }
}

async fn fan_out(mut session: Session, hub: Hub) {
    while let Some(message) = session.recv().await {
        let message: Message = hub.share(message.into_bytes());
        for page in hub.sessions() {
            let _ = page.try_send(message.clone());
        }
    }
}
