//! Plain sessions: one packet is one message, and the newest client has the session.

mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::code::Code;
use stillhere::connection::Packet;
use stillhere::machine::Event;
use stillhere::{
    Cause, ConnectionError, EndReason, Hub, NotOurProtocol, PlainCompression, PlainOptions, PlainText, SendError,
    Session, SessionHandle, SessionOptions, SessionRequest, SessionState, TrySendError, connection_pair,
    run_connection_loop,
};
use tokio::task::JoinHandle;

use support::pipe::{BrowserEnd, pipe};
use support::{assert_waits, seconds, settled, soon};

/// One connection of a client that does not know our protocol.
struct Client {
    end: BrowserEnd,
    carrier: JoinHandle<()>,
}

impl Client {
    fn connect(hub: &Hub, session: &SessionHandle) -> Self {
        let accepted = hub
            .accept(&SessionRequest::new(&session.id().to_string(), []))
            .expect("a plain session needs no subprotocol");
        assert_eq!(accepted.protocol(), None);
        let (server, end) = pipe();
        let carrier = tokio::spawn(run_connection_loop(accepted, server));
        Self { end, carrier }
    }

    fn send(&self, message: impl Into<Bytes>) {
        self.end.send(Packet::Binary(message.into()));
    }

    async fn packet(&self) -> Option<Packet> {
        soon("a packet for the client", self.end.receive()).await
    }

    /// Returns the next message, and answers pings.
    async fn message(&self) -> Bytes {
        loop {
            match self.packet().await {
                Some(Packet::Binary(message)) => return message,
                Some(Packet::Ping) => self.end.send(Packet::Other),
                other => panic!("expected a message, got {other:?}"),
            }
        }
    }

    /// Returns the code of the close, before which only pings may arrive.
    async fn close_code(&self) -> u16 {
        loop {
            match self.packet().await {
                Some(Packet::Close(code)) => return code,
                Some(Packet::Ping) => {}
                other => panic!("expected a close, got {other:?}"),
            }
        }
    }
}

async fn idle(session: Session) {
    session.ended().await;
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message.into_bytes()).await.is_err() {
            return;
        }
    }
}

type Read = Arc<Mutex<Vec<Bytes>>>;

/// Returns an application that keeps what it reads.
fn keeping() -> (
    impl FnOnce(Session) -> futures_util::future::BoxFuture<'static, ()> + Send + 'static,
    Read,
) {
    let read = Read::default();
    let kept = Arc::clone(&read);
    let application = move |mut session: Session| -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(message) = session.recv().await {
                kept.lock().expect("unpoisoned").push(message.into_bytes());
            }
        })
    };
    (application, read)
}

fn plain(hub: &Hub) -> SessionHandle {
    hub.open_plain(PlainOptions::default(), idle)
}

fn options(change: impl FnOnce(&mut PlainOptions)) -> PlainOptions {
    let mut options = PlainOptions::default();
    change(&mut options);
    options
}

fn limited(change: impl FnOnce(&mut SessionOptions)) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.plain = Some(PlainOptions::default());
    change(&mut options);
    options
}

fn code(code: Code) -> u16 {
    code as u16
}

#[tokio::test(start_paused = true)]
async fn one_packet_is_one_message_both_ways() {
    let hub = Hub::new();
    let session = hub.open_plain(PlainOptions::default(), echo);
    let client = Client::connect(&hub, &session);
    for message in [vec![], vec![0], vec![7; 65_536], vec![8; 65_537], vec![9; 1 << 20]] {
        client.send(message.clone());
        assert_eq!(client.message().await, message);
    }
    assert_eq!(session.state(), SessionState::Open);
    session.send_bulk("bulk").await.expect("the session is open");
    assert_eq!(client.message().await, "bulk");
}

#[tokio::test(start_paused = true)]
async fn many_messages_keep_their_order_both_ways() {
    let hub = Hub::new();
    let session = hub.open_plain(PlainOptions::default(), echo);
    let client = Client::connect(&hub, &session);
    let numbered = |number: u32| Bytes::copy_from_slice(&number.to_le_bytes());
    for number in 0..5000 {
        client.send(numbered(number));
    }
    for number in 0..5000 {
        assert_eq!(client.message().await, numbered(number));
    }
    // By then the last acknowledgement is due.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    settled().await;
    assert_eq!((session.unacknowledged(), hub.stats().buffered), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn queued_messages_come_first_and_in_order() {
    let hub = Hub::new();
    let session = plain(&hub);
    session.send("before anybody came").await.expect("there is room");
    let first = Client::connect(&hub, &session);
    assert_eq!(first.message().await, "before anybody came");
    drop(first);
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
    for number in 0..100u8 {
        session.send([number]).await.expect("there is room");
    }
    assert_eq!(session.unacknowledged(), 100);

    let second = Client::connect(&hub, &session);
    session.send("newer").await.expect("there is room");
    for number in 0..100u8 {
        assert_eq!(second.message().await, [number][..]);
    }
    assert_eq!(second.message().await, "newer");
    settled().await;
    assert_eq!(session.unacknowledged(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_a_sender_waits_for_the_next_client() {
    let hub = Hub::builder().outbox_limit(10_000).build();
    let session = plain(&hub);
    drop(Client::connect(&hub, &session));
    settled().await;
    while session.try_send([7; 1000]).is_ok() {}
    assert_eq!(session.try_send([7; 1000]), Err(TrySendError::Full([7; 1000].into())));
    let queued = session.unacknowledged();
    let mut sending = Box::pin(session.send([8; 1000]));
    assert_waits(&mut sending).await;

    let client = Client::connect(&hub, &session);
    sending.await.expect("there is room again");
    for _ in 0..queued {
        assert_eq!(client.message().await, [7; 1000][..]);
    }
    assert_eq!(client.message().await, [8; 1000][..]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_client_has_the_session_and_the_previous_one_is_superseded() {
    let hub = Hub::new();
    let (application, read) = keeping();
    let session = hub.open_plain(PlainOptions::default(), application);
    let old = Client::connect(&hub, &session);
    old.send("old");
    settled().await;
    let mut events = session.events();

    let new = Client::connect(&hub, &session);
    // Both have arrived when the loops run next.
    old.send("too late");
    new.send("new");
    assert_eq!(old.close_code().await, code(Code::Superseded));
    session.send("for the new one").await.expect("the session is open");
    assert_eq!(new.message().await, "for the new one");
    settled().await;
    assert_eq!(*read.lock().expect("unpoisoned"), ["old", "new"]);
    let Some(Event::Resumed { gap, replayed }) = events.next().await else {
        panic!("a takeover is a resume without a gap")
    };
    assert!(gap.is_zero() && replayed == 0);
    drop(old);
    settled().await;
    assert_eq!(session.state(), SessionState::Open, "the late end changes nothing");
}

#[tokio::test(start_paused = true)]
async fn of_many_clients_at_once_one_remains_and_the_others_are_told() {
    let hub = Hub::new();
    let session = plain(&hub);
    let clients: Vec<_> = (0..20).map(|_| Client::connect(&hub, &session)).collect();
    settled().await;
    let (last, others) = clients.split_last().expect("there are several clients");
    for other in others {
        assert_eq!(other.close_code().await, code(Code::Superseded));
    }
    session.send("you").await.expect("the session is open");
    assert_eq!(last.message().await, "you");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_displaced_and_still_told_why() {
    let hub = Hub::new();
    let session = plain(&hub);
    let stuck = Client::connect(&hub, &session);
    settled().await;
    stuck.end.block(true);
    session.send("lost or late").await.expect("there is room");
    settled().await;
    let new = Client::connect(&hub, &session);
    assert_eq!(
        new.message().await,
        "lost or late",
        "it was never given to a connection"
    );
    soon("the loop of the stuck client ends", stuck.carrier)
        .await
        .expect("it does not panic");
}

#[tokio::test(start_paused = true)]
async fn a_soft_close_asks_the_client_to_come_back() {
    let hub = Hub::new();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    session.soft_close();
    assert_eq!(
        client.close_code().await,
        code(Code::Replaced),
        "a code that does not forbid it"
    );
    assert_eq!(session.state(), SessionState::SoftClosed);
    session.send("again").await.expect("there is room");
    assert_eq!(Client::connect(&hub, &session).message().await, "again");
}

#[tokio::test(start_paused = true)]
async fn packets_read_before_the_connection_was_given_up_arrive_once() {
    let hub = Hub::new();
    let (application, read) = keeping();
    let session = hub.open_plain(PlainOptions::default(), application);
    let client = Client::connect(&hub, &session);
    client.send("one");
    settled().await;
    session.soft_close();
    client.send("two");
    settled().await;
    let again = Client::connect(&hub, &session);
    again.send("three");
    settled().await;
    assert_eq!(*read.lock().expect("unpoisoned"), ["one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn text_is_refused_and_the_session_stays() {
    let hub = Hub::new();
    let (application, read) = keeping();
    let session = hub.open_plain(PlainOptions::default(), application);
    let client = Client::connect(&hub, &session);
    client.send("before");
    client.end.send(Packet::Text(Bytes::from_static(b"text")));
    client.send("after");
    assert_eq!(client.close_code().await, code(Code::Malformed));
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
    Client::connect(&hub, &session).send("again");
    settled().await;
    assert_eq!(
        *read.lock().expect("unpoisoned"),
        ["before"],
        "the connection was cut at once"
    );
}

#[tokio::test(start_paused = true)]
async fn text_is_passed_on_as_bytes_if_so_configured() {
    let hub = Hub::new();
    let session = hub.open_plain(options(|plain| plain.text = PlainText::AsBytes), echo);
    let client = Client::connect(&hub, &session);
    client.end.send(Packet::Text(Bytes::from_static("grüße".as_bytes())));
    assert_eq!(client.message().await, "grüße", "answered in binary");

    client.end.send(Packet::Text(vec![b'x'; (1 << 20) + 1].into()));
    assert_eq!(client.close_code().await, code(Code::TooLarge));
    assert_eq!(session.state(), SessionState::SoftClosed);
}

#[tokio::test(start_paused = true)]
async fn a_packet_above_the_limit_ends_only_the_connection() {
    let hub = Hub::new();
    let session = hub.open_with(limited(|options| options.limits.message = 2000), echo);
    let exact = Client::connect(&hub, &session);
    exact.send(vec![7; 2000]);
    assert_eq!(exact.message().await, vec![7; 2000]);
    exact.send(vec![7; 2001]);
    assert_eq!(exact.close_code().await, code(Code::TooLarge));

    let transport = Client::connect(&hub, &session);
    transport.end.fail(ConnectionError::TooLarge);
    assert_eq!(transport.close_code().await, code(Code::TooLarge));
    assert_eq!(session.state(), SessionState::SoftClosed);
    let refused = session.send(vec![7; 2001]).await;
    assert_eq!(
        refused,
        Err(SendError::TooLarge {
            size: 2001,
            limit: 2000,
            message: vec![7; 2001].into()
        })
    );
}

#[tokio::test(start_paused = true)]
async fn every_message_is_compressed_if_so_configured() {
    let hub = Hub::new();
    let payloads = [vec![], vec![1, 2, 3], vec![7; 3_000_000]];
    for payload in &payloads {
        let zlib = hub.open_plain(options(|plain| plain.compression = PlainCompression::Zlib), echo);
        let client = Client::connect(&hub, &zlib);
        client.send(zlib_of(payload));
        let answer = client.message().await;
        assert_eq!(read_all(flate2::read::ZlibDecoder::new(&answer[..])), *payload);

        let gzip = hub.open_plain(options(|plain| plain.compression = PlainCompression::Gzip), echo);
        let client = Client::connect(&hub, &gzip);
        client.send(gzip_of(payload));
        let answer = client.message().await;
        assert_eq!(read_all(flate2::read::GzDecoder::new(&answer[..])), *payload);
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_cannot_be_inflated_ends_only_the_connection() {
    let hub = Hub::new();
    let bomb = vec![0; (8 << 20) + 1];
    for (compression, broken, bomb) in [
        (PlainCompression::Zlib, zlib_of(b"fine"), zlib_of(&bomb)),
        (PlainCompression::Gzip, gzip_of(b"fine"), gzip_of(&bomb)),
    ] {
        let session = hub.open_plain(options(|plain| plain.compression = compression), idle);
        let cut = broken[..broken.len() - 1].to_vec();
        let trailing = [&broken[..], &[0]].concat();
        for wrong in [cut, trailing, b"not compressed".to_vec(), vec![]] {
            let client = Client::connect(&hub, &session);
            client.send(wrong);
            assert_eq!(client.close_code().await, code(Code::Malformed), "{compression:?}");
        }
        let client = Client::connect(&hub, &session);
        client.send(bomb);
        assert_eq!(client.close_code().await, code(Code::TooLarge), "{compression:?}");
        assert_eq!(session.state(), SessionState::SoftClosed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_session_limits_both_the_wire_size_and_the_inflated_size() {
    let hub = Hub::new();
    let limited = limited(|options| {
        options.plain = Some(self::options(|plain| plain.compression = PlainCompression::Zlib));
        options.limits.message = 5000;
        options.limits.inflated = 20_000;
    });
    let session = hub.open_with(limited, echo);
    let client = Client::connect(&hub, &session);
    client.send(zlib_of(&[7; 20_000]));
    client.message().await;
    let refused = session.send(vec![7; 20_001]).await;
    assert_eq!(
        refused,
        Err(SendError::TooLarge {
            size: 20_001,
            limit: 20_000,
            message: vec![7; 20_001].into()
        })
    );
    client.send(vec![7; 5001]);
    assert_eq!(client.close_code().await, code(Code::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_is_pinged_and_kept_if_it_answers() {
    let hub = Hub::builder().heartbeat(seconds(10)).build();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    let started = tokio::time::Instant::now();
    for beat in 1..=20 {
        assert_eq!(client.packet().await, Some(Packet::Ping));
        assert_eq!(started.elapsed().as_secs(), 10 * beat);
        client.end.send(Packet::Other);
        settled().await;
    }
    // Messages also show that the client is alive.
    tokio::time::sleep(seconds(9)).await;
    client.send("here");
    assert_waits(client.end.receive()).await;
    tokio::time::sleep(seconds(9)).await;
    assert_waits(client.end.receive()).await;
    assert_eq!(session.state(), SessionState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_pinged_late_still_gets_its_time_to_answer() {
    let hub = Hub::builder().heartbeat(seconds(10)).build();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    // Simulates a process that was suspended.
    tokio::time::advance(seconds(1000)).await;
    assert_eq!(client.packet().await, Some(Packet::Ping));
    tokio::time::sleep(seconds(9)).await;
    assert_eq!(session.state(), SessionState::Open);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(session.snapshot().cause, Some(Cause::Silent));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_detected_even_while_messages_are_sent_to_it() {
    let hub = Hub::builder().heartbeat(seconds(10)).build();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    let started = tokio::time::Instant::now();
    let talking = tokio::spawn({
        let session = session.clone();
        async move {
            loop {
                session.send("tick").await.expect("the session lives");
                tokio::time::sleep(seconds(1)).await;
            }
        }
    });
    let mut events = session.events();
    assert_eq!(
        soon("an event", events.next()).await,
        Some(Event::SoftClosed(Cause::Silent))
    );
    assert_eq!(started.elapsed().as_secs(), 20);
    talking.abort();
    let mut last = None;
    while let Some(packet) = client.packet().await {
        last = Some(packet);
    }
    assert_eq!(last, Some(Packet::Close(code(Code::Silent))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_neither_reads_nor_writes_is_silent() {
    let hub = Hub::builder().heartbeat(seconds(10)).build();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    client.end.block(true);
    session.send("stuck").await.expect("there is room");
    let mut events = session.events();
    assert_eq!(
        soon("an event", events.next()).await,
        Some(Event::SoftClosed(Cause::Silent))
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_takes_something_now_and_then_is_alive() {
    let hub = Hub::builder().heartbeat(seconds(10)).build();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    for round in 0..20u8 {
        client.end.block(true);
        session.send([round]).await.expect("there is room");
        tokio::time::sleep(seconds(15)).await;
        client.end.block(false);
        settled().await;
    }
    assert_eq!(session.state(), SessionState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_read_slows_its_client_down() {
    let hub = Hub::builder().heartbeat(seconds(10)).build();
    let (sender, mut go) = tokio::sync::mpsc::unbounded_channel::<()>();
    let session = hub.open_plain(PlainOptions::default(), move |mut session: Session| async move {
        while go.recv().await.is_some() {
            let message = session.recv().await.expect("the session lives");
            session.send(message.into_bytes()).await.expect("the session lives");
        }
    });
    let client = Client::connect(&hub, &session);
    for number in 0..100u8 {
        client.send(vec![number; 100_000]);
    }
    settled().await;
    // The window, the message that exceeds it, and the message that was read but not passed on.
    let most = (1 << 20) + 2 * (support::wire::charge(100_000) + 64);
    let buffered = hub.stats().buffered;
    let unacknowledged = 1 << 18;
    assert!(buffered <= most + unacknowledged, "{buffered}");

    // Nothing is read from the client, so it cannot be silent.
    tokio::time::sleep(seconds(1000)).await;
    let buffered = hub.stats().buffered;
    assert!(buffered <= most, "{buffered}");
    assert_eq!(session.state(), SessionState::Open);
    for number in 0..100u8 {
        sender.send(()).expect("the application waits");
        assert_eq!(client.message().await, vec![number; 100_000]);
    }
    // From now on it can be silent.
    let mut events = session.events();
    assert_eq!(
        soon("an event", events.next()).await,
        Some(Event::SoftClosed(Cause::Silent))
    );
}

#[tokio::test(start_paused = true)]
async fn half_of_the_held_back_messages_arrive_with_the_next_client() {
    let hub = Hub::new();
    let (sender, mut go) = tokio::sync::mpsc::unbounded_channel::<()>();
    let (application, read) = keeping();
    let session = hub.open_plain(PlainOptions::default(), |session| async move {
        go.recv().await;
        application(session).await;
    });
    let client = Client::connect(&hub, &session);
    for number in 0..12u8 {
        client.send(vec![number; 100_000]);
    }
    settled().await;
    drop(client);
    settled().await;
    let next = Client::connect(&hub, &session);
    next.send("newer");
    sender.send(()).expect("the application waits");
    settled().await;
    let read = read.lock().expect("unpoisoned");
    let (last, earlier) = read.split_last().expect("something was read");
    assert_eq!(*last, "newer");
    for (number, message) in earlier.iter().enumerate() {
        assert_eq!(*message, vec![number as u8; 100_000], "whole, in order, once");
    }
    assert!(
        earlier.len() >= 10,
        "messages that fit the window were accepted: {}",
        earlier.len()
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_messages_come_before_the_end_which_has_a_code() {
    let hub = Hub::new();
    type End = fn(&SessionHandle);
    let ends: [(End, u16, EndReason); 3] = [
        (|session| session.close("bye"), 4102, EndReason::Closed("bye".into())),
        (|session| session.drain(seconds(1)), 4200, EndReason::Draining),
        (|session| session.abort("now"), 4102, EndReason::Aborted("now".into())),
    ];
    for (end, code, reason) in ends {
        let session = plain(&hub);
        let client = Client::connect(&hub, &session);
        settled().await;
        session.send("last").await.expect("the session is open");
        settled().await;
        end(&session);
        assert_eq!(client.message().await, "last");
        assert_eq!(client.close_code().await, code);
        assert_eq!(session.ended().await, reason);
    }
    let returns = hub.open_plain(PlainOptions::default(), |session: Session| async move {
        session.send("done").await.expect("the session is open");
    });
    let client = Client::connect(&hub, &returns);
    assert_eq!(client.message().await, "done");
    assert_eq!(client.close_code().await, code(Code::Ended));
}

#[tokio::test(start_paused = true)]
async fn an_ending_session_delivers_what_waits_to_the_next_client() {
    let hub = Hub::new();
    let session = plain(&hub);
    drop(Client::connect(&hub, &session));
    settled().await;
    session.send("last").await.expect("there is room");
    session.close("bye");
    let client = Client::connect(&hub, &session);
    assert_eq!(client.message().await, "last");
    assert_eq!(client.close_code().await, code(Code::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_client_is_cleaned_up_and_a_late_client_told() {
    let hub = Hub::new();
    let never = plain(&hub);
    let gone = plain(&hub);
    drop(Client::connect(&hub, &gone));
    assert_eq!(soon("the end", never.ended()).await, EndReason::NeverConnected);
    assert_eq!(soon("the end", gone.ended()).await, EndReason::Expired);
    for session in [never, gone] {
        assert_eq!(Client::connect(&hub, &session).close_code().await, code(Code::Ended));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_its_client_is_accepted_tells_the_client() {
    let hub = Hub::new();
    let session = plain(&hub);
    let accepted = hub
        .accept(&SessionRequest::new(&session.id().to_string(), []))
        .expect("it is plain");
    session.abort("too late");
    let (server, end) = pipe();
    let client = Client {
        end,
        carrier: tokio::spawn(run_connection_loop(accepted, server)),
    };
    assert_eq!(client.close_code().await, code(Code::Ended));
}

#[tokio::test(start_paused = true)]
async fn protocol_origin_and_user_decide_who_is_accepted() {
    let hub = Hub::builder()
        .principal(|request| request.cookie("user").map(str::to_owned))
        .build();
    let durable = hub.open(idle).id().to_string();
    let plain = plain(&hub).id().to_string();
    let mut options = limited(|_| {});
    options.principal = Some("ada".into());
    let hers = hub.open_with(options, idle).id().to_string();
    let ask = |name: &str, headers: &[(&'static str, &'static str)]| {
        let host = [("host", "example.com")];
        let headers = headers.iter().copied().chain(host);
        let request = SessionRequest::new(name, headers.map(|(name, value)| (name, value.as_bytes())));
        hub.accept(&request)
    };
    let ours = ("sec-websocket-protocol", "stillhere.v1");
    let theirs = ("sec-websocket-protocol", "robot.v7, chat");
    let foreign = ("origin", "https://evil.com");
    let user = |cookie| ("cookie", cookie);
    assert_eq!(ask(&durable, &[]).err(), Some(NotOurProtocol));
    assert_eq!(ask(&durable, &[theirs, foreign]).err(), Some(NotOurProtocol));
    for (name, headers, refused) in [
        (plain.as_str(), vec![], None),
        (&plain, vec![theirs], None),
        (&plain, vec![("origin", "http://example.com")], None),
        (&plain, vec![foreign], Some(Code::Forbidden)),
        (&hers, vec![user("user=ada")], None),
        (&hers, vec![user("user=eve")], Some(Code::Forbidden)),
        (&hers, vec![], Some(Code::Forbidden)),
        ("AAECAwQFBgcICQoLDA0ODw", vec![], Some(Code::Unknown)),
        ("nonsense", vec![], Some(Code::Unknown)),
        ("nonsense", vec![foreign], Some(Code::Forbidden)),
    ] {
        let accepted = ask(name, &headers).expect("it is upgraded, to be told why it is refused");
        assert_eq!(accepted.protocol(), None);
        let (server, end) = pipe();
        let client = Client {
            end,
            carrier: tokio::spawn(run_connection_loop(accepted, server)),
        };
        settled().await;
        match refused {
            Some(refused) => assert_eq!(client.close_code().await, code(refused), "{headers:?}"),
            None => assert!(!client.carrier.is_finished(), "{headers:?}"),
        }
    }

    // Our own client is told by an `end` frame.
    let accepted = ask(&plain, &[ours]).expect("our protocol is always upgraded");
    assert_eq!(accepted.protocol(), Some("stillhere.v1"));
    let (server, end) = pipe();
    let wire = support::wire::Wire {
        end,
        carrier: tokio::spawn(run_connection_loop(accepted, server)),
    };
    assert_eq!(wire.end().await.code, Code::Version as u64);
}

#[tokio::test(start_paused = true)]
async fn the_packet_limit_is_the_message_limit() {
    let hub = Hub::new();
    let limit = |message| {
        let session = hub.open_with(limited(|options| options.limits.message = message), idle);
        let accepted = hub.accept(&SessionRequest::new(&session.id().to_string(), []));
        accepted.expect("it is plain").packet_limit()
    };
    assert_eq!(limit(1 << 20), 1 << 20);
    assert_eq!(limit(5_000_000), 5_000_000);
    assert_eq!(limit(1), 1024, "a close must fit");
}

#[tokio::test(start_paused = true)]
async fn options_without_meaning_for_a_plain_session_have_no_effect() {
    let hub = Hub::builder().restore_on_reload("label").compress_from(1).build();
    let session = hub.open_plain(PlainOptions::default(), echo);
    assert!(!session.ticket_json().contains("label"));
    let client = Client::connect(&hub, &session);
    client.send(vec![7; 5000]);
    assert_eq!(client.message().await, vec![7; 5000]);
}

#[tokio::test(start_paused = true)]
async fn a_plain_session_is_carried_over_a_connection_within_the_process() {
    let hub = Hub::new();
    let session = hub.open_plain(PlainOptions::default(), echo);
    let accepted = hub.accept(&SessionRequest::new(&session.id().to_string(), []));
    let (ours, mut client) = connection_pair(1);
    tokio::spawn(run_connection_loop(accepted.expect("it is plain"), ours));
    for size in [0, 1, 200_000] {
        let message = Packet::Binary(vec![5; size].into());
        client
            .send(message.clone())
            .await
            .expect("the connection accepts the message");
        let answer = soon("an answer", client.next()).await;
        assert_eq!(answer.expect("it is open").expect("the connection holds"), message);
    }
    drop(client);
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_disconnects_leaves_no_loop_running() {
    let hub = Hub::new();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    assert_eq!(hub.stats().connections, 1);
    client.end.send(Packet::Close(1000));
    soon("the loop is over", client.carrier)
        .await
        .expect("it does not panic");
    assert_eq!(hub.stats().connections, 0);
    assert_eq!(session.snapshot().cause, Some(Cause::Lost));
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_costs_no_polls() {
    let hub = Hub::new();
    let session = plain(&hub);
    let client = Client::connect(&hub, &session);
    settled().await;
    session.send("one").await.expect("the session is open");
    settled().await;
    let polls = client.end.polls();
    tokio::time::sleep(seconds(10)).await;
    assert!(client.end.polls() <= polls + 2, "{} polls", client.end.polls() - polls);
}

fn read_all(mut reader: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("the session compresses well");
    bytes
}

fn zlib_of(payload: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, payload).expect("writing to memory succeeds");
    encoder.finish().expect("writing to memory succeeds")
}

fn gzip_of(payload: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, payload).expect("writing to memory succeeds");
    encoder.finish().expect("writing to memory succeeds")
}
