//! The seam to transports, and the loop that carries a session over a connection.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::time::Sleep;

use crate::arrival::{Admitted, Arrival, refusal};
use crate::code::Code;
use crate::hub::PendingHello;
use crate::machine::{ConnectionKey, SessionMachine};
use crate::session::Shared;
use crate::wire::{End, Frame, Hello, Sender};

/// What a transport carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// One frame.
    Binary(Bytes),
    /// A text message: never ours.
    Text,
    /// The peer closes, or is to be told that we do, with this code.
    Close(u16),
    /// Something of the transport's own, such as its pings.
    Other,
}

/// Why a transport can carry no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent a packet above the transport's limit.
    #[error("a packet above the limit")]
    TooLarge,
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A duplex stream of packets to one browser, ordered and reliable while it lives. Deliberately not `Send`: actix's are not.
pub trait Connection: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}

impl<C> Connection for C where C: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}

/// Carries a session over `connection` until the connection is over: all that an adapter has to run.
///
/// Dropping the future is the loss of the connection; the session waits for another one. The future is `Send` if the connection is.
pub async fn run_connection_loop(arrival: Arrival, connection: impl Connection) {
    let _tracked = arrival.hub.connections.token();
    let mut connection = pin!(connection);
    let end = match arrival.admitted {
        Err(end) => Some(end),
        Ok(admitted) => carry(admitted, connection.as_mut()).await,
    };
    if let Some(end) = end {
        say_goodbye(connection, end).await;
    }
}

/// From the hello on. What is left to say, if the connection can still hear it.
async fn carry<C: Connection>(admitted: Admitted, mut connection: Pin<&mut C>) -> Option<End> {
    let Admitted { session, pending } = admitted;
    let hello = match await_hello(&session, pending, connection.as_mut()).await {
        Ok(hello) => hello,
        Err(end) => return end,
    };
    let keep = session.keep();
    let waker = Arc::new(AtomicWaker::new());
    let attachment = Attachment { key: session.register(Arc::clone(&waker)), session };
    attachment.session.update(|machine, now| machine.handle_hello(attachment.key, &hello, keep, now));
    let mut carrier = Carrier {
        attachment,
        waker,
        connection,
        sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        armed: None,
        buffer: BytesMut::new(),
        flushing: false,
        reading: true,
    };
    poll_fn(|context| carrier.poll(context)).await
}

/// The first frame, if it is a hello with the right secret and comes in time.
async fn await_hello<C: Connection>(
    session: &Arc<Shared>,
    _pending: PendingHello,
    mut connection: Pin<&mut C>,
) -> Result<Hello, Option<End>> {
    let deadline = tokio::time::sleep(session.hello_deadline());
    let mut deadline = pin!(deadline);
    loop {
        let packet = tokio::select! {
            biased;
            packet = connection.next() => packet,
            () = &mut deadline => return Err(Some(refusal(Code::HelloDeadline, "no hello in time".to_owned()))),
        };
        let bytes = match packet {
            Some(Ok(Packet::Binary(bytes))) => bytes,
            Some(Ok(Packet::Other)) => continue,
            Some(Ok(Packet::Text)) => return Err(Some(refusal(Code::Malformed, "text instead of a hello".to_owned()))),
            Some(Err(ConnectionError::TooLarge)) => {
                return Err(Some(refusal(Code::TooLarge, "the hello is above the limit".to_owned())));
            }
            Some(Ok(Packet::Close(_)) | Err(_)) | None => return Err(None),
        };
        return match Frame::decode(bytes, Sender::Client) {
            Ok(Frame::Hello(hello)) if session.has_secret(&hello.secret) => Ok(hello),
            Ok(Frame::Hello(_)) => Err(Some(refusal(Code::WrongSecret, "not this session's secret".to_owned()))),
            Ok(_) => Err(Some(refusal(Code::Malformed, "the first frame is no hello".to_owned()))),
            Err(error) => Err(Some(refusal(Code::Malformed, error.to_string()))),
        };
    }
}

/// Says why, closes, and listens a little longer: unread input would turn the close into a reset that destroys it.
async fn say_goodbye<C: Connection>(mut connection: Pin<&mut C>, end: End) {
    let code = u16::try_from(end.code).unwrap_or(Code::Malformed as u16);
    let last_words = async {
        connection.feed(Packet::Binary(Frame::End(end).to_bytes())).await?;
        connection.send(Packet::Close(code)).await?;
        while let Some(Ok(_)) = connection.next().await {}
        Ok::<_, ConnectionError>(())
    };
    // Whether the peer heard it or not, the connection is over.
    let _ = tokio::time::timeout(LINGER, last_words).await;
}

/// Tells the session that the connection is gone, however that happens.
struct Attachment {
    session: Arc<Shared>,
    key: ConnectionKey,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.session.unregister(self.key);
    }
}

/// Moves frames between a session's machine and a connection. Always reads; back-pressure is the protocol's credit, not a pause.
struct Carrier<'a, C> {
    attachment: Attachment,
    waker: Arc<AtomicWaker>,
    connection: Pin<&'a mut C>,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends.
    armed: Option<Instant>,
    /// Frames are encoded into one allocation after another, not each into its own.
    buffer: BytesMut,
    flushing: bool,
    reading: bool,
}

impl<C: Connection> Carrier<'_, C> {
    /// Ready when the connection has no part in the session any more: with the end it is to be told, or with nothing.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        self.waker.register(context.waker());
        if self.poll_read(context).is_ready() {
            return Poll::Ready(None);
        }
        self.poll_timer(context);
        match self.poll_write(context) {
            Poll::Ready(end) => return Poll::Ready(end),
            Poll::Pending => {}
        }
        self.arm(context);
        Poll::Pending
    }

    /// Takes in what has arrived. Ready when the connection is gone.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let key = self.attachment.key;
        for _ in 0..READS_IN_A_ROW {
            if !self.reading {
                return Poll::Pending;
            }
            let Poll::Ready(packet) = self.connection.as_mut().poll_next(context) else { return Poll::Pending };
            match packet {
                Some(Ok(Packet::Binary(bytes))) => {
                    self.update(|machine, now| machine.handle_frame(key, bytes, now));
                }
                Some(Ok(Packet::Text)) => {
                    self.update(|machine, now| machine.handle_unreadable(key, false, now));
                }
                Some(Ok(Packet::Other)) => {}
                Some(Err(ConnectionError::TooLarge)) => {
                    self.reading = false;
                    self.update(|machine, now| machine.handle_unreadable(key, true, now));
                }
                Some(Ok(Packet::Close(_)) | Err(_)) | None => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn update(&self, change: impl FnOnce(&mut SessionMachine, Instant)) {
        self.attachment.session.update_for(Some(self.attachment.key), change);
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) {
        if self.armed.is_some() && self.sleep.as_mut().poll(context).is_ready() {
            self.armed = None;
            self.update(|machine, now| machine.handle_timeout(now));
        }
    }

    /// Writes everything that is due with one flush. Ready when there is nothing left for this connection.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        let now = crate::clock::now();
        loop {
            let Ok(()) = ready!(self.connection.as_mut().poll_ready(context)) else { return Poll::Ready(None) };
            match self.attachment.session.poll_transmit(self.attachment.key, now) {
                Some(Frame::End(end)) => return Poll::Ready(Some(end)),
                Some(frame) => {
                    frame.encode(&mut self.buffer);
                    let bytes = self.buffer.split().freeze();
                    if self.connection.as_mut().start_send(Packet::Binary(bytes)).is_err() {
                        return Poll::Ready(None);
                    }
                    self.flushing = true;
                }
                None => break,
            }
        }
        if self.flushing {
            let Ok(()) = ready!(self.connection.as_mut().poll_flush(context)) else { return Poll::Ready(None) };
            self.flushing = false;
            self.buffer = BytesMut::new();
        }
        if self.attachment.session.lock().machine.is_known(self.attachment.key) { Poll::Pending } else { Poll::Ready(None) }
    }

    /// Sees to it that the loop runs again when the machine's next deadline comes. Re-armed only for an earlier one: most deadlines move away.
    fn arm(&mut self, context: &mut Context<'_>) {
        let Some(deadline) = self.attachment.session.lock().machine.poll_timeout() else { return };
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.sleep.as_mut().reset(deadline.into());
            if self.sleep.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }
}

const READS_IN_A_ROW: usize = 64;
const LINGER: Duration = Duration::from_secs(1);
