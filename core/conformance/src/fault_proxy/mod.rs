//! A TCP proxy on the loopback interface that breaks connections in every way that a network can.
//!
//! It stands between browsers and one server and passes bytes unaltered. On command it affects one
//! connection, those of one session, or all: it can [cut](ConnectionHandle::cut),
//! [reset](ConnectionHandle::reset), [silence](ConnectionHandle::silence),
//! [black-hole](ConnectionHandle::black_hole), [stall](ConnectionHandle::stall) or
//! [truncate](ConnectionHandle::cut_after) them. It recognises the connection of a session by its
//! WebSocket upgrade request.
//!
//! ```
//! use stillhere_conformance::fault_proxy::FaultProxy;
//! use tokio::{io::AsyncReadExt, net::{TcpListener, TcpStream}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = FaultProxy::start(([127, 0, 0, 1], 0).into(), server.local_addr()?).await?;
//!
//! let mut page = TcpStream::connect(proxy.address()).await?;
//! proxy.wait_for_connections(1).await[0].reset();
//! assert_eq!(page.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
//! # Ok(())
//! # }
//! ```

mod connection;
mod ending;
mod handle;
mod link;
mod orders;
mod pump;
mod registration;
mod request_reader;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

pub use handle::{ConnectionHandle, Direction};

use connection::run_connection;
use ending::reset;
use registration::Registration;

/// The proxy. Clones are handles to the same proxy; dropping the last one closes every connection
/// and stops it.
#[derive(Clone, Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _running: Arc<AbortOnDrop>,
}

impl FaultProxy {
    /// Listens on `listen` (port 0 for any free port) and forwards connections to `upstream`, which
    /// need not be running yet.
    ///
    /// # Errors
    /// Returns the error if the listener cannot be bound.
    pub async fn start(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            settings: watch::Sender::new(Settings {
                upstream,
                delay: Duration::ZERO,
                refuse_new: false,
            }),
            registered: watch::Sender::new(Vec::new()),
        });
        let accepting = tokio::spawn(run_accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _running: Arc::new(AbortOnDrop(accepting.abort_handle())),
        })
    }

    /// Returns the address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the open connections, the newest last.
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        let registered = self.shared.registered.borrow().clone();
        registered.into_iter().filter(ConnectionHandle::is_open).collect()
    }

    /// Returns the open connections that asked to upgrade for this session, the newest last.
    ///
    /// A connection is listed before the server has seen its upgrade request.
    pub fn connections_of(&self, session_id: &str) -> Vec<ConnectionHandle> {
        of_session(self.connections(), session_id)
    }

    /// Waits until exactly `count` connections are open, and returns them.
    pub async fn wait_for_connections(&self, count: usize) -> Vec<ConnectionHandle> {
        self.wait_until(|open| open.len() == count).await
    }

    /// Waits until exactly `count` connections of this session are open, and returns them.
    pub async fn wait_for_connections_of(&self, session_id: &str, count: usize) -> Vec<ConnectionHandle> {
        let open = self
            .wait_until(|open| of_session(open.to_vec(), session_id).len() == count)
            .await;
        of_session(open, session_id)
    }

    /// Waits until the open connections meet `condition`, and returns them.
    ///
    /// The condition is checked at once, and again whenever a connection opens, is recognised by
    /// its session id, or closes.
    pub async fn wait_until(&self, mut condition: impl FnMut(&[ConnectionHandle]) -> bool) -> Vec<ConnectionHandle> {
        let mut changes = self.shared.registered.subscribe();
        loop {
            changes.mark_unchanged();
            let open = self.connections();
            if condition(&open) {
                return open;
            }
            changes.changed().await.expect("the sender lives in self");
        }
    }

    /// Delays each byte by this much in each direction of every connection, from now on. At most an
    /// hour.
    ///
    /// The order is kept. Up to 1 MiB is in transit in each direction, so a delay also limits
    /// throughput.
    pub fn set_delay(&self, delay: Duration) {
        self.shared
            .settings
            .send_modify(|settings| settings.delay = delay.min(MAX_DELAY));
    }

    /// Sets whether new connections are reset as soon as they are accepted.
    pub fn refuse_new(&self, refuse: bool) {
        self.shared
            .settings
            .send_modify(|settings| settings.refuse_new = refuse);
    }

    /// Forwards new connections to another server. Existing connections stay with theirs.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared
            .settings
            .send_modify(|settings| settings.upstream = upstream);
    }
}

fn of_session(mut connections: Vec<ConnectionHandle>, session_id: &str) -> Vec<ConnectionHandle> {
    connections.retain(|connection| connection.is_of(session_id));
    connections
}

/// State that the proxy and its tasks share. Each watch has its own lock, and none is held while
/// another is taken.
#[derive(Debug)]
struct Shared {
    settings: watch::Sender<Settings>,
    /// Every connection whose task is running. Also marked as changed when a connection is
    /// recognised.
    registered: watch::Sender<Vec<ConnectionHandle>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    upstream: SocketAddr,
    delay: Duration,
    refuse_new: bool,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Owns the tasks of all connections, so that aborting this task ends them all.
async fn run_accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut numbers = 0..;
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if shared.settings.borrow().refuse_new => reset(client),
                Ok((client, client_address)) => {
                    let number = numbers.next().expect("64 bits number more connections than there will be");
                    let registration = Registration::register(Arc::clone(&shared), number, client_address);
                    connections.spawn(run_connection(registration, client));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

const MAX_DELAY: Duration = Duration::from_secs(3600);
/// Pause after a failed accept, which would fail again at once if the process is out of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
