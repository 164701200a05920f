//! A proxy that gives each TCP connection to one of several servers, and can cut them all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A proxy before several servers.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

struct State {
    servers: Vec<SocketAddr>,
    /// Chooses the server of the next connection.
    random: Random,
    carried: Vec<AbortHandle>,
}

impl Balancer {
    /// Starts the proxy. It chooses by chance, from this seed.
    pub(crate) async fn start(servers: &[SocketAddr], seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            servers: servers.to_vec(),
            random: Random(seed),
            carried: Vec::new(),
        }));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Gives new connections to these servers only.
    pub(crate) fn lead_to(&self, servers: &[SocketAddr]) {
        self.lock().servers = servers.to_vec();
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for connection in self.lock().carried.drain(..) {
            connection.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut state = state.lock().expect("nobody panics with the lock");
        let count = state.servers.len() as u64;
        let server = usize::try_from(state.random.next() % count).expect("there are few servers");
        let server = state.servers[server];
        let carrying = tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(server).await else {
                return;
            };
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        state.carried.retain(|connection| !connection.is_finished());
        state.carried.push(carrying.abort_handle());
    }
}

/// A sequence of numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
