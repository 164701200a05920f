//! Connections within the process that can be cut.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use stillhere::connection::Packet;
use stillhere::wire::SUBPROTOCOL;
use stillhere::{Hub, PairEnd, SessionHandle, SessionRequest, connection_pair, run_connection_loop};
use stillhere_client::{
    Client, ClientBuilder, Connection, ConnectionError, Connector, Opening, Packet as ClientPacket, Ticket,
};
use tokio::task::AbortHandle;

/// Connects a client to a session without a server, as a new document. It reconnects by itself, as
/// a browser does. Its messages are bytes; for those of this layer use a
/// [`Page`](crate::testing::Page).
///
/// # Panics
/// Panics outside a tokio runtime.
pub fn connect(hub: &Hub, session: &SessionHandle) -> (Client, Network) {
    let network = Network::default();
    let ticket = Ticket::parse(&session.ticket_json()).expect("a hub's ticket is valid");
    let connector = InProcess {
        hub: hub.clone(),
        id: session.id().to_string(),
        network: network.clone(),
    };
    let (client, driver) = ClientBuilder::new().seed(SEED).build(&ticket, connector);
    tokio::spawn(driver);
    (client, network)
}

/// The network between a client and the hub. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct Network(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_away: AtomicBool,
    is_stalled: AtomicBool,
    /// The server's half of the connection.
    server: Mutex<Option<AbortHandle>>,
}

impl Network {
    /// Lets nothing more reach the client, until the connection is cut. Both sides still believe
    /// in it.
    pub fn stall(&self) {
        self.0.is_stalled.store(true, Ordering::SeqCst);
    }

    /// Loses the connection and what is on its way. The client reconnects at once.
    pub fn cut(&self) {
        self.0.is_stalled.store(false, Ordering::SeqCst);
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.abort();
        }
    }

    /// Loses the connection, and lets none through until [`Network::come_back`].
    pub fn go_away(&self) {
        self.0.is_away.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets connections through again. The client tries when its next attempt is due;
    /// [`Page::come_back`](crate::testing::Page::come_back) has it try at once.
    pub fn come_back(&self) {
        self.0.is_away.store(false, Ordering::SeqCst);
    }
}

struct InProcess {
    hub: Hub,
    id: String,
    network: Network,
}

impl Connector for InProcess {
    fn connect(&mut self) -> Opening {
        let protocol = [("sec-websocket-protocol", SUBPROTOCOL.as_bytes())];
        let accepted = self.hub.accept(&SessionRequest::new(&self.id, protocol));
        let (Ok(accepted), false) = (accepted, self.network.0.is_away.load(Ordering::SeqCst)) else {
            return Box::pin(async { Err(ConnectionError::Silent) });
        };
        let (server, page) = connection_pair(CAPACITY);
        let task = tokio::spawn(run_connection_loop(accepted, server));
        let mut current = self.network.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(task.abort_handle());
        let network = self.network.clone();
        Box::pin(async {
            let connection: Box<dyn Connection> = Box::new(End { page, network });
            Ok(connection)
        })
    }
}

/// The page's end of a connection.
struct End {
    page: PairEnd,
    network: Network,
}

impl Connection for End {
    fn kind(&self) -> &'static str {
        "in-process"
    }
}

impl Stream for End {
    type Item = Result<ClientPacket, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.network.0.is_stalled.load(Ordering::SeqCst) {
            // Nobody wakes the client: it looks again when it sends or a time of its own is up.
            return Poll::Pending;
        }
        self.page.poll_next_unpin(context).map(|packet| {
            Some(match packet? {
                Ok(Packet::Binary(bytes)) => Ok(ClientPacket::Frame(bytes)),
                Ok(Packet::Close(code)) => Ok(ClientPacket::Close(code)),
                _ => Err(ConnectionError::Silent),
            })
        })
    }
}

impl Sink<ClientPacket> for End {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.page.poll_ready_unpin(context).map_err(|_| ConnectionError::Silent)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: ClientPacket) -> Result<(), Self::Error> {
        let packet = match packet {
            ClientPacket::Frame(bytes) => Packet::Binary(bytes),
            ClientPacket::Close(code) => Packet::Close(code),
        };
        self.page.start_send_unpin(packet).map_err(|_| ConnectionError::Silent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.page.poll_flush_unpin(context).map_err(|_| ConnectionError::Silent)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.page.poll_close_unpin(context).map_err(|_| ConnectionError::Silent)
    }
}

/// The same in each run, so that the client waits equally long before it reconnects.
const SEED: u64 = 1;

/// Packets on their way in each direction.
const CAPACITY: usize = 16;
