//! Nothing a peer sends can panic, hang or bloat the server: promise 6. Each with its code, and a neighbour that notices nothing.

use std::io::Write as _;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use stillhere::machine::Outcome;
use stillhere::wire::{Counts, Data, Frame};
use stillhere::{Cause, Code, EndReason, Hub, Lane, PerLane, Secret, SessionHandle, SessionOptions, SessionState};
use stillhere_client::TicketError;

use crate::application::{echo, handing_on, never_reads, next_message};
use crate::browser::Browser;
use crate::credentials::Credentials;
use crate::http;
use crate::neighbour::Neighbour;
use crate::raw_connection::{RawConnection, fragment, hello, received, whole};
use crate::server::{Server, credentials, end_of, wait_for_state};
use crate::socket::Request;

/// PROTOCOL 2, 11: an id that no session has, and a text that is no id, are Unknown.
pub async fn an_unknown_id_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let mount = server.hub.mount();
    for id in [
        "AAECAwQFBgcICQoLDA0ODw",
        "AAECAwQFBgcICQoLDA0OD",
        "no-id-at-all",
        "%00%ff",
        "client.js",
    ] {
        let mut raw = server.raw_to(&format!("{mount}/{id}")).await;
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Unknown as u64, 0), "{id}");
    }
    neighbour.assert_untouched().await;
}

/// PROTOCOL 5: a wrong secret is refused, and the session that it was tried on goes on, whether its page is there or not.
pub async fn a_wrong_secret_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let right = credentials(&session);
    let mut current = server.raw_welcomed(&session).await;
    let mut almost = *right.secret.expose();
    almost[31] ^= 1;
    for secret in [[0; 32], almost] {
        let mut wrong = right.clone();
        wrong.secret = Secret::from_bytes(secret);
        for document in [1, 2] {
            let mut raw = server.raw(&wrong).await;
            raw.say_hello(&wrong, document, 0, 9).await;
            let end = raw.end().await;
            assert_eq!((end.code, end.reason), (Code::WrongSecret as u64, 0));
        }
    }
    current.send(whole(Lane::Interactive, 1, "mine")).await;
    assert_eq!(current.data().await.payload, "mine");
    neighbour.assert_untouched().await;
}

/// R21: a connection that says nothing gets HelloDeadline, and the session keeps waiting for its browser.
pub async fn a_connection_without_a_hello_is_closed(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let mut options = server.hub.session_options();
    options.timing.hello = Duration::from_millis(100);
    let session = server.hub.open_with(options, echo);
    let mut raw = server.raw(&credentials(&session)).await;
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (Code::HelloDeadline as u64, 0));
    assert_eq!(session.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}

/// PROTOCOL 2: a page whose name resolves to a server that does not go by it (DNS rebinding) is Forbidden, though its origin is the host.
pub async fn a_strange_host_is_refused(server: &Server) {
    let server = server.with_hub(Hub::builder().allow_host("localhost")).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    for strange in ["rebound.example", "127.0.0.1.rebound.example"] {
        let host = format!("{strange}:{}", server.address.port());
        let request = Request::new(server.address, &path)
            .to_host(&host)
            .from_origin(&format!("http://{host}"));
        let mut raw = RawConnection::open(&request)
            .await
            .expect("it is upgraded all the same");
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Forbidden as u64, 0), "{host}");
    }
    assert_eq!(session.state(), SessionState::Unconnected);
    server.browse(&session).wait_for_outcome(Outcome::Opened).await;
}

/// PROTOCOL 2: a page of another origin is Forbidden, in the middle of a handshake that the browser can read; one that is allowed is not.
pub async fn a_foreign_origin_is_refused(server: &Server) {
    let server = server
        .with_hub(Hub::builder().allow_origin("https://friend.example"))
        .await;
    let neighbour = Neighbour::move_in(&server).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    let same_port_elsewhere = format!("http://example.com:{}", server.address.port());
    for origin in [
        "http://evil.example",
        "http://127.0.0.1",
        "null",
        &same_port_elsewhere,
        "https://friend.example.evil",
    ] {
        let request = Request::new(server.address, &path).from_origin(origin);
        let mut raw = RawConnection::open(&request)
            .await
            .expect("it is upgraded all the same");
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Forbidden as u64, 0), "{origin}");
    }
    assert_eq!(session.state(), SessionState::Unconnected);

    for origin in [
        format!("http://{}", server.address),
        "https://friend.example".to_owned(),
    ] {
        let session = server.hub.open(echo);
        let browser = Browser::connect_from(&origin, server.address, &session.ticket_json());
        browser.wait_for_outcome(Outcome::Opened).await;
    }
    neighbour.assert_untouched().await;
}

/// R44, PROTOCOL 2: a WebSocket request without our subprotocol is answered with HTTP 400, and a request that is none with 404.
pub async fn a_request_without_our_subprotocol_is_not_upgraded(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    let request = Request::new(server.address, &path);
    for request in [
        request.clone().offering_nothing(),
        request.clone().offering("chat, graphql-ws"),
        request.offering("stillhere"),
    ] {
        assert_eq!(
            RawConnection::open(&request).await.err(),
            Some(400),
            "{:?}",
            request.protocols
        );
    }
    assert_eq!(http::get(server.address, &path, &[]).await.status, 404);
    assert_eq!(session.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}

/// R16: a client of another version is told Version; one that offers ours among others is welcome.
pub async fn another_version_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let request = Request::new(server.address, credentials.path());
    for offer in ["stillhere.v2", "chat, stillhere.v9, stillhere.v10"] {
        let mut raw = RawConnection::open(&request.clone().offering(offer))
            .await
            .expect("it is upgraded all the same");
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Version as u64, 0), "{offer}");
    }
    for offer in ["stillhere.v2, stillhere.v1", "chat,stillhere.v1"] {
        let mut raw = RawConnection::open(&request.clone().offering(offer))
            .await
            .expect("it is upgraded");
        raw.say_hello(&credentials, 1, 0, if offer.starts_with("chat") { 2 } else { 1 })
            .await;
        assert_eq!(raw.welcome().await.incarnation, 1);
    }
    neighbour.assert_untouched().await;
}

/// PROTOCOL 5: what is no hello, as the first frame, is Malformed and costs the connection only.
pub async fn what_is_no_hello_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let hello = Frame::Hello(hello(&credentials, 1, 0, 1)).to_bytes();
    let mut with_more = BytesMut::from(&hello[..]);
    with_more.put_u8(0);
    let attempt_0 = Frame::Hello(crate::raw_connection::hello(&credentials, 1, 0, 0)).to_bytes();
    let first_frames: [Bytes; 9] = [
        Bytes::new(),
        Bytes::from_static(b"\x00"),
        Bytes::from_static(b"\xff\xff\xff"),
        hello.slice(..1),
        hello.slice(..hello.len() - 1),
        with_more.freeze(),
        attempt_0,
        Frame::Confirm.to_bytes(),
        whole(Lane::Interactive, 1, "too early").to_bytes(),
    ];
    for first in first_frames {
        let mut raw = server.raw(&credentials).await;
        raw.send_bytes(first.clone()).await;
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Malformed as u64, 0), "{first:?}");
    }
    let mut raw = server.raw(&credentials).await;
    raw.send_text("hello").await;
    assert_eq!(raw.end().await.code, Code::Malformed as u64);
    assert_eq!(session.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}

/// PROTOCOL 2: a text message after the welcome is Malformed, and ends the session with that reason.
pub async fn a_text_message_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send_text("hello").await;
    assert_ends(&session, raw, EndReason::Malformed).await;
    neighbour.assert_untouched().await;
}

/// PROTOCOL 3, 4 and 7.2: every frame that the protocol calls Malformed ends the session with that reason.
pub async fn a_malformed_frame_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let size = server.hub.session_options().limits.fragment as usize;
    let lane = Lane::Interactive;
    let compressed = Frame::Data(Data {
        lane,
        sequence: 2,
        more: false,
        compressed: true,
        payload: "x".into(),
    });
    let frames: [(&str, Vec<Bytes>); 18] = [
        ("empty", vec![Bytes::new()]),
        ("of an unknown type", vec![Bytes::from_static(b"\x7f")]),
        ("of a type beside data", vec![Bytes::from_static(b"\x48\x01")]),
        ("ending in a field", vec![Bytes::from_static(b"\x20\x00\x00")]),
        ("ending in a number", vec![Bytes::from_static(b"\x40\x81")]),
        ("with bytes after the last field", vec![Bytes::from_static(b"\x03\x00")]),
        (
            "with a number not in its shortest form",
            vec![Bytes::from_static(b"\x40\x81\x00hi")],
        ),
        (
            "with a number of 2^53",
            vec![Bytes::from_static(b"\x40\x80\x80\x80\x80\x80\x80\x80\x10hi")],
        ),
        (
            "with a number of nine bytes",
            vec![Bytes::from_static(b"\x40\x81\x80\x80\x80\x80\x80\x80\x80\x01hi")],
        ),
        ("with sequence 0", vec![Bytes::from_static(b"\x40\x00hi")]),
        ("only a server sends: offer", vec![Frame::Offer.to_bytes()]),
        (
            "only a server sends: end",
            vec![Bytes::from_static(b"\x12\x86\x20\x01\x00")],
        ),
        (
            "a second hello",
            vec![Frame::Hello(hello(&credentials(&server.hub.open(echo)), 1, 0, 2)).to_bytes()],
        ),
        ("a confirm of nothing", vec![Frame::Confirm.to_bytes()]),
        (
            "a fragment that is short",
            vec![fragment(lane, 1, vec![0; size - 1]).to_bytes()],
        ),
        ("an empty fragment", vec![fragment(lane, 1, "").to_bytes()]),
        (
            "an empty last fragment",
            vec![
                fragment(lane, 1, vec![0; size]).to_bytes(),
                whole(lane, 2, "").to_bytes(),
            ],
        ),
        (
            "a last fragment that is compressed alone",
            vec![fragment(lane, 1, vec![0; size]).to_bytes(), compressed.to_bytes()],
        ),
    ];
    for (what, frames) in frames {
        let session = server.hub.open_with(taking_compressed(server), echo);
        let mut raw = server.raw_welcomed(&session).await;
        for bytes in frames {
            raw.send_bytes(bytes).await;
        }
        let end = raw.end().await;
        assert_eq!(
            (end.code, end.reason),
            (Code::Malformed as u64, EndReason::Malformed.number()),
            "a frame {what}"
        );
        assert_eq!(end_of(&session).await, EndReason::Malformed, "a frame {what}");
    }
    neighbour.assert_untouched().await;
}

/// PROTOCOL 7.2: a data frame above the fragment size is TooLarge, by one byte or by a few.
pub async fn an_oversize_frame_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let size = server.hub.session_options().limits.fragment as usize;
    for size in [size + 1, size + 100, 2 * size] {
        let session = server.hub.open(echo);
        let mut raw = server.raw_welcomed(&session).await;
        raw.send(whole(Lane::Bulk, 1, vec![0; size])).await;
        assert_ends(&session, raw, EndReason::TooLarge).await;
    }
    neighbour.assert_untouched().await;
}

/// Promise 6: a frame far above the limit is refused by its announced length, before its bytes have come; and the browser reads why even
/// while it still sends.
pub async fn a_huge_frame_is_refused_before_it_has_come(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    // FIN and binary, masked, 15 MiB to follow, of which the first byte comes.
    raw.send_octets(b"\x82\xff\x00\x00\x00\x00\x00\xf0\x00\x00\x00\x00\x00\x00\x40")
        .await;
    assert_ends(&session, raw, EndReason::TooLarge).await;

    let session = server.hub.open(echo);
    let browser_that_sends = async {
        let mut raw = server.raw_welcomed(&session).await;
        raw.try_send(whole(Lane::Bulk, 1, vec![0; 15 << 20])).await;
        raw.end().await
    };
    let end = browser_that_sends.await;
    assert_eq!(
        (end.code, end.reason),
        (Code::TooLarge as u64, EndReason::TooLarge.number())
    );

    let session = server.hub.open(echo);
    let mut raw = server.raw(&credentials(&session)).await;
    raw.send_octets(b"\x82\xff\x00\x00\x00\x00\x00\xf0\x00\x00\x00\x00\x00\x00\x01")
        .await;
    let end = raw.end().await;
    assert_eq!(
        (end.code, end.reason),
        (Code::TooLarge as u64, 0),
        "before the hello, the connection only"
    );
    neighbour.assert_untouched().await;
}

/// PROTOCOL 7.2: a message above the message limit is TooLarge as soon as the sum of its fragments exceeds it.
pub async fn a_message_above_the_limit_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let limits = credentials(&session).limits;
    let mut raw = server.raw_welcomed(&session).await;
    let fragments = limits.message / limits.fragment;
    for sequence in 1..=fragments {
        raw.send(fragment(Lane::Bulk, sequence, vec![0; limits.fragment as usize]))
            .await;
        // The credit that came back.
        while raw.counts().await.received.bulk < sequence {}
    }
    assert_eq!(session.state(), SessionState::Open, "exactly the limit");
    raw.send(whole(Lane::Bulk, fragments + 1, "x")).await;
    assert_ends(&session, raw, EndReason::TooLarge).await;
    neighbour.assert_untouched().await;
}

/// R12: a message of 1 MB that inflates to 1 GB is TooLarge, without ever being in memory.
pub async fn a_zlib_bomb_ends_the_session_in_bounded_memory(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open_with(taking_compressed(server), echo);
    let limits = credentials(&session).limits;
    let bomb = bomb(1000);
    assert!(bomb.len() as u64 <= limits.message, "{} bytes", bomb.len());
    let before = peak_memory();
    let mut raw = server.raw_welcomed(&session).await;
    let mut rest = bomb;
    for sequence in 1.. {
        let payload = rest.split_to(rest.len().min(limits.fragment as usize));
        let more = !rest.is_empty();
        raw.send(Frame::Data(Data {
            lane: Lane::Interactive,
            sequence,
            more,
            compressed: true,
            payload,
        }))
        .await;
        if !more {
            break;
        }
    }
    assert_ends(&session, raw, EndReason::TooLarge).await;
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 512 << 20, "{before} bytes before, {after} after");
    }
    neighbour.assert_untouched().await;
}

/// Of an application that has chosen compression, for messages of a size that it never sends.
fn taking_compressed(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.compress_from = Some(usize::MAX);
    options
}

/// So many MiB of zeros, deflated. A block that is flushed fully begins and ends at a whole byte and knows nothing of those before it, so
/// one serves for all.
fn bomb(mebibytes: usize) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = |encoder: &mut ZlibEncoder<Vec<u8>>| {
        encoder.write_all(&vec![0; 1 << 20]).expect("memory takes it");
        encoder.flush().expect("memory takes it");
        encoder.get_ref().len()
    };
    let first = zeros(&mut encoder);
    let second = zeros(&mut encoder);
    let deflated = encoder.finish().expect("memory takes it");
    let mut bomb = BytesMut::from(&deflated[..first]);
    for _ in 1..mebibytes {
        bomb.extend_from_slice(&deflated[first..second]);
    }
    bomb.freeze()
}

/// The most memory this process has had, where that can be read.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// PROTOCOL 7.4: a compressed message that is no whole zlib stream, or has bytes after it, is Malformed.
pub async fn a_broken_zlib_stream_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&[7; 1000]).expect("memory takes it");
    let good = encoder.finish().expect("memory takes it");
    let mut with_more = good.clone();
    with_more.push(0);
    let truncated = good[..good.len() - 1].to_vec();
    let compressed = |payload: Vec<u8>| {
        Frame::Data(Data {
            lane: Lane::Interactive,
            sequence: 1,
            more: false,
            compressed: true,
            payload: payload.into(),
        })
    };
    for broken in [with_more, truncated, b"no zlib".to_vec(), Vec::new()] {
        let session = server.hub.open_with(taking_compressed(server), echo);
        let mut raw = server.raw_welcomed(&session).await;
        raw.send(compressed(broken)).await;
        assert_ends(&session, raw, EndReason::Malformed).await;
    }
    let session = server.hub.open_with(taking_compressed(server), echo);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send(compressed(good)).await;
    assert_eq!(raw.data().await.payload, vec![7; 1000]);
    neighbour.assert_untouched().await;
}

/// R2, PROTOCOL 7.1: a gap ends the connection and delivers nothing of it; a resume repairs it; the third gap in a row ends the session.
pub async fn a_gap_ends_the_connection_and_the_third_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(application);
    let credentials = credentials(&session);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send(whole(Lane::Interactive, 2, "a gap")).await;
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (Code::Gap as u64, 0));
    assert_eq!(session.state(), SessionState::SoftClosed);
    assert_eq!(session.snapshot().cause, Some(Cause::Gap));

    let mut raw = server.raw(&credentials).await;
    raw.say_hello(&credentials, 1, 1, 2).await;
    assert_eq!(raw.welcome().await.counts.received.interactive, 0);
    raw.send(whole(Lane::Interactive, 1, "what was missing")).await;
    assert_eq!(next_message(&mut incoming).await, "what was missing");

    for gap in 1..=3 {
        raw.send(whole(Lane::Interactive, 7, "a gap")).await;
        let end = raw.end().await;
        if gap < 3 {
            assert_eq!((end.code, end.reason), (Code::Gap as u64, 0));
            raw = server.raw(&credentials).await;
            raw.say_hello(&credentials, 1, 1, 2 + gap).await;
            raw.welcome().await;
        } else {
            assert_eq!(
                (end.code, end.reason),
                (Code::Malformed as u64, EndReason::Malformed.number())
            );
        }
    }
    assert_eq!(end_of(&session).await, EndReason::Malformed);
    assert!(incoming.recv().await.is_none(), "nothing of the gaps was handed over");
    neighbour.assert_untouched().await;
}

/// R2: a frame that was received before is dropped, whatever it holds now, and does no harm.
pub async fn a_repeated_frame_is_dropped(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(application);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send(whole(Lane::Interactive, 1, "one")).await;
    for _ in 0..1000 {
        raw.send(whole(Lane::Interactive, 1, vec![9; 60_000])).await;
    }
    raw.send(whole(Lane::Interactive, 2, "two")).await;
    for expected in ["one", "two"] {
        assert_eq!(next_message(&mut incoming).await, expected);
    }
    assert!(incoming.try_recv().is_err());
    assert_eq!(session.state(), SessionState::Open);
    neighbour.assert_untouched().await;
}

/// R2, PROTOCOL 8: acknowledging what was never sent, acknowledging less than before, and granting less than before are Malformed.
pub async fn false_counts_end_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let counts = |received: [u64; 2], credit: [u64; 2]| Counts {
        received: PerLane::new(received[0], received[1]),
        credit: PerLane::new(credit[0], credit[1]),
    };
    let much = [1 << 30; 2];
    for (what, truth, falsehood) in [
        ("more than was sent", counts([2, 0], much), counts([3, 0], much)),
        ("on the other lane", counts([2, 0], much), counts([2, 1], much)),
        ("less than before", counts([2, 0], much), counts([1, 0], much)),
        (
            "less credit than before",
            counts([2, 0], much),
            counts([2, 0], [1 << 30, (1 << 30) - 1]),
        ),
        ("all there is", counts([0, 0], much), counts([(1 << 53) - 1; 2], much)),
    ] {
        let session = server.hub.open(never_reads);
        let mut raw = server.raw_welcomed(&session).await;
        for text in ["one", "two"] {
            session.send(text).await.expect("the session is open");
            assert_eq!(raw.data().await.payload, text);
        }
        raw.send(Frame::Ack(truth)).await;
        raw.send(Frame::Ping {
            nonce: 5,
            counts: truth,
        })
        .await;
        assert!(
            matches!(raw.frame().await, Frame::Pong { nonce: 5, .. }),
            "the truth does no harm"
        );
        raw.send(Frame::Pong {
            nonce: 77,
            counts: falsehood,
        })
        .await;
        let end = raw.end().await;
        assert_eq!(
            (end.code, end.reason),
            (Code::Malformed as u64, EndReason::Malformed.number()),
            "{what}"
        );
        assert_eq!(end_of(&session).await, EndReason::Malformed, "{what}");
    }
    neighbour.assert_untouched().await;
}

/// R18: false counts in the hello of a resume cost the connection only, and the document may come again with true ones.
pub async fn false_counts_in_a_hello_cost_the_connection_only(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    drop(server.raw_welcomed(&session).await);
    wait_for_state(&session, SessionState::SoftClosed).await;
    let mut false_hello = hello(&credentials, 1, 1, 2);
    false_hello.counts.received.bulk = 1;
    let mut raw = server.raw(&credentials).await;
    raw.send(Frame::Hello(false_hello)).await;
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (Code::Malformed as u64, 0));

    let mut raw = server.raw(&credentials).await;
    raw.say_hello(&credentials, 1, 1, 3).await;
    assert_eq!(raw.welcome().await.incarnation, 1);
    neighbour.assert_untouched().await;
}

/// PROTOCOL 5: what follows an accepted hello is judged alike however soon it comes. A second hello, or a confirm that nobody asked for, ends the
/// session; data is taken.
pub async fn what_follows_a_hello_is_judged_alike_however_soon(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    for second in [1, 2] {
        for waits in [false, true] {
            let session = server.hub.open(echo);
            let credentials = credentials(&session);
            let bad = match second {
                1 => Frame::Hello(hello(&credentials, 1, 0, 2)),
                _ => Frame::Confirm,
            };
            let mut raw = server.raw(&credentials).await;
            raw.say_hello(&credentials, 1, 0, 1).await;
            if waits {
                raw.welcome().await;
            }
            raw.send(bad).await;
            assert_ends(&session, raw, EndReason::Malformed).await;
        }
    }
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let mut raw = server.raw(&credentials).await;
    raw.say_hello(&credentials, 1, 0, 1).await;
    raw.send(whole(Lane::Interactive, 1, "early")).await;
    raw.welcome().await;
    assert_eq!(raw.data().await.payload, "early");
    neighbour.assert_untouched().await;
}

/// PROTOCOL 5: a document that was never welcomed has received nothing; but it may grant less than the window.
pub async fn a_first_hello_has_received_nothing_and_may_grant_little(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let mut first = hello(&credentials, 1, 0, 1);
    first.counts.received.interactive = 1;
    let mut raw = server.raw(&credentials).await;
    raw.send(Frame::Hello(first.clone())).await;
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (Code::Malformed as u64, 0));
    assert_eq!(session.state(), SessionState::Unconnected);

    first.counts.received.interactive = 0;
    first.counts.credit = PerLane::new(70, 0);
    let mut raw = server.raw(&credentials).await;
    raw.send(Frame::Hello(first)).await;
    raw.welcome().await;
    raw.send(whole(Lane::Interactive, 1, "seventy")).await;
    let counts = raw.counts().await;
    assert_eq!(counts.received.interactive, 1, "the echo of 71 has to wait");
    raw.send(Frame::Ack(Counts {
        credit: PerLane::new(71, 0),
        ..Counts::default()
    }))
    .await;
    assert_eq!(raw.data().await.payload, "seventy");
}

/// R9: data beyond the granted credit is Flood, on each lane by itself.
pub async fn a_flood_beyond_the_credit_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    for lane in Lane::ALL {
        let session = server.hub.open_with(small(server), never_reads);
        let mut raw = server.raw_welcomed(&session).await;
        for sequence in 1..=5 {
            raw.send(whole(lane, sequence, vec![0; 1024])).await;
        }
        assert_ends(&session, raw, EndReason::Flood).await;
    }
    neighbour.assert_untouched().await;
}

/// R9: a flood of empty messages is one, too, and what it leaves in memory is bounded.
pub async fn a_flood_of_empty_messages_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open_with(small(server), never_reads);
    let window = small(server).limits.window;
    let mut raw = server.raw_welcomed(&session).await;
    for sequence in 1..=window / stillhere::FRAME_CHARGE + 1 {
        raw.send(whole(Lane::Interactive, sequence, "")).await;
    }
    assert_ends(&session, raw, EndReason::Flood).await;
    assert!(server.hub.stats().buffered <= window);
    neighbour.assert_untouched().await;
}

/// Windows of four fragments of 1 KiB.
fn small(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.limits.fragment = 1024;
    options.limits.window = 4 * (1024 + stillhere::FRAME_CHARGE);
    options.limits.bulk_window = options.limits.window;
    options
}

/// R9, PROTOCOL 9.2: a flood of pings and counts is answered and costs nobody else anything.
pub async fn a_flood_of_pings_is_borne(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    for nonce in 0..20_000 {
        raw.send(Frame::Ping {
            nonce,
            counts: received(0),
        })
        .await;
    }
    neighbour.assert_untouched().await;
    loop {
        // Of several that wait, only the newest need be answered.
        if let Frame::Pong { nonce: 19_999, .. } = raw.frame().await {
            break;
        }
    }
    assert_eq!(session.state(), SessionState::Open);
}

/// Promise 6: connections that only wait are limited in number; the next one is told Busy, and the place is given back.
pub async fn connections_without_a_hello_are_limited(server: &Server) {
    let server = server.with_hub(Hub::builder().max_pending_hellos(2)).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let waiting = [server.raw(&credentials).await, server.raw(&credentials).await];
    let mut third = server.raw(&credentials).await;
    let end = third.end().await;
    assert_eq!((end.code, end.reason), (Code::Busy as u64, 0));
    assert!(end.retry_after > 0);

    let [mut first, second] = waiting;
    first.say_hello(&credentials, 1, 0, 1).await;
    first.welcome().await;
    assert_eq!(second.close(1000).await, 1000);
    let mut fourth = server.raw(&credentials).await;
    fourth.say_hello(&credentials, 1, 0, 2).await;
    assert_eq!(fourth.welcome().await.incarnation, 1);
}

/// R38: beyond the hub's limit a page gets a ticket that says when to try again; the sessions that are there go on.
pub async fn a_session_beyond_the_limit_gets_a_ticket_that_says_so(server: &Server) {
    let server = server.with_hub(Hub::builder().max_sessions(2)).await;
    let neighbour = Neighbour::move_in(&server).await;
    let last = server.hub.open(echo);
    let refused = server.hub.open(echo);
    assert_eq!(end_of(&refused).await, EndReason::Full);
    let refusal = Credentials::parse(&refused.ticket_json()).expect_err("the hub is full");
    let TicketError::Refused { code, retry_after, .. } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!(code, Code::Full as u64);
    assert!(retry_after > Duration::ZERO);
    last.abort("makes room");
    Credentials::parse(&server.hub.open(echo).ticket_json()).expect("there is room again");
    neighbour.assert_untouched().await;
}

/// R22: the secret stands in the ticket and in the hello, and nowhere in what a proxy sees of the request.
pub async fn the_ticket_keeps_its_secret_out_of_the_url(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    assert_eq!(credentials.url, format!("{}/{}", server.hub.mount(), session.id()));
    assert!(!format!("{:?} {}", session, session.ticket()).contains("secret"));
    assert_ne!(
        credentials.secret.expose()[..16],
        session.id().as_bytes()[..],
        "the id tells nothing of it"
    );
}

/// The browser is told this end, by frame and close, and so is the application.
async fn assert_ends(session: &SessionHandle, mut raw: RawConnection, reason: EndReason) {
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (reason.code() as u64, reason.number()));
    assert_eq!(end_of(session).await, reason);
}
