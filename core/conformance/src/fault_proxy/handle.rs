//! Handles to connections through the proxy, with which tests break them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::Instant;

use super::orders::{Mode, Orders};

/// One direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the browser to the server.
    ToUpstream,
    /// From the server to the browser.
    ToClient,
}

impl Direction {
    pub(super) fn index(self) -> usize {
        match self {
            Self::ToUpstream => 0,
            Self::ToClient => 1,
        }
    }
}

/// A handle to one connection through the proxy. It may outlive the connection and the proxy.
///
/// Its methods take effect in the background, once the server has been reached. They do nothing on
/// a connection that is closed or closing.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(pub(super) Arc<Connection>);

impl ConnectionHandle {
    /// Returns the connection's position in the order of acceptance, unique within the proxy.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// Returns the address of the client, as the proxy sees it.
    pub fn client_address(&self) -> SocketAddr {
        self.0.client_address
    }

    /// Returns the session id in the WebSocket upgrade request, once that has been read.
    pub fn session_id(&self) -> Option<String> {
        self.0.progress.borrow().session_id.clone()
    }

    /// Returns true if the connection is neither closed nor closing. A silenced connection is open.
    pub fn is_open(&self) -> bool {
        !self.0.orders.borrow().mode.is_over()
    }

    /// Returns how many bytes have been passed on in this direction, without those that a black
    /// hole discarded.
    ///
    /// A receiver may have bytes a moment before they are counted; see
    /// [`wait_until_passed`](Self::wait_until_passed).
    pub fn bytes_passed(&self, direction: Direction) -> u64 {
        self.0.progress.borrow().passed[direction.index()]
    }

    /// Closes the connection in order on both sides (FIN), as the idle timeout of a proxy does.
    /// Data in transit is lost.
    pub fn cut(&self) {
        self.order(Mode::Cut);
    }

    /// Resets the connection on both sides (RST). What the kernel has not sent yet is lost.
    pub fn reset(&self) {
        self.order(Mode::Reset);
    }

    /// Makes the connection half-open: the proxy stops reading and passes nothing on, not even a
    /// close, but loses nothing either.
    pub fn silence(&self) {
        self.order(Mode::Silent);
    }

    /// Discards all bytes in both directions and passes no closes. Senders see their bytes
    /// acknowledged.
    ///
    /// After [`resume`](Self::resume) both streams have a hole, which never happens on a TCP
    /// connection otherwise.
    pub fn black_hole(&self) {
        self.order(Mode::BlackHole);
    }

    /// Passes nothing for this long. Then everything continues and nothing is lost.
    pub fn stall(&self, duration: Duration) {
        self.order(Instant::now().checked_add(duration).map_or(Mode::Silent, Mode::Stalled));
    }

    /// Ends a silence, a black hole or a stall. A close that was hidden is passed on now.
    pub fn resume(&self) {
        self.order(Mode::Passing);
    }

    /// Passes exactly this many more bytes in this direction, then resets both sides. With 0,
    /// resets them at once.
    ///
    /// The receiver can read all bytes first (on Linux; elsewhere unless its receive window is
    /// full), for up to 10 s. If the direction ends before that many bytes arrive, the connection
    /// ends normally.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.0
            .orders
            .send_modify(|orders| orders.allowance[direction.index()] = Some(bytes));
    }

    /// Waits until at least `total` bytes have passed in this direction. Returns false if the
    /// connection closes earlier.
    pub async fn wait_until_passed(&self, direction: Direction, total: u64) -> bool {
        let mut progress = self.0.progress.subscribe();
        select! {
            biased;
            reached = progress.wait_for(|progress| progress.passed[direction.index()] >= total) => reached.is_ok(),
            () = self.wait_until_closed() => self.bytes_passed(direction) >= total,
        }
    }

    /// Waits until both sides have been closed or reset.
    pub async fn wait_until_closed(&self) {
        let mut orders = self.0.orders.subscribe();
        orders
            .wait_for(|orders| orders.mode == Mode::Closed)
            .await
            .expect("the sender lives in self");
    }

    pub(super) fn is_of(&self, session_id: &str) -> bool {
        self.0.progress.borrow().session_id.as_deref() == Some(session_id)
    }

    fn order(&self, mode: Mode) {
        self.0.orders.send_if_modified(|orders| {
            let obeyed = !orders.mode.is_over();
            if obeyed {
                orders.mode = mode;
            }
            obeyed
        });
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) client_address: SocketAddr,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) progress: watch::Sender<Progress>,
}

/// The state of a connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) session_id: Option<String>,
    pub(super) passed: [u64; 2],
}
