//! Connections of custom kinds that fail: each costs its own session a connection and affects no
//! other session.

mod support;

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use stillhere::code::Code;
use stillhere::connection::Packet;
use stillhere::machine::Event;
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{Cause, ConnectionError, Hub, Session, SessionHandle, SessionState, run_connection_loop};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use support::browser::Browser;
use support::pipe::{BrowserEnd, ServerEnd, pipe};
use support::wire::{RawDocument, Wire};
use support::{accept, access, seconds, settled, soon};

/// Where a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Next,
    Ready,
    Send,
    Flush,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Hangs(Place),
    Fails(Place),
    Panics(Place),
    /// Drops packets but reports that they were sent.
    Swallows,
    /// Returns the first packet from the page this many more times, one for each read.
    Repeats(usize),
}

/// A connection that carries packets until it is told to fail.
struct Faulty {
    end: ServerEnd,
    fault: Arc<OnceLock<Fault>>,
    repeated: Option<Packet>,
    repeats: Arc<Mutex<usize>>,
}

impl Faulty {
    /// Returns the result of the failure, if this is where the connection fails.
    fn go_wrong(&self, place: Place) -> Option<Poll<Result<(), ConnectionError>>> {
        match self.fault.get()? {
            Fault::Hangs(here) if *here == place => Some(Poll::Pending),
            Fault::Fails(here) if *here == place => Some(Poll::Ready(Err(ConnectionError::Failed("as told".into())))),
            Fault::Panics(here) if *here == place => panic!("a connection's own panic at {place:?}"),
            _ => None,
        }
    }

    /// Returns true after the connection has ended. Only then is it closed.
    fn is_over(&self) -> bool {
        matches!(
            self.fault.get(),
            Some(Fault::Hangs(Place::Close) | Fault::Fails(Place::Close) | Fault::Panics(Place::Close))
        )
    }

    fn repeat(&mut self) -> Option<Packet> {
        let Some(Fault::Repeats(count)) = self.fault.get() else {
            return None;
        };
        let packet = self.repeated.clone()?;
        let mut repeats = self.repeats.lock().expect("unpoisoned");
        *repeats += 1;
        (*repeats <= *count).then_some(packet)
    }
}

impl Stream for Faulty {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(wrong) = self.go_wrong(Place::Next) {
            return wrong.map(|failure| failure.err().map(Err));
        }
        if self.is_over() {
            return Poll::Ready(None);
        }
        if let Some(packet) = self.repeat() {
            return Poll::Ready(Some(Ok(packet)));
        }
        let next = self.end.poll_next_unpin(context);
        if let (Some(Fault::Repeats(_)), Poll::Ready(Some(Ok(packet)))) = (self.fault.get(), &next) {
            self.repeated = Some(packet.clone());
        }
        next
    }
}

impl Sink<Packet> for Faulty {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let wrong = self.go_wrong(Place::Ready);
        wrong.unwrap_or_else(|| self.end.poll_ready_unpin(context))
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), ConnectionError> {
        match self.go_wrong(Place::Send) {
            Some(Poll::Ready(wrong)) => wrong,
            _ if self.fault.get() == Some(&Fault::Swallows) => Ok(()),
            _ => self.end.start_send_unpin(packet),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let wrong = self.go_wrong(Place::Flush);
        wrong.unwrap_or_else(|| self.end.poll_flush_unpin(context))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let wrong = self.go_wrong(Place::Close);
        wrong.unwrap_or_else(|| self.end.poll_close_unpin(context))
    }
}

/// A page whose first connection is faulty and whose later ones are not, and another page of the
/// same hub.
struct Scene {
    hub: Hub,
    session: SessionHandle,
    /// What the application received from the page.
    got: Got,
    page: Browser,
    neighbour: Browser,
    fault: Arc<OnceLock<Fault>>,
    repeats: Arc<Mutex<usize>>,
    /// The task that carries the faulty connection.
    carrier: JoinHandle<()>,
}

impl Scene {
    async fn set() -> Self {
        let hub = Hub::new();
        let got = Got::default();
        let session = open(&hub, &got);
        let neighbour = Browser::connected(&hub, &open(&hub, &Got::default())).await;
        let (fault, repeats) = (Arc::default(), Arc::default());
        let (faulty, end) = faulty(&fault, &repeats);
        let id = session.id().to_string();
        let carrier = tokio::spawn(run_connection_loop(accept(&hub, &id), faulty));
        let mut first = Some(end);
        let page = Browser::load_over(access(&session), {
            let hub = hub.clone();
            move || first.take().unwrap_or_else(|| support::connect(&hub, &id).0)
        });
        assert_eq!(page.outcome().await, Outcome::Opened);
        Self {
            hub,
            session,
            got,
            page,
            neighbour,
            fault,
            repeats,
            carrier,
        }
    }

    /// Makes the connection fail while both sides have something to send.
    async fn go_wrong(&self, fault: Fault) {
        self.page.send("page 1");
        assert_eq!(self.page.text().await, "page 1");
        self.session.try_send("session 1").expect("there is room");
        assert_eq!(self.page.text().await, "session 1");
        self.fault.set(fault).expect("the fault happens once");
        self.page.send("page 2");
        self.session.try_send("session 2").expect("there is room");
        self.assert_neighbour_lives().await;
    }

    /// Waits until the page has reconnected, and checks that everything arrived once and in order
    /// on both sides.
    async fn come_back(self) -> JoinHandle<()> {
        assert_eq!(self.page.outcome().await, Outcome::Resumed);
        self.assert_neighbour_lives().await;
        self.page.send("page 3");
        self.session.try_send("session 3").expect("there is room");
        let mut texts = Vec::new();
        while texts.len() < 4 {
            texts.push(self.page.text().await);
        }
        // Long enough for what is left of the old connection.
        tokio::time::sleep(seconds(8)).await;
        assert!(self.page.inbox().is_empty());
        let (of_page, of_session): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| text.starts_with("page"));
        assert_eq!(of_page, ["page 2", "page 3"]);
        assert_eq!(of_session, ["session 2", "session 3"]);
        assert_eq!(*self.got.lock().expect("unpoisoned"), ["page 1", "page 2", "page 3"]);
        assert_eq!(self.session.state(), SessionState::Open);
        assert_eq!(self.hub.stats().connections, 2, "the faulty connection has ended");
        self.carrier
    }

    async fn assert_neighbour_lives(&self) {
        let start = Instant::now();
        self.neighbour.send("still here?");
        assert_eq!(self.neighbour.text().await, "still here?");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

fn faulty(fault: &Arc<OnceLock<Fault>>, repeats: &Arc<Mutex<usize>>) -> (Faulty, BrowserEnd) {
    let (server, browser) = pipe();
    let faulty = Faulty {
        end: server,
        fault: Arc::clone(fault),
        repeated: None,
        repeats: Arc::clone(repeats),
    };
    (faulty, browser)
}

type Got = Arc<Mutex<Vec<String>>>;

fn open(hub: &Hub, got: &Got) -> SessionHandle {
    let got = Arc::clone(got);
    hub.open(|mut session: Session| async move {
        while let Some(message) = session.recv().await {
            let bytes = message.into_bytes();
            let text = String::from_utf8(bytes.to_vec()).expect("the message is text");
            got.lock().expect("unpoisoned").push(text);
            if session.send(bytes).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_hangs_is_detected_as_silent_and_replaced_without_loss() {
    for place in [Place::Next, Place::Ready, Place::Flush] {
        let scene = Scene::set().await;
        scene.go_wrong(Fault::Hangs(place)).await;
        let start = Instant::now();
        let mut events = scene.session.events();
        let event = soon("the soft close", events.next()).await;
        // A page that can send but not receive becomes suspicious after two heartbeats and five
        // seconds, and then pings.
        let (cause, within) = match place {
            Place::Next => (Cause::Silent, 29..=31),
            _ => (Cause::Lost, 39..=41),
        };
        assert_eq!(event, Some(Event::SoftClosed(cause)), "{place:?}");
        let silence = start.elapsed().as_secs();
        assert!(within.contains(&silence), "{place:?}: {silence} s");
        let carrier = scene.come_back().await;
        // Five seconds for the last messages, and eight for what is left of the connection.
        let back = start.elapsed().as_secs();
        assert!(back < within.end() + 5 + 8, "{place:?}: {back} s");
        soon("the loop's end", carrier).await.expect("it does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_drops_packets_it_reported_as_sent_is_replaced_without_loss() {
    let scene = Scene::set().await;
    scene.go_wrong(Fault::Swallows).await;
    let start = Instant::now();
    let carrier = scene.come_back().await;
    // Two heartbeats, five seconds until the page pings, five until it gives up, and eight for what
    // is left of the connection.
    let back = start.elapsed();
    assert!(back < seconds(41 + 8), "{back:?}");
    soon("the loop's end", carrier).await.expect("it does not panic");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_is_replaced_at_once_without_loss() {
    for place in [Place::Next, Place::Ready, Place::Send, Place::Flush, Place::Close] {
        let scene = Scene::set().await;
        let start = Instant::now();
        let mut events = scene.session.events();
        scene.go_wrong(Fault::Fails(place)).await;
        let event = soon("the soft close", events.next()).await;
        assert_eq!(event, Some(Event::SoftClosed(Cause::Lost)), "{place:?}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{place:?}");
        let carrier = scene.come_back().await;
        soon("the loop's end", carrier).await.expect("it does not panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_panics_takes_only_its_own_task_with_it() {
    for place in [Place::Next, Place::Ready, Place::Send, Place::Flush, Place::Close] {
        let scene = Scene::set().await;
        let start = Instant::now();
        let mut events = scene.session.events();
        scene.go_wrong(Fault::Panics(place)).await;
        let event = soon("the soft close", events.next()).await;
        assert_eq!(event, Some(Event::SoftClosed(Cause::Lost)), "{place:?}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{place:?}");
        let carrier = scene.come_back().await;
        let ended = soon("the task's end", carrier).await;
        assert!(ended.expect_err("its panic is its task's").is_panic(), "{place:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_closed_is_dropped_after_five_seconds() {
    let scene = Scene::set().await;
    scene.go_wrong(Fault::Hangs(Place::Close)).await;
    settled().await;
    assert_eq!(
        scene.session.state(),
        SessionState::SoftClosed,
        "the session does not wait for the connection to close"
    );
    let start = Instant::now();
    let carrier = scene.come_back().await;
    soon("the loop's end", carrier).await.expect("it does not panic");
    assert!(start.elapsed() < seconds(15), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_repeats_a_packet_endlessly_does_not_starve_other_tasks() {
    const COUNT: usize = 100_000;
    let scene = Scene::set().await;
    scene.go_wrong(Fault::Repeats(COUNT)).await;
    for _ in 0..10 {
        scene.assert_neighbour_lives().await;
    }
    let repeats = *scene.repeats.lock().expect("unpoisoned");
    assert!(repeats > 0 && repeats < COUNT, "{repeats} packets in the meantime");
    while *scene.repeats.lock().expect("unpoisoned") < COUNT {
        tokio::task::yield_now().await;
    }
    scene.page.cut();
    let carrier = scene.come_back().await;
    soon("the loop's end", carrier).await.expect("it does not panic");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_hello_is_dropped_after_ten_seconds() {
    let hub = Hub::builder().max_pending_hellos(1).build();
    let session = open(&hub, &Got::default());
    let fault = Arc::new(OnceLock::from(Fault::Hangs(Place::Next)));
    let (faulty, end) = faulty(&fault, &Arc::default());
    let carrier = tokio::spawn(run_connection_loop(accept(&hub, &session.id().to_string()), faulty));
    let dead = Wire { end, carrier };
    dead.send(Frame::Hello(RawDocument::new(&session).hello()));
    settled().await;
    let mut document = RawDocument::new(&session);
    assert_eq!(document.connect(&hub).end().await.code, Code::Busy as u64);

    let start = Instant::now();
    let end = dead.end().await;
    assert_eq!((end.code, end.reason), (Code::HelloDeadline as u64, 0));
    assert_eq!(start.elapsed(), seconds(10));
    assert_eq!(session.state(), SessionState::Unconnected);
    let (_wire, welcome) = document.welcomed(&hub).await;
    assert_eq!(welcome.incarnation, 1);
}

/// Returns the same packet for every read, and accepts everything.
struct Flood {
    packet: Packet,
    reads: usize,
}

impl Stream for Flood {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reads += 1;
        assert!(
            self.reads < 1_000_000,
            "the loop never stops reading, so other tasks starve"
        );
        Poll::Ready(Some(Ok(self.packet.clone())))
    }
}

impl Sink<Packet> for Flood {
    type Error = ConnectionError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Packet) -> Result<(), ConnectionError> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_stream_of_any_packets_does_not_starve_other_tasks() {
    let hub = Hub::new();
    let session = open(&hub, &Got::default());
    let neighbour = Browser::connected(&hub, &open(&hub, &Got::default())).await;
    let hello = Packet::Binary(Frame::Hello(RawDocument::new(&session).hello()).to_bytes());
    for packet in [
        // Not a hello: refused, and then read until the peer closes.
        Packet::Binary(vec![0x03].into()),
        // Not part of the protocol, so the loop still waits for the hello.
        Packet::Other,
        // The first is welcomed, and the second is malformed.
        hello,
    ] {
        let flood = Flood { packet, reads: 0 };
        let carrier = tokio::spawn(run_connection_loop(accept(&hub, &session.id().to_string()), flood));
        for _ in 0..30 {
            neighbour.send("still here?");
            assert_eq!(neighbour.text().await, "still here?");
            tokio::time::advance(seconds(1)).await;
        }
        soon("the loop's end", carrier)
            .await
            .expect("the loop gives up in time");
    }
}
