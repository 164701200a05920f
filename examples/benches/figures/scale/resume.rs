//! Sessions that all resume at once, as after a restart of a proxy, beside bare connects.

use futures_util::StreamExt as _;
use futures_util::stream::iter;

use crate::client::Page;
use crate::load::connect;
use crate::process::{Server, most_connections};
use crate::servers::Role;

/// How many connections are set up at a time: as many as fit in a listener's queue.
const AT_ONCE: usize = 1000;

pub(super) async fn measure(pages: usize) {
    let pages = pages.min(most_connections());
    let resumes = resumes(pages).await;
    println!("{pages} sessions resume at once: {resumes:.1} us of CPU each, and none is refused or lost");
    for kind in ["axum", "axum 4 KiB"] {
        let connects = connects(kind, pages).await;
        println!(
            "{pages} connects to {kind}: {connects:.1} us each, so resumes cost x{:.2}",
            resumes / connects
        );
    }
}

async fn resumes(pages: usize) -> f64 {
    let server = Server::start("stillhere axum", Role::Echo);
    let tickets = server.tickets(pages).await;
    let connected = connect(&server, &tickets, 1).await;
    let documents: Vec<_> = connected.into_iter().filter_map(Page::cut).collect();
    assert_eq!(documents.len(), pages, "each page has a session");
    let before = server.cpu();
    let resuming =
        iter(tickets.iter().flatten().zip(documents)).map(|(ticket, document)| Page::resume(&server, ticket, document));
    let mut resumed: Vec<_> = resuming.buffer_unordered(AT_ONCE).collect().await;
    let cpu = server.cpu() - before;
    for page in &mut resumed {
        page.echo(64, 1, 1).await;
    }
    cpu.as_secs_f64() * 1e6 / pages as f64
}

async fn connects(kind: &str, pages: usize) -> f64 {
    let server = Server::start(kind, Role::Echo);
    let before = server.cpu();
    let connecting = iter(0..pages).map(|_| Page::connect(&server, None));
    let connected: Vec<_> = connecting.buffer_unordered(AT_ONCE).collect().await;
    let cpu = server.cpu() - before;
    drop(connected);
    cpu.as_secs_f64() * 1e6 / pages as f64
}
