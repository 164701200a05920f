//! Gives each TCP connection to any of several nodes, by chance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait if the system has no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Passes connections on until it is dropped.
pub(crate) async fn run(listener: TcpListener, nodes: Arc<[SocketAddr]>) {
    loop {
        match listener.accept().await {
            Ok((page, _)) => drop(tokio::spawn(carry(page, Arc::clone(&nodes)))),
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn carry(mut page: TcpStream, nodes: Arc<[SocketAddr]>) {
    let Some(mut node) = connect_to_any(&nodes).await else {
        return;
    };
    // Both ends decide themselves what they send together.
    let _ = (page.set_nodelay(true), node.set_nodelay(true));
    let _ = copy_bidirectional(&mut page, &mut node).await;
}

/// Connects to any node that takes the connection.
async fn connect_to_any(nodes: &[SocketAddr]) -> Option<TcpStream> {
    let mut left = nodes.to_vec();
    while !left.is_empty() {
        let node = left.swap_remove(choose(left.len()));
        if let Ok(connection) = TcpStream::connect(node).await {
            return Some(connection);
        }
    }
    None
}

/// Returns a random number below `count`.
fn choose(count: usize) -> usize {
    getrandom::u32().map_or(0, |random| random as usize % count)
}
