//! Tests of session functions without a server and without a browser: a page within the process,
//! whose network can be cut. Enable the feature `testing` among the development dependencies.
//!
//! Run such tests under a paused clock (`#[tokio::test(start_paused = true)]`, which needs tokio's
//! feature `test-util`): then hours pass at once, and a wait that never ends fails the test.
//!
//! ```
//! use std::time::Duration;
//!
//! use stillhere::{EndReason, Hub};
//! use stillhere_app::testing::Page;
//! use stillhere_app::{Session, app};
//!
//! async fn counter(session: Session) {
//!     let count = session.observable("count", 0i64);
//!     session.handle("add", move |by: i64| {
//!         count.update(|count| *count += by);
//!         std::future::ready(Ok::<_, String>(count.get()))
//!     });
//!     session.ended().await;
//! }
//!
//! #[tokio::test(start_paused = true)]
//! # async fn hidden() {}
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn a_count_survives_a_gap_and_a_reload() {
//!     let hub = Hub::new();
//!     let mut page = Page::open(&hub, counter);
//!     assert_eq!(page.call("add", &1).await, Ok(1i64));
//!
//!     // The network is gone for a minute; the call is made once.
//!     page.go_away();
//!     let (answer, ()) = tokio::join!(page.call("add", &2), async {
//!         tokio::time::sleep(Duration::from_secs(60)).await;
//!         page.come_back();
//!     });
//!     assert_eq!(answer, Ok(3i64));
//!
//!     // F5: a new document of the same session.
//!     page.reload();
//!     assert_eq!(page.wait_for("count", |count: &i64| *count == 3).await, 3);
//!
//!     // The tab is gone. The default policy keeps the session for two minutes.
//!     page.go_away();
//!     assert_eq!(page.session().ended().await, EndReason::Expired);
//! }
//! # fn main() { a_count_survives_a_gap_and_a_reload() }
//! ```

mod inbox;
mod network;
mod page;
mod page_call_error;
mod room;

pub use network::{Network, connect};
pub use page::Page;
pub use page_call_error::PageCallError;
