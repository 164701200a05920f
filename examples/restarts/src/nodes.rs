//! Runs several nodes, NATS, which connects them, and a balancer before them.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::balancer;
use crate::nats::{NatsServer, free_address};
use crate::supervisor::keep_running;

/// How long a killed node is away, so that its session goes on in another one.
const PAUSE: Duration = Duration::from_secs(3);

/// Runs so many nodes, each again when it was killed, until one of them or NATS stops by itself or
/// this process is told to stop. Takes connections for them at this address.
pub(crate) async fn run(address: &str, count: usize) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut nats = NatsServer::start().await?;
    let nodes: Arc<[SocketAddr]> = (0..count).map(|_| free_address()).collect::<io::Result<_>>()?;
    let (sender, mut serving) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    for (number, address) in (1..).zip(nodes.iter()) {
        running.spawn(run_node(number, *address, nats.url.clone(), sender.clone()));
    }
    let mut listener = Some(listener);
    let mut balancing = JoinSet::new();
    let mut have_served = BTreeSet::new();
    loop {
        tokio::select! {
            Some(node) = serving.recv() => {
                have_served.insert(node);
                if let Some(listener) = listener.take_if(|_| have_served.len() == count) {
                    balancing.spawn(balancer::run(listener, Arc::clone(&nodes)));
                    println!("{url}");
                }
            }
            ended = running.join_next() => match ended {
                Some(ended) => ended.map_err(io::Error::other)??,
                None => return Ok(()),
            },
            error = nats.ended() => return Err(error),
        }
    }
}

/// Keeps a node running. Reports its number whenever it begins to serve.
async fn run_node(
    number: u64,
    address: SocketAddr,
    nats: String,
    serves: mpsc::UnboundedSender<u64>,
) -> io::Result<()> {
    let (digits, address) = (number.to_string(), address.to_string());
    let arguments = ["--node", &digits, "--nats", &nats, &address];
    keep_running(&format!("node {number}"), &arguments, PAUSE, || _ = serves.send(number)).await
}
