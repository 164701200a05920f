//! Durable browser sessions: state held by the server for each open page, talking binary messages with the browser both ways, that outlives
//! the connection carrying it. *The socket dropped. The session is still here.*
//!
//! This is the core. An adapter mounts it in a web framework and re-exports it: depend on `stillhere-axum` and start there. For a
//! framework that has none, `WRITING-AN-ADAPTER.md` beside `PROTOCOL.md` shows a whole one with its tests.
//!
//! - A [`Hub`] holds all sessions of an application. [`Hub::open`] makes one for a page.
//! - A [`Session`] is what the session's function reads from; a [`SessionHandle`] sends, observes and closes from anywhere.
//! - A [`CleanupPolicy`] decides when a session without a browser is given up.
//! - A *plain* session ([`Hub::open_plain`]) is for clients with a protocol of their own: one WebSocket message is one message.
//! - A [`Connection`] is anything that carries packets; [`run_connection_loop`] carries a session over it. A [`ConnectionSetup`]
//!   tells pages to use a kind of their own.
//!
//! ```
//! use stillhere::{Hub, Session};
//!
//! async fn counter(mut session: Session) {
//!     let mut clicks = 0u64; // durable: the function outlives connections
//!     while let Some(_click) = session.recv().await {
//!         clicks += 1;
//!         if session.send(clicks.to_be_bytes()).await.is_err() {
//!             return;
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hub = Hub::new();
//! let session = hub.open(counter);
//! let page = format!("<output id=n></output>{}", session.script_tag());
//! # assert!(page.contains("data-stillhere"));
//! # }
//! ```
//!
//! What is promised: every accepted message is handed to the other side's application once and in order (within its lane), over any number of
//! reconnects, until the session ends or another document takes it over. *Handed over*, not processed; a crash of the server process ends its sessions.
//! The wire protocol is in `PROTOCOL.md`.

mod answer;
mod arrival;
mod asks;
mod base_url;
mod cleanup;
pub mod client;
mod clock;
mod compression;
mod connection;
mod drain;
mod exchange;
mod fallback;
mod gate;
mod guard;
mod hub;
mod kind;
mod memory;
mod options;
mod origin;
mod pair;
mod peer;
mod plain;
#[cfg(feature = "websocket")]
mod redact;
mod request;
mod script_tag;
mod seldom;
mod session;
mod stop;
mod sweeper;
mod ticket;
#[cfg(feature = "upgrade")]
pub mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use answer::{Answer, AnswerBody, Chunks};
pub use arrival::{Arrival, NotOurProtocol};
pub use asks::Asks;
pub use cleanup::{
    And, CleanupPolicy, DefaultCleanupPolicy, MemoryBudget, Or, PrincipalCap, SessionSnapshot, SessionState,
    WhileAuthenticated,
};
pub use connection::{Connection, ConnectionError, Packet, run_connection_loop};
pub use drain::DrainReport;
pub use guard::guarded_principal;
pub use hub::{Hub, HubBuilder, Stats};
pub use kind::ConnectionSetup;
pub use options::{PlainCompression, PlainOptions, PlainText, Renewal, SessionOptions};
pub use pair::{PairEnd, connection_pair};
pub use peer::Share;
pub use request::{UpgradeRequest, name_of};
pub use script_tag::static_script_tag;
pub use session::{Events, Incoming, Restoring, SendError, Session, SessionHandle, TrySendError};
pub use stillhere_proto::machine::{Cause, Event, Timing};
pub use stillhere_proto::{Class, Code, EndReason};
pub use stillhere_proto::{DocumentId, ParseIdError, Secret, SessionId};
pub use stillhere_proto::{FRAME_CHARGE, Limits};
pub use stillhere_proto::{Lane, Message, PerLane};
pub use stillhere_proto::{machine, wire};
pub use stop::stop_signal;
pub use ticket::Ticket;
