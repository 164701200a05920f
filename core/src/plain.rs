//! Plain sessions: clients with a protocol of their own, for which one WebSocket message is one
//! message of the application.
//!
//! To its session, such a client looks like a browser: the server simulates the document
//! ([`PlainDocument`]), and an [`Interpreter`] translates between the two.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::time::Sleep;

use crate::admission::Admitted;
use crate::carrier::{ClosingFrames, carry};
use crate::compression::{InflateError, deflate_gzip, deflate_zlib, inflate, inflate_gzip};
use crate::connection::{Connection, ConnectionError, Packet};
use crate::lock::Lock;
use crate::options::{PlainCompression, PlainOptions, PlainText};
use crate::session::Shared;
use stillhere_proto::code::Code;
use stillhere_proto::machine::PlainDocument;
use stillhere_proto::wire::{End, Frame, Sender};

/// Carries a plain session over the connection of its client. Returns what to tell the client
/// before the connection is closed, or `None` if the client has disconnected.
pub(crate) async fn carry_plain<C: Connection>(
    session: Arc<Shared>,
    document: Arc<Lock<PlainDocument>>,
    admitted: Admitted,
    client: Pin<&mut C>,
) -> Option<ClosingFrames> {
    let mut interpreter = pin!(Interpreter::new(session, document, client));
    let closing_frames = carry(admitted, interpreter.as_mut()).await;
    interpreter.closing_frames(closing_frames)
}

/// A client's connection as its session sees it. The session reads and writes frames, and the
/// client reads and writes messages.
struct Interpreter<'a, C> {
    session: Arc<Shared>,
    document: Arc<Lock<PlainDocument>>,
    /// Number of this connection in the document.
    connection: u64,
    hello: Option<Frame>,
    client: Pin<&'a mut C>,
    /// True while the client accepts no data.
    blocked: bool,
    /// True while a written ping is not flushed.
    pinging: bool,
    rules: Rules,
    signs: Signs,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` fires, if it is set.
    armed: Option<Instant>,
    /// Wakes the reader, because a frame of the session may make the document send one.
    waker: Option<Waker>,
    /// Why the connection ends, if the client violated the rules.
    refused: Option<Refused>,
}

/// Rules for the messages of a client.
#[derive(Debug, Clone, Copy)]
struct Rules {
    plain: PlainOptions,
    /// Largest packet, in bytes as they arrive.
    packet: u64,
    /// Largest message, in bytes after inflation.
    message: u64,
}

/// Why a client's connection is closed: the close code and a text.
#[derive(Debug, Clone, Copy)]
struct Refused(Code, &'static str);

/// Detects whether the client is alive.
#[derive(Debug)]
struct Signs {
    heartbeat: Duration,
    /// When something last arrived from the client.
    heard: Instant,
    /// When the unanswered ping was sent, if there is one.
    asked: Option<Instant>,
}

impl Rules {
    fn new(session: &Shared) -> Self {
        let options = session.options();
        Self {
            plain: options.plain.unwrap_or_default(),
            packet: options.limits.message,
            message: options.session_limits().message,
        }
    }

    /// Returns the message in a binary packet of the client.
    fn unpack(&self, packet: Bytes) -> Result<Bytes, Refused> {
        if packet.len() as u64 > self.packet {
            return Err(TOO_LARGE);
        }
        let inflated = match self.plain.compression {
            PlainCompression::None => return Ok(packet),
            PlainCompression::Zlib => inflate(&packet, self.message),
            PlainCompression::Gzip => inflate_gzip(&packet, self.message),
        };
        inflated.map_err(|error| match error {
            InflateError::TooLarge => Refused(Code::TooLarge, "a message exceeds the size limit when inflated"),
            InflateError::Malformed => Refused(Code::Malformed, "a message cannot be inflated"),
        })
    }

    /// Returns the message in a text packet of the client.
    fn unpack_text(&self, text: Bytes) -> Result<Bytes, Refused> {
        match self.plain.text {
            PlainText::Refuse => Err(Refused(Code::Malformed, "this session accepts only binary messages")),
            PlainText::AsBytes if text.len() as u64 > self.packet => Err(TOO_LARGE),
            PlainText::AsBytes => Ok(text),
        }
    }

    /// Returns the payload of the packet for a message of the session.
    fn pack(&self, message: Bytes) -> Bytes {
        match self.plain.compression {
            PlainCompression::None => message,
            PlainCompression::Zlib => deflate_zlib(&message),
            PlainCompression::Gzip => deflate_gzip(&message),
        }
    }
}

impl Signs {
    fn hear(&mut self) {
        self.heard = crate::clock::now();
        self.asked = None;
    }

    /// Returns when to send a ping or, after a ping, when to give up.
    fn deadline(&self) -> Instant {
        match self.asked {
            None => self.heard + self.heartbeat,
            // The ping may be late, because the client was not read or the process was stopped. The
            // answer still gets its full time.
            Some(asked) => (self.heard + 2 * self.heartbeat).max(asked + self.heartbeat),
        }
    }
}

impl<'a, C: Connection> Interpreter<'a, C> {
    /// Makes this client the newest of its session.
    fn new(session: Arc<Shared>, document: Arc<Lock<PlainDocument>>, client: Pin<&'a mut C>) -> Self {
        let (connection, hello) = document.lock().connect();
        Self {
            document,
            connection,
            hello: Some(hello),
            client,
            blocked: false,
            pinging: false,
            rules: Rules::new(&session),
            signs: Signs {
                heartbeat: session.options().timing.heartbeat,
                heard: crate::clock::now(),
                asked: None,
            },
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            waker: None,
            refused: None,
            session,
        }
    }

    /// Translates the session's closing frames for the client. If the client violated the rules,
    /// the violation is the reason instead.
    fn closing_frames(&self, said: Option<ClosingFrames>) -> Option<ClosingFrames> {
        if let Some(Refused(code, text)) = self.refused {
            return Some(ClosingFrames::new(End::connection(code, text)));
        }
        let mut closing_frames = said?;
        let displaced = [Code::Replaced as u64, Code::Stale as u64].contains(&closing_frames.end.code)
            && !self.document.lock().is_current(self.connection);
        if displaced {
            // The document has a newer connection, but that may be another client.
            closing_frames.end = End::connection(Code::Superseded, "another client has taken over the session");
        }
        Some(closing_frames)
    }

    /// Returns the next packet from the document to the session.
    fn poll_document(&mut self) -> Option<Packet> {
        let frame = self
            .hello
            .take()
            .or_else(|| self.document.lock().poll_transmit(self.connection));
        frame.map(|frame| Packet::Binary(frame.to_bytes()))
    }

    /// Translates a packet from the client. Returns `None` to end the connection.
    fn interpret(&mut self, packet: Packet) -> Option<Packet> {
        self.signs.hear();
        let message = match packet {
            Packet::Binary(bytes) => self.rules.unpack(bytes),
            Packet::Text(text) => self.rules.unpack_text(text),
            Packet::Close(_) => return Some(packet),
            Packet::Ping | Packet::Other => return Some(Packet::Other),
        };
        match message {
            Ok(message) => {
                self.document.lock().send(self.connection, message);
                self.session.count_plain();
                Some(self.poll_document().unwrap_or(Packet::Other))
            }
            Err(refused) => {
                self.refused = Some(refused);
                None
            }
        }
    }

    /// Sends a ping when the client has been silent for a heartbeat. Completes when the client does
    /// not answer.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = crate::clock::now();
            let deadline = self.signs.deadline();
            if deadline <= now {
                if self.signs.asked.is_some() {
                    return Poll::Ready(());
                }
                self.signs.asked = Some(now);
                self.ping(context);
                continue;
            }
            if self.armed.is_none_or(|armed| deadline < armed) {
                self.armed = Some(deadline);
                self.sleep.as_mut().reset(deadline.into());
            }
            ready!(self.sleep.as_mut().poll(context));
            self.armed = None;
        }
    }

    /// Sends a ping, unless the client accepts no data at present. Accepting data again also counts
    /// as an answer.
    fn ping(&mut self, context: &mut Context<'_>) {
        if let Poll::Ready(Ok(())) = self.poll_client_ready(context) {
            self.pinging = self.client.as_mut().start_send(Packet::Ping).is_ok();
        }
    }

    fn poll_pinging(&mut self, context: &mut Context<'_>) {
        // A failure is reported when the connection is read.
        if self.pinging && self.client.as_mut().poll_flush(context).is_ready() {
            self.pinging = false;
        }
    }

    fn poll_client_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let ready = self.client.as_mut().poll_ready(context);
        self.note_progress(&ready);
        ready
    }

    /// Notes that a client is alive if it accepts packets again.
    fn note_progress(&mut self, progress: &Poll<Result<(), ConnectionError>>) {
        if self.blocked && matches!(progress, Poll::Ready(Ok(()))) {
            self.signs.hear();
        }
        self.blocked = progress.is_pending();
    }
}

impl<C: Connection> Stream for Interpreter<'_, C> {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.waker
            .get_or_insert_with(|| context.waker().clone())
            .clone_from(context.waker());
        if let Some(packet) = this.poll_document() {
            return Poll::Ready(Some(Ok(packet)));
        }
        if this.document.lock().is_held_back(this.connection) {
            // The server reads nothing from the client at present, so silence means nothing.
            return Poll::Pending;
        }
        match this.client.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(packet))) => Poll::Ready(this.interpret(packet).map(Ok)),
            Poll::Ready(Some(Err(ConnectionError::TooLarge))) => {
                this.refused = Some(TOO_LARGE);
                Poll::Ready(None)
            }
            Poll::Ready(over) => Poll::Ready(over),
            Poll::Pending => {
                let silence = this.poll_silence(context);
                this.poll_pinging(context);
                silence.map(|()| Some(Err(ConnectionError::Silent)))
            }
        }
    }
}

impl<C: Connection> Sink<Packet> for Interpreter<'_, C> {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.poll_client_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), ConnectionError> {
        let Packet::Binary(bytes) = packet else { return Ok(()) };
        let this = &mut *self;
        let heard = Frame::decode(bytes, Sender::Server).ok().map(|frame| {
            this.document
                .lock()
                .handle_frame(this.connection, frame, crate::clock::now())
        });
        let Some(Ok(heard)) = heard else {
            return Err(ConnectionError::Failed("the session sent an invalid frame".into()));
        };
        this.session.count_plain();
        if let Some(waker) = &this.waker {
            waker.wake_by_ref();
        }
        match heard {
            Some(message) => {
                let packet = Packet::Binary(this.rules.pack(message.into_bytes()));
                this.client.as_mut().start_send(packet)
            }
            None => Ok(()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let flushed = self.client.as_mut().poll_flush(context);
        self.note_progress(&flushed);
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.client.as_mut().poll_close(context)
    }
}

const TOO_LARGE: Refused = Refused(Code::TooLarge, "a message exceeds the size limit");
