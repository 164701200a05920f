//! Sequence numbers, acknowledgements and credit that violate the protocol.

use stillhere::code::Code;
use stillhere::wire::{Counts, Frame};
use stillhere::{Cause, EndReason, Lane, PerLane, SessionOptions, SessionState};

use super::assert_ends;
use crate::application::{echo, handing_on, never_reads, next_message};
use crate::neighbour::Neighbour;
use crate::raw_connection::{hello, received, whole};
use crate::server::{Server, credentials, end_of, wait_for_state};

/// R2, PROTOCOL 7.1: a gap ends the connection, and nothing after it is delivered. A resume repairs
/// it. The third gap in a row ends the session.
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
    assert!(incoming.recv().await.is_none(), "nothing after a gap was delivered");
    neighbour.assert_untouched().await;
}

/// R2: a frame that was received before is dropped without harm, even if its content has changed.
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

/// R2, PROTOCOL 8: acknowledging what was never sent, acknowledging less than before and granting
/// less credit than before are Malformed.
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
            "correct counts are accepted"
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

/// R18: false counts in the hello of a resume end only the connection. The document may reconnect
/// with correct counts.
pub async fn false_counts_in_a_hello_end_only_the_connection(server: &Server) {
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

/// PROTOCOL 5: what follows an accepted hello is judged in the same way however soon it arrives. A
/// second hello, or a confirm without an offer, ends the session; data is accepted.
pub async fn frames_after_a_hello_are_judged_alike_however_soon_they_come(server: &Server) {
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

/// PROTOCOL 5: a document that was never welcomed has received nothing, but it may grant less
/// credit than the window.
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

/// R9: data beyond the granted credit is Flood, on each lane separately.
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

/// R9: empty messages beyond the credit end the session as `Flood` too, in bounded memory.
pub async fn a_flood_of_empty_messages_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open_with(small(server), never_reads);
    let window = small(server).limits.window;
    let mut raw = server.raw_welcomed(&session).await;
    // The neighbour's message may still wait to be acknowledged.
    let others = server.hub.stats().buffered;
    for sequence in 1..=window / stillhere::FRAME_CHARGE + 1 {
        raw.send(whole(Lane::Interactive, sequence, "")).await;
    }
    assert_ends(&session, raw, EndReason::Flood).await;
    assert!(server.hub.stats().buffered <= others + window);
    neighbour.assert_untouched().await;
}

/// Returns options with windows of four fragments of 1 KiB.
fn small(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.limits.fragment = 1024;
    options.limits.window = 4 * (1024 + stillhere::FRAME_CHARGE);
    options.limits.bulk_window = options.limits.window;
    options
}

/// R9, PROTOCOL 9.2: a flood of pings and counts is answered and does not affect other sessions.
pub async fn a_flood_of_pings_does_no_harm(server: &Server) {
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
        // If several pings wait, only the newest must be answered.
        if let Frame::Pong { nonce: 19_999, .. } = raw.frame().await {
            break;
        }
    }
    assert_eq!(session.state(), SessionState::Open);
}
