//! What sessions do, on every framework.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stillhere::{CleanupPolicy, DefaultCleanupPolicy, Hub, Message, Session, SessionHandle, SessionSnapshot};

use super::{CHUNK, Role, requested, waiting};

/// Most sessions of one server: more than any run has.
const SESSIONS: usize = 2_000_000;

/// Longer than any run.
const KEEP: Duration = Duration::from_secs(24 * 3600);

pub(super) fn hub() -> Hub {
    Hub::builder()
        .max_unconnected(SESSIONS)
        .max_sessions(SESSIONS)
        .cleanup_policy(DefaultCleanupPolicy {
            unconnected: KEEP,
            soft_closed: KEEP,
            ..DefaultCleanupPolicy::default()
        })
        .build()
}

/// Ends all sessions that are soft-closed then.
pub(super) fn expire_in(hub: &Hub, seconds: u64) {
    hub.set_cleanup_policy(Until(Instant::now() + Duration::from_secs(seconds)));
}

/// Keeps all sessions until the same moment.
struct Until(Instant);

impl CleanupPolicy for Until {
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
        now >= self.0 && session.state.is_soft_closed()
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, _session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        (now < self.0).then_some(self.0)
    }
}

/// Opens sessions as a page's handler does. Returns one ticket in each line.
pub(super) fn tickets(hub: &Hub, role: Role, count: usize) -> String {
    let tickets = (0..count).map(|_| open(hub, role).ticket_json());
    tickets.collect::<Vec<_>>().join("\n")
}

/// Opens that many sessions, and leaves each soft-closed after one echo.
pub(super) async fn soft_close(hub: &Hub, count: usize) {
    waiting::soft_close(hub, (0..count).map(|_| hub.open(echo))).await;
}

fn open(hub: &Hub, role: Role) -> SessionHandle {
    match role {
        Role::Echo => hub.open(echo),
        Role::Stream => hub.open(stream),
        Role::FanOut => {
            let everybody = hub.clone();
            hub.open(|session| fan_out(session, everybody))
        }
        Role::Transfer => hub.open(transfer),
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

async fn transfer(mut session: Session) {
    while let Some(message) = session.recv().await {
        let bulk = message
            .strip_prefix(b"bulk ")
            .and_then(|size| std::str::from_utf8(size).ok());
        let Some(bytes) = bulk else {
            if session.send(message).await.is_err() {
                return;
            }
            continue;
        };
        let bytes: usize = bytes.parse().expect("a number of bytes");
        let page = session.handle();
        tokio::spawn(async move {
            let chunk = Bytes::from_static(&CHUNK);
            for _ in 0..bytes.div_ceil(CHUNK.len()) {
                if page.send_bulk(chunk.clone()).await.is_err() {
                    return;
                }
            }
        });
    }
}
