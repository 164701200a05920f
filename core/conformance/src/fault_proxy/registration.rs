//! A connection's entry in the proxy's list.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::handle::{Connection, ConnectionHandle};
use super::orders::{Mode, Orders};

/// A connection's entry in the proxy's list. Dropping it marks the connection as closed.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: ConnectionHandle,
}

impl Registration {
    pub(super) fn register(shared: Arc<Shared>, number: u64, client_address: SocketAddr) -> Self {
        let handle = ConnectionHandle(Arc::new(Connection {
            number,
            client_address,
            orders: watch::Sender::new(Orders {
                mode: Mode::Passing,
                allowance: [None; 2],
            }),
            progress: watch::Sender::default(),
        }));
        shared
            .registered
            .send_modify(|registered| registered.push(handle.clone()));
        Self { shared, handle }
    }

    pub(super) fn recognise(&self, session_id: String) {
        self.handle
            .0
            .progress
            .send_modify(|progress| progress.session_id = Some(session_id));
        self.shared.registered.send_modify(|_| {});
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.handle.0.orders.send_modify(|orders| orders.mode = Mode::Closed);
        let number = self.handle.number();
        self.shared
            .registered
            .send_modify(|registered| registered.retain(|other| other.number() != number));
    }
}
