//! What every adapter of stillhere must do: one function per case, each naming the promise (DESIGN section 1) or the rule (PROTOCOL.md) it
//! checks.
//!
//! An adapter's test file says how to start a server and expands [`suite!`]:
//!
//! ```ignore
//! async fn start(hub: Hub) -> SocketAddr {
//!     let listener = nodelay(TcpListener::bind("127.0.0.1:0").await.unwrap());
//!     let address = listener.local_addr().unwrap();
//!     tokio::spawn(axum::serve(listener, stillhere_axum::routes(&hub)).into_future());
//!     address
//! }
//!
//! stillhere_conformance::suite!(start);
//! ```
//!
//! Cases wait for conditions, never for time to pass, and panic with what they waited for when it does not come.

pub mod application;
pub mod browser;
pub mod cases;
pub mod credentials;
pub mod fault_proxy;
pub mod http;
pub mod load;
pub mod neighbour;
pub mod patience;
pub mod random;
pub mod raw_connection;
pub mod server;
pub mod shutdown;
pub mod socket;
mod suite;

pub use suite::run;
