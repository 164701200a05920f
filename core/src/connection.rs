//! The seam to transports, and the loop that carries a session over a connection.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::task::coop::cooperative;
use tokio::time::Sleep;

use crate::arrival::{Admitted, Arrival, refusal};
use crate::hub::{Found, PendingHello};
use crate::plain::carry_plain;
use crate::session::{Shared, Transmit};
use stillhere_proto::Code;
use stillhere_proto::machine::{ConnectionKey, SessionMachine};
use stillhere_proto::wire::{End, Frame, Hello, Sender};

/// What a transport carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Packet {
    /// One frame; for a plain session, one message.
    Binary(Bytes),
    /// A text message, as UTF-8: never ours, and never sent. Plain sessions may take it.
    Text(Bytes),
    /// The peer is asked for a sign of life, by the transport's own means; the answer is [`Packet::Other`]. Sent to clients of plain sessions only.
    Ping,
    /// The peer closes, or is to be told that we do, with this code.
    Close(u16),
    /// Something of the transport's own, such as its pings.
    Other,
}

/// Without the bytes: those of a hello hold the session's secret.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Self::Ping => f.write_str("Ping"),
            Self::Close(code) => write!(f, "Close({code})"),
            Self::Other => f.write_str("Other"),
        }
    }
}

/// Why a transport can carry no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent a packet above the transport's limit.
    #[error("a packet above the limit")]
    TooLarge,
    /// The peer gives no sign of life, as a transport finds out that has a keep-alive of its own.
    #[error("the peer is silent")]
    Silent,
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A duplex stream of packets to one browser, ordered and reliable while it lives. Deliberately not `Send`: actix's are not.
pub trait Connection: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}

impl<C> Connection for C where C: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}

/// Carries a session over `connection` until the connection is over: all that an adapter has to run.
///
/// A plain session's connection carries its client's messages instead of frames; that is all the difference it makes to a transport.
/// Dropping the future is the loss of the connection; the session waits for another one. The future is `Send` if the connection is.
pub fn run_connection_loop(arrival: Arrival, connection: impl Connection) -> impl Future<Output = ()> {
    // Boxed before the future begins, which would keep room for it twice.
    let mut connection = Box::pin(connection);
    let Arrival {
        protocol,
        admitted,
        hub,
    } = arrival;
    // Whoever has not offered our protocol understands no frames, only codes.
    let speaks_frames = protocol.is_some();
    // Only this goes along: a connection does not keep the hub alive.
    let tracked = hub.connections.token();
    async move {
        let _tracked = tracked;
        let closing_frames = match admitted {
            Err(end) => Some(ClosingFrames::new(end)),
            Ok(admitted) => match admitted.session.plain_document() {
                None => carry(admitted, connection.as_mut()).await,
                // Boxed, so that the others' connections do not pay for its state.
                Some((session, document)) => {
                    let interpreted = carry_plain(session, document, admitted, connection.as_mut());
                    Box::pin(interpreted).await
                }
            },
        };
        match closing_frames {
            // Boxed: it needs a kilobyte, which no connection is to keep ready for its end.
            Some(closing_frames) => {
                Box::pin(send_closing_frames(connection.as_mut(), closing_frames, speaks_frames)).await
            }
            // A peer that has closed gets its answer; one that is gone costs nothing.
            None => drop(Box::pin(tokio::time::timeout(CLOSING_WAIT, connection.close())).await),
        }
    }
}

/// What is left to say when a connection has no part in its session any more.
pub(crate) struct ClosingFrames {
    ack: Option<Frame>,
    pub(crate) end: End,
}

impl ClosingFrames {
    pub(crate) fn new(end: End) -> Self {
        Self { ack: None, end }
    }
}

/// From the hello on. What is left to say, if the connection can still hear it.
pub(crate) async fn carry<C: Connection>(admitted: Admitted, mut connection: Pin<&mut C>) -> Option<ClosingFrames> {
    let Admitted {
        session,
        pending,
        deadline,
        place: _place,
    } = admitted;
    // Boxed, as what is needed at the end: it is over soon, and no connection is to keep room for it.
    let mut carrier = match Box::pin(await_hello(session, pending, deadline, connection.as_mut())).await {
        Ok((hello, session)) => Carrier::attach(session, &hello, connection),
        Err(end) => return end.map(ClosingFrames::new),
    };
    poll_fn(|context| carrier.poll(context)).await
}

/// The hello that proves a right to a session, and the session if it is not over.
async fn await_hello<C: Connection>(
    session: Found,
    pending: PendingHello,
    deadline: Duration,
    connection: Pin<&mut C>,
) -> Result<(Hello, Arc<Shared>), Option<End>> {
    let hello = first_hello(&session, pending, deadline, connection).await?;
    match session {
        Found::Live(session) => Ok((hello, session)),
        Found::Ended(session) => Err(Some(session.end())),
    }
}

/// The first frame, if it is a hello with the right secret and comes in time.
async fn first_hello<C: Connection>(
    session: &Found,
    mut pending: PendingHello,
    deadline: Duration,
    mut connection: Pin<&mut C>,
) -> Result<Hello, Option<End>> {
    let late = || Err(Some(refusal(Code::HelloDeadline, "no hello in time".to_owned())));
    let mut deadline = pin!(tokio::time::sleep(deadline));
    loop {
        let packet = tokio::select! {
            biased;
            // Not every connection pauses by itself.
            packet = cooperative(connection.next()) => packet,
            end = pending.drained() => return Err(Some(end)),
            () = &mut deadline => return late(),
        };
        let bytes = match packet {
            Some(Ok(Packet::Binary(bytes))) => bytes,
            // Many of them must not keep the deadline from being looked at.
            Some(Ok(Packet::Ping | Packet::Other)) if crate::clock::now() >= deadline.deadline().into_std() => {
                return late();
            }
            Some(Ok(Packet::Ping | Packet::Other)) => continue,
            Some(Ok(Packet::Text(_))) => {
                return Err(Some(refusal(Code::Malformed, "text instead of a hello".to_owned())));
            }
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
async fn send_closing_frames<C: Connection>(
    mut connection: Pin<&mut C>,
    closing_frames: ClosingFrames,
    speaks_frames: bool,
) {
    let ClosingFrames { ack, end } = closing_frames;
    let code = u16::try_from(end.code).unwrap_or(Code::Malformed as u16);
    let saying = async {
        let frames = ack.into_iter().chain([Frame::End(end)]);
        for frame in frames.filter(|_| speaks_frames) {
            connection.feed(Packet::Binary(frame.to_bytes())).await?;
        }
        connection.send(Packet::Close(code)).await
    };
    // Whether the peer heard it or not, the connection is over.
    let Ok(Ok(())) = tokio::time::timeout(CLOSING_WAIT, saying).await else {
        return;
    };
    let listening = async { while let Some(Ok(_)) = cooperative(connection.next()).await {} };
    let _ = tokio::time::timeout(LINGER, listening).await;
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
    flushing: bool,
    reading: bool,
}

impl<'a, C: Connection> Carrier<'a, C> {
    fn attach(session: Arc<Shared>, hello: &Hello, connection: Pin<&'a mut C>) -> Self {
        let keep = session.keep();
        let waker = Arc::new(AtomicWaker::new());
        let attachment = Attachment {
            key: session.register(Arc::clone(&waker)),
            session,
        };
        attachment
            .session
            .update(|machine, now| machine.handle_hello(attachment.key, hello, keep, now));
        Self {
            attachment,
            waker,
            connection,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            flushing: false,
            reading: true,
        }
    }

    /// Ready when the connection has no part in the session any more: with what it is to be told, or with nothing.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<ClosingFrames>> {
        self.waker.register(context.waker());
        if self.poll_read(context).is_ready() {
            return Poll::Ready(None);
        }
        self.poll_timer(context);
        self.poll_write(context)
    }

    /// Takes in what has arrived. Ready when the connection is gone.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let key = self.attachment.key;
        for _ in 0..READS_IN_A_ROW {
            if !self.reading {
                return Poll::Pending;
            }
            match ready!(self.connection.as_mut().poll_next(context)) {
                Some(Ok(Packet::Binary(bytes))) => self.update(|machine, now| machine.handle_frame(key, bytes, now)),
                Some(Ok(Packet::Text(_))) => self.update(|machine, now| machine.handle_unreadable(key, false, now)),
                Some(Ok(Packet::Ping | Packet::Other)) => {}
                Some(Err(ConnectionError::TooLarge)) => {
                    self.reading = false;
                    self.update(|machine, now| machine.handle_unreadable(key, true, now));
                }
                Some(Err(ConnectionError::Silent)) => {
                    self.reading = false;
                    self.update(|machine, now| machine.handle_silent(key, now));
                }
                Some(Err(error)) => {
                    self.report(&error);
                    return Poll::Ready(());
                }
                Some(Ok(Packet::Close(_))) | None => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn update(&self, change: impl FnOnce(&mut SessionMachine, Instant)) {
        self.attachment.session.update_for(Some(self.attachment.key), change);
    }

    /// To the session it is a connection lost, as any other.
    fn report(&self, error: &ConnectionError) {
        tracing::debug!(session = %self.attachment.session.id, %error, "a connection is lost");
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) {
        if self.armed.is_some() && self.sleep.as_mut().poll(context).is_ready() {
            self.armed = None;
            self.update(SessionMachine::handle_timeout);
        }
    }

    /// Writes everything that is due with one flush. Ready when there is nothing left for this connection.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Option<ClosingFrames>> {
        let now = crate::clock::now();
        loop {
            match self.connection.as_mut().poll_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.report(&error);
                    return Poll::Ready(None);
                }
                Poll::Pending => return self.poll_blocked(now, context),
            }
            match self.attachment.session.poll_transmit(self.attachment.key, now) {
                Transmit::Frame(Frame::End(end)) => return Poll::Ready(Some(ClosingFrames::new(end))),
                Transmit::Frame(frame) => {
                    if let Err(error) = self.connection.as_mut().start_send(Packet::Binary(frame.to_bytes())) {
                        self.report(&error);
                        return Poll::Ready(None);
                    }
                    self.flushing = true;
                }
                Transmit::Nothing { until } => {
                    self.arm(until, context);
                    break;
                }
                Transmit::Over => return Poll::Ready(None),
            }
        }
        if self.flushing {
            if let Err(error) = ready!(self.connection.as_mut().poll_flush(context)) {
                self.report(&error);
                return Poll::Ready(None);
            }
            self.flushing = false;
        }
        Poll::Pending
    }

    /// The connection takes nothing now. The machine's deadlines hold all the same; and a connection that only has to be told its end does not
    /// wait here for ever: its last words have a deadline of their own.
    fn poll_blocked(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<Option<ClosingFrames>> {
        let Attachment { session, key } = &self.attachment;
        let mut ack = None;
        while session.lock().machine.is_departing(*key) {
            match session.poll_transmit(*key, now) {
                Transmit::Frame(Frame::End(end)) => return Poll::Ready(Some(ClosingFrames { ack, end })),
                Transmit::Frame(frame) => ack = Some(frame),
                Transmit::Nothing { .. } | Transmit::Over => return Poll::Ready(None),
            }
        }
        let until = session.lock().machine.poll_timeout();
        self.arm(until, context);
        Poll::Pending
    }

    /// Sees to it that the loop runs again at this time. Re-armed only for an earlier one: most deadlines move away.
    fn arm(&mut self, until: Option<Instant>, context: &mut Context<'_>) {
        let Some(until) = until else { return };
        if self.armed.is_none_or(|armed| until < armed) {
            self.armed = Some(until);
            self.sleep.as_mut().reset(until.into());
            if self.sleep.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }
}

const READS_IN_A_ROW: usize = 64;

/// How long the last words may take to be written.
const CLOSING_WAIT: Duration = Duration::from_secs(5);

const LINGER: Duration = Duration::from_secs(1);
