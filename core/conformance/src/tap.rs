//! A connector that reports to a test how its client's connections end, and loses them on request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use futures_util::{Sink, Stream, StreamExt as _};
use stillhere::machine::DocumentEvent;
use stillhere_client::{Connection, ConnectionError, Connector, Endpoint, Opening, Packet, WebSocket};
use tokio::sync::watch;

/// Events of a client's machine, and close codes of its connections.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<Entries>,
    changed: watch::Sender<()>,
    /// Wakes the current connection so that it can be lost.
    losing: AtomicWaker,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Entries {
    pub(crate) events: Vec<DocumentEvent>,
    /// Number of events that the test has consumed or skipped.
    pub(crate) seen: usize,
    pub(crate) close_codes: Vec<u64>,
    is_to_lose: bool,
}

impl Log {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Loses the current connection, if there is one.
    pub(crate) fn lose_connection(&self) {
        self.lock().is_to_lose = true;
        self.losing.wake();
    }

    fn record(&self, code: u64) {
        self.lock().close_codes.push(code);
        self.changed.send_replace(());
    }
}

/// Opens WebSockets that record their end in a log.
pub(crate) struct Tap {
    pub(crate) endpoint: Endpoint,
    pub(crate) log: Arc<Log>,
}

impl Connector for Tap {
    fn connect(&mut self) -> Opening {
        let endpoint = self.endpoint.clone();
        self.log.lock().is_to_lose = false;
        let recorder = Recorder {
            log: Arc::clone(&self.log),
            is_recorded: false,
        };
        Box::pin(async move {
            let inner = WebSocket::open(&endpoint).await?;
            let tapped: Box<dyn Connection> = Box::new(Tapped {
                inner: Some(Inner {
                    socket: inner,
                    recorder,
                }),
            });
            Ok(tapped)
        })
    }

    fn observe(&mut self, event: &DocumentEvent) {
        self.log.lock().events.push(event.clone());
    }
}

/// Records a connection's close code once: 1006 if it ends without a close.
struct Recorder {
    log: Arc<Log>,
    is_recorded: bool,
}

impl Recorder {
    fn record(&mut self, code: u64) {
        if !self.is_recorded {
            self.is_recorded = true;
            self.log.record(code);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.record(1006);
    }
}

/// The client's end of a connection. `inner` is `None` after the connection was lost.
struct Tapped {
    inner: Option<Inner>,
}

struct Inner {
    socket: WebSocket,
    recorder: Recorder,
}

impl Inner {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Packet, ConnectionError>>> {
        let next = self.socket.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(Packet::Close(code)))) = &next {
            self.recorder.record((*code).into());
        }
        next
    }

    /// Keeps reading until the end, as the operating system does while a program has not noticed
    /// the loss.
    async fn read_to_the_end(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|context| self.poll_next(context)).await {}
    }
}

impl Tapped {
    /// Ends the connection for the client, but not for the server, if the test requested it.
    fn poll_lost(&mut self, context: &mut Context<'_>) {
        let Some(inner) = &self.inner else { return };
        let log = Arc::clone(&inner.recorder.log);
        log.losing.register(context.waker());
        let is_to_lose = std::mem::take(&mut log.lock().is_to_lose);
        if let Some(inner) = self.inner.take_if(|_| is_to_lose) {
            tokio::spawn(inner.read_to_the_end());
        }
    }
}

impl Connection for Tapped {
    fn kind(&self) -> &'static str {
        "websocket"
    }
}

impl Stream for Tapped {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_lost(context);
        match &mut self.inner {
            Some(inner) => inner.poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

impl Sink<Packet> for Tapped {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket()
            .map_or(Poll::Ready(Ok(())), |socket| socket.poll_ready(context))
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        self.socket().map_or(Ok(()), |socket| socket.start_send(packet))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket()
            .map_or(Poll::Ready(Ok(())), |socket| socket.poll_flush(context))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket()
            .map_or(Poll::Ready(Ok(())), |socket| socket.poll_close(context))
    }
}

impl Tapped {
    fn socket(&mut self) -> Option<Pin<&mut WebSocket>> {
        self.inner.as_mut().map(|inner| Pin::new(&mut inner.socket))
    }
}
