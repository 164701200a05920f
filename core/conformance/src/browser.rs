//! A browser for tests: one document of a page, with its machine over a real WebSocket and in real time.

use std::future::{Future, poll_fn};
use std::io::Read as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use futures_util::task::AtomicWaker;
use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use stillhere::machine::{
    Action, DocumentEvent, DocumentMachine, DocumentOptions, DocumentPhase, Outcome, Received, SendRefused,
};
use stillhere::{DocumentId, Lane, Limits, SessionHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self};

use crate::credentials::Credentials;
use crate::patience::PATIENCE;
use crate::socket::{Request, Socket};

/// One document. It connects, reconnects and acknowledges by itself, as its machine says; dropping it drops its connection without a word.
#[derive(Debug)]
pub struct Browser {
    page: Page,
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

/// What a document is opened with.
#[derive(Debug, Clone)]
struct Page {
    address: SocketAddr,
    ticket: String,
    origin: String,
    cookie: Option<String>,
}

impl Page {
    /// A page that the server at `address` has served.
    fn new(address: SocketAddr, ticket: &str) -> Self {
        Self {
            address,
            ticket: ticket.to_owned(),
            origin: format!("http://{address}"),
            cookie: None,
        }
    }
}

/// A message as the page's handler gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The lane it came on.
    pub lane: Lane,
    /// Its bytes, inflated.
    pub payload: Bytes,
}

/// The session's end, as the page is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// The close code.
    pub code: u64,
    /// The reason's number.
    pub reason: u64,
    /// When a new session might be had.
    pub retry_after: Duration,
    /// For a person.
    pub text: String,
    /// Messages the server did not acknowledge.
    pub unacknowledged: usize,
}

impl Browser {
    /// Opens a page with this ticket and connects to the server at `address`, whatever host the ticket names. The page is of
    /// that server's origin, and says so, as browsers do.
    ///
    /// # Panics
    /// When the ticket says that the hub refuses. Outside a tokio runtime.
    pub fn connect(address: SocketAddr, ticket: &str) -> Self {
        Self::open(Page::new(address, ticket))
    }

    /// [`Browser::connect`] for a page of this origin.
    ///
    /// # Panics
    /// As [`Browser::connect`].
    pub fn connect_from(origin: &str, address: SocketAddr, ticket: &str) -> Self {
        Self::open(Page {
            origin: origin.to_owned(),
            ..Page::new(address, ticket)
        })
    }

    /// [`Browser::connect`] with these cookies, as the `Cookie` header has them.
    ///
    /// # Panics
    /// As [`Browser::connect`].
    pub fn connect_with_cookie(cookie: &str, address: SocketAddr, ticket: &str) -> Self {
        Self::open(Page {
            cookie: Some(cookie.to_owned()),
            ..Page::new(address, ticket)
        })
    }

    fn open(page: Page) -> Self {
        let credentials = Credentials::parse(&page.ticket).expect("the hub has room");
        let request = Request::new(page.address, credentials.path());
        let request = Request {
            origin: Some(page.origin.clone()),
            cookie: page.cookie.clone(),
            ..request
        };
        let number = DOCUMENTS.fetch_add(1, Ordering::Relaxed);
        let mut document = [0; 16];
        document[..8].copy_from_slice(&number.to_le_bytes());
        let options = DocumentOptions {
            secret: credentials.secret,
            document: DocumentId(document),
            limits: credentials.limits,
            seed: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let now = Instant::now();
        let mut machine = DocumentMachine::new(options, now);
        machine.start(now);
        let state = State {
            machine,
            limits: credentials.limits,
            events: Vec::new(),
            seen: 0,
            close_codes: Vec::new(),
            frozen: false,
            to_lose: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            driver: AtomicWaker::new(),
            changed: watch::Sender::new(()),
        });
        let mut driver = Driver {
            shared: Arc::clone(&shared),
            request,
            link: Link::Down,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
        };
        let driver = tokio::spawn(async move { poll_fn(|context| driver.poll(context)).await });
        Self { page, shared, driver }
    }

    /// Another document with the same ticket: a duplicated tab.
    pub fn duplicate(&self) -> Self {
        Self::open(self.page.clone())
    }

    /// The page is reloaded: this document leaves, another takes its place.
    pub async fn reload(self) -> Self {
        self.leave().await;
        self.duplicate()
    }

    /// Queues a message on the interactive lane.
    ///
    /// # Errors
    /// [`SendRefused`], as the page's `send` throws it.
    pub fn send(&self, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        self.send_on(Lane::Interactive, payload)
    }

    /// Queues a message on the bulk lane.
    ///
    /// # Errors
    /// As [`Browser::send`].
    pub fn send_bulk(&self, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        self.send_on(Lane::Bulk, payload)
    }

    /// Queues a message on this lane.
    ///
    /// # Errors
    /// As [`Browser::send`].
    pub fn send_on(&self, lane: Lane, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        self.shared.ask(|state| state.machine.send(lane, payload.into()))
    }

    /// Queues a message once there is room for it.
    ///
    /// # Errors
    /// [`SendRefused`], but never that the outbox is full.
    pub async fn send_when_there_is_room(&self, lane: Lane, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        let payload = payload.into();
        self.wait_until("room in the browser's outbox", |state| {
            match state.machine.send(lane, payload.clone()) {
                Err(SendRefused::OutboxFull) => None,
                result => Some(result),
            }
        })
        .await
    }

    /// The next message, interactive ones first; its credit comes back at once. A page that does not call this is one whose handlers never
    /// return.
    ///
    /// # Panics
    /// When the session is over and everything has been read, or nothing comes.
    pub async fn recv(&self) -> Delivery {
        self.recv_or_end().await.expect("the session is not over")
    }

    /// As [`Browser::recv`], or `None` once the session is over and everything has been read.
    pub async fn recv_or_end(&self) -> Option<Delivery> {
        self.wait_until("a message for the browser", |state| match state.take() {
            None if state.machine.phase() == DocumentPhase::Over => Some(None),
            taken => taken.map(Some),
        })
        .await
    }

    /// The next message of this lane.
    ///
    /// # Panics
    /// As [`Browser::recv`].
    pub async fn recv_on(&self, lane: Lane) -> Bytes {
        self.wait_until("a message for the browser", |state| state.take_from(lane))
            .await
            .payload
    }

    /// The messages that are here already.
    pub fn received(&self) -> Vec<Delivery> {
        self.shared.ask(|state| std::iter::from_fn(|| state.take()).collect())
    }

    /// Waits until the server has acknowledged everything.
    pub async fn wait_until_acknowledged(&self) {
        self.wait_until("everything sent is acknowledged", |state| {
            Lane::ALL
                .iter()
                .all(|lane| state.machine.outgoing(*lane) == 0)
                .then_some(())
        })
        .await;
    }

    /// Charge that waits for acknowledgement.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.shared.ask(|state| state.machine.outgoing(lane))
    }

    /// Everything that has happened so far.
    pub fn events(&self) -> Vec<DocumentEvent> {
        self.shared.ask(|state| state.events.clone())
    }

    /// The next outcome that no call has returned yet.
    ///
    /// # Panics
    /// When the session ends or refuses for good instead, or nothing comes.
    pub async fn outcome(&self) -> Outcome {
        let event = self
            .next_event("an outcome", |event| {
                !matches!(event, DocumentEvent::Disconnected { .. })
            })
            .await;
        match event {
            DocumentEvent::Welcomed {
                outcome,
                incarnation: _,
            } => outcome,
            other => panic!("no outcome but {other:?}"),
        }
    }

    /// Waits for an outcome, which must be this one.
    ///
    /// # Panics
    /// When it is another one; and as [`Browser::outcome`].
    pub async fn wait_for_outcome(&self, expected: Outcome) {
        assert_eq!(
            self.outcome().await,
            expected,
            "what the browser was told: {:?}",
            self.events()
        );
    }

    /// Waits until the server refuses: the code.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn refusal(&self) -> u64 {
        let event = self
            .next_event("a refusal", |event| matches!(event, DocumentEvent::Refused { .. }))
            .await;
        let DocumentEvent::Refused { code, .. } = event else {
            unreachable!("it was asked for a refusal")
        };
        code
    }

    /// Waits until the connection is lost: the code.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn disconnection(&self) -> u64 {
        let event = self
            .next_event("a lost connection", |event| {
                matches!(event, DocumentEvent::Disconnected { .. })
            })
            .await;
        let DocumentEvent::Disconnected { code, .. } = event else {
            unreachable!("it was asked for a disconnection")
        };
        code
    }

    /// Waits until the session is over.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn session_end(&self) -> SessionEnd {
        let event = self
            .next_event("the session's end", |event| {
                matches!(event, DocumentEvent::Ended { .. })
            })
            .await;
        let DocumentEvent::Ended {
            code,
            reason,
            retry_after,
            text,
            unacknowledged,
        } = event
        else {
            unreachable!("it was asked for an end")
        };
        SessionEnd {
            code,
            reason,
            retry_after,
            text,
            unacknowledged,
        }
    }

    /// Pings the server: the round trip.
    ///
    /// # Panics
    /// When no pong comes.
    pub async fn ping(&self) -> Duration {
        let nonce = self.shared.ask(|state| state.machine.ping());
        let is_answer = |event: &DocumentEvent| matches!(event, DocumentEvent::Pong { nonce: of, .. } if *of == nonce);
        let event = self.next_event("a pong", is_answer).await;
        let DocumentEvent::Pong { round_trip, .. } = event else {
            unreachable!("it was asked for a pong")
        };
        round_trip
    }

    /// The codes with which the server closed this document's WebSockets, in the order in which it did. 1006 for one that ended without a
    /// close.
    pub fn close_codes(&self) -> Vec<u64> {
        self.shared.ask(|state| state.close_codes.clone())
    }

    /// Waits until so many of this document's WebSockets have ended: their codes.
    pub async fn wait_for_close_codes(&self, count: usize) -> Vec<u64> {
        self.wait_until("a WebSocket's close", |state| {
            (state.close_codes.len() >= count).then(|| state.close_codes.clone())
        })
        .await
    }

    /// The incarnation it was welcomed with; 0 if it never was.
    pub fn incarnation(&self) -> u64 {
        self.shared.ask(|state| state.machine.incarnation())
    }

    /// Waits until the machine is in this phase.
    pub async fn wait_for_phase(&self, phase: DocumentPhase) {
        self.wait_until(&format!("phase {phase:?}"), |state| {
            (state.machine.phase() == phase).then_some(())
        })
        .await;
    }

    /// The page goes away (`pagehide`). Returns when its connection is over, if it had one.
    pub async fn leave(&self) {
        let (had_connection, ended) = self.shared.ask(|state| {
            let had_connection = state.is_connected();
            state.machine.handle_leave();
            (had_connection, state.close_codes.len())
        });
        if had_connection {
            self.wait_for_close_codes(ended + 1).await;
        }
    }

    /// The page comes back, into view or online.
    pub fn wake(&self) {
        self.shared.ask(|state| state.machine.handle_wake(Instant::now()));
    }

    /// The network tells the browser that its connection is gone; the server is not told, and its end of it goes on as before.
    pub fn lose_connection(&self) {
        self.shared.ask(|state| state.to_lose = true);
    }

    /// The whole page stands still: it neither reads nor writes, and no time passes for it.
    pub fn freeze(&self) {
        self.shared.ask(|state| state.frozen = true);
    }

    /// Ends [`Browser::freeze`].
    pub fn thaw(&self) {
        self.shared.ask(|state| state.frozen = false);
    }

    async fn next_event(&self, what: &str, wanted: impl Fn(&DocumentEvent) -> bool) -> DocumentEvent {
        self.wait_until(what, |state| {
            while let Some(event) = state.events.get(state.seen) {
                state.seen += 1;
                if wanted(event) {
                    return Some(event.clone());
                }
            }
            None
        })
        .await
    }

    async fn wait_until<T>(&self, what: &str, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.shared.changed.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if let Some(value) = condition(&mut self.shared.lock()) {
                    self.shared.driver.wake();
                    return value;
                }
                changes.changed().await.expect("the sender lives in self");
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(value) => value,
            Err(_) => panic!(
                "the browser waited in vain for this: {what}; it is here: {:#?}",
                self.shared.lock()
            ),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A page of this session, whose application echoes, connects at `address` and talks.
///
/// # Panics
/// When it does not.
pub async fn assert_connects(address: SocketAddr, session: &SessionHandle) {
    let browser = Browser::connect(address, &session.ticket_json());
    browser.wait_for_outcome(Outcome::Opened).await;
    browser.send("hello").expect("the session is open");
    assert_eq!(browser.recv().await.payload, "hello");
}

/// What the page and its driver share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    driver: AtomicWaker,
    /// Told by the driver.
    changed: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something for the page, after which the driver looks again.
    fn ask<T>(&self, request: impl FnOnce(&mut State) -> T) -> T {
        let answer = request(&mut self.lock());
        self.driver.wake();
        answer
    }
}

struct State {
    machine: DocumentMachine,
    limits: Limits,
    events: Vec<DocumentEvent>,
    /// How many of the events a call has returned or passed over.
    seen: usize,
    close_codes: Vec<u64>,
    frozen: bool,
    to_lose: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lanes = |count: &dyn Fn(Lane) -> u64| Lane::ALL.map(count);
        f.debug_struct("Browser")
            .field("phase", &self.machine.phase())
            .field("incarnation", &self.machine.incarnation())
            .field("outgoing", &lanes(&|lane| self.machine.outgoing(lane)))
            .field("incoming", &lanes(&|lane| self.machine.incoming(lane)))
            .field("close_codes", &self.close_codes)
            .field("frozen", &self.frozen)
            .field("last_events", &&self.events[self.events.len().saturating_sub(10)..])
            .finish()
    }
}

impl State {
    fn take(&mut self) -> Option<Delivery> {
        Lane::ALL.into_iter().find_map(|lane| self.take_from(lane))
    }

    fn take_from(&mut self, lane: Lane) -> Option<Delivery> {
        let received = self.machine.take(lane)?;
        self.machine.release(lane, Instant::now());
        Some(Delivery {
            lane,
            payload: self.inflate(received),
        })
    }

    fn inflate(&self, received: Received) -> Bytes {
        let compressed = received.compressed;
        let payload = received.into_bytes();
        if !compressed {
            return payload;
        }
        let mut inflated = Vec::new();
        let limit = self.limits.inflated;
        ZlibDecoder::new(&payload[..])
            .take(limit + 1)
            .read_to_end(&mut inflated)
            .expect("the server sends whole streams");
        assert!(
            inflated.len() as u64 <= limit,
            "the server sends nothing above the limit"
        );
        inflated.into()
    }

    fn is_connected(&self) -> bool {
        use DocumentPhase::{Connected, Connecting, Hello, Offered};
        matches!(self.machine.phase(), Connecting | Hello | Offered | Connected)
    }

    fn record_close(&mut self, code: u64) {
        self.close_codes.push(code);
    }
}

/// Moves frames between the machine and its connections.
struct Driver {
    shared: Arc<Shared>,
    request: Request,
    link: Link,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends.
    armed: Option<Instant>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Socket, tungstenite::Error>> + Send>>;

/// The connection of the newest attempt.
enum Link {
    Down,
    Opening(u64, Opening),
    Up {
        attempt: u64,
        socket: Box<Socket>,
        unflushed: bool,
    },
}

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.driver.register(context.waker());
        for _ in 0..TURNS {
            if self.shared.lock().frozen {
                return Poll::Pending;
            }
            let progress = [
                self.act(),
                self.poll_opening(context),
                self.poll_read(context),
                self.poll_timer(context),
                self.poll_write(context),
                self.publish(),
            ];
            if !progress.contains(&true) {
                return Poll::Pending;
            }
            self.shared.changed.send_replace(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what the machine and the test ask of the transport.
    fn act(&mut self) -> bool {
        let (action, to_lose) = {
            let mut state = self.shared.lock();
            (state.machine.poll_action(), std::mem::take(&mut state.to_lose))
        };
        if to_lose {
            self.lose();
        }
        match action {
            Some(Action::Connect(attempt)) => {
                let request = self.request.clone();
                self.link = Link::Opening(attempt, Box::pin(async move { request.open().await }));
            }
            Some(Action::Close(attempt, code)) if self.link.attempt() == Some(attempt) => {
                match std::mem::replace(&mut self.link, Link::Down) {
                    Link::Up { socket, .. } => self.close(*socket, Some(code)),
                    Link::Opening(..) => self.shared.lock().record_close(1006),
                    Link::Down => {}
                }
            }
            Some(Action::Close(..)) => {}
            None => return to_lose,
        }
        true
    }

    fn lose(&mut self) {
        let Some(attempt) = self.link.attempt() else { return };
        if let Link::Up { socket, .. } = std::mem::replace(&mut self.link, Link::Down) {
            self.close(*socket, None);
        }
        self.shared.lock().machine.handle_close(attempt, 1006, Instant::now());
    }

    /// Closes a connection that the machine has done with, if that is asked for, and reads it to its end.
    fn close(&self, mut socket: Socket, code: Option<u64>) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Some(code) = code.and_then(|code| u16::try_from(code).ok()) {
                let frame = CloseFrame {
                    code: code.into(),
                    reason: "".into(),
                };
                let closing = socket.send(tungstenite::Message::Close(Some(frame)));
                let _ = tokio::time::timeout(CLOSE_DEADLINE, closing).await;
            }
            let mut ended = 1006;
            while let Some(Ok(message)) = socket.next().await {
                if let tungstenite::Message::Close(frame) = message {
                    ended = close_code(frame);
                }
            }
            shared.lock().record_close(ended);
            shared.changed.send_replace(());
        });
    }

    fn poll_opening(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Opening(attempt, opening) = &mut self.link else {
            return false;
        };
        let attempt = *attempt;
        let Poll::Ready(opened) = opening.as_mut().poll(context) else {
            return false;
        };
        let mut state = self.shared.lock();
        match opened {
            Ok(socket) => {
                self.link = Link::Up {
                    attempt,
                    socket: Box::new(socket),
                    unflushed: false,
                };
                state.machine.handle_open(attempt, Instant::now());
            }
            Err(_) => {
                self.link = Link::Down;
                state.record_close(1006);
                state.machine.handle_close(attempt, 1006, Instant::now());
            }
        }
        true
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Up { attempt, socket, .. } = &mut self.link else {
            return false;
        };
        let attempt = *attempt;
        let Poll::Ready(message) = Pin::new(socket).poll_next(context) else {
            return false;
        };
        let mut state = self.shared.lock();
        let now = Instant::now();
        let code = match message {
            Some(Ok(tungstenite::Message::Binary(bytes))) => {
                state.machine.handle_frame(attempt, bytes, now);
                return true;
            }
            Some(Ok(tungstenite::Message::Close(frame))) => close_code(frame),
            Some(Ok(_)) => return true,
            Some(Err(_)) | None => 1006,
        };
        state.record_close(code);
        state.machine.handle_close(attempt, code, now);
        drop(state);
        if let Link::Up { mut socket, .. } = std::mem::replace(&mut self.link, Link::Down) {
            // The answer to the server's close.
            tokio::spawn(async move { tokio::time::timeout(CLOSE_DEADLINE, socket.close()).await });
        }
        true
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.shared.lock().machine.poll_timeout();
        let Some(deadline) = deadline else { return false };
        if self.armed != Some(deadline) {
            self.armed = Some(deadline);
            self.sleep.as_mut().reset(deadline.into());
        }
        if self.sleep.as_mut().poll(context).is_pending() {
            return false;
        }
        self.armed = None;
        self.shared.lock().machine.handle_timeout(Instant::now());
        true
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> bool {
        let mut progress = false;
        let Link::Up {
            attempt,
            socket,
            unflushed,
        } = &mut self.link
        else {
            return false;
        };
        let mut socket = Pin::new(socket);
        while socket.as_mut().poll_ready(context).is_ready() {
            let frame = self.shared.lock().machine.poll_transmit(*attempt, true, Instant::now());
            let Some(frame) = frame else { break };
            // What is wrong with the connection, reading will tell.
            let _ = socket
                .as_mut()
                .start_send(tungstenite::Message::Binary(frame.to_bytes()));
            *unflushed = true;
            progress = true;
        }
        if *unflushed && socket.as_mut().poll_flush(context).is_ready() {
            *unflushed = false;
        }
        progress
    }

    fn publish(&self) -> bool {
        let mut state = self.shared.lock();
        let before = state.events.len();
        while let Some(event) = state.machine.poll_event() {
            state.events.push(event);
        }
        state.events.len() > before
    }
}

impl Link {
    fn attempt(&self) -> Option<u64> {
        match self {
            Self::Down => None,
            Self::Opening(attempt, _) | Self::Up { attempt, .. } => Some(*attempt),
        }
    }
}

fn close_code(frame: Option<CloseFrame>) -> u64 {
    frame.map_or(1005, |frame| u16::from(frame.code).into())
}

static DOCUMENTS: AtomicU64 = AtomicU64::new(1);

/// How often the driver goes round before others on its thread get their turn.
const TURNS: usize = 64;

/// What a connection gets to take a last close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
