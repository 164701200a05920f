//! Pages that read nothing, among others that do: whether the others wait longer.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{milliseconds, quantile};
use crate::client::{Page, payload};
use crate::load::connect;
use crate::process::{Server, most_connections};
use crate::servers::Role;

/// Large enough that a page which does not read fills its socket's buffers.
const SIZE: usize = 16 * 1024;
const ROUNDS: usize = 60;

pub(super) async fn measure(pages: usize) {
    let pages = pages.min(most_connections());
    let stalled = pages / 100;
    let none = healthy_latency(pages, 0).await;
    let some = healthy_latency(pages, stalled).await;
    println!(
        "p99 of a message to {pages} pages: {:.1} ms, and {:.1} ms while {stalled} read nothing: x{:.2}",
        milliseconds(none),
        milliseconds(some),
        some.as_secs_f64() / none.as_secs_f64()
    );
}

/// Sends a message to all pages, again and again. Returns the p99 of the time until a page that
/// reads has it.
async fn healthy_latency(pages: usize, stalled: usize) -> Duration {
    let server = Server::start("stillhere axum", Role::FanOut);
    let mut pages = connect(&server, &server.tickets(pages).await, 0).await;
    let stalled = pages.split_off(pages.len() - stalled);
    let mut latencies = Vec::new();
    let mut message = Vec::new();
    for number in 0..ROUNDS {
        payload(number, SIZE, &mut message);
        let began = Instant::now();
        pages[0].publish(&message).await;
        let round = pages.iter_mut().map(async |page: &mut Page| {
            page.expect(&message, 1).await;
            began.elapsed()
        });
        latencies.extend(join_all(round).await);
    }
    drop(stalled);
    quantile(&mut latencies, 0.99)
}
