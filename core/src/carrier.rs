//! Carries one connection: its hello, then frames between it and the session's machine.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Sleep;

use crate::admission::Admitted;
use crate::connection::{Connection, ConnectionError, Packet};
use crate::connection_waker::ConnectionWaker;
use crate::hello::await_hello;
use crate::hub::Whereabouts;
#[cfg(feature = "cluster")]
use crate::relay::relay;
use crate::session::{Batch, Home, Next, Shared};
use stillhere_proto::machine::{ConnectionKey, SessionMachine};
use stillhere_proto::wire::{End, Hello};

/// Carries a session over a connection, starting with the hello. Returns what to tell the peer
/// before the connection is closed, or `None` if the peer has disconnected.
pub(crate) async fn carry<C: Connection>(admitted: Admitted, mut connection: Pin<&mut C>) -> Option<ClosingFrames> {
    let Admitted {
        session,
        pending,
        deadline,
        home,
        place: _place,
    } = admitted;
    let was_unknown = session.is_absent();
    // Boxed, because it ends soon and an open connection should not reserve room for it.
    let mut carrier = match Box::pin(await_hello(session, pending, deadline, connection.as_mut())).await {
        Ok((hello, Whereabouts::Here(session))) => Carrier::attach(session, &hello, home, connection, was_unknown),
        #[cfg(feature = "cluster")]
        Ok((hello, Whereabouts::There(hop))) => {
            let end = Box::pin(relay(hop, hello, connection)).await;
            return end.map(ClosingFrames::new);
        }
        Err(end) => return end.map(ClosingFrames::new),
    };
    poll_fn(|context| carrier.poll(context)).await
}

/// The last frames of a connection that no longer has a part in its session.
pub(crate) struct ClosingFrames {
    /// An encoded acknowledgement.
    pub(crate) ack: Option<Bytes>,
    pub(crate) end: End,
}

impl ClosingFrames {
    pub(crate) fn new(end: End) -> Self {
        Self { ack: None, end }
    }
}

/// Registers a connection with its session until it is dropped.
struct Attachment {
    session: Arc<Shared>,
    key: ConnectionKey,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.session.unregister(self.key);
    }
}

/// Moves frames between a session's machine and a connection. It never stops reading: back-pressure
/// is the protocol's credit.
struct Carrier<'a, C> {
    attachment: Attachment,
    waker: Arc<ConnectionWaker>,
    connection: Pin<&'a mut C>,
    /// Frames that the connection had no room for.
    waiting: Option<Box<Batch>>,
    /// Wakes by `waker`, so it is polled only when it is set and when it is due.
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` fires, if it is set.
    armed: Option<Instant>,
    flushing: bool,
    reading: bool,
    /// The session was not known when the connection was accepted, so its packets may be larger
    /// than the transport was told.
    was_unknown: bool,
}

impl<'a, C: Connection> Carrier<'a, C> {
    fn attach(session: Arc<Shared>, hello: &Hello, home: Home, connection: Pin<&'a mut C>, was_unknown: bool) -> Self {
        let waker = Arc::<ConnectionWaker>::default();
        let attachment = Attachment {
            key: session.register(Arc::clone(&waker)),
            session,
        };
        attachment.session.handle_hello(attachment.key, hello, home);
        Self {
            attachment,
            waker,
            connection,
            waiting: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            flushing: false,
            reading: true,
            was_unknown,
        }
    }

    /// Completes when the connection no longer has a part in the session. Returns what to tell the
    /// peer.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<ClosingFrames>> {
        self.waker.register(context.waker());
        if self.poll_read(context).is_ready() {
            return Poll::Ready(None);
        }
        let now = crate::clock::now();
        self.poll_timer(now);
        self.poll_write(now, context)
    }

    /// Passes received packets to the machine. Completes when the connection is lost.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut arrived = SmallVec::<[Arrived; 16]>::new();
        let polled = self.poll_arrived(context, &mut arrived);
        if !arrived.is_empty() {
            let key = self.attachment.key;
            self.update(|machine, now| {
                for arrived in arrived.drain(..) {
                    arrived.hand_to(machine, key, now);
                }
            });
        }
        polled
    }

    fn poll_arrived(&mut self, context: &mut Context<'_>, arrived: &mut SmallVec<[Arrived; 16]>) -> Poll<()> {
        let mut size = 0;
        while self.reading {
            if arrived.len() == READS_IN_A_ROW || size >= READ_IN_A_ROW {
                context.waker().wake_by_ref();
                break;
            }
            arrived.push(match ready!(self.connection.as_mut().poll_next(context)) {
                Some(Ok(Packet::Binary(bytes))) => {
                    size += bytes.len();
                    Arrived::Frame(bytes)
                }
                Some(Ok(Packet::Text(_))) => Arrived::Text,
                Some(Ok(Packet::Ping | Packet::Other)) => continue,
                Some(Err(error @ ConnectionError::TooLarge)) => {
                    if self.was_unknown {
                        // The next connection is told the limit of the session.
                        self.report(&error);
                        return Poll::Ready(());
                    }
                    self.reading = false;
                    Arrived::TooLarge
                }
                Some(Err(ConnectionError::Silent)) => {
                    self.reading = false;
                    Arrived::Silence
                }
                Some(Err(error)) => {
                    self.report(&error);
                    return Poll::Ready(());
                }
                Some(Ok(Packet::Close(_))) | None => return Poll::Ready(()),
            });
        }
        Poll::Pending
    }

    fn update(&self, change: impl FnOnce(&mut SessionMachine, Instant)) {
        self.attachment.session.update_from(self.attachment.key, change);
    }

    /// Logs a failure. The session only learns that the connection is lost.
    fn report(&self, error: &ConnectionError) {
        tracing::debug!(session = %self.attachment.session.id, %error, "lost a connection");
    }

    fn poll_timer(&mut self, now: Instant) {
        if self.armed.is_some_and(|armed| armed <= now) && self.poll_sleep().is_ready() {
            self.armed = None;
            self.update(SessionMachine::handle_timeout);
        }
    }

    fn poll_sleep(&mut self) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.waker));
        self.sleep.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Writes all frames that are due and flushes once. Completes when the connection no longer has
    /// a part in the session.
    fn poll_write(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<Option<ClosingFrames>> {
        let mut batch = self.waiting.take().map_or_else(Batch::default, |waiting| *waiting);
        let mut pause = None;
        loop {
            match self.poll_written(&mut batch, context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.report(&error);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if !batch.is_empty() {
                        self.waiting = Some(Box::new(batch));
                    }
                    return self.poll_blocked(now, context);
                }
            }
            if let Some(until) = pause {
                self.arm(until, context);
                break;
            }
            match self
                .attachment
                .session
                .poll_transmit(self.attachment.key, now, &mut batch)
            {
                Next::More => {}
                Next::Pause { until } => pause = Some(until),
                Next::End(end) => return Poll::Ready(Some(ClosingFrames { ack: batch.pop(), end })),
                Next::Over => return Poll::Ready(None),
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

    /// Writes the frames of a batch. Ready if there is room for another one.
    fn poll_written(&mut self, batch: &mut Batch, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            ready!(self.connection.as_mut().poll_ready(context))?;
            let Some(frame) = batch.pop() else {
                return Poll::Ready(Ok(()));
            };
            self.connection.as_mut().start_send(Packet::Binary(frame))?;
            self.flushing = true;
        }
    }

    /// Handles a connection that accepts no data at present. The machine's deadlines still apply. A
    /// connection that only has to be told why it ends does not wait here, because its closing
    /// frames have a deadline of their own.
    fn poll_blocked(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<Option<ClosingFrames>> {
        let Attachment { session, key } = &self.attachment;
        let mut batch = Batch::default();
        match session.poll_blocked(*key, now, &mut batch) {
            Next::Pause { until } => {
                self.arm(until, context);
                Poll::Pending
            }
            Next::End(end) => Poll::Ready(Some(ClosingFrames { ack: batch.pop(), end })),
            Next::More | Next::Over => Poll::Ready(None),
        }
    }

    /// Makes sure that the loop runs again at this time. The timer is reset only for an earlier
    /// time: most deadlines move further away, and then resetting it would be wasted.
    fn arm(&mut self, until: Option<Instant>, context: &mut Context<'_>) {
        let Some(until) = until else { return };
        if self.armed.is_none_or(|armed| until < armed) {
            self.armed = Some(until);
            self.sleep.as_mut().reset(until.into());
            if self.poll_sleep().is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }
}

/// What a connection has read.
enum Arrived {
    Frame(Bytes),
    Text,
    TooLarge,
    Silence,
}

impl Arrived {
    fn hand_to(self, machine: &mut SessionMachine, key: ConnectionKey, now: Instant) {
        match self {
            Self::Frame(bytes) => machine.handle_frame(key, bytes, now),
            Self::Text => machine.handle_unreadable(key, false, now),
            Self::TooLarge => machine.handle_unreadable(key, true, now),
            Self::Silence => machine.handle_silent(key, now),
        }
    }
}

/// How many packets to read before writing.
const READS_IN_A_ROW: usize = 64;

/// How many bytes to read before the machine takes them.
const READ_IN_A_ROW: usize = 64 * 1024;
