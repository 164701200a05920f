//! Connections, timing and end of a session on the document's side (PROTOCOL.md, sections 5, 6, 9
//! and 10).

use std::time::Duration;

use bytes::Bytes;

use super::harness::{
    HEARTBEAT, KEEP, LIMITS, NOTHING, PLENTY, Page, ack, bytes, counts, data, data_of, end, end_of_session, ms, ping,
    pong, sequences, text, welcome,
};
use crate::code::{Class, Code, EndReason};
use crate::limits::Limits;
use crate::machine::{Action, DocumentEvent, DocumentPhase, Outcome, SendRefused};
use crate::message::{Lane, PerLane};
use crate::wire::{Counts, End, Frame, Welcome};

const SUSPICION: Duration = Duration::from_secs(35);
const PATIENCE: Duration = Duration::from_secs(5);

fn outcome(page: &mut Page) -> Outcome {
    match page.events().pop() {
        Some(DocumentEvent::Welcomed { outcome, .. }) => outcome,
        other => panic!("expected a welcome, got {other:?}"),
    }
}

/// Returns a page whose connection is old enough to reset the backoff.
fn settled() -> Page {
    settled_with(KEEP.as_millis() as u64)
}

fn settled_with(keep: u64) -> Page {
    let mut page = Page::connected_with(LIMITS, Welcome { keep, ..welcome() });
    page.advance(ms(1000));
    page
}

/// Fails this many attempts as soon as they start. Returns the delay after each one.
fn delays(page: &mut Page, count: usize) -> Vec<Duration> {
    let fail = || {
        let from = page.now;
        page.lose();
        page.now - from
    };
    std::iter::repeat_with(fail).take(count).collect()
}

/// Returns the longest delay that many pages draw for each attempt, which is close to the upper
/// bound.
fn longest_delays(make: impl Fn(u64) -> Page, count: usize) -> Vec<u128> {
    let drawn = (0..300).map(|seed| delays(&mut make(seed), count)).collect::<Vec<_>>();
    (0..count)
        .map(|turn| {
            drawn
                .iter()
                .map(|delays| delays[turn])
                .max()
                .unwrap_or_default()
                .as_millis()
        })
        .collect()
}

fn assert_near(longest: &[u128], bounds: &[u128]) {
    for (longest, bound) in longest.iter().zip(bounds) {
        assert!(
            longest <= bound && *longest >= bound * 9 / 10,
            "{longest} is not near {bound}"
        );
    }
    assert_eq!(longest.len(), bounds.len());
}

fn assert_over(page: &mut Page) {
    page.forget();
    let now = page.now;
    page.machine.handle_wake(now);
    page.machine.handle_close(page.connection, 1006, now);
    page.machine.handle_hidden(true, now);
    page.machine.handle_hidden(false, now);
    page.machine.handle_leave();
    page.machine.handle_wake(now);
    page.machine.handle_bad_payload(false);
    page.advance(Duration::from_secs(1_000_000));
    page.assert_quiet();
    assert_eq!(page.machine.poll_timeout(), None);
    assert_eq!(page.phase(), DocumentPhase::Over);
}

#[test]
fn the_first_hello_of_a_document_has_received_nothing_and_grants_full_windows() {
    let mut page = Page::started();
    assert_eq!(page.action(), Action::Connect(1));
    assert_eq!(page.frames(), []);
    page.open();
    let hello = page.hello();
    assert_eq!((hello.incarnation, hello.attempt), (0, 1));
    assert_eq!(
        hello.counts,
        Counts {
            received: NOTHING,
            credit: PerLane::new(2000, 1000)
        }
    );
    assert_eq!(page.phase(), DocumentPhase::Hello);
}

#[test]
fn a_page_that_is_started_twice_connects_once() {
    let mut page = Page::started();
    page.machine.start(page.now);
    assert_eq!(page.action(), Action::Connect(1));
}

#[test]
fn each_hello_has_a_greater_attempt_than_all_before_it() {
    let mut page = Page::started();
    for attempt in 1..5 {
        page.open();
        assert_eq!(page.hello().attempt, attempt);
        page.lose();
    }
}

#[test]
fn counts_are_read_when_the_hello_is_written() {
    let mut page = Page::connected();
    page.receive(data(1, text("ho")));
    page.lose();
    page.machine.handle_open(page.connection, page.now);
    page.take();
    page.release();
    let Some(Frame::Hello(hello)) = page.frames().pop() else {
        panic!("no hello")
    };
    assert_eq!(hello.incarnation, 1);
    assert_eq!(hello.counts, counts([1, 0], PerLane::new(2066, 1000)));
}

#[test]
fn between_hello_and_welcome_only_confirm_is_sent() {
    let mut page = Page::started();
    page.open();
    page.forget();
    page.send(text("early"));
    page.send_bulk(text("early"));
    page.machine.ping();
    assert_eq!(page.frames(), []);
    page.receive(Frame::Offer);
    assert_eq!(page.frame(), Frame::Confirm);
    assert_eq!(page.phase(), DocumentPhase::Offered);
    page.receive(Frame::Welcome(welcome()));
    assert!(matches!(
        page.frames()[..],
        [Frame::Ping { .. }, Frame::Data(_), Frame::Data(_)]
    ));
}

#[test]
fn the_incarnation_in_the_welcome_tells_opened_and_restored_and_resumed_apart() {
    let mut opened = Page::started();
    opened.open();
    opened.receive(Frame::Welcome(welcome()));
    assert_eq!(outcome(&mut opened), Outcome::Opened);
    opened.resume([0, 0]);
    assert_eq!(outcome(&mut opened), Outcome::Resumed);

    let seventh = Frame::Welcome(Welcome {
        incarnation: 7,
        ..welcome()
    });
    let mut restored = Page::started();
    restored.open();
    restored.receive(Frame::Offer);
    restored.receive(seventh.clone());
    assert_eq!(outcome(&mut restored), Outcome::Restored);
    assert_eq!(restored.machine.incarnation(), 7);
    restored.lose();
    restored.open();
    restored.receive(seventh);
    assert_eq!(outcome(&mut restored), Outcome::Resumed);
}

#[test]
fn a_lost_welcome_does_no_harm() {
    let mut page = Page::started();
    page.open();
    page.lose();
    page.forget();
    page.open();
    let hello = page.hello();
    assert_eq!((hello.incarnation, hello.attempt), (0, 2));
    page.receive(Frame::Welcome(Welcome { epoch: 2, ..welcome() }));
    assert_eq!(outcome(&mut page), Outcome::Opened);
}

#[test]
fn frames_of_older_connections_are_dropped() {
    let mut page = settled();
    let late = |page: &mut Page| {
        let frame = Frame::Data(data(1, text("x")));
        page.machine.handle_frame(1, frame.to_bytes(), page.now);
    };
    page.close(1006);
    late(&mut page);
    page.open();
    late(&mut page);
    page.receive(Frame::Welcome(welcome()));
    late(&mut page);
    assert_eq!(page.take(), None);
    page.forget();
    page.receive(ping(1));
    assert_eq!(page.counts().received, NOTHING);
}

#[test]
fn nothing_is_transmitted_on_a_connection_that_is_not_in_use() {
    let mut page = Page::connected();
    page.send(text("hi"));
    for connection in [0, page.connection + 1] {
        assert_eq!(page.machine.poll_transmit(connection, true, page.now), None);
    }
    page.machine.handle_close(page.connection, 1006, page.now);
    assert_eq!(page.machine.poll_transmit(page.connection, true, page.now), None);
}

#[test]
fn a_hello_due_on_a_lost_connection_is_not_written_on_the_next_one_before_that_opens() {
    let mut page = Page::started();
    page.forget();
    page.machine.handle_open(1, page.now);
    page.close(1006);
    assert_eq!(page.frames(), []);
    assert_eq!(page.phase(), DocumentPhase::Connecting);
    page.open();
    assert_eq!(page.hello().attempt, 2);
}

#[test]
fn a_close_of_an_older_connection_changes_nothing() {
    let mut page = Page::connected();
    page.resume([0, 0]);
    page.forget();
    page.machine
        .handle_close(page.connection - 1, Code::Replaced as u64, page.now);
    page.machine.handle_close(77, 1006, page.now);
    page.machine.handle_open(page.connection - 1, page.now);
    assert_eq!(page.phase(), DocumentPhase::Connected);
    page.assert_quiet();
}

#[test]
fn an_error_before_the_welcome_ends_only_the_connection() {
    let packets: [&'static [u8]; 5] = [&[], &[0x40, 1, 1], &[0x21, 1, 0, 0, 0, 0], &[0x11, 1], &[0x03]];
    for packet in packets {
        let mut page = Page::started();
        page.open();
        page.forget();
        page.machine.handle_frame(1, Bytes::from_static(packet), page.now);
        assert_eq!(
            page.actions(),
            [Action::Close(1, Code::Malformed as u64), Action::Connect(2)]
        );
        assert_eq!(page.frames(), []);
        assert!(matches!(page.event(), DocumentEvent::Disconnected { code: 4107, .. }));
    }
}

#[test]
fn an_answer_before_the_hello_ends_only_the_connection() {
    for is_open in [false, true] {
        for frame in [Frame::Welcome(welcome()), Frame::Offer] {
            let mut page = Page::started();
            page.forget();
            if is_open {
                page.machine.handle_open(1, page.now);
            }
            page.machine.handle_frame(1, frame.to_bytes(), page.now);
            assert_eq!(
                page.actions(),
                [Action::Close(1, Code::Malformed as u64), Action::Connect(2)]
            );
            assert_eq!(page.frames(), []);
        }
    }
}

#[test]
fn a_second_offer_ends_only_the_connection() {
    let mut page = Page::started();
    page.open();
    page.receive(Frame::Offer);
    page.forget();
    page.receive(Frame::Offer);
    assert_eq!(
        page.actions(),
        [Action::Close(1, Code::Malformed as u64), Action::Connect(2)]
    );
    assert_eq!(page.frames(), []);
}

#[test]
fn an_offer_to_a_welcomed_document_ends_only_the_connection() {
    let mut page = Page::connected();
    page.lose();
    page.open();
    page.forget();
    page.receive(Frame::Offer);
    assert_eq!(page.frames(), []);
    assert_eq!(page.actions().first(), Some(&Action::Close(2, Code::Malformed as u64)));
    assert_ne!(page.phase(), DocumentPhase::Over);
}

#[test]
fn a_welcome_that_contradicts_what_is_known_ends_the_session() {
    let limits = welcome().limits;
    let wrong = [
        Welcome {
            incarnation: 2,
            ..welcome()
        },
        Welcome {
            incarnation: 0,
            ..welcome()
        },
        Welcome {
            limits: Limits {
                fragment: 101,
                ..limits
            },
            ..welcome()
        },
        Welcome {
            limits: Limits {
                message: 1001,
                ..limits
            },
            ..welcome()
        },
        Welcome {
            limits: Limits {
                inflated: 10_001,
                ..limits
            },
            ..welcome()
        },
        Welcome {
            limits: Limits { window: 2001, ..limits },
            ..welcome()
        },
        Welcome {
            limits: Limits {
                bulk_window: 1001,
                ..limits
            },
            ..welcome()
        },
        Welcome {
            counts: counts([1, 0], PLENTY),
            ..welcome()
        },
        Welcome {
            counts: counts([0, 0], PerLane::new(99_999, 100_000)),
            ..welcome()
        },
    ];
    for welcome in wrong {
        let mut page = Page::connected();
        page.lose();
        page.open();
        page.forget();
        page.receive(Frame::Welcome(welcome));
        page.assert_violated(Code::Malformed);
    }
}

#[test]
fn a_second_welcome_or_offer_on_a_connection_ends_the_session() {
    for frame in [Frame::Welcome(welcome()), Frame::Offer] {
        let mut page = Page::connected();
        page.receive(frame);
        page.assert_violated(Code::Malformed);
    }
}

fn assert_given_up_after_ten_seconds(page: &mut Page) {
    page.forget();
    page.advance(ms(9999));
    assert_eq!(page.actions(), []);
    page.advance(ms(1));
    assert_eq!(
        page.actions(),
        [Action::Close(1, Code::Silent as u64), Action::Connect(2)]
    );
}

#[test]
fn a_connection_that_does_not_open_in_ten_seconds_is_given_up() {
    assert_given_up_after_ten_seconds(&mut Page::started());
}

#[test]
fn a_connection_whose_hello_is_not_answered_in_ten_seconds_is_given_up() {
    let mut page = Page::started();
    page.advance(ms(9000));
    page.open();
    assert_given_up_after_ten_seconds(&mut page);
}

#[test]
fn a_connection_whose_confirm_is_not_answered_in_ten_seconds_is_given_up() {
    let mut page = Page::started();
    page.open();
    page.advance(ms(9000));
    page.receive(Frame::Offer);
    assert_given_up_after_ten_seconds(&mut page);
}

#[test]
fn a_newcomer_whose_connection_is_lost_after_the_confirm_starts_over() {
    let mut page = Page::started();
    page.open();
    page.receive(Frame::Offer);
    page.lose();
    page.forget();
    page.open();
    assert_eq!(page.phase(), DocumentPhase::Hello);
    assert_eq!(page.hello().attempt, 2);
    page.receive(Frame::Offer);
    assert_eq!(page.frame(), Frame::Confirm);
}

#[test]
fn a_message_sent_before_the_welcome_is_not_acknowledged_by_it() {
    let mut page = Page::started();
    page.send(text("early"));
    page.open();
    page.receive(Frame::Welcome(Welcome {
        counts: counts([1, 0], PLENTY),
        ..welcome()
    }));
    assert_eq!(page.phase(), DocumentPhase::Over);
}

#[test]
fn a_ping_is_answered_at_once_and_only_the_newest() {
    let mut page = Page::connected();
    page.receive(ping(7));
    let counts = counts([0, 0], PerLane::new(2000, 1000));
    assert_eq!(page.frame(), Frame::Pong { nonce: 7, counts });
    for nonce in [8, 0] {
        page.machine.handle_frame(1, ping(nonce).to_bytes(), page.now);
    }
    assert_eq!(page.frame(), Frame::Pong { nonce: 0, counts });
}

#[test]
fn a_pong_overtakes_data_and_acknowledgement() {
    let mut page = Page::connected();
    page.machine
        .handle_frame(1, Frame::Data(data(1, text("a"))).to_bytes(), page.now);
    page.send(text("b"));
    page.receive(ping(7));
    assert!(matches!(page.frames()[..], [Frame::Pong { .. }, Frame::Data(_)]));
}

#[test]
fn a_ping_of_an_older_connection_is_not_answered_on_a_newer_one() {
    let mut page = settled();
    page.machine.handle_frame(1, ping(8).to_bytes(), page.now);
    page.machine.handle_close(1, 1006, page.now);
    page.open();
    page.receive(Frame::Welcome(welcome()));
    assert!(page.frames().iter().all(|frame| !matches!(frame, Frame::Pong { .. })));
}

#[test]
fn a_ping_follows_two_heartbeats_and_five_seconds_of_silence() {
    let mut page = Page::connected();
    page.advance(SUSPICION - ms(1));
    assert_eq!(page.frames(), []);
    page.advance(ms(1));
    assert!(matches!(page.frame(), Frame::Ping { .. }));
}

#[test]
fn any_frame_shows_that_the_peer_is_alive() {
    let mut page = Page::connected();
    page.advance(SUSPICION - ms(1));
    page.receive(data(1, text("a")));
    page.advance(ms(200));
    page.forget();
    page.advance(SUSPICION - ms(201));
    assert_eq!(page.frames(), []);
    page.advance(ms(1));
    assert!(matches!(page.frame(), Frame::Ping { .. }));
    page.advance(PATIENCE - ms(1));
    page.receive(data(2, text("b")));
    page.advance(PATIENCE);
    assert_eq!(page.phase(), DocumentPhase::Connected);
    assert_eq!(page.actions(), []);
}

#[test]
fn silence_for_five_seconds_after_a_ping_drops_the_connection() {
    let mut page = Page::connected();
    page.advance(SUSPICION + PATIENCE - ms(1));
    page.forget();
    assert_eq!(page.actions(), []);
    page.advance(ms(1));
    assert_eq!(
        page.actions(),
        [Action::Close(1, Code::Silent as u64), Action::Connect(2)]
    );
    assert!(matches!(page.event(), DocumentEvent::Disconnected { code: 4301, .. }));
}

#[test]
fn a_late_timeout_sends_a_ping_before_it_drops_the_connection() {
    let mut page = Page::connected();
    page.now += Duration::from_secs(1_000_000);
    page.machine.handle_timeout(page.now);
    assert!(matches!(page.frame(), Frame::Ping { .. }));
    assert_eq!(page.machine.poll_timeout(), Some(page.now + PATIENCE));
}

#[test]
fn a_page_that_wakes_sends_a_ping() {
    let mut page = Page::connected();
    page.machine.handle_wake(page.now);
    assert!(matches!(page.frame(), Frame::Ping { .. }));
    page.advance(ms(4000));
    page.machine.handle_wake(page.now);
    assert_eq!(page.frames(), []);
    page.advance(ms(1000));
    assert_eq!(page.actions().len(), 2);
}

#[test]
fn a_ping_that_timed_out_during_sleep_is_repeated_on_waking() {
    let mut page = Page::connected();
    page.machine.handle_wake(page.now);
    page.forget();
    page.now += Duration::from_secs(3600);
    page.machine.handle_wake(page.now);
    assert!(matches!(page.frame(), Frame::Ping { .. }));
    assert_eq!(page.phase(), DocumentPhase::Connected);
    assert_eq!(page.machine.poll_timeout(), Some(page.now + PATIENCE));
}

#[test]
fn a_pong_reports_the_round_trip_time() {
    let mut page = Page::connected();
    let nonce = page.machine.ping();
    assert_eq!(
        page.frame(),
        Frame::Ping {
            nonce,
            counts: counts([0, 0], PerLane::new(2000, 1000))
        }
    );
    page.advance(ms(30));
    page.receive(pong(nonce));
    assert_eq!(
        page.event(),
        DocumentEvent::Pong {
            nonce,
            round_trip: ms(30)
        }
    );
    page.receive(pong(nonce));
    assert_eq!(page.events(), []);
}

#[test]
fn a_pong_with_an_unknown_nonce_shows_only_that_the_peer_is_alive() {
    let mut page = Page::connected();
    page.advance(SUSPICION);
    page.receive(pong(99));
    assert_eq!(page.events(), []);
    assert_eq!(page.machine.poll_timeout(), Some(page.now + SUSPICION));
}

#[test]
fn the_loss_of_the_last_frame_is_detected_when_a_ping_is_answered() {
    let mut page = Page::connected();
    page.send("lost");
    for _ in 0..4 {
        assert_eq!(sequences(page.frames()), [1]);
        // The server's ping proves that it is not silent.
        page.advance(HEARTBEAT / 2);
        page.receive(ping(1));
        page.forget();
        page.advance(HEARTBEAT / 2);
        let Frame::Ping { nonce, .. } = page.frame() else {
            panic!("a heartbeat without an acknowledgement is too long")
        };
        page.receive(pong(nonce));
        assert_eq!(page.actions()[0], Action::Close(page.connection - 1, Code::Gap as u64));
        assert!(matches!(page.events().last(), Some(DocumentEvent::Disconnected { .. })));
        page.open();
        page.receive(Frame::Welcome(welcome()));
        page.events();
        page.actions();
    }
    assert_eq!(page.phase(), DocumentPhase::Connected);
}

#[test]
fn a_frame_written_after_a_ping_is_not_taken_for_lost_when_the_pong_arrives() {
    let mut page = Page::connected();
    let nonce = page.machine.ping();
    page.forget();
    page.send("on its way");
    assert_eq!(sequences(page.frames()), [1]);
    page.receive(pong(nonce));
    assert_eq!(page.phase(), DocumentPhase::Connected);
    assert_eq!(page.actions(), []);
}

#[test]
fn a_pong_of_an_older_ping_says_nothing_about_frames_written_since() {
    let mut page = Page::connected();
    let older = page.machine.ping();
    page.forget();
    page.send("on its way");
    page.forget();
    page.machine.ping();
    page.forget();
    page.receive(pong(older));
    assert_eq!(page.phase(), DocumentPhase::Connected);
    assert_eq!(page.actions(), []);
}

#[test]
fn a_frame_written_on_a_new_connection_has_a_full_heartbeat_to_be_acknowledged() {
    let mut page = Page::connected();
    page.send("lost");
    page.advance(HEARTBEAT);
    page.resume([1, 0]);
    page.forget();
    page.send("on its way");
    assert_eq!(sequences(page.frames()), [2]);
    page.advance(HEARTBEAT - ms(1));
    assert_eq!(page.frames(), []);
    page.advance(ms(1));
    assert!(matches!(page.frame(), Frame::Ping { .. }));
}

#[test]
fn a_pong_that_answers_no_ping_of_the_connection_shows_only_that_the_peer_is_alive() {
    let mut page = Page::connected();
    page.send("on its way");
    page.forget();
    let nonce = page.machine.ping();
    page.forget();
    page.resume([0, 0]);
    page.forget();
    for unasked in [0, nonce] {
        page.receive(pong(unasked));
        assert_eq!(page.phase(), DocumentPhase::Connected);
        assert_eq!(page.actions(), []);
    }
}

#[test]
fn a_page_that_pings_more_often_than_it_is_answered_still_detects_a_loss() {
    let mut page = Page::connected();
    page.send("lost");
    page.forget();
    let nonces = [(); 4].map(|()| {
        let nonce = page.machine.ping();
        page.advance(ms(100));
        page.forget();
        nonce
    });
    page.receive(pong(nonces[1]));
    assert_eq!(page.phase(), DocumentPhase::Connecting);
}

#[test]
fn a_server_that_acknowledges_is_not_sent_pings() {
    let mut page = Page::connected();
    for sequence in 1..10 {
        page.send("received");
        assert_eq!(sequences(page.frames()), [sequence]);
        page.advance(HEARTBEAT / 2);
        page.receive(ack([sequence, 0]));
        assert_eq!(page.frames(), []);
    }
}

#[test]
fn a_silent_server_is_sent_one_ping_and_is_then_suspected() {
    let mut page = Page::connected();
    page.send("lost");
    page.forget();
    page.advance(SUSPICION - ms(1));
    assert!(matches!(page.frame(), Frame::Ping { .. }));
    page.advance(ms(1));
    assert!(matches!(page.frame(), Frame::Ping { .. }));
    assert_eq!(page.machine.poll_timeout(), Some(page.now + PATIENCE));
}

#[test]
fn a_pong_also_answers_the_pings_before_it() {
    let mut page = Page::connected();
    let (first, second) = (page.machine.ping(), page.machine.ping());
    assert!(matches!(page.frame(), Frame::Ping { nonce, .. } if nonce == second));
    page.advance(ms(10));
    let third = page.machine.ping();
    page.advance(ms(10));
    page.receive(pong(third));
    let expected = [(first, 20), (second, 20), (third, 10)];
    assert_eq!(
        page.events(),
        expected.map(|(nonce, round_trip)| DocumentEvent::Pong {
            nonce,
            round_trip: ms(round_trip)
        })
    );
}

#[test]
fn a_ping_does_not_outlive_its_connection() {
    let mut page = Page::connected();
    let nonce = page.machine.ping();
    page.advance(ms(1000));
    page.resume([0, 0]);
    page.forget();
    page.receive(pong(nonce));
    page.assert_quiet();
}

#[test]
fn a_lost_connection_is_replaced_at_once_and_then_with_full_jitter_up_to_three_seconds() {
    let longest = longest_delays(
        |seed| {
            let mut page = Page::connected_from(Page::idle(LIMITS, seed), welcome());
            page.advance(ms(1000));
            page
        },
        12,
    );
    assert_near(
        &longest,
        &[0, 500, 600, 720, 864, 1037, 1244, 1493, 1792, 2150, 2580, 3000],
    );
}

#[test]
fn the_first_connection_of_a_page_is_retried_in_the_same_way() {
    let longest = longest_delays(
        |seed| {
            let mut page = Page::idle(LIMITS, seed);
            page.machine.start(page.now);
            page.pump();
            page
        },
        4,
    );
    assert_near(&longest, &[0, 500, 600, 720]);
}

#[test]
fn a_connection_that_was_welcomed_resets_the_back_off() {
    let mut page = settled();
    delays(&mut page, 6);
    page.open();
    page.receive(Frame::Welcome(welcome()));
    page.advance(ms(1000));
    let again = delays(&mut page, 2);
    assert!(again[0].is_zero() && again[1] <= ms(500), "{again:?}");
    delays(&mut page, 6);
    page.open();
    page.receive(Frame::Welcome(welcome()));
    page.receive(data(1, text("a")));
    assert!(delays(&mut page, 1)[0].is_zero());
}

#[test]
fn a_connection_that_ends_right_after_its_welcome_is_not_replaced_at_once() {
    let longest = longest_delays(|seed| Page::connected_from(Page::idle(LIMITS, seed), welcome()), 2);
    assert_near(&longest, &[500, 600]);
}

#[test]
fn the_application_is_told_when_the_next_attempt_is_due() {
    let mut page = settled();
    page.close(1006);
    assert_eq!(
        page.event(),
        DocumentEvent::Disconnected {
            code: 1006,
            retry_at: Some(page.now)
        }
    );
    page.close(1001);
    let DocumentEvent::Disconnected { code: 1001, retry_at } = page.event() else {
        panic!("it was lost again")
    };
    assert!(retry_at.is_some());
    assert_eq!(page.machine.poll_timeout(), retry_at);
}

#[test]
fn a_waking_page_reconnects_at_once() {
    let mut page = settled();
    delays(&mut page, 8);
    page.close(1006);
    page.forget();
    assert_eq!(page.phase(), DocumentPhase::Waiting);
    page.machine.handle_wake(page.now);
    assert!(matches!(page.action(), Action::Connect(_)));
    page.machine.handle_wake(page.now);
    assert_eq!(page.actions(), []);
}

#[test]
fn a_hidden_page_backs_off_up_to_a_quarter_of_keep() {
    let hidden = |seed, keep| {
        let mut page = Page::connected_from(Page::idle(LIMITS, seed), Welcome { keep, ..welcome() });
        page.advance(ms(1000));
        page.machine.handle_hidden(true, page.now);
        page
    };
    let longest = longest_delays(|seed| hidden(seed, 20_000), 5);
    assert_near(&longest, &[0, 500, 600, 720, 864]);
    let longest = longest_delays(|seed| hidden(seed, 4000), 6);
    assert_near(&longest, &[0, 500, 600, 720, 864, 1000]);
    let unlimited = longest_delays(|seed| hidden(seed, (1 << 53) - 1), 40);
    assert_near(&unlimited[39..], &[300_000]);
}

#[test]
fn a_hidden_page_that_was_never_welcomed_backs_off_up_to_ten_seconds() {
    let hidden = |seed| {
        let mut page = Page::idle(LIMITS, seed);
        page.machine.handle_hidden(true, page.now);
        page.machine.start(page.now);
        page.pump();
        page
    };
    assert_near(&longest_delays(hidden, 20)[19..], &[10_000]);
}

#[test]
fn a_page_that_is_told_to_retry_does_so_even_while_the_server_asked_it_to_wait() {
    let mut page = settled();
    page.receive(Frame::End(End {
        code: Code::Busy as u64,
        reason: 0,
        retry_after: 60_000,
        text: String::new(),
    }));
    page.forget();
    page.machine.handle_wake(page.now);
    assert_eq!(page.phase(), DocumentPhase::Waiting);
    page.machine.handle_retry(page.now);
    assert!(matches!(page.action(), Action::Connect(_)));
}

#[test]
fn a_page_hidden_and_without_a_connection_for_keep_rests_until_it_is_shown() {
    let mut page = settled();
    page.machine.handle_hidden(true, page.now);
    for beat in 0..4 {
        page.advance(HEARTBEAT);
        page.receive(ping(beat));
    }
    page.lose();
    let lost_at = page.now;
    while page.phase() != DocumentPhase::Resting {
        page.close(1006);
        if page.phase() == DocumentPhase::Waiting {
            page.wait();
        }
    }
    assert_eq!(page.now, lost_at + KEEP);
    assert_eq!(page.machine.poll_timeout(), None);
    page.forget();
    page.advance(Duration::from_secs(3600));
    page.assert_quiet();
    page.machine.handle_hidden(false, page.now);
    assert!(matches!(page.action(), Action::Connect(_)));
}

#[test]
fn a_page_that_was_hidden_for_keep_rests_as_soon_as_an_attempt_fails() {
    let mut page = settled_with(5000);
    page.close(1006);
    page.advance(ms(3000));
    page.machine.handle_hidden(true, page.now);
    page.advance(ms(5000));
    page.forget();
    page.close(1006);
    assert_eq!(page.phase(), DocumentPhase::Resting);
    assert!(matches!(
        page.event(),
        DocumentEvent::Disconnected { retry_at: None, .. }
    ));
    page.machine.handle_wake(page.now);
    assert_eq!(page.phase(), DocumentPhase::Connecting);
}

#[test]
fn a_hidden_page_whose_session_is_not_kept_rests_after_one_attempt() {
    let mut page = settled_with(0);
    page.machine.handle_hidden(true, page.now);
    page.close(1006);
    assert_eq!(page.phase(), DocumentPhase::Connecting);
    page.close(1006);
    assert_eq!(page.phase(), DocumentPhase::Resting);
}

#[test]
fn a_page_that_was_hidden_for_long_still_replaces_a_lost_connection_at_once() {
    let mut page = settled();
    page.machine.handle_hidden(true, page.now);
    for beat in 0..100 {
        page.advance(HEARTBEAT);
        page.receive(ping(beat));
    }
    page.forget();
    page.close(1006);
    assert_eq!(page.action(), Action::Connect(2));
}

#[test]
fn a_page_that_was_never_welcomed_does_not_rest() {
    let mut page = Page::started();
    page.machine.handle_hidden(true, page.now);
    delays(&mut page, 100);
    assert_eq!(page.phase(), DocumentPhase::Connecting);
}

#[test]
fn a_page_that_reports_twice_that_it_is_hidden_counts_from_the_first_time() {
    let mut page = settled_with(5000);
    page.close(1006);
    page.machine.handle_hidden(true, page.now);
    page.advance(ms(3000));
    page.machine.handle_hidden(true, page.now);
    page.advance(ms(2000));
    page.close(1006);
    assert_eq!(page.phase(), DocumentPhase::Resting);
}

#[test]
fn a_server_may_send_times_of_any_length() {
    let forever = (1 << 53) - 1;
    let endless = Welcome {
        heartbeat: forever,
        keep: forever,
        ..welcome()
    };
    let mut page = Page::connected_with(LIMITS, endless);
    page.machine.handle_hidden(true, page.now);
    assert!(page.machine.poll_timeout().is_some());
    page.receive(End {
        retry_after: forever,
        ..end(Code::Full)
    });
    assert!(page.machine.poll_timeout().is_some());
    assert_eq!(page.phase(), DocumentPhase::Waiting);
}

#[test]
fn an_end_with_a_reason_ends_the_session() {
    let mut page = Page::connected();
    let reason = EndReason::Closed("".into());
    page.receive(End {
        retry_after: 5,
        text: "bye".to_owned(),
        ..end_of_session(&reason)
    });
    let ended = DocumentEvent::Ended {
        code: Code::Ended as u64,
        reason: reason.number(),
        retry_after: ms(5),
        text: "bye".to_owned(),
        unacknowledged: 0,
    };
    assert_eq!(page.event(), ended);
    assert!(matches!(page.action(), Action::Close(1, _)));
    assert_eq!(
        page.try_send(Lane::Interactive, text("late")),
        Err(SendRefused::SessionOver)
    );
    assert_over(&mut page);
}

#[test]
fn a_reason_ends_the_session_whatever_the_class_of_the_code() {
    for code in [4200, 4303, 4400, 4999] {
        let mut page = Page::connected();
        page.receive(End {
            code,
            reason: EndReason::Draining.number(),
            retry_after: 3000,
            text: String::new(),
        });
        assert!(matches!(page.event(), DocumentEvent::Ended { .. }));
        assert_over(&mut page);
    }
}

#[test]
fn the_end_tells_how_many_messages_were_not_acknowledged() {
    let mut page = Page::connected();
    page.send(bytes(250));
    page.send(text("b"));
    page.send_bulk(text("c"));
    page.pump();
    page.receive(ack([3, 0]));
    page.receive(end_of_session(&EndReason::Finished));
    assert!(matches!(page.event(), DocumentEvent::Ended { unacknowledged: 2, .. }));
    assert_eq!(page.machine.unacknowledged(), 2);
}

#[test]
fn received_messages_stay_readable_after_the_end() {
    let mut page = Page::connected();
    page.receive_all([data(1, text("a")), data(2, text("b"))]);
    page.receive(end_of_session(&EndReason::Finished));
    assert_eq!(page.take_all(Lane::Interactive), ["a", "b"]);
    assert_over(&mut page);
}

#[test]
fn a_refusal_of_class_never_is_final() {
    for code in [4100, 4101, 4103, 4104, 4105, 4106, 4199] {
        let mut page = Page::started();
        page.open();
        page.forget();
        page.receive(End {
            code,
            reason: 0,
            retry_after: 0,
            text: "no".to_owned(),
        });
        assert_eq!(
            page.event(),
            DocumentEvent::Refused {
                code,
                text: "no".to_owned(),
                retry_at: None
            }
        );
        assert!(matches!(page.action(), Action::Close(1, _)));
        assert_over(&mut page);
    }
}

#[test]
fn a_document_that_was_superseded_does_not_come_back() {
    let mut page = Page::connected();
    page.send(text("lost"));
    page.pump();
    page.receive(end(Code::Superseded));
    assert!(matches!(page.event(), DocumentEvent::Refused { code: 4103, .. }));
    assert_eq!(page.machine.unacknowledged(), 1);
    assert_over(&mut page);
}

#[test]
fn after_a_refusal_of_class_later_the_page_waits_as_long_as_the_server_asks() {
    for code in [4201, 4202, 4299] {
        let mut page = settled();
        page.receive(End {
            code,
            reason: 0,
            retry_after: 7000,
            text: "full".to_owned(),
        });
        let retry_at = Some(page.now + ms(7000));
        assert_eq!(
            page.event(),
            DocumentEvent::Refused {
                code,
                text: "full".to_owned(),
                retry_at
            }
        );
        assert!(matches!(page.action(), Action::Close(1, _)));
        page.machine.handle_wake(page.now);
        page.advance(ms(6999));
        assert_eq!(page.actions(), []);
        page.advance(ms(1));
        assert_eq!(page.action(), Action::Connect(2));
    }
}

#[test]
fn after_a_refusal_of_class_later_without_a_time_the_page_does_not_retry_at_once() {
    let mut page = Page::connected();
    page.receive(data(1, text("")));
    page.receive(end(Code::Busy));
    assert_eq!(page.phase(), DocumentPhase::Waiting);
    assert_eq!(page.machine.poll_timeout(), Some(page.now + ms(500)));
}

#[test]
fn a_page_that_wakes_from_its_rest_still_waits_as_long_as_a_refusal_asked() {
    let mut page = settled_with(2000);
    page.receive(End {
        retry_after: 60_000,
        ..end(Code::Full)
    });
    page.machine.handle_hidden(true, page.now);
    page.advance(ms(2000));
    assert_eq!(page.phase(), DocumentPhase::Resting);
    page.machine.handle_hidden(false, page.now);
    assert_eq!(page.phase(), DocumentPhase::Waiting);
    assert_eq!(page.machine.poll_timeout(), Some(page.now + ms(58_000)));
    page.machine.handle_hidden(true, page.now);
    page.advance(ms(100_000));
    page.machine.handle_hidden(false, page.now);
    assert_eq!(page.phase(), DocumentPhase::Connecting);
}

#[test]
fn after_a_code_of_class_now_the_page_reconnects() {
    for code in [
        4300,
        4301,
        4302,
        4303,
        4400,
        4399,
        4499,
        4500,
        4000,
        1000,
        (1 << 53) - 1,
    ] {
        let mut page = Page::connected();
        page.receive(data(1, text("")));
        page.receive(End {
            code,
            reason: 0,
            retry_after: 7000,
            text: "again".to_owned(),
        });
        assert_eq!(
            page.event(),
            DocumentEvent::Disconnected {
                code,
                retry_at: Some(page.now)
            }
        );
        assert!(matches!(page.actions()[..], [Action::Close(1, _), Action::Connect(2)]));
    }
}

#[test]
fn the_hundreds_of_a_code_give_its_class() {
    use Class::{Ignore, Later, Never, Now};
    let codes = [
        0, 1006, 3999, 4099, 4100, 4199, 4200, 4299, 4300, 4399, 4400, 4499, 4500, 9999,
    ];
    let classes = [
        Now, Now, Now, Now, Never, Never, Later, Later, Now, Now, Ignore, Ignore, Now, Now,
    ];
    assert_eq!(codes.map(Class::of), classes);
}

#[test]
fn a_close_without_an_end_is_judged_by_its_code() {
    let after = |code| {
        let mut page = Page::connected();
        page.close(code);
        page.event()
    };
    assert!(matches!(after(4100), DocumentEvent::Refused { retry_at: None, .. }));
    assert!(matches!(after(4201), DocumentEvent::Refused { retry_at: Some(_), .. }));
    assert!(matches!(after(4400), DocumentEvent::Disconnected { .. }));
    assert!(matches!(after(1011), DocumentEvent::Disconnected { .. }));
}

#[test]
fn the_close_that_follows_an_end_changes_nothing() {
    let mut page = Page::connected();
    page.receive(data(1, text("")));
    page.receive(end(Code::Replaced));
    page.forget();
    page.machine.handle_close(1, Code::Replaced as u64, page.now);
    assert_eq!(page.phase(), DocumentPhase::Connecting);
    page.assert_quiet();
}

#[test]
fn an_end_may_come_before_the_hello() {
    let mut page = Page::started();
    page.machine.handle_open(1, page.now);
    page.machine
        .handle_frame(1, Frame::End(end(Code::Forbidden)).to_bytes(), page.now);
    assert_eq!(page.frames(), []);
    assert!(matches!(page.event(), DocumentEvent::Refused { code: 4105, .. }));
    assert_eq!(page.phase(), DocumentPhase::Over);
}

#[test]
fn leave_is_written_before_the_connection_is_closed() {
    let mut page = Page::connected();
    page.send(text("unsent"));
    page.machine.handle_leave();
    assert_eq!(page.phase(), DocumentPhase::Left);
    assert_eq!(page.machine.poll_action(), None);
    assert_eq!(page.frame(), Frame::Leave);
    assert_eq!(page.action(), Action::Close(1, 1000));
    page.machine.handle_leave();
    page.machine.handle_hidden(true, page.now);
    page.machine.handle_hidden(false, page.now);
    page.advance(Duration::from_secs(1_000_000));
    page.assert_quiet();
    assert_eq!(page.machine.poll_timeout(), None);
}

#[test]
fn leaving_before_the_welcome_only_closes() {
    let mut page = Page::idle(LIMITS, 1);
    page.machine.handle_leave();
    assert_eq!(page.phase(), DocumentPhase::Idle);
    page.machine.start(page.now);
    page.open();
    page.forget();
    page.machine.handle_leave();
    assert_eq!(page.frames(), []);
    assert_eq!(page.action(), Action::Close(1, 1000));
}

#[test]
fn a_page_that_left_comes_back_with_its_incarnation() {
    let mut page = Page::connected();
    page.send(text("kept"));
    page.receive(data(1, text("a")));
    page.forget();
    page.machine.handle_leave();
    page.send(text("more"));
    page.forget();
    page.machine.handle_wake(page.now);
    assert_eq!(page.action(), Action::Connect(2));
    page.open();
    let hello = page.hello();
    assert_eq!(
        (hello.incarnation, hello.attempt, hello.counts.received.interactive),
        (1, 2, 1)
    );
    page.receive(Frame::Welcome(welcome()));
    assert_eq!(data_of(page.frames()), [data(1, text("kept")), data(2, text("more"))]);
}

#[test]
fn a_page_that_comes_back_before_its_leave_was_written_closes_the_old_connection() {
    let mut page = Page::connected();
    page.machine.handle_leave();
    page.machine.handle_wake(page.now);
    assert_eq!(page.frames(), []);
    assert_eq!(page.actions(), [Action::Close(1, 1000), Action::Connect(2)]);
}

#[test]
fn frames_that_arrive_after_leaving_are_dropped() {
    let mut page = Page::connected();
    page.machine.handle_leave();
    page.machine
        .handle_frame(1, Frame::Data(data(1, text(""))).to_bytes(), page.now);
    assert_eq!(page.take(), None);
    page.machine.handle_close(1, Code::Unknown as u64, page.now);
    assert_eq!(page.phase(), DocumentPhase::Left);
    page.assert_quiet();
}

#[test]
fn a_protocol_violation_by_the_server_ends_the_session_for_good() {
    let mut page = Page::connected();
    page.send(text("unread"));
    page.forget();
    page.machine.handle_frame(1, Bytes::from_static(&[0x48]), page.now);
    page.pump();
    page.assert_violated(Code::Malformed);
    assert_eq!(page.machine.unacknowledged(), 1);
    assert_over(&mut page);
}

#[test]
fn a_message_that_cannot_be_inflated_ends_the_session() {
    for (too_large, code) in [(true, Code::TooLarge), (false, Code::Malformed)] {
        let mut page = Page::connected();
        page.receive(data(1, text("x")));
        page.forget();
        page.take();
        page.machine.handle_bad_payload(too_large);
        page.pump();
        page.assert_violated(code);
        assert_over(&mut page);
    }
}

#[test]
fn a_message_that_cannot_be_inflated_ends_the_session_without_a_connection_too() {
    let mut page = settled();
    page.receive(data(1, text("x")));
    page.close(1006);
    page.forget();
    page.take();
    page.machine.handle_bad_payload(false);
    assert_eq!(page.frames(), []);
    assert_eq!(page.action(), Action::Close(2, Code::Malformed as u64));
    assert!(matches!(page.event(), DocumentEvent::Ended { reason: 10, .. }));
    assert_over(&mut page);
}
