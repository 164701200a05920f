//! A million soft-closed sessions in one process: their memory, what they cost while they wait, and
//! their end.

use std::time::{Duration, Instant};

use crate::client::Page;
use crate::load::soft_closed;
use crate::process::Server;
use crate::servers::Role;

const WAIT: Duration = Duration::from_secs(10);

pub(super) async fn measure(sessions: usize) {
    let server = Server::start("stillhere axum", Role::Echo);
    let each = soft_closed(&server, sessions).await;
    println!(
        "{sessions} soft-closed sessions: {each:.2} KB each, {:.2} GB in all",
        server.resident() as f64 / 1e9
    );

    let before = server.cpu();
    tokio::time::sleep(WAIT).await;
    let idle = (server.cpu() - before).as_secs_f64() / WAIT.as_secs_f64();
    println!("waiting: {:.3} % of a core", idle * 100.0);

    let tickets = server.tickets(1).await;
    let mut page = Page::connect(&server, tickets[0].as_ref()).await;
    let alone = longest_echo(&mut page, async || tokio::time::sleep(WAIT).await).await;
    let before = server.cpu();
    let echoes = Instant::now();
    let expiring = longest_echo(&mut page, async || {
        server.get("/expire").await;
        while server.get("/sessions").await != "1" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let cpu = server.cpu() - before;
    println!(
        "all of them expire within {:.2} s: {:.2} us of CPU each, the echoes that run beside included; longest echo {:.2} ms, {:.2} ms before",
        echoes.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sessions as f64,
        super::milliseconds(expiring),
        super::milliseconds(alone),
    );
}

/// Echoes once a millisecond until `meanwhile` has completed. Returns how long the slowest echo
/// took, which is how long the server paused.
async fn longest_echo(page: &mut Page, meanwhile: impl AsyncFnOnce()) -> Duration {
    let mut longest = Duration::ZERO;
    let echoes = async {
        loop {
            let began = Instant::now();
            page.echo(64, 1, 1).await;
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = meanwhile() => {}
        () = echoes => {}
    }
    longest
}
