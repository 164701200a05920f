//! Measures the cost of durability: the server's CPU time for each echoed message and its memory
//! for each session, on each framework, compared with the framework's own WebSockets.
//!
//!     cargo bench -p stillhere-examples --bench figures               # everything, about five minutes
//!     cargo bench -p stillhere-examples --bench figures -- --quick    # fewer messages and sessions
//!     cargo bench -p stillhere-examples --bench figures -- axum       # one framework
//!     cargo bench -p stillhere-examples --bench figures -- memory     # without the messages
//!
//! Each server is a process of its own on core 0, and the load runs on core 1 (if `taskset` is
//! installed). axum and warp have one thread, and actix-web two: its worker, on which sessions run,
//! and the runtime of the hub.
//! CPU time is the server's user and system time from `/proc`. Memory is the number of allocated
//! bytes, and the resident set. Compare figures of one run only.

mod client;
mod process;
mod servers;

use client::Client;
use process::Server;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The servers by framework, the baseline first. `4k` is axum with a read buffer of 4 KiB, a
/// setting that warp and most applications do not have.
const SERVERS: [&str; 7] = [
    "axum bare",
    "axum bare-4k",
    "axum stillhere",
    "actix bare",
    "actix stillhere",
    "warp bare",
    "warp stillhere",
];

/// Connections, messages in flight on each, and messages in total.
const LOADS: [(usize, usize, usize); 3] = [(1, 1, 30_000), (100, 1, 400_000), (100, 16, 1_000_000)];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime starts");
    match std::env::var("FIGURES_SERVER") {
        Ok(kind) => runtime.block_on(servers::serve(&kind)),
        Err(_) => runtime.block_on(measure()),
    }
}

async fn measure() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let scale = if arguments.iter().any(|argument| argument == "--quick") {
        10
    } else {
        1
    };
    let frameworks = ["axum", "actix", "warp"].map(str::to_owned);
    let wanted: Vec<_> = frameworks
        .into_iter()
        .filter(|framework| arguments.contains(framework))
        .collect();
    let servers: Vec<_> = SERVERS
        .into_iter()
        .filter(|kind| wanted.is_empty() || wanted.iter().any(|framework| kind.starts_with(framework.as_str())))
        .collect();

    if !arguments.iter().any(|argument| argument == "memory") {
        measure_cpu(&servers, scale).await;
    }
    measure_memory(&servers, 5_000 / scale).await;
}

async fn measure_cpu(servers: &[&str], scale: usize) {
    println!(
        "CPU of the server for each 64 B echo, microseconds; x: relative to the framework's own WebSockets with their defaults\n"
    );
    println!(
        "| server | 1 connection, 1 in flight | 100 connections, 1 in flight | 100 connections, 16 in flight |\n|---|---|---|---|"
    );
    let mut rows = vec![Vec::new(); servers.len()];
    for (connections, in_flight, messages) in LOADS {
        for (row, cost) in rows
            .iter_mut()
            .zip(echo_costs(servers, connections, in_flight, messages / scale).await)
        {
            row.push(cost);
        }
    }
    let mut bare = Vec::new();
    for (kind, row) in servers.iter().zip(&rows) {
        if kind.ends_with(" bare") {
            bare.clone_from(row);
        }
        let cells = row
            .iter()
            .zip(&bare)
            .map(|(cost, bare)| format!("{cost:.2} (x{:.2})", cost / bare));
        println!("| {kind} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

async fn measure_memory(servers: &[&str], count: usize) {
    println!(
        "\nMemory of the server, bytes: allocated (resident); {count} connected, {} soft-closed\n",
        count * 4
    );
    println!("| server | idle, connected | soft-closed |\n|---|---|---|");
    for kind in servers {
        let idle = idle_memory(kind, count).await;
        let is_ours = kind.ends_with("stillhere");
        let soft_closed = if is_ours {
            soft_closed_memory(kind, count * 4).await
        } else {
            String::new()
        };
        println!("| {kind} | {idle} | {soft_closed} |");
    }
}

/// Returns the median of three interleaved runs for each server.
async fn echo_costs(servers: &[&str], connections: usize, in_flight: usize, messages: usize) -> Vec<f64> {
    let mut costs = vec![Vec::new(); servers.len()];
    for _ in 0..3 {
        for (kind, costs) in servers.iter().zip(&mut costs) {
            costs.push(echo_cost(kind, connections, in_flight, messages).await);
        }
    }
    let median = |mut costs: Vec<f64>| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    costs.into_iter().map(median).collect()
}

async fn echo_cost(kind: &str, connections: usize, in_flight: usize, messages: usize) -> f64 {
    let server = Server::start(kind);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(&server).await);
    }
    let share = messages / connections;
    run_all(&mut clients, in_flight, share / 10).await;
    let before = server.cpu();
    run_all(&mut clients, in_flight, share).await;
    (server.cpu() - before).as_secs_f64() * 1e6 / (share * connections) as f64
}

async fn run_all(clients: &mut [Client], in_flight: usize, count: usize) {
    futures_util::future::join_all(clients.iter_mut().map(|client| client.echo(in_flight, count))).await;
}

async fn idle_memory(kind: &str, count: usize) -> String {
    let server = Server::start(kind);
    let mut clients = vec![Client::connect(&server).await];
    let before = server.memory().await;
    for _ in 0..count {
        clients.push(Client::connect(&server).await);
    }
    server.memory().await.since(&before, count)
}

/// Measures sessions whose connections came and went, a few at a time, so that the memory of
/// connections is reused.
async fn soft_closed_memory(kind: &str, count: usize) -> String {
    let server = Server::start(kind);
    drop(Client::connect(&server).await);
    let before = server.memory().await;
    for _ in 0..count / 20 {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = Client::connect(&server).await;
            client.echo(1, 1).await;
            clients.push(client);
        }
        for client in clients {
            client.close().await;
        }
    }
    server.memory().await.since(&before, count)
}
