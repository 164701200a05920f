//! A large transfer beside clicks, on one page: what each costs the other.

use std::time::{Duration, Instant};

use super::{milliseconds, quantile};
use crate::client::{Page, payload};
use crate::load::connect;
use crate::process::Server;
use crate::servers::{CHUNK, Role};

const CLICK: usize = 64;
const CLICKS_ALONE: usize = 2000;

/// A transfer is short, so that a single one has few clicks beside it.
const REPEATS: usize = 9;

pub(super) async fn measure(bytes: usize) {
    let (mut alone, mut beside) = (Times::default(), Times::default());
    for _ in 0..REPEATS {
        alone.add(run(0, Some(CLICKS_ALONE)).await);
        alone.add(run(bytes, None).await);
        beside.add(run(bytes, Some(usize::MAX)).await);
    }
    let clicks = [&mut alone, &mut beside].map(|times| quantile(&mut times.clicks, 0.99));
    println!(
        "clicks: p99 {:.2} ms alone, {:.2} ms beside {bytes} B ({} clicks): x{:.2}",
        milliseconds(clicks[0]),
        milliseconds(clicks[1]),
        beside.clicks.len(),
        clicks[1].as_secs_f64() / clicks[0].as_secs_f64()
    );
    let speeds =
        [alone, beside].map(|mut times| bytes as f64 / 1e6 / quantile(&mut times.transfers, 0.5).as_secs_f64());
    println!(
        "transfer: {:.0} MB/s alone, {:.0} MB/s beside clicks: x{:.2}",
        speeds[0],
        speeds[1],
        speeds[1] / speeds[0]
    );
}

#[derive(Default)]
struct Times {
    clicks: Vec<Duration>,
    transfers: Vec<Duration>,
}

impl Times {
    fn add(&mut self, other: Self) {
        self.clicks.extend(other.clicks);
        self.transfers.extend(other.transfers);
    }
}

/// Transfers `bytes` to a page that clicks one time after another, if it does, until it has
/// clicked that often and has everything.
async fn run(bytes: usize, clicks: Option<usize>) -> Times {
    let server = Server::start("stillhere axum", Role::Transfer);
    let mut page = connect(&server, &server.tickets(1).await, 1).await.remove(0);
    let mut times = Times::default();
    let mut click = Vec::new();
    payload(0, CLICK, &mut click);
    let began = Instant::now();
    if bytes > 0 {
        page.publish(format!("bulk {bytes}").as_bytes()).await;
    }
    let mut arrived = 0;
    let mut clicked = None;
    let wanted = clicks.unwrap_or(0);
    loop {
        if clicked.is_none() && times.clicks.len() < wanted {
            clicked = Some(Instant::now());
            page.publish(&click).await;
        }
        receive(&mut page, &mut arrived, &mut clicked, &mut times.clicks).await;
        if arrived >= bytes && (bytes > 0 || times.clicks.len() >= wanted) {
            times.transfers.extend((bytes > 0).then(|| began.elapsed()));
            return times;
        }
    }
}

/// Receives what has come, which may complete the click.
async fn receive(page: &mut Page, arrived: &mut usize, clicked: &mut Option<Instant>, clicks: &mut Vec<Duration>) {
    page.receive(|message| {
        if message.len() == CLICK {
            let began = clicked.take().expect("each click is answered once");
            clicks.push(began.elapsed());
        } else {
            assert!(message == CHUNK, "each byte is what was sent");
            *arrived += message.len();
        }
    })
    .await;
}
