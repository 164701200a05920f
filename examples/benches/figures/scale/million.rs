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
    let alone = longest_echo(&mut page, async || tokio::time::sleep(WAIT).await).await;
    // The page must not fall silent, since the server would close its connection.
    longest_echo(&mut page, async || {
        while live(&server).await > sessions {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let (before, began) = (server.cpu(), Instant::now());
    let expiring = longest_echo(&mut page, async || {
        while live(&server).await > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let cpu = server.cpu() - before;
    println!(
        "all of them expire at once, within {:.2} s: {:.2} us of CPU each, the echoes that run beside included; longest echo {:.2} ms, {:.2} ms before",
        began.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sessions as f64,
        super::milliseconds(expiring),
        super::milliseconds(alone),
    );
}

async fn live(server: &Server) -> usize {
    server.get("/sessions").await.parse().expect("a number of sessions")
}

/// Echoes once a millisecond until `meanwhile` has completed. Returns how long the slowest echo
/// took, which is how long the server paused.
async fn longest_echo(page: &mut Page, meanwhile: impl AsyncFnOnce()) -> Duration {
    let mut longest = Duration::ZERO;
    let is_over = Cell::new(false);
    let echoes = async {
        while !is_over.get() {
            let began = Instant::now();
            page.echo(64, 1, 1).await;
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(echoes, async {
        meanwhile().await;
        is_over.set(true);
    });
    longest
}
