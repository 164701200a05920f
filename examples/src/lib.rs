//! The demo: a page whose connection you can break, and ticket routes for clients of any kind.
//!
//! This crate is the same for every framework. A `main` binds a loopback port, starts [`Demo`] in
//! front of it, and passes page requests to it; see `bin/axum.rs`. Browsers connect to a
//! [`FaultProxy`] on `--addr`, so that the page's buttons really break the page's TCP connection.
//!
//! # Messages
//!
//! All integers are little-endian. The first byte is the kind.
//!
//! | from the page | | |
//! |---|---|---|
//! | 1 number | number u64 | the next number of the page's stream |
//! | 2 click | id u32 | answered by 2 |
//! | 3 add | amount i32 | added to the value; answered by 7 |
//! | 4 note | UTF-8, at most 4 KiB | replaces the note; answered by 7 |
//! | 5 upload (bulk) | 3 zero bytes, checksum u32, words u32... | answered by 5 |
//! | 6 download | bytes u32, at most 32 MB, in fours | answered by 6 |
//!
//! | from the server | | |
//! |---|---|---|
//! | 1 number | number u64 | the next number of the server's stream |
//! | 2 clicked | id u32 | |
//! | 3 start | next number from the server u64, next from the page u64, page loads u32 | once for each page load, followed by a 7; both streams continue where the previous load stopped, and a page waits for this before it counts or sends |
//! | 4 report | age of the session in ms u64; received, missing, doubled, out of order u64 | of the page's stream, twice a second |
//! | 5 uploaded | bytes u32, checksum u32 | as received by the server |
//! | 6 chunk (bulk) | 3 zero bytes, checksum u32 of all words so far, words u32... | at most 1 MB of words |
//! | 7 kept | value i32, note UTF-8 | |
//!
//! A checksum is FNV-1a (32 bits) over words instead of bytes. On the other page, a message of one
//! byte 1 adds one, and the server answers with the value as a u64.
//!
//! # Tickets
//!
//! `GET /ticket/NAME` opens a session for a client of any kind. `README.md` lists the names, and
//! what to try with each.

mod arguments;
mod counts;
mod demo;
#[cfg(doctest)]
mod guide;
mod layer_session;
mod messages;
mod page_session;
mod ticket_sessions;
mod tickets;
mod transfer;

pub use demo::{Answer, Demo};
pub use stillhere::stop_signal;

#[cfg(doc)]
use stillhere_conformance::fault_proxy::FaultProxy;
