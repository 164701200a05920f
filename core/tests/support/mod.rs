//! Support for tests of the hub: an in-memory connection and two kinds of browser at its other end.
//! There are no sockets, and tests should pause tokio's clock.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod browser;
pub(crate) mod pipe;
pub(crate) mod transcripts;
pub(crate) mod wire;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stillhere::{Accepted, DocumentId, Hub, Limits, Secret, SessionHandle, SessionRequest, run_connection_loop};
use tokio::task::JoinHandle;

use self::pipe::{BrowserEnd, pipe};

/// What a page reads from its ticket.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    pub(crate) limits: Limits,
}

pub(crate) fn access(session: &SessionHandle) -> Access {
    let ticket: serde_json::Value = serde_json::from_str(&session.ticket_json()).expect("a ticket is JSON");
    let text = |name: &str| {
        ticket[name]
            .as_str()
            .unwrap_or_else(|| panic!("the ticket has no {name}: {ticket}"))
    };
    let secret: [u8; 32] = URL_SAFE_NO_PAD
        .decode(text("secret"))
        .expect("the secret is base64url")
        .try_into()
        .expect("the secret has 32 bytes");
    let limit = |name: &str| {
        ticket["limits"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no limit {name}: {ticket}"))
    };
    let limits = Limits {
        fragment: limit("fragment"),
        message: limit("message"),
        inflated: limit("inflated"),
        window: limit("window"),
        bulk_window: limit("bulkWindow"),
        ..Limits::default()
    };
    Access {
        id: text("id").to_owned(),
        secret: Secret::from_bytes(secret),
        limits,
    }
}

pub(crate) fn accept(hub: &Hub, id: &str) -> Accepted {
    let request = SessionRequest::new(id, [("sec-websocket-protocol", &b"stillhere.v1"[..])]);
    hub.accept(&request).expect("our protocol was offered")
}

/// Opens a connection to `hub`. Returns the browser's end and the task that carries the connection.
pub(crate) fn connect(hub: &Hub, id: &str) -> (BrowserEnd, JoinHandle<()>) {
    let (server, browser) = pipe();
    let accepted = accept(hub, id);
    let server = server.with_limit(accepted.packet_limit());
    (browser, tokio::spawn(run_connection_loop(accepted, server)))
}

/// Returns the id of a new page load.
pub(crate) fn new_document() -> DocumentId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    DocumentId(id)
}

/// Lets everything happen that can happen now, without moving the clock.
pub(crate) async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Fails instead of waiting forever: after an hour on the paused clock.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waiting = tokio::time::timeout(Duration::from_secs(3600), future).await;
    waiting.unwrap_or_else(|_| panic!("this never happened: {what}"))
}

/// Fails if `future` is ready now, or becomes ready without time passing.
pub(crate) async fn assert_waits<T>(future: impl Future<Output = T>) {
    let mut future = std::pin::pin!(future);
    for _ in 0..100 {
        let ready = futures_util::poll!(future.as_mut()).is_ready();
        assert!(!ready, "it was expected to wait");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}
