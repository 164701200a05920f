//! One connection through the proxy, for those who break it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::Instant;

use super::orders::{Mode, Orders};

/// One way through the proxy.
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

/// One connection through the proxy, from its acceptance on. It may outlive the connection and the proxy.
///
/// The verbs take effect in the background, once the server has been reached; on a connection that is closed or told to
/// close they do nothing.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(pub(super) Arc<Connection>);

impl ConnectionHandle {
    /// Its place in the order of acceptance, unique within the proxy.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The client's end, as the proxy sees it.
    pub fn client_address(&self) -> SocketAddr {
        self.0.client_address
    }

    /// The id in its WebSocket upgrade request, once that has been read.
    pub fn session_id(&self) -> Option<String> {
        self.0.progress.borrow().session_id.clone()
    }

    /// Whether it is neither closed nor told to close. A silenced one is open.
    pub fn is_open(&self) -> bool {
        !self.0.orders.borrow().mode.is_over()
    }

    /// How many bytes have been handed on in this direction; those a black hole swallowed do not count.
    ///
    /// A receiver may have bytes a moment before they are counted: see [`wait_until_passed`](Self::wait_until_passed).
    pub fn bytes_passed(&self, direction: Direction) -> u64 {
        self.0.progress.borrow().passed[direction.index()]
    }

    /// Closes it in order on both sides (FIN), as an idle time-out of a proxy does. What is on its way is lost.
    pub fn cut(&self) {
        self.order(Mode::Cut);
    }

    /// Resets it on both sides (RST). What the kernel had not sent yet is lost.
    pub fn reset(&self) {
        self.order(Mode::Reset);
    }

    /// Leaves it half-open: nothing is read or passed any more, not even a close; nothing is lost either.
    pub fn silence(&self) {
        self.order(Mode::Silent);
    }

    /// Swallows all bytes, both ways; closes are not passed. Senders see their bytes acknowledged.
    ///
    /// After [`resume`](Self::resume) both streams have a hole, which no TCP connection has by itself.
    pub fn black_hole(&self) {
        self.order(Mode::BlackHole);
    }

    /// Passes nothing for this long; then everything goes on and nothing is lost.
    pub fn stall(&self, duration: Duration) {
        self.order(Instant::now().checked_add(duration).map_or(Mode::Silent, Mode::Stalled));
    }

    /// Ends a silence, a black hole or a stall. A close that one of them hid is passed now.
    pub fn resume(&self) {
        self.order(Mode::Passing);
    }

    /// Passes exactly this many more bytes in this direction, then resets both sides: 0 resets at once.
    ///
    /// The receiver can read all of them first (on Linux; elsewhere unless its receive window is full), for up to 10 s.
    /// If the direction ends before so many bytes came, the connection ends as it would have.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.0
            .orders
            .send_modify(|orders| orders.allowance[direction.index()] = Some(bytes));
    }

    /// Waits until at least `total` bytes have passed in this direction; false if it closes before.
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

/// What has become of a connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) session_id: Option<String>,
    pub(super) passed: [u64; 2],
}
