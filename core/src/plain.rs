//! Plain sessions: what carries a client with a protocol of its own, to which one WebSocket message is one application message.
//!
//! To the session such a client looks like any browser: the server itself plays its document ([`PlainDocument`]), and an [`Interpreter`] stands
//! between the two.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::time::Sleep;

use crate::arrival::{Admitted, refusal};
use crate::compression::{InflateError, deflate_gzip, deflate_zlib, inflate, inflate_gzip};
use crate::connection::{ClosingFrames, Connection, ConnectionError, Packet, carry};
use crate::options::{PlainCompression, PlainOptions, PlainText};
use crate::session::Shared;
use stillhere_proto::Code;
use stillhere_proto::machine::PlainDocument;
use stillhere_proto::wire::{Frame, Sender};

/// Carries a plain session over its client's connection. What is left to say, if the connection can still hear it.
pub(crate) async fn carry_plain<C: Connection>(
    session: Arc<Shared>,
    document: Arc<Mutex<PlainDocument>>,
    admitted: Admitted,
    client: Pin<&mut C>,
) -> Option<ClosingFrames> {
    let mut interpreter = pin!(Interpreter::new(session, document, client));
    let closing_frames = carry(admitted, interpreter.as_mut()).await;
    interpreter.closing_frames(closing_frames)
}

/// A client's connection, as its session sees it: frames on one side, the client's messages on the other.
struct Interpreter<'a, C> {
    session: Arc<Shared>,
    document: Arc<Mutex<PlainDocument>>,
    /// The document's name for this connection.
    connection: u64,
    hello: Option<Frame>,
    client: Pin<&'a mut C>,
    /// The client takes nothing at present.
    blocked: bool,
    /// A ping is on its way into the connection.
    pinging: bool,
    rules: Rules,
    signs: Signs,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends.
    armed: Option<Instant>,
    /// Of the last read: the session's frames may give the document something to say.
    waker: Option<Waker>,
    /// The client broke the rules.
    refused: Option<Refused>,
}

/// What a client may send.
#[derive(Debug, Clone, Copy)]
struct Rules {
    plain: PlainOptions,
    /// Bytes on the wire.
    packet: u64,
    /// Bytes of a message.
    message: u64,
}

/// Why a client is sent away.
#[derive(Debug, Clone, Copy)]
struct Refused(Code, &'static str);

/// The client's signs of life.
#[derive(Debug)]
struct Signs {
    heartbeat: Duration,
    /// The last.
    heard: Instant,
    /// When one was asked for.
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

    /// The message in a client's packet.
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
            InflateError::TooLarge => Refused(Code::TooLarge, "a message inflates to more than the limit"),
            InflateError::Malformed => Refused(Code::Malformed, "a message cannot be inflated"),
        })
    }

    /// The message in a client's text packet.
    fn unpack_text(&self, text: Bytes) -> Result<Bytes, Refused> {
        match self.plain.text {
            PlainText::Refuse => Err(Refused(Code::Malformed, "text where only binary messages are taken")),
            PlainText::AsBytes if text.len() as u64 > self.packet => Err(TOO_LARGE),
            PlainText::AsBytes => Ok(text),
        }
    }

    /// The packet for a message of the session.
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

    /// When to ask, or to give up.
    fn deadline(&self) -> Instant {
        match self.asked {
            None => self.heard + self.heartbeat,
            // Asked late, because nobody listened, or because the process was stopped: the answer gets its time all the same.
            Some(asked) => (self.heard + 2 * self.heartbeat).max(asked + self.heartbeat),
        }
    }
}

impl<'a, C: Connection> Interpreter<'a, C> {
    /// From here on this client is the session's newest.
    fn new(session: Arc<Shared>, document: Arc<Mutex<PlainDocument>>, client: Pin<&'a mut C>) -> Self {
        let (connection, hello) = lock(&document).connect();
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

    /// In the client's words: what its session says, unless there is more to say than the session knows.
    fn closing_frames(&self, said: Option<ClosingFrames>) -> Option<ClosingFrames> {
        if let Some(Refused(code, text)) = self.refused {
            return Some(ClosingFrames::new(refusal(code, text.to_owned())));
        }
        let mut closing_frames = said?;
        let displaced = [Code::Replaced as u64, Code::Stale as u64].contains(&closing_frames.end.code)
            && !lock(&self.document).is_current(self.connection);
        if displaced {
            // To its document it is a newer connection; but who sits at the other end of that, nobody knows.
            closing_frames.end = refusal(Code::Superseded, "another client has taken the session over".to_owned());
        }
        Some(closing_frames)
    }

    /// What is to be said to the session.
    fn poll_document(&mut self) -> Option<Packet> {
        let frame = self
            .hello
            .take()
            .or_else(|| lock(&self.document).poll_transmit(self.connection));
        frame.map(|frame| Packet::Binary(frame.to_bytes()))
    }

    /// What the client's packet is to the session.
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
                lock(&self.document).send(self.connection, message);
                self.session.count_plain();
                Some(self.poll_document().unwrap_or(Packet::Other))
            }
            Err(refused) => {
                self.refused = Some(refused);
                None
            }
        }
    }

    /// Waits for signs of life, and asks for them. Ready when there are none.
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

    /// A client that takes nothing at present cannot be asked, and has its time to take something.
    fn ping(&mut self, context: &mut Context<'_>) {
        if let Poll::Ready(Ok(())) = self.poll_client_ready(context) {
            self.pinging = self.client.as_mut().start_send(Packet::Ping).is_ok();
        }
    }

    fn poll_pinging(&mut self, context: &mut Context<'_>) {
        // Should it fail the connection will say so when it is read.
        if self.pinging && self.client.as_mut().poll_flush(context).is_ready() {
            self.pinging = false;
        }
    }

    fn poll_client_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let ready = self.client.as_mut().poll_ready(context);
        self.note_progress(&ready);
        ready
    }

    /// A client that takes again what it did not take before is alive.
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
        if lock(&this.document).is_held_back(this.connection) {
            // Nobody listens, so nobody can be silent.
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
        let heard = Frame::decode(bytes, Sender::Server)
            .ok()
            .map(|frame| lock(&this.document).handle_frame(this.connection, frame, crate::clock::now()));
        let Some(Ok(heard)) = heard else {
            return Err(ConnectionError::Failed("the session broke its own protocol".into()));
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

fn lock(document: &Mutex<PlainDocument>) -> MutexGuard<'_, PlainDocument> {
    document.lock().unwrap_or_else(PoisonError::into_inner)
}

const TOO_LARGE: Refused = Refused(Code::TooLarge, "a message above the limit");
