//! What every adapter of stillhere must do: one function per case, each naming the promise (DESIGN section 1) or the rule (PROTOCOL.md) it
//! checks.
//!
//! # An adapter for another framework
//!
//! It hands a request to the core, answers what the core says, and gives the WebSocket to [`run_connection_loop`](stillhere::run_connection_loop).
//! Where the framework stands on hyper 1, `stillhere::upgrade` (feature `upgrade`) is all of that: see `adapter-axum`. Otherwise
//! `stillhere::websocket` (feature `websocket`) makes a connection of any byte stream: see `adapter-actix`. Then these tests must pass:
//!
//! ```no_run
//! # use std::net::SocketAddr;
//! # use stillhere::Hub;
//! // tests/conformance.rs
//! async fn start(hub: Hub) -> SocketAddr {
//!     // Serves the routes of this hub on a free port of loopback, for as long as the runtime lives.
//! #     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
//! #     let address = listener.local_addr().expect("the listener is bound");
//! #     tokio::spawn(async move { let _routes_of = (hub, listener); });
//! #     address
//! }
//!
//! stillhere_conformance::suite!(start);
//! ```
//!
//! and in `tests/shutdown.rs`, for the framework's graceful shutdown, [`shutdown_suite!`]; in `tests/logs.rs`, for what it logs, [`logs_suite!`].
//!
//! Each theme of [`cases`] is a module of that test file, each case a test. Through a [`fault_proxy`] connections are cut, reset, silenced, stalled and
//! truncated on the way.
//!
//! Cases wait for conditions, never for time to pass, and panic with what they waited for when it does not come. A server that panics fails its case.

pub mod application;
pub mod browser;
pub mod carried;
pub mod cases;
pub mod credentials;
pub mod fallback_bridge;
pub mod fault_proxy;
pub mod http;
pub mod load;
pub mod logins;
pub mod logs;
pub mod neighbour;
pub mod patience;
pub mod plain_client;
pub mod random;
pub mod raw_connection;
pub mod server;
pub mod shutdown;
pub mod socket;
mod suite;

pub use suite::run;
