//! A TCP proxy between one server and NATS, which can be unplugged, or hold everything back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The only way of one server to NATS.
pub(crate) struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Plugged,
    /// Connections end, as does each new one: both sides know it at once.
    Cut,
    /// What is sent arrives once the cable is plugged again: no side is told.
    Silent,
}

impl Cable {
    /// Starts the proxy to a NATS server with this URL.
    pub(crate) async fn start(nats: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = watch::Sender::new(State::Plugged);
        let nats = nats.trim_start_matches("nats://").to_owned();
        let accepting = tokio::spawn(accept(listener, nats, state.clone())).abort_handle();
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Returns the URL to connect to.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.set(State::Cut);
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, nats: String, state: watch::Sender<State>) {
    while let Ok((near, _)) = listener.accept().await {
        if *state.borrow() == State::Cut {
            continue;
        }
        let (nats, mut of_connection) = (nats.clone(), state.subscribe());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(nats).await else {
                return;
            };
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            let (up, down) = (of_connection.clone(), of_connection.clone());
            tokio::select! {
                () = carry(from_near, to_far, up) => {}
                () = carry(from_far, to_near, down) => {}
                _ = of_connection.wait_for(|state| *state == State::Cut) => {}
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let is_plugged = state.wait_for(|state| *state == State::Plugged).await.is_ok();
        if !is_plugged || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
