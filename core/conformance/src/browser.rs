//! A browser for tests: one document, driven by a [`Client`]. The test can observe and lose its
//! connections.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{COOKIE, ORIGIN};
use http::{HeaderMap, HeaderValue};
use stillhere::machine::{DocumentEvent, DocumentPhase, Outcome, SendRefused};
use stillhere::{Lane, Message, SessionHandle};
use stillhere_client::{Client, Driver, Endpoint, SendError, Ticket};
use tokio::task::JoinHandle;

use crate::patience::PATIENCE;
use crate::tap::{Entries, Log, Tap};

/// One document, which connects, reconnects and acknowledges on its own. Dropping it cuts its
/// connection.
#[derive(Debug)]
pub struct Browser {
    page: Page,
    client: Client,
    log: Arc<Log>,
    freezer: Arc<Freezer>,
    driver: JoinHandle<()>,
}

/// Everything needed to open a document of the page.
#[derive(Debug, Clone)]
struct Page {
    address: SocketAddr,
    ticket: String,
    origin: String,
    cookie: Option<String>,
}

impl Page {
    /// Creates a page whose origin is the server at `address`.
    fn new(address: SocketAddr, ticket: &str) -> Self {
        Self {
            address,
            ticket: ticket.to_owned(),
            origin: format!("http://{address}"),
            cookie: None,
        }
    }
}

/// A message as the page's handler receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The lane on which it arrived.
    pub lane: Lane,
    /// The message, inflated if it was compressed.
    pub payload: Bytes,
}

impl From<Message> for Delivery {
    fn from(message: Message) -> Self {
        Self {
            lane: message.lane(),
            payload: message.into_bytes(),
        }
    }
}

/// The end of the session, as reported to the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// The close code.
    pub code: u64,
    /// The number of the end reason.
    pub reason: u64,
    /// How long to wait before asking for a new session.
    pub retry_after: Duration,
    /// Explanation for a person.
    pub text: String,
    /// Number of messages that the server did not acknowledge.
    pub unacknowledged: usize,
}

impl Browser {
    /// Opens a page with this ticket and connects to the server at `address`, even if the ticket
    /// names another host. Sends that server's origin in the `Origin` header, as a browser would.
    ///
    /// # Panics
    /// Panics if the ticket holds a refusal, and outside a tokio runtime.
    pub fn connect(address: SocketAddr, ticket: &str) -> Self {
        Self::open(Page::new(address, ticket))
    }

    /// Does the same as [`Browser::connect`] for a page from this origin.
    ///
    /// # Panics
    /// Panics when [`Browser::connect`] does.
    pub fn connect_from(origin: &str, address: SocketAddr, ticket: &str) -> Self {
        Self::open(Page {
            origin: origin.to_owned(),
            ..Page::new(address, ticket)
        })
    }

    /// Does the same as [`Browser::connect`] with this `Cookie` header.
    ///
    /// # Panics
    /// Panics when [`Browser::connect`] does.
    pub fn connect_with_cookie(cookie: &str, address: SocketAddr, ticket: &str) -> Self {
        Self::open(Page {
            cookie: Some(cookie.to_owned()),
            ..Page::new(address, ticket)
        })
    }

    fn open(page: Page) -> Self {
        let ticket = Ticket::parse(&page.ticket).expect("the hub has room");
        let url = format!("http://{}{}", page.address, ticket.path());
        let mut headers = HeaderMap::new();
        for (name, value) in [(ORIGIN, Some(&page.origin)), (COOKIE, page.cookie.as_ref())] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).expect("the header's value is valid"));
            }
        }
        let log = Arc::new(Log::default());
        let tap = Tap {
            endpoint: Endpoint::new(url.parse().expect("the URL is valid"), headers, &ticket.limits),
            log: Arc::clone(&log),
        };
        let (client, driver) = Client::builder().build(&ticket, tap);
        let freezer = Arc::new(Freezer::default());
        Self {
            page,
            client,
            log,
            driver: tokio::spawn(Arc::clone(&freezer).run(driver)),
            freezer,
        }
    }

    /// Opens another document with the same ticket, as a duplicated tab does.
    pub fn duplicate(&self) -> Self {
        Self::open(self.page.clone())
    }

    /// Reloads the page: this document leaves and a new one takes its place.
    pub async fn reload(self) -> Self {
        self.leave().await;
        self.duplicate()
    }

    /// Queues a message on the interactive lane.
    ///
    /// # Errors
    /// Returns [`SendRefused`] where the page's `send` would throw.
    pub fn send(&self, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        self.send_on(Lane::Interactive, payload)
    }

    /// Queues a message on the bulk lane.
    ///
    /// # Errors
    /// Returns the errors of [`Browser::send`].
    pub fn send_bulk(&self, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        self.send_on(Lane::Bulk, payload)
    }

    /// Queues a message on this lane.
    ///
    /// # Errors
    /// Returns the errors of [`Browser::send`].
    pub fn send_on(&self, lane: Lane, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        let sent = self.client.try_send(lane, payload.into());
        sent.map_err(|SendError { refused, .. }| refused)
    }

    /// Waits until there is room for a message, and queues it.
    ///
    /// # Errors
    /// Returns [`SendRefused`], but never [`SendRefused::OutboxFull`].
    pub async fn send_when_there_is_room(&self, lane: Lane, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        let payload = payload.into();
        let sending = async {
            match lane {
                Lane::Interactive => self.client.send(payload).await,
                Lane::Bulk => self.client.send_bulk(payload).await,
            }
        };
        let sent = self.within("room in the browser's outbox", sending).await;
        sent.map_err(|SendError { refused, .. }| refused)
    }

    /// Receives the next message, interactive ones first, and returns its credit at once. A test
    /// that never calls this acts as a page whose handlers never return.
    ///
    /// # Panics
    /// Panics if the session has ended and every message was read, or if none arrives in time.
    pub async fn recv(&self) -> Delivery {
        self.recv_or_end().await.expect("the session is not over")
    }

    /// Receives the next message, or returns `None` once the session has ended and every message
    /// was read.
    pub async fn recv_or_end(&self) -> Option<Delivery> {
        let received = self.within("a message for the browser", self.client.recv()).await;
        received.map(Delivery::from)
    }

    /// Receives the next message of this lane.
    ///
    /// # Panics
    /// Panics when [`Browser::recv`] does.
    pub async fn recv_on(&self, lane: Lane) -> Bytes {
        let received = self.wait_until("a message for the browser", |_| self.client.try_recv(lane));
        received.await.into_bytes()
    }

    /// Takes all messages that have already arrived.
    pub fn received(&self) -> Vec<Delivery> {
        let take = || Lane::ALL.into_iter().find_map(|lane| self.client.try_recv(lane));
        std::iter::from_fn(take).map(Delivery::from).collect()
    }

    /// Waits until the server has acknowledged everything.
    pub async fn wait_until_acknowledged(&self) {
        self.within("everything sent is acknowledged", self.client.flush())
            .await;
    }

    /// Returns the charge of the unacknowledged messages on this lane.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.client.with_machine(|machine| machine.outgoing(lane))
    }

    /// Returns all events so far.
    pub fn events(&self) -> Vec<DocumentEvent> {
        self.log.lock().events.clone()
    }

    /// Waits for the next outcome that no earlier call has returned.
    ///
    /// # Panics
    /// Panics if the session ends or refuses the page for good, or if nothing happens in time.
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
            other => panic!("expected an outcome, got {other:?}"),
        }
    }

    /// Waits for the next outcome and checks that it is this one.
    ///
    /// # Panics
    /// Panics if it is another one, and when [`Browser::outcome`] does.
    pub async fn wait_for_outcome(&self, expected: Outcome) {
        assert_eq!(self.outcome().await, expected, "all events: {:?}", self.events());
    }

    /// Waits until the server refuses the page, and returns the close code.
    ///
    /// # Panics
    /// Panics if that does not happen in time.
    pub async fn refusal(&self) -> u64 {
        let event = self
            .next_event("a refusal", |event| matches!(event, DocumentEvent::Refused { .. }))
            .await;
        let DocumentEvent::Refused { code, .. } = event else {
            unreachable!("next_event returns only refusals here")
        };
        code
    }

    /// Waits until the connection is lost, and returns the close code.
    ///
    /// # Panics
    /// Panics if that does not happen in time.
    pub async fn disconnection(&self) -> u64 {
        let event = self
            .next_event("a lost connection", |event| {
                matches!(event, DocumentEvent::Disconnected { .. })
            })
            .await;
        let DocumentEvent::Disconnected { code, .. } = event else {
            unreachable!("next_event returns only disconnections here")
        };
        code
    }

    /// Waits until the session has ended.
    ///
    /// # Panics
    /// Panics if that does not happen in time.
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
            unreachable!("next_event returns only ends here")
        };
        SessionEnd {
            code,
            reason,
            retry_after,
            text,
            unacknowledged,
        }
    }

    /// Pings the server and returns the round-trip time.
    ///
    /// # Panics
    /// Panics if no pong arrives in time.
    pub async fn ping(&self) -> Duration {
        let nonce = self.client.with_machine(stillhere::machine::DocumentMachine::ping);
        let is_answer = |event: &DocumentEvent| matches!(event, DocumentEvent::Pong { nonce: of, .. } if *of == nonce);
        let event = self.next_event("a pong", is_answer).await;
        let DocumentEvent::Pong { round_trip, .. } = event else {
            unreachable!("next_event returns only pongs here")
        };
        round_trip
    }

    /// Returns the close code of each of this document's WebSockets, in the order in which they
    /// ended. A WebSocket that ended without a close has the code 1006.
    pub fn close_codes(&self) -> Vec<u64> {
        self.log.lock().close_codes.clone()
    }

    /// Waits until this many of the document's WebSockets have ended, and returns their codes.
    pub async fn wait_for_close_codes(&self, count: usize) -> Vec<u64> {
        self.wait_until("a WebSocket's close", |log| {
            (log.close_codes.len() >= count).then(|| log.close_codes.clone())
        })
        .await
    }

    /// Returns the incarnation from the last welcome, or 0 before the first.
    pub fn incarnation(&self) -> u64 {
        self.client.with_machine(|machine| machine.incarnation())
    }

    /// Waits until the machine is in this phase.
    pub async fn wait_for_phase(&self, phase: DocumentPhase) {
        self.wait_until(&format!("phase {phase:?}"), |_| (self.phase() == phase).then_some(()))
            .await;
    }

    /// Simulates `pagehide`. If the page has a connection, waits until it has ended.
    pub async fn leave(&self) {
        use DocumentPhase::{Connected, Connecting, Hello, Offered};
        let ended = self.log.lock().close_codes.len();
        let had_connection = self.client.with_machine(|machine| {
            let phase = machine.phase();
            machine.handle_leave();
            matches!(phase, Connecting | Hello | Offered | Connected)
        });
        if had_connection {
            self.wait_for_close_codes(ended + 1).await;
        }
    }

    /// Simulates a return of the page to the foreground, or of the network.
    pub fn wake(&self) {
        self.client.wake();
    }

    /// Loses the connection for the browser only. The server does not notice, and its end of the
    /// connection stays open.
    pub fn lose_connection(&self) {
        self.log.lose_connection();
    }

    /// Suspends the page: it neither reads nor writes, and its timers do not fire.
    pub fn freeze(&self) {
        self.freezer.set(true);
    }

    /// Resumes the page after [`Browser::freeze`].
    pub fn thaw(&self) {
        self.freezer.set(false);
    }

    async fn next_event(&self, what: &str, wanted: impl Fn(&DocumentEvent) -> bool) -> DocumentEvent {
        self.wait_until(what, |log| {
            while let Some(event) = log.events.get(log.seen) {
                log.seen += 1;
                if wanted(event) {
                    return Some(event.clone());
                }
            }
            None
        })
        .await
    }

    fn phase(&self) -> DocumentPhase {
        self.client.with_machine(|machine| machine.phase())
    }

    async fn wait_until<T>(&self, what: &str, mut condition: impl FnMut(&mut Entries) -> Option<T>) -> T {
        let waiting = async {
            let mut logged = self.log.subscribe();
            loop {
                logged.mark_unchanged();
                let happened = self.client.wait_until(|| condition(&mut self.log.lock()));
                tokio::select! {
                    value = happened => return value,
                    _ = logged.changed() => {}
                }
            }
        };
        self.within(what, waiting).await
    }

    async fn within<T>(&self, what: &str, waiting: impl Future<Output = T>) -> T {
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(value) => value,
            Err(_) => panic!("the browser did not get {what} in time: {self:#?}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Checks that a page of this session connects at `address` and gets its message echoed.
///
/// # Panics
/// Panics if it does not.
pub async fn assert_connects(address: SocketAddr, session: &SessionHandle) {
    let browser = Browser::connect(address, &session.ticket_json());
    browser.wait_for_outcome(Outcome::Opened).await;
    browser.send("hello").expect("the session is open");
    assert_eq!(browser.recv().await.payload, "hello");
}

/// Suspends a driver and resumes it.
#[derive(Debug, Default)]
struct Freezer {
    is_frozen: AtomicBool,
    waker: AtomicWaker,
}

impl Freezer {
    fn set(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::SeqCst);
        self.waker.wake();
    }

    async fn run(self: Arc<Self>, driver: Driver) {
        let mut driver = pin!(driver);
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.is_frozen.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            driver.as_mut().poll(context)
        })
        .await;
    }
}
