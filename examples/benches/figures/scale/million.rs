//! A million soft-closed sessions in one process: their memory, what they cost while they wait, and
//! their end.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::client::Page;
use crate::process::Server;
use crate::servers::Role;

const WAIT: Duration = Duration::from_secs(10);

/// More seconds than the set-up of a session takes.
const SET_UP: f64 = 50e-6;

pub(super) async fn measure(sessions: usize) {
    let server = Server::start("stillhere axum", Role::Echo);
    let kept = (sessions as f64 * SET_UP).ceil() as u64 + 3 * WAIT.as_secs();
    server.get(&format!("/expire-in/{kept}")).await;
    let (before, began) = (server.resident(), Instant::now());
    server.get(&format!("/soft-closed/{sessions}")).await;
    println!(
        "{sessions} soft-closed sessions, made in {:.0} s: {:.0} B each, {:.2} GB in all",
        began.elapsed().as_secs_f64(),
        (server.resident() - before) as f64 / sessions as f64,
        server.resident() as f64 / 1e9
    );

    let before = server.cpu();
    tokio::time::sleep(WAIT).await;
    let idle = (server.cpu() - before).as_secs_f64() / WAIT.as_secs_f64();
    println!("waiting: {:.3} % of a core", idle * 100.0);

    let tickets = server.tickets(1).await;
    let mut page = Page::connect(&server, tickets[0].as_ref()).await;
    let alone = echoes(&mut page, async || tokio::time::sleep(WAIT).await).await;
    // The page must not fall silent, since the server would close its connection.
    echoes(&mut page, async || {
        while live(&server).await > sessions {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (before, began) = (server.cpu(), Instant::now());
    let expiring = echoes(&mut page, async || {
        while live(&server).await > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let cpu = server.cpu() - before;
    println!(
        "all of them expire at once, within {:.2} s: {:.2} us of CPU each, the echoes that run beside included; echoes {}; before {}",
        began.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sessions as f64,
        describe(expiring),
        describe(alone),
    );
}

async fn live(server: &Server) -> usize {
    server.get("/sessions/0").await.parse().expect("a number of sessions")
}

/// Describes the slowest echoes, which show how long the server paused. The longest also shows how
/// long the machine did.
fn describe(mut echoes: Vec<Duration>) -> String {
    let [middle, slow, longest] =
        [0.5, 0.99, 1.0].map(|share| super::milliseconds(super::quantile(&mut echoes, share)));
    format!("p50 {middle:.2} ms, p99 {slow:.2} ms, longest {longest:.2} ms")
}

/// Echoes once a millisecond until `meanwhile` has completed. Returns how long each echo took.
async fn echoes(page: &mut Page, meanwhile: impl AsyncFnOnce()) -> Vec<Duration> {
    let mut times = Vec::new();
    let is_over = Cell::new(false);
    let echoes = async {
        while !is_over.get() {
            let began = Instant::now();
            page.echo(64, 1, 1).await;
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(echoes, async {
        meanwhile().await;
        is_over.set(true);
    });
    times
}
