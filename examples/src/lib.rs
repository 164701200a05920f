//! The demo: one page whose connection a person may break, and ticket routes for clients of other
//! makes.
//!
//! Everything here is the same on every framework. A main binds a loopback port, starts [`Demo`] in
//! front of it, and hands it the page requests; see `bin/axum.rs`. What browsers reach is a
//! [`FaultProxy`] on `--addr`, so that the page's buttons really do it to the page's TCP
//! connection.
//!
//! # Messages
//!
//! All integers are little-endian; the first byte is the kind.
//!
//! | from the page | | |
//! |---|---|---|
//! | 1 number | number u64 | the next of the page's stream |
//! | 2 click | id u32 | answered by 2 |
//! | 3 add | amount i32 | to the value; answered by 7 |
//! | 4 note | UTF-8, at most 4 KiB | replaces the note; answered by 7 |
//! | 5 upload (bulk) | 3 zero bytes, checksum u32, words u32... | answered by 5 |
//! | 6 download | bytes u32, at most 32 MB, in fours | answered by 6 |
//!
//! | from the server | | |
//! |---|---|---|
//! | 1 number | number u64 | the next of the server's stream |
//! | 2 clicked | id u32 | |
//! | 3 start | next number from the server u64, next from the page u64, page loads u32 | once for each page load, with a 7 behind it; both streams go on where the load before left them, and a page counts and sends nothing before |
//! | 4 report | age of the session in ms u64; received, missing, doubled, out of order u64 | of the page's stream, twice a second |
//! | 5 uploaded | bytes u32, checksum u32 | as the server found them |
//! | 6 chunk (bulk) | 3 zero bytes, checksum u32 of all words so far, words u32... | at most 1 MB of words |
//! | 7 kept | value i32, note UTF-8 | |
//!
//! A checksum is FNV-1a (32 bits) over words instead of bytes. The other page's messages: one byte
//! 1 adds one, a u64 is the value.
//!
//! # Tickets
//!
//! `GET /ticket/NAME` gives a session to a client of any make. The names, and what to try with
//! each, are in `README.md`.

mod arguments;
mod counts;
mod demo;
#[cfg(doctest)]
mod guide;
mod messages;
mod page_session;
mod ticket_sessions;
mod tickets;
mod transfer;

pub use demo::{Answer, Demo};
pub use stillhere::stop_signal;

#[cfg(doc)]
use stillhere_conformance::fault_proxy::FaultProxy;
