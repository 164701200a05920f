//! Violations, gaps, compression and credit on the server's side (PROTOCOL.md, sections 5, 7 and
//! 8).

use bytes::Bytes;

use super::{assert_ended, soft_closed};
use crate::code::{Code, EndReason};
use crate::machine::tests::harness::{NOTHING, PLENTY, ack, bulk, bytes, counts, data, data_of, fragment, ms, text};
use crate::machine::tests::host::{Host, hello, hello_again};
use crate::machine::{Cause, Phase};
use crate::message::{Lane, PerLane};
use crate::wire::{Data, End, Frame, Hello};

#[test]
fn each_violation_ends_the_session_with_its_reason() {
    let large = Data {
        payload: bytes(101),
        ..data(1, text(""))
    };
    let cases: [(Frame, EndReason); 9] = [
        (large.into(), EndReason::TooLarge),
        (
            Data {
                payload: bytes(99),
                ..fragment(1)
            }
            .into(),
            EndReason::Malformed,
        ),
        (ack([1, 0]), EndReason::Malformed),
        (Frame::Ack(counts([0, 0], NOTHING)), EndReason::Malformed),
        (ping_acknowledging(1), EndReason::Malformed),
        (Frame::Confirm, EndReason::Malformed),
        (Frame::Hello(hello(1, 2)), EndReason::Malformed),
        (Frame::Offer, EndReason::Malformed),
        (
            Frame::End(End {
                code: 1000,
                reason: 0,
                retry_after: 0,
                text: String::new(),
            }),
            EndReason::Malformed,
        ),
    ];
    for (frame, reason) in cases {
        let (mut host, key) = Host::open();
        host.receive(key, frame);
        assert_ended(&mut host, key, &reason);
    }
}

fn ping_acknowledging(received: u64) -> Frame {
    Frame::Ping {
        nonce: 1,
        counts: counts([received, 0], PLENTY),
    }
}

#[test]
fn a_frame_that_cannot_be_read_ends_the_session() {
    for packet in [&[][..], &[0x20, 1], &[0x48, 1], &[0x20, 0, 0, 0, 0, 0]] {
        let (mut host, key) = Host::open();
        host.machine.handle_frame(key, Bytes::copy_from_slice(packet), host.now);
        assert_ended(&mut host, key, &EndReason::Malformed);
    }
    for (too_large, reason) in [(false, EndReason::Malformed), (true, EndReason::TooLarge)] {
        let (mut host, key) = Host::open();
        host.machine.handle_unreadable(key, too_large, host.now);
        assert_ended(&mut host, key, &reason);
    }
}

#[test]
fn frames_after_an_accepted_hello_are_judged_alike_before_and_after_the_welcome_is_written() {
    for second in [Frame::Hello(hello(1, 2)), Frame::Confirm, Frame::Offer] {
        for is_written in [false, true] {
            let mut host = Host::new();
            let key = host.hello(&hello(1, 1));
            if is_written {
                host.welcome(key);
            }
            host.receive(key, second.clone());
            assert_ended(&mut host, key, &EndReason::Malformed);
        }
    }
    let mut host = Host::new();
    let key = host.hello(&hello(1, 1));
    host.receive(key, data(1, text("early")));
    host.receive(key, Frame::Leave);
    assert_eq!(host.take(), Some(text("early")));
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Left));
}

#[test]
fn a_newcomer_may_send_only_confirm_and_leave() {
    for second in [
        Frame::Hello(hello(2, 2)),
        Frame::from(data(1, text("early"))),
        Frame::Offer,
    ] {
        for is_written in [false, true] {
            let mut host = soft_closed();
            let key = host.hello(&hello(2, 1));
            if is_written {
                assert_eq!(host.frame(key), Frame::Offer);
            }
            host.receive(key, second.clone());
            host.assert_refused(key, Code::Malformed);
            assert!(matches!(host.phase(), Phase::SoftClosed(_)));
        }
    }
}

#[test]
fn a_confirm_counts_once_the_offer_is_due_but_not_during_the_probe() {
    let mut host = soft_closed();
    let key = host.hello(&hello(2, 1));
    host.receive(key, Frame::Confirm);
    assert_eq!(host.welcome(key).incarnation, 2);

    let (mut host, _) = Host::open();
    let key = host.hello(&hello(2, 1));
    host.receive(key, Frame::Confirm);
    host.assert_refused(key, Code::Malformed);
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn a_document_that_was_never_welcomed_has_received_nothing() {
    let told = |document, attempt| Hello {
        counts: counts([1, 0], PLENTY),
        ..hello(document, attempt)
    };
    let mut host = Host::new();
    let key = host.hello(&told(1, 1));
    host.assert_refused(key, Code::Malformed);
    assert_eq!(host.phase(), &Phase::Unconnected);
    let (mut host, key) = host.opened();
    host.send("one");
    host.frames(key);
    for document in [1, 2] {
        let key = host.hello(&told(document, 9));
        host.assert_refused(key, Code::Malformed);
    }
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn a_first_hello_may_grant_less_than_the_window() {
    let mut host = Host::new();
    host.send("12345");
    let small = |credit| Hello {
        counts: counts([0, 0], PerLane::new(credit, 0)),
        ..hello(1, 1)
    };
    let key = host.hello(&small(68));
    host.welcome(key);
    assert_eq!(host.frames(key), []);
    host.receive(key, Frame::Ack(counts([0, 0], PerLane::new(69, 0))));
    assert_eq!(data_of(host.frames(key)).len(), 1);
}

#[test]
fn a_message_above_the_limit_is_too_large_as_soon_as_the_sum_exceeds_it() {
    let (mut host, key) = Host::open();
    host.receive_all(key, (1..=10).map(fragment));
    assert_eq!(host.phase(), &Phase::Open);
    host.receive(key, data(11, text("x")));
    assert_ended(&mut host, key, &EndReason::TooLarge);
}

#[test]
fn sending_beyond_the_credit_is_a_flood() {
    let (mut host, key) = Host::open();
    host.receive_all(key, (1..=12).map(|sequence| data(sequence, bytes(100))));
    assert_eq!(host.phase(), &Phase::Open);
    host.receive(key, data(13, bytes(100)));
    assert_ended(&mut host, key, &EndReason::Flood);
}

#[test]
fn empty_messages_are_charged_too() {
    let (mut host, key) = Host::open();
    host.receive_all(key, (1..=2000 / 64).map(|sequence| data(sequence, text(""))));
    assert_eq!(host.phase(), &Phase::Open);
    host.receive(key, data(2000 / 64 + 1, text("")));
    assert_ended(&mut host, key, &EndReason::Flood);
}

#[test]
fn a_gap_ends_the_connection_and_resume_repairs_it() {
    let (mut host, key) = Host::open();
    host.receive(key, data(2, text("b")));
    host.assert_refused(key, Code::Gap);
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Gap));
    let key = host.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(host.welcome(key).counts.received, NOTHING);
    host.receive_all(key, [data(1, text("a")), data(2, text("b"))]);
    assert_eq!(host.take_all(), ["a", "b"]);
}

#[test]
fn three_gaps_in_a_row_without_progress_end_the_session() {
    let (mut host, mut key) = Host::open();
    for attempt in 2..=3 {
        host.receive(key, data(9, text("x")));
        host.assert_refused(key, Code::Gap);
        key = host.hello(&hello_again(1, 1, attempt, [0, 0]));
        host.frames(key);
    }
    host.receive(key, data(9, text("x")));
    assert_ended(&mut host, key, &EndReason::Malformed);
}

#[test]
fn an_accepted_frame_forgives_the_gaps_before_it() {
    let (mut host, mut key) = Host::open();
    for attempt in 2..=9 {
        host.receive(key, data(attempt + 9, text("x")));
        host.assert_refused(key, Code::Gap);
        key = host.hello(&hello_again(1, 1, attempt, [0, 0]));
        host.frames(key);
        host.receive(key, data(attempt - 1, text("progress")));
    }
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn a_repeated_frame_is_dropped_and_counted() {
    let (mut host, key) = Host::open();
    host.receive_all(
        key,
        [
            data(1, text("a")),
            data(1, text("a")),
            data(2, text("b")),
            data(1, text("a")),
        ],
    );
    assert_eq!(host.take_all(), ["a", "b"]);
    assert_eq!(host.machine.duplicates(), 2);
}

#[test]
fn a_message_that_cannot_be_inflated_ends_the_session() {
    for (too_large, reason) in [(false, EndReason::Malformed), (true, EndReason::TooLarge)] {
        let (mut host, key) = Host::taking_compressed().opened();
        host.receive(
            key,
            Data {
                compressed: true,
                ..data(1, text("no zlib stream"))
            },
        );
        assert!(
            host.machine
                .take(host.now)
                .is_some_and(|(_, received)| received.compressed)
        );
        host.machine.handle_bad_payload(too_large, host.now);
        assert_ended(&mut host, key, &reason);
    }
}

#[test]
fn a_compressed_message_that_its_session_does_not_accept_ends_it_and_says_why() {
    for more in [false, true] {
        let (mut host, key) = Host::open();
        host.receive(key, data(1, text("plain")));
        let compressed = Data {
            more,
            compressed: true,
            ..data(2, bytes(100))
        };
        host.receive(key, compressed);
        let frames: Vec<_> = std::iter::from_fn(|| host.machine.poll_transmit(key, host.now)).collect();
        let Some(Frame::End(end)) = frames.last() else {
            panic!("expected an end, got {frames:?}");
        };
        assert_eq!(
            (end.code, end.reason),
            (Code::Malformed as u64, EndReason::Malformed.number())
        );
        assert!(end.text.contains("compress"), "{}", end.text);
        assert_eq!(
            host.take_all(),
            ["plain"],
            "earlier messages are delivered, and the compressed one is not"
        );
    }
}

#[test]
fn a_document_accepts_compressed_messages_even_if_its_session_does_not() {
    let mut page = crate::machine::tests::harness::Page::connected();
    page.receive(Data {
        compressed: true,
        ..data(1, text("x"))
    });
    assert_eq!(page.take(), Some(text("x")));
}

#[test]
fn credit_returns_when_the_application_takes_a_message() {
    let (mut host, key) = Host::open();
    host.receive_all(key, (1..=4).map(|sequence| data(sequence, bytes(100))));
    assert!(matches!(host.frame(key), Frame::Ack(counts) if counts.credit.interactive == 2000));
    assert!(!host.machine.is_ack_due());
    host.take_all();
    assert!(host.machine.is_ack_due());
    let Frame::Ack(counts) = host.frame(key) else {
        panic!("expected an ack: a quarter of the window is free")
    };
    assert_eq!(counts.credit.interactive, 2000 + 4 * 164);
}

#[test]
fn an_application_that_never_reads_holds_a_window_and_nothing_is_lost() {
    let (mut host, key) = Host::open();
    host.receive_all(key, (1..=12).map(|sequence| data(sequence, bytes(100))));
    host.receive_all(key, (1..=6).map(|sequence| bulk(data(sequence, bytes(100)))));
    host.advance(ms(200));
    let Frame::Ack(counts) = host.frame(key) else {
        panic!("expected an ack of the received messages")
    };
    assert_eq!(
        (counts.received, counts.credit),
        (PerLane::new(12, 6), PerLane::new(2000, 1000))
    );
    assert!(host.machine.incoming(Lane::Interactive) <= 2000 && host.machine.incoming(Lane::Bulk) <= 1000);
    assert_eq!(host.take_all().len(), 18);
}

#[test]
fn the_lanes_take_turns() {
    let (mut host, key) = Host::open();
    host.receive_all(key, (1..=3).map(|sequence| data(sequence, text("i"))));
    host.receive_all(key, (1..=3).map(|sequence| bulk(data(sequence, text("b")))));
    assert_eq!(host.take_all(), ["i", "b", "i", "b", "i", "b"]);
}
