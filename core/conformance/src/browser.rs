//! A browser for tests: one document of a page, which is a [`Client`] whose connections the test
//! can see and lose.

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

/// One document. It connects, reconnects and acknowledges by itself. Dropping it cuts its
/// connection.
#[derive(Debug)]
pub struct Browser {
    page: Page,
    client: Client,
    log: Arc<Log>,
    freezer: Arc<Freezer>,
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

impl From<Message> for Delivery {
    fn from(message: Message) -> Self {
        Self {
            lane: message.lane(),
            payload: message.into_bytes(),
        }
    }
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
    /// Opens a page with this ticket and connects to the server at `address`, whatever host the
    /// ticket names. The page is of that server's origin, and says so, as browsers do.
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
        let ticket = Ticket::parse(&page.ticket).expect("the hub has room");
        let url = format!("http://{}{}", page.address, ticket.path());
        let mut headers = HeaderMap::new();
        for (name, value) in [(ORIGIN, Some(&page.origin)), (COOKIE, page.cookie.as_ref())] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).expect("a header's value"));
            }
        }
        let log = Arc::new(Log::default());
        let tap = Tap {
            endpoint: Endpoint::new(url.parse().expect("a URL"), headers, &ticket.limits),
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
        let sent = self.client.try_send(lane, payload.into());
        sent.map_err(|SendError { refused, .. }| refused)
    }

    /// Queues a message once there is room for it.
    ///
    /// # Errors
    /// [`SendRefused`], but never that the outbox is full.
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

    /// Receives the next message, interactive ones first; its credit comes back at once. A page
    /// that does not call this is one whose handlers never return.
    ///
    /// # Panics
    /// When the session is over and everything has been read, or nothing comes.
    pub async fn recv(&self) -> Delivery {
        self.recv_or_end().await.expect("the session is not over")
    }

    /// As [`Browser::recv`], or `None` once the session is over and everything has been read.
    pub async fn recv_or_end(&self) -> Option<Delivery> {
        let received = self.within("a message for the browser", self.client.recv()).await;
        received.map(Delivery::from)
    }

    /// Receives the next message of this lane.
    ///
    /// # Panics
    /// As [`Browser::recv`].
    pub async fn recv_on(&self, lane: Lane) -> Bytes {
        let received = self.wait_until("a message for the browser", |_| self.client.try_recv(lane));
        received.await.into_bytes()
    }

    /// Takes the messages that are here already.
    pub fn received(&self) -> Vec<Delivery> {
        let take = || Lane::ALL.into_iter().find_map(|lane| self.client.try_recv(lane));
        std::iter::from_fn(take).map(Delivery::from).collect()
    }

    /// Waits until the server has acknowledged everything.
    pub async fn wait_until_acknowledged(&self) {
        self.within("everything sent is acknowledged", self.client.flush())
            .await;
    }

    /// Charge that waits for acknowledgement.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.client.with_machine(|machine| machine.outgoing(lane))
    }

    /// Everything that has happened so far.
    pub fn events(&self) -> Vec<DocumentEvent> {
        self.log.lock().events.clone()
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
        let nonce = self.client.with_machine(stillhere::machine::DocumentMachine::ping);
        let is_answer = |event: &DocumentEvent| matches!(event, DocumentEvent::Pong { nonce: of, .. } if *of == nonce);
        let event = self.next_event("a pong", is_answer).await;
        let DocumentEvent::Pong { round_trip, .. } = event else {
            unreachable!("it was asked for a pong")
        };
        round_trip
    }

    /// The codes with which the server closed this document's WebSockets, in the order in which it
    /// did. 1006 for one that ended without a close.
    pub fn close_codes(&self) -> Vec<u64> {
        self.log.lock().close_codes.clone()
    }

    /// Waits until so many of this document's WebSockets have ended: their codes.
    pub async fn wait_for_close_codes(&self, count: usize) -> Vec<u64> {
        self.wait_until("a WebSocket's close", |log| {
            (log.close_codes.len() >= count).then(|| log.close_codes.clone())
        })
        .await
    }

    /// The incarnation it was welcomed with; 0 if it never was.
    pub fn incarnation(&self) -> u64 {
        self.client.with_machine(|machine| machine.incarnation())
    }

    /// Waits until the machine is in this phase.
    pub async fn wait_for_phase(&self, phase: DocumentPhase) {
        self.wait_until(&format!("phase {phase:?}"), |_| (self.phase() == phase).then_some(()))
            .await;
    }

    /// The page goes away (`pagehide`). Returns when its connection is over, if it had one.
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

    /// The page comes back, into view or online.
    pub fn wake(&self) {
        self.client.wake();
    }

    /// The network tells the browser that its connection is gone; the server is not told, and its
    /// end of it goes on as before.
    pub fn lose_connection(&self) {
        self.log.lose_connection();
    }

    /// The whole page stands still: it neither reads nor writes, and no time passes for it.
    pub fn freeze(&self) {
        self.freezer.set(true);
    }

    /// Ends [`Browser::freeze`].
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
            Err(_) => panic!("the browser waited in vain for this: {what}; it is here: {self:#?}"),
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

/// Stops a driver and lets it go on.
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
