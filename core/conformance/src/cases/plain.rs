//! Plain sessions, whose clients have a protocol of their own and do not know ours (PROTOCOL.md,
//! section 17).

use std::io::{Read as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use stillhere::code::Code;
use stillhere::machine::Event;
use stillhere::{
    Cause, DefaultCleanupPolicy, EndReason, Hub, PlainCompression, PlainOptions, PlainText, SessionHandle,
    SessionOptions, SessionState,
};
use tokio::sync::oneshot;

use crate::application::{echo, handing_on, never_reads, next_message};
use crate::neighbour::Neighbour;
use crate::plain_client::PlainClient;
use crate::raw_connection::RawConnection;
use crate::server::{Server, end_of, wait_for_event, wait_for_state};
use crate::socket::Request;

fn open_echo(server: &Server) -> SessionHandle {
    server.hub.open_plain(PlainOptions::default(), echo)
}

fn plain_options(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.plain = Some(PlainOptions::default());
    options
}

/// PROTOCOL 17: one WebSocket message of any size, in any number of frames, is one application
/// message, with nothing added.
pub async fn one_web_socket_message_is_one_message(server: &Server) {
    let mut options = plain_options(server);
    options.limits.message = 3_000_000;
    let session = server.hub.open_with(options, echo);
    let mut client = PlainClient::connect(server, &session).await;
    for size in [0, 1, 125, 65_535, 65_536, 65_537, 1 << 20, 3_000_000] {
        let message: Vec<_> = (0..size).map(|at| (at % 251) as u8).collect();
        client.send(message.clone()).await;
        assert_eq!(client.recv().await, message);
    }
    client.send_in_two("still ", "here").await;
    assert_eq!(client.recv().await, "still here");
}

/// PROTOCOL 17: messages sent while no client was connected arrive once and in order, before newer
/// messages.
pub async fn queued_messages_come_first_and_in_order(server: &Server) {
    let session = server.hub.open_plain(PlainOptions::default(), never_reads);
    session.send([0]).await.expect("there is room");
    let mut number = 1;
    for end in ["closed", "cut", "reset"] {
        let mut client = PlainClient::connect_through_proxy(server, &session).await;
        let connection = server.newest_connection(&session).await;
        session.send([number]).await.expect("there is room");
        // Everything sent before is in transit to this client and arrives first.
        for expected in number - 1..=number {
            assert_eq!(client.recv().await, [expected][..], "{end}");
        }
        match end {
            "cut" => connection.cut(),
            "reset" => connection.reset(),
            _ => drop(client),
        }
        wait_for_state(&session, SessionState::SoftClosed).await;
        session.send([number + 1]).await.expect("there is room");
        number += 2;
    }
    let mut last = PlainClient::connect(server, &session).await;
    assert_eq!(last.recv().await, [number - 1][..]);
}

/// PROTOCOL 17: a queue of many megabytes is bounded, waits for its client and arrives whole.
pub async fn a_queue_larger_than_the_outbox_waits_for_its_client(server: &Server) {
    let session = open_echo(server);
    drop(PlainClient::connect(server, &session).await);
    wait_for_state(&session, SessionState::SoftClosed).await;
    let sending = tokio::spawn({
        let session = session.clone();
        async move {
            for number in 0..20u8 {
                session.send(vec![number; 1 << 20]).await.expect("the session lives");
            }
        }
    });
    let mut client = PlainClient::connect(server, &session).await;
    for number in 0..20u8 {
        assert_eq!(client.recv().await, vec![number; 1 << 20]);
    }
    sending.await.expect("it does not panic");
    assert!(server.hub.stats().buffered <= server.hub.session_options().limits.outbox);
}

/// Promise 3: a client that reconnects while its old connection still looks alive gets the session
/// at once.
pub async fn a_half_open_client_is_displaced_at_once(server: &Server) {
    let session = open_echo(server);
    let mut stale = PlainClient::connect_through_proxy(server, &session).await;
    stale.send("one").await;
    assert_eq!(stale.recv().await, "one");
    let connection = server.newest_connection(&session).await;
    connection.silence();
    let mut events = session.events();

    let mut new = PlainClient::connect(server, &session).await;
    new.send("two").await;
    assert_eq!(new.recv().await, "two");
    let event = wait_for_event(&mut events, "a resume", |_| true).await;
    assert!(
        matches!(event, Event::Resumed { gap, .. } if gap.is_zero()),
        "no gap, no soft close: {event:?}"
    );
    connection.resume();
    assert_eq!(stale.close_code().await, Code::Superseded as u16);
    drop(stale);
    new.send("three").await;
    assert_eq!(new.recv().await, "three", "the stale connection's end changes nothing");
}

/// Promise 3: of two tabs the newest gets the session. The other is closed with a code that forbids
/// reconnecting, and its messages are ignored.
pub async fn of_two_tabs_the_newest_has_the_session(server: &Server) {
    let (application, mut incoming) = handing_on();
    let session = server.hub.open_plain(PlainOptions::default(), application);
    let mut first = PlainClient::connect(server, &session).await;
    first.send("first").await;
    assert_eq!(next_message(&mut incoming).await, "first");
    let mut second = PlainClient::connect(server, &session).await;
    second.send("second").await;
    assert_eq!(next_message(&mut incoming).await, "second");

    first.try_send("too late").await;
    session.send("for the newest").await.expect("the session is open");
    assert_eq!(second.recv().await, "for the newest");
    assert_eq!(first.read().await, Err(Code::Superseded as u16));
    second.send("third").await;
    assert_eq!(next_message(&mut incoming).await, "third");
    assert_eq!(session.snapshot().reconnects, 1);
}

/// PROTOCOL 17: text is refused, which ends only the connection, or passed on as bytes, as the
/// application has chosen.
pub async fn text_is_refused_or_delivered_as_configured(server: &Server) {
    let refuses = open_echo(server);
    let mut client = PlainClient::connect(server, &refuses).await;
    client.send_text("hello").await;
    assert_eq!(client.close_code().await, Code::Malformed as u16);
    wait_for_state(&refuses, SessionState::SoftClosed).await;
    let mut client = PlainClient::connect(server, &refuses).await;
    client.send("hello").await;
    assert_eq!(client.recv().await, "hello");

    let mut options = PlainOptions::default();
    options.text = PlainText::AsBytes;
    let takes = server.hub.open_plain(options, echo);
    let mut client = PlainClient::connect(server, &takes).await;
    client.send_text("héllo").await;
    assert_eq!(client.recv().await, "héllo");
}

/// PROTOCOL 17: with compression every message is compressed, in both directions. Data that cannot
/// be inflated ends only the connection.
pub async fn messages_are_compressed_if_so_configured(server: &Server) {
    let message: Vec<_> = (0..2_000_000u32).map(|at| (at / 1000) as u8).collect();
    for compression in [PlainCompression::Zlib, PlainCompression::Gzip] {
        let mut options = PlainOptions::default();
        options.compression = compression;
        let (application, mut incoming) = handing_on();
        let session = server.hub.open_plain(options, application);
        let mut client = PlainClient::connect(server, &session).await;
        for message in [&b""[..], b"short", &message] {
            client.send(compress(compression, message)).await;
            assert_eq!(next_message(&mut incoming).await, message);
            session.send(message.to_vec()).await.expect("the session is open");
            assert_eq!(decompress(compression, &client.recv().await), message);
        }
        let inflated = server.hub.session_options().limits.inflated;
        let bomb = compress(compression, &vec![0; inflated as usize + 1]);
        for (wrong, code) in [
            (Bytes::from_static(b"not compressed"), Code::Malformed),
            (bomb, Code::TooLarge),
        ] {
            let mut client = PlainClient::connect(server, &session).await;
            client.send(wrong).await;
            assert_eq!(client.close_code().await, code as u16, "{compression:?}");
            wait_for_state(&session, SessionState::SoftClosed).await;
        }
    }
}

fn compress(compression: PlainCompression, message: &[u8]) -> Bytes {
    let level = Compression::default();
    let compressed = if compression == PlainCompression::Gzip {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(message).and_then(|()| encoder.finish())
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(message).and_then(|()| encoder.finish())
    };
    compressed.expect("writing to memory succeeds").into()
}

fn decompress(compression: PlainCompression, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let read = if compression == PlainCompression::Gzip {
        GzDecoder::new(bytes).read_to_end(&mut message)
    } else {
        ZlibDecoder::new(bytes).read_to_end(&mut message)
    };
    read.expect("the session compresses well");
    message
}

/// Promise 6: a message above the limit is refused, with a code that arrives. The session waits for
/// the next client.
pub async fn an_oversize_message_ends_only_the_connection(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = open_echo(server);
    let limit = server.hub.session_options().limits.message as usize;
    for size in [limit + 1, 20 * limit] {
        let mut client = PlainClient::connect(server, &session).await;
        client.send(vec![1; limit]).await;
        assert_eq!(client.recv().await.len(), limit);
        client.try_send(vec![2; size]).await;
        assert_eq!(client.close_code().await, Code::TooLarge as u16);
        wait_for_state(&session, SessionState::SoftClosed).await;
    }
    neighbour.assert_untouched().await;
}

/// R44, promise 6: anyone who knows the id is accepted if the Origin and the user are right. Our
/// own subprotocol is not allowed for plain sessions, and is required for all others. A refused
/// client can read the reason.
pub async fn a_refused_client_is_closed_with_a_code(server: &Server) {
    let hub = Hub::builder().principal(|request| request.cookie("user").map(str::to_owned));
    let server = server.with_hub(hub).await;
    let session = open_echo(&server);
    let mut options = plain_options(&server);
    options.principal = Some("ada".into());
    let hers = server.hub.open_with(options, echo);
    let at = |path: &str| Request::new(server.address, path).offering_nothing();
    let unknown = format!("{}/AAECAwQFBgcICQoLDA0ODw", server.hub.mount());
    let no_id = format!("{}/no-id-at-all", server.hub.mount());
    for (request, code) in [
        (at(&unknown), Code::Unknown),
        (at(&no_id), Code::Unknown),
        (at(&session.url()).from_origin("http://evil.example"), Code::Forbidden),
        (at(&hers.url()), Code::Forbidden),
        (at(&hers.url()).with_cookie("user=eve"), Code::Forbidden),
    ] {
        let mut client = PlainClient::open(&request).await.expect("it is upgraded anyway");
        assert_eq!(client.read().await, Err(code as u16), "{request:?}");
    }
    let mut ours = RawConnection::open(&Request::new(server.address, &session.url()))
        .await
        .expect("our protocol is always upgraded");
    assert_eq!(ours.end().await.code, Code::Version as u64);
    assert_eq!(session.state(), SessionState::Unconnected);
    let durable = server.hub.open(echo);
    assert_eq!(PlainClient::open(&at(&durable.url())).await.err(), Some(400));
    durable.abort("");
    assert_eq!(
        PlainClient::open(&at(&durable.url())).await.err(),
        Some(400),
        "the answer is the same as for a live session"
    );

    let same_origin = format!("http://{}", server.address);
    for request in [
        at(&session.url()).from_origin(&same_origin),
        at(&hers.url()).with_cookie("user=ada"),
    ] {
        let mut client = PlainClient::open(&request).await.expect("it is upgraded");
        client.send("let in").await;
        assert_eq!(client.recv().await, "let in");
    }

    for ended in [&session, &hers] {
        ended.abort("");
    }
    for (request, code) in [
        (at(&session.url()), Code::Ended),
        (at(&hers.url()), Code::Forbidden),
        (at(&hers.url()).with_cookie("user=ada"), Code::Ended),
    ] {
        let mut client = PlainClient::open(&request)
            .await
            .expect("it is upgraded, to be told why it is refused");
        assert_eq!(client.read().await, Err(code as u16), "{request:?}");
    }
    let mut ours = RawConnection::open(&Request::new(server.address, &session.url()))
        .await
        .expect("our protocol is always upgraded");
    assert_eq!(
        ours.end().await.code,
        Code::Version as u64,
        "the answer is the same as for a live session"
    );
}

/// PROTOCOL 17: WebSocket pings detect a dead client within two heartbeats, even while messages are
/// sent to it. A client that only answers pings is kept.
pub async fn a_silent_client_is_detected_and_a_quiet_one_is_kept(server: &Server) {
    let mut options = plain_options(server);
    options.timing.heartbeat = Duration::from_secs(1);
    let session = server.hub.open_with(options, never_reads);
    let mut events = session.events();
    let mut client = PlainClient::connect_through_proxy(server, &session).await;
    // At least three quarters of a heartbeat pass between two pings, so a dead client would have
    // been detected.
    client.wait_for_pings(3).await;
    assert_eq!(session.state(), SessionState::Open);

    server.newest_connection(&session).await.silence();
    let ticking = tokio::spawn({
        let session = session.clone();
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            while session.send("tick").await.is_ok() {
                ticks.tick().await;
            }
        }
    });
    let event = wait_for_event(&mut events, "the soft close", |event| {
        matches!(event, Event::SoftClosed(_))
    })
    .await;
    assert_eq!(event, Event::SoftClosed(Cause::Silent));
    ticking.abort();
}

/// The cleanup policy ends a plain session without a client, and a client that connects too late is
/// told why.
pub async fn a_session_without_a_client_is_cleaned_up(server: &Server) {
    let policy = DefaultCleanupPolicy {
        unconnected: Duration::from_secs(60),
        soft_closed: Duration::from_millis(300),
        ..DefaultCleanupPolicy::default()
    };
    let server = server.with_hub(Hub::builder().cleanup_policy(policy)).await;
    let session = open_echo(&server);
    let mut events = session.events();
    drop(PlainClient::connect(&server, &session).await);
    wait_for_event(&mut events, "the soft close", |event| {
        matches!(event, Event::SoftClosed(_))
    })
    .await;
    assert_eq!(end_of(&session).await, EndReason::Expired);
    let mut late = PlainClient::connect(&server, &session).await;
    assert_eq!(late.read().await, Err(Code::Ended as u16));
}

/// Promise 5: the last messages arrive before the end, and the close code tells the client why.
pub async fn the_last_messages_come_before_the_end(server: &Server) {
    let session = server.hub.open_plain(PlainOptions::default(), |session| async move {
        for number in 0..100u8 {
            session.send([number]).await.expect("the session is open");
        }
    });
    let mut client = PlainClient::connect(server, &session).await;
    for number in 0..100u8 {
        assert_eq!(client.recv().await, [number][..]);
    }
    assert_eq!(client.read().await, Err(Code::Ended as u16));
    assert_eq!(end_of(&session).await, EndReason::Finished);

    let drained = open_echo(server);
    let mut client = PlainClient::connect(server, &drained).await;
    client.send("here").await;
    assert_eq!(client.recv().await, "here");
    drained.drain(Duration::from_secs(1));
    assert_eq!(client.read().await, Err(Code::Draining as u16));
}

/// Promise 4: while the application does not read, the server does not read from its client, which
/// then waits as over TCP. Nothing is lost.
pub async fn a_client_is_held_back_while_the_application_does_not_read(server: &Server) {
    let (go, wait) = oneshot::channel::<()>();
    let (application, mut incoming) = handing_on();
    let session = server.hub.open_plain(PlainOptions::default(), |session| async move {
        wait.await.expect("the case says when");
        application(session).await;
    });
    let mut client = PlainClient::connect(server, &session).await;
    let sending = tokio::spawn(async move {
        for number in 0..100u8 {
            client.send(vec![number; 300_000]).await;
        }
        client
    });
    let limits = server.hub.session_options().limits;
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    while session.snapshot().buffered < limits.window / 2 {
        looks.tick().await;
    }
    assert!(!sending.is_finished(), "30 MB fit no buffer on the way");
    assert!(session.snapshot().buffered <= limits.window + limits.message);
    go.send(()).expect("the application waits");
    for number in 0..100u8 {
        assert_eq!(next_message(&mut incoming).await, vec![number; 300_000]);
    }
    sending.await.expect("it does not panic");
}
