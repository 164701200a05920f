//! Data, order, acknowledgement and credit on the document's side (PROTOCOL.md, sections 7 and 8).
//! The server's machine shares this code.

use std::time::Duration;

use bytes::Bytes;

use super::harness::{
    LIMITS, NOTHING, Page, ack, bulk, bytes, counts, data, data_of, fragment, ms, ping, sequences, shapes, text,
    welcome,
};
use crate::code::Code;
use crate::limits::Limits;
use crate::machine::{Action, DocumentPhase, SendRefused};
use crate::message::{Lane, PerLane};
use crate::wire::{Data, Frame, Welcome};

use Lane::{Bulk, Interactive};

/// Returns the interactive lane's credit from the next counts.
fn credit(page: &mut Page) -> u64 {
    page.advance(ms(200));
    page.forget();
    page.receive(ping(0));
    page.counts().credit.interactive
}

fn with_window(window: u64) -> Page {
    Page::connected_with(Limits { window, ..LIMITS }, welcome())
}

fn with_credit(credit: PerLane<u64>) -> Page {
    Page::connected_with(
        LIMITS,
        Welcome {
            counts: counts([0, 0], credit),
            ..welcome()
        },
    )
}

#[test]
fn a_message_of_at_most_one_fragment_is_one_frame() {
    let mut page = Page::connected();
    page.send(bytes(1));
    page.send(bytes(100));
    page.send_bulk(bytes(99));
    let expected = [
        (Interactive, 1, false, 1),
        (Interactive, 2, false, 100),
        (Bulk, 1, false, 99),
    ];
    assert_eq!(shapes(page.frames()), expected);
}

#[test]
fn a_longer_message_is_cut_into_fragments_of_exactly_the_fragment_size() {
    let mut page = Page::connected();
    page.send(bytes(101));
    page.send(bytes(200));
    page.send_bulk(bytes(201));
    let interactive = [(1, true, 100), (2, false, 1), (3, true, 100), (4, false, 100)];
    let bulk = [(1, true, 100), (2, true, 100), (3, false, 1)];
    let expected = interactive
        .map(|(sequence, more, size)| (Interactive, sequence, more, size))
        .into_iter();
    let expected = expected.chain(bulk.map(|(sequence, more, size)| (Bulk, sequence, more, size)));
    assert_eq!(shapes(page.frames()), expected.collect::<Vec<_>>());

    let content = (0..950).map(|index| index as u8).collect::<Bytes>();
    let mut page = Page::connected();
    page.send(content.clone());
    let joined = data_of(page.frames())
        .iter()
        .flat_map(|data| data.payload.to_vec())
        .collect::<Bytes>();
    assert_eq!(joined, content);
}

#[test]
fn an_empty_message_is_a_message_like_any_other() {
    let mut page = Page::connected();
    page.send(text(""));
    assert_eq!(page.frame(), Frame::Data(data(1, text(""))));
    page.receive_all([data(1, text("")), data(2, text("x")), data(3, text(""))]);
    assert_eq!(page.take_all(Interactive), ["", "x", ""]);
}

#[test]
fn messages_of_one_lane_are_delivered_in_order() {
    let mut page = Page::connected();
    page.receive_all([
        data(1, text("a")),
        bulk(data(1, text("A"))),
        data(2, text("b")),
        bulk(data(2, text("B"))),
    ]);
    page.receive(data(3, text("c")));
    assert_eq!(page.take_all(Interactive), ["a", "b", "c"]);
    assert_eq!(page.take_all(Bulk), ["A", "B"]);
}

#[test]
fn each_lane_delivers_one_message_at_a_time() {
    let mut page = Page::connected();
    page.receive_all([data(1, text("a")), data(2, text("b")), bulk(data(1, text("A")))]);
    assert_eq!(page.take(), Some(text("a")));
    assert_eq!(page.take(), None);
    assert!(page.machine.take(Bulk).is_some());
    page.release();
    assert_eq!(page.take(), Some(text("b")));
}

#[test]
fn a_duplicate_is_dropped_and_not_charged() {
    let mut page = Page::connected();
    page.receive_all([
        data(1, bytes(100)),
        data(2, text("b")),
        data(1, bytes(100)),
        data(2, text("b")),
    ]);
    assert_eq!(page.take_all(Interactive).len(), 2);
    assert_eq!(credit(&mut page), 2000 + 164 + 65);
}

#[test]
fn a_gap_ends_the_connection_and_delivers_nothing_of_it() {
    let mut page = Page::connected();
    page.receive(data(2, text("b")));
    assert_eq!(page.actions(), [Action::Close(1, Code::Gap as u64), Action::Connect(2)]);
    assert_eq!(page.take(), None);
    page.forget();
    page.open();
    assert_eq!(page.hello().counts.received, NOTHING);
    page.receive(Frame::Welcome(welcome()));
    page.receive_all([data(1, text("a")), data(2, text("b"))]);
    assert_eq!(page.take_all(Interactive), ["a", "b"]);
}

fn skip_twice(page: &mut Page) {
    for _ in 0..2 {
        page.receive(data(9, text("b")));
        page.open();
        page.receive(Frame::Welcome(welcome()));
    }
}

#[test]
fn three_gaps_in_a_row_without_progress_end_the_session() {
    let mut page = Page::connected();
    skip_twice(&mut page);
    page.forget();
    page.receive(data(3, text("c")));
    page.assert_violated(Code::Malformed);
}

#[test]
fn an_accepted_frame_forgives_the_gaps_before_it() {
    let mut page = Page::connected();
    skip_twice(&mut page);
    page.receive(bulk(data(1, text("A"))));
    skip_twice(&mut page);
    assert_eq!(page.phase(), DocumentPhase::Connected);
}

#[test]
fn fragments_of_the_two_lanes_may_alternate() {
    let mut page = Page::connected();
    page.receive_all([
        fragment(1),
        bulk(fragment(1)),
        fragment(2),
        bulk(data(2, text("b"))),
        data(3, text("C")),
    ]);
    assert_eq!(page.take_all(Interactive), ["x".repeat(200) + "C"]);
    assert_eq!(page.take_all(Bulk), ["x".repeat(100) + "b"]);
}

#[test]
fn a_message_cut_by_a_lost_connection_continues_at_the_next_fragment() {
    let mut page = Page::connected();
    page.receive(fragment(1));
    page.lose();
    page.forget();
    page.open();
    assert_eq!(page.hello().counts.received, PerLane::new(1, 0));
    page.receive(Frame::Welcome(welcome()));
    page.receive_all([fragment(2), data(3, text("C"))]);
    assert_eq!(page.take_all(Interactive), ["x".repeat(200) + "C"]);
}

#[test]
fn the_compressed_flag_is_reported_and_is_the_same_on_all_fragments_of_a_message() {
    let mut page = Page::connected();
    let compressed = |data: Data| Data {
        compressed: true,
        ..data
    };
    page.receive_all([
        compressed(fragment(1)),
        compressed(data(2, text("x"))),
        data(3, text("y")),
    ]);
    assert!(
        page.machine
            .take(Interactive)
            .is_some_and(|received| received.compressed)
    );
    page.release();
    assert!(
        page.machine
            .take(Interactive)
            .is_some_and(|received| !received.compressed)
    );

    for mixed in [
        [compressed(fragment(1)), data(2, text("x"))],
        [fragment(1), compressed(data(2, text("x")))],
    ] {
        let mut page = Page::connected();
        page.receive_all(mixed);
        page.assert_violated(Code::Malformed);
    }
}

#[test]
fn a_fragment_of_the_wrong_size_is_malformed() {
    let short = |sequence, size| Data {
        payload: bytes(size),
        ..fragment(sequence)
    };
    for frames in [vec![short(1, 99)], vec![short(1, 0)], vec![fragment(1), short(2, 99)]] {
        let mut page = Page::connected();
        page.receive_all(frames);
        page.assert_violated(Code::Malformed);
    }
}

#[test]
fn an_empty_last_fragment_after_others_is_malformed() {
    let mut page = Page::connected();
    page.receive_all([fragment(1), data(2, text(""))]);
    page.assert_violated(Code::Malformed);
}

#[test]
fn a_payload_above_the_fragment_size_is_too_large() {
    for more in [false, true] {
        let mut page = Page::connected();
        page.receive(Data {
            more,
            ..data(1, bytes(101))
        });
        page.assert_violated(Code::TooLarge);
    }
}

#[test]
fn a_message_above_the_message_limit_is_too_large_as_soon_as_the_sum_exceeds_it() {
    let with_last = |last: Data| {
        let mut page = Page::connected_with(Limits { message: 250, ..LIMITS }, welcome());
        page.receive_all([fragment(1), fragment(2), last]);
        page
    };
    assert_eq!(
        with_last(data(3, bytes(50))).take().map(|message| message.len()),
        Some(250)
    );
    with_last(data(3, bytes(51))).assert_violated(Code::TooLarge);
    with_last(fragment(3)).assert_violated(Code::TooLarge);
}

#[test]
fn interactive_frames_go_first_and_one_bulk_frame_follows_each_64_kib_of_them() {
    let limits = Limits {
        fragment: 1000,
        message: 300_000,
        window: 1_000_000,
        bulk_window: 1_000_000,
        ..LIMITS
    };
    let credit = PerLane::new(1_000_000, 1_000_000);
    let mut page = Page::connected_with(
        limits,
        Welcome {
            counts: counts([0, 0], credit),
            ..welcome()
        },
    );
    page.try_send(Bulk, bytes(3000)).expect("there is room");
    page.try_send(Interactive, bytes(140_000)).expect("there is room");
    let lanes = data_of(page.frames()).iter().map(|data| data.lane).collect::<Vec<_>>();
    let first = lanes
        .iter()
        .position(|lane| *lane == Bulk)
        .expect("bulk is not starved");
    assert!(first * 1064 >= 65_536 && (first - 1) * 1064 < 65_536);
    assert_eq!(lanes[first + 1..].iter().position(|lane| *lane == Bulk), Some(first));
    assert_eq!(lanes.last(), Some(&Bulk));
}

#[test]
fn bulk_waits_while_the_transport_does_not_accept_it() {
    let mut page = Page::connected();
    page.bulk_allowed = false;
    page.send_bulk(text("bulk"));
    page.send(text("click"));
    assert_eq!(page.frame(), Frame::Data(data(1, text("click"))));
    page.bulk_allowed = true;
    assert_eq!(page.frame(), Frame::Data(bulk(data(1, text("bulk")))));
}

#[test]
fn frames_that_were_not_received_are_sent_again_with_the_same_sequences_and_boundaries() {
    let mut page = Page::connected();
    page.send(bytes(250));
    page.send(text("b"));
    page.send_bulk(bytes(150));
    let before = data_of(page.frames());
    page.resume([0, 0]);
    assert_eq!(data_of(page.frames()), before);
    page.resume([2, 1]);
    let rest = before
        .into_iter()
        .filter(|data| data.sequence > if data.lane == Bulk { 1 } else { 2 });
    assert_eq!(data_of(page.frames()), rest.collect::<Vec<_>>());
    page.send(text("c"));
    assert_eq!(data_of(page.frames()), [data(5, text("c"))]);
}

#[test]
fn frames_that_were_received_are_not_sent_again() {
    let mut page = Page::connected();
    for message in ["a", "b", "c"] {
        page.send(text(message));
    }
    page.pump();
    page.receive(ack([1, 0]));
    page.forget();
    page.resume([2, 0]);
    assert_eq!(data_of(page.frames()), [data(3, text("c"))]);
    page.resume([3, 0]);
    assert_eq!(data_of(page.frames()), []);
    assert_eq!(page.machine.outgoing(Interactive), 0);
}

#[test]
fn a_frame_that_is_acknowledged_before_it_is_sent_again_is_not_sent_again() {
    let mut page = Page::connected();
    page.send_bulk(text("A"));
    page.send_bulk(text("B"));
    page.forget();
    page.bulk_allowed = false;
    page.resume([0, 0]);
    page.forget();
    page.receive(ack([0, 1]));
    page.bulk_allowed = true;
    assert_eq!(page.frame(), Frame::Data(bulk(data(2, text("B")))));
}

#[test]
fn nothing_is_sent_beyond_the_credit() {
    let mut page = with_credit(PerLane::new(164 + 65, 0));
    page.send(bytes(100));
    page.send(text("b"));
    page.send(text("c"));
    page.send_bulk(text("d"));
    assert_eq!(sequences(page.frames()), [1, 2]);
    page.receive(Frame::Ack(counts([0, 0], PerLane::new(164 + 65 + 64, 64))));
    assert_eq!(page.frames(), []);
    page.receive(Frame::Ack(counts([0, 0], PerLane::new(164 + 65 + 65, 65))));
    let payloads = data_of(page.frames())
        .into_iter()
        .map(|data| data.payload)
        .collect::<Vec<_>>();
    assert_eq!(payloads, ["c", "d"]);
}

#[test]
fn a_frame_sent_again_is_not_charged_again() {
    let credit = PerLane::new(130, 0);
    let mut page = with_credit(credit);
    for message in ["a", "b", "c"] {
        page.send(text(message));
    }
    assert_eq!(page.frames().len(), 2);
    page.lose();
    page.open();
    page.receive(Frame::Welcome(Welcome {
        counts: counts([0, 0], credit),
        ..welcome()
    }));
    assert_eq!(sequences(page.frames()), [1, 2]);
    page.receive(Frame::Ack(counts([1, 0], PerLane::new(195, 0))));
    assert_eq!(sequences(page.frames()), [3]);
}

#[test]
fn a_frame_beyond_the_reported_credit_is_a_flood() {
    let mut page = with_window(164 * 4);
    page.receive_all((1..=4).map(|sequence| data(sequence, bytes(100))));
    assert_eq!(page.phase(), DocumentPhase::Connected);
    page.forget();
    page.receive(data(5, text("")));
    page.assert_violated(Code::Flood);
}

#[test]
fn credit_that_was_granted_but_not_reported_does_not_allow_more() {
    let four = || (1..=4).map(|sequence| data(sequence, bytes(100)));
    let mut page = with_window(164 * 4);
    page.receive_all(four());
    page.forget();
    page.take();
    page.release();
    page.receive(data(5, text("")));
    page.assert_violated(Code::Flood);

    let mut told = with_window(164 * 4);
    told.receive_all(four());
    told.take_all(Interactive);
    told.pump();
    told.receive(data(5, text("")));
    assert_eq!(told.phase(), DocumentPhase::Connected);
}

#[test]
fn the_credit_of_a_message_returns_when_its_handler_has_returned() {
    let mut page = Page::connected();
    page.receive_all([data(1, text("a")), data(2, text("b"))]);
    assert_eq!(credit(&mut page), 2000);
    page.take();
    assert_eq!(credit(&mut page), 2000);
    page.release();
    assert_eq!(credit(&mut page), 2065);
    page.release();
    assert_eq!(credit(&mut page), 2065);
    page.take_all(Interactive);
    assert_eq!(credit(&mut page), 2130);
}

#[test]
fn fragments_that_arrive_while_no_message_waits_return_their_credit_at_once() {
    let mut page = Page::connected();
    page.receive_all([fragment(1), fragment(2)]);
    assert_eq!(credit(&mut page), 2328);
    page.receive(data(3, text("c")));
    assert_eq!(credit(&mut page), 2328);
    page.take_all(Interactive);
    assert_eq!(credit(&mut page), 2393);
}

#[test]
fn fragments_that_arrive_while_messages_wait_hold_their_credit_until_the_last_of_those_is_released() {
    let mut page = Page::connected();
    page.receive_all([data(1, text("a")), data(2, text("b")), fragment(3), fragment(4)]);
    page.take();
    page.release();
    page.take();
    assert_eq!(credit(&mut page), 2065);
    page.receive(fragment(5));
    assert_eq!(credit(&mut page), 2065);
    page.release();
    assert_eq!(credit(&mut page), 2000 + 2 * 65 + 3 * 164);
    page.receive(fragment(6));
    assert_eq!(credit(&mut page), 2000 + 2 * 65 + 4 * 164);
}

#[test]
fn fragments_that_still_hold_credit_when_their_message_completes_hold_it_until_the_message_is_released() {
    let mut page = Page::connected();
    page.receive_all([data(1, text("a")), fragment(2), data(3, text("c"))]);
    page.take();
    page.release();
    assert_eq!(credit(&mut page), 2065);
    page.take();
    page.release();
    assert_eq!(credit(&mut page), 2065 + 164 + 65);
}

#[test]
fn a_message_larger_than_the_window_completes() {
    let mut page = Page::connected_with(
        Limits {
            message: 10_000,
            window: 700,
            ..LIMITS
        },
        welcome(),
    );
    for sequence in 1..100 {
        page.receive(fragment(sequence));
    }
    page.receive(data(100, bytes(100)));
    assert_eq!(page.take().map(|message| message.len()), Some(10_000));
}

#[test]
fn a_lane_holds_at_most_its_window_and_one_message() {
    let mut page = Page::connected_with(
        Limits {
            message: 10_000,
            window: 700,
            ..LIMITS
        },
        welcome(),
    );
    for sequence in 1..100 {
        page.receive(fragment(sequence));
    }
    let mut told = 700 + 99 * 164;
    for sequence in 100..1000 {
        let charged = sequence * 164;
        if charged > told {
            break;
        }
        page.receive(data(sequence, bytes(100)));
        page.advance(ms(200));
        for frame in page.frames() {
            if let Frame::Ack(counts) = frame {
                told = counts.credit.interactive;
            }
        }
    }
    assert_eq!(page.phase(), DocumentPhase::Connected);
    let held = page.machine.incoming(Interactive);
    assert!(held <= 700 + 10_000 + 100 * 64, "{held}");
    assert!(held > 10_000 + 99 * 64, "{held}");
}

#[test]
fn the_two_lanes_have_their_own_credit() {
    let mut page = Page::connected();
    page.receive(bulk(data(1, text("a"))));
    page.take_all(Bulk);
    page.advance(ms(200));
    assert_eq!(page.counts().credit, PerLane::new(2000, 1065));
}

#[test]
fn an_acknowledgement_of_frames_that_were_never_sent_is_malformed() {
    let mut page = Page::connected();
    page.receive(ack([1, 0]));
    page.assert_violated(Code::Malformed);

    let mut other_lane = Page::connected();
    other_lane.send(text("a"));
    other_lane.pump();
    other_lane.receive(ack([0, 1]));
    other_lane.assert_violated(Code::Malformed);

    let mut unsent = with_credit(PerLane::new(65, 0));
    unsent.send(text("a"));
    unsent.send(text("b"));
    unsent.pump();
    unsent.receive(ack([2, 0]));
    unsent.assert_violated(Code::Malformed);
}

#[test]
fn an_acknowledgement_that_decreases_is_malformed() {
    let mut page = Page::connected();
    page.send(text("a"));
    page.send(text("b"));
    page.pump();
    page.receive(ack([2, 0]));
    page.receive(ack([1, 0]));
    page.assert_violated(Code::Malformed);

    let mut resumed = Page::connected();
    resumed.send(text("a"));
    resumed.pump();
    resumed.receive(ack([1, 0]));
    resumed.resume([0, 0]);
    resumed.assert_violated(Code::Malformed);
}

#[test]
fn credit_that_decreases_is_malformed() {
    for credit in [PerLane::new(99_999, 100_000), PerLane::new(100_000, 99_999)] {
        let mut page = Page::connected();
        page.receive(Frame::Ack(counts([0, 0], credit)));
        page.assert_violated(Code::Malformed);
    }
}

#[test]
fn a_newer_connection_may_acknowledge_what_an_older_one_sent() {
    let mut page = Page::connected();
    page.send(text("a"));
    page.send(text("b"));
    page.pump();
    page.resume([2, 0]);
    assert_eq!(page.phase(), DocumentPhase::Connected);
    assert_eq!(page.machine.unacknowledged(), 0);

    let mut later = Page::connected();
    later.send(text("a"));
    later.send(text("b"));
    later.pump();
    later.lose();
    later.open();
    later
        .machine
        .handle_frame(later.connection, Frame::Welcome(welcome()).to_bytes(), later.now);
    let first = later.machine.poll_transmit(later.connection, true, later.now);
    assert_eq!(first, Some(Frame::Data(data(1, text("a")))));
    later.receive(ack([2, 0]));
    assert_eq!(later.phase(), DocumentPhase::Connected);
}

#[test]
fn unreported_counts_are_sent_along_with_data() {
    let mut page = Page::connected();
    page.receive(data(1, text("ho")));
    page.send(text("hi"));
    let frames = page.frames();
    assert_eq!(frames.len(), 2);
    assert!(frames.contains(&Frame::Data(data(1, text("hi")))));
    assert!(
        frames
            .iter()
            .any(|frame| matches!(frame, Frame::Ack(counts) if counts.received.interactive == 1))
    );
    page.send(text("again"));
    assert_eq!(page.frame(), Frame::Data(data(2, text("again"))));
}

#[test]
fn unreported_counts_are_sent_along_with_data_at_most_once_in_20_milliseconds() {
    let mut page = Page::connected();
    page.receive(data(1, text("a")));
    page.send(text("b"));
    page.forget();
    page.receive(data(2, text("c")));
    page.advance(Duration::from_millis(19));
    page.send(text("d"));
    assert_eq!(page.frame(), Frame::Data(data(2, text("d"))));
    page.advance(Duration::from_millis(1));
    page.send(text("e"));
    let frames = page.frames();
    assert_eq!(frames.len(), 2);
    assert!(frames.contains(&Frame::Data(data(3, text("e")))));
    assert!(
        frames
            .iter()
            .any(|frame| matches!(frame, Frame::Ack(counts) if counts.received.interactive == 2))
    );
}

#[test]
fn counts_are_reported_as_soon_as_they_amount_to_a_quarter_of_the_window() {
    let mut page = Page::connected();
    page.receive_all((1..=3).map(|sequence| data(sequence, bytes(100))));
    assert_eq!(page.frames(), []);
    page.receive(data(4, text("")));
    assert_eq!(page.counts().received, PerLane::new(4, 0));

    let mut page = Page::connected();
    page.receive(bulk(data(1, bytes(100))));
    assert_eq!(page.frames(), []);
    page.receive(bulk(data(2, bytes(22))));
    assert_eq!(page.counts().received, PerLane::new(0, 2));
}

#[test]
fn returned_credit_is_also_reported_at_a_quarter_of_the_window() {
    let mut page = Page::connected();
    page.receive_all((1..=4).map(|sequence| data(sequence, bytes(100))));
    page.forget();
    for _ in 0..3 {
        page.take();
        page.release();
        assert_eq!(page.frames(), []);
    }
    page.take();
    page.release();
    assert_eq!(page.counts().credit, PerLane::new(2000 + 4 * 164, 1000));
}

#[test]
fn any_other_change_is_reported_200_milliseconds_after_the_first() {
    let mut page = Page::connected();
    page.receive(data(1, text("a")));
    page.advance(ms(150));
    page.receive(data(2, text("b")));
    page.advance(ms(49));
    assert_eq!(page.frames(), []);
    page.advance(ms(1));
    assert_eq!(page.frame(), Frame::Ack(counts([2, 0], PerLane::new(2000, 1000))));
    page.take();
    page.release();
    page.advance(ms(150));
    page.take();
    page.release();
    assert_eq!(page.machine.poll_timeout(), Some(page.now + ms(50)));
    page.advance(ms(49));
    assert_eq!(page.frames(), []);
    page.advance(ms(1));
    assert_eq!(page.counts().credit, PerLane::new(2130, 1000));
}

#[test]
fn counts_that_any_frame_has_carried_are_not_written_again() {
    let mut page = Page::connected();
    page.machine
        .handle_frame(1, Frame::Data(data(1, text("a"))).to_bytes(), page.now);
    page.receive(ping(1));
    assert_eq!(page.counts().received, PerLane::new(1, 0));
    page.advance(ms(1000));
    assert_eq!(page.frames(), []);
    page.receive(data(2, text("b")));
    page.resume([0, 0]);
    page.forget();
    page.advance(ms(1000));
    assert_eq!(page.frames(), []);
}

#[test]
fn counts_that_changed_between_hello_and_welcome_are_reported() {
    let mut page = Page::connected();
    page.receive(data(1, bytes(100)));
    page.lose();
    page.open();
    page.forget();
    page.take_all(Interactive);
    page.receive(Frame::Welcome(welcome()));
    page.advance(ms(200));
    assert_eq!(page.counts().credit, PerLane::new(2164, 1000));
}

#[test]
fn the_timer_does_not_wait_for_a_blocked_transport() {
    let mut page = Page::connected();
    page.machine
        .handle_frame(1, Frame::Data(data(1, text("a"))).to_bytes(), page.now);
    page.now += ms(200);
    assert_eq!(page.machine.poll_timeout(), Some(page.now));
    page.machine.handle_timeout(page.now);
    // The driver does not poll for frames. The acknowledgement waits for the poll, so no timer is
    // due.
    assert!(page.machine.poll_timeout() > Some(page.now));
    assert_eq!(page.counts().received, PerLane::new(1, 0));
}

#[test]
fn a_message_is_admitted_when_it_fits_the_outbox_or_its_lane_is_empty() {
    let none = Welcome {
        counts: counts([0, 0], NOTHING),
        ..welcome()
    };
    let mut page = Page::connected_with(Limits { outbox: 328, ..LIMITS }, none);
    page.send(bytes(100));
    page.send(bytes(100));
    assert_eq!(page.try_send(Interactive, text("")), Err(SendRefused::OutboxFull));
    assert_eq!(
        (page.machine.outgoing(Interactive), page.machine.unacknowledged()),
        (328, 2)
    );
    page.send_bulk(bytes(1000));
    assert_eq!(page.machine.outgoing(Bulk), 10 * 164);
    assert_eq!(page.try_send(Bulk, text("")), Err(SendRefused::OutboxFull));
}

#[test]
fn an_acknowledgement_makes_room_in_the_outbox() {
    let mut page = Page::connected_with(Limits { outbox: 328, ..LIMITS }, welcome());
    page.send(bytes(200));
    page.pump();
    assert_eq!(page.try_send(Interactive, text("")), Err(SendRefused::OutboxFull));
    page.receive(ack([1, 0]));
    assert_eq!(
        (page.machine.outgoing(Interactive), page.machine.unacknowledged()),
        (164, 1)
    );
    page.send(bytes(100));
    page.pump();
    page.receive(ack([3, 0]));
    assert_eq!(
        (page.machine.outgoing(Interactive), page.machine.unacknowledged()),
        (0, 0)
    );
}

#[test]
fn a_message_above_the_message_limit_is_refused_at_once() {
    let mut page = Page::connected();
    assert_eq!(page.try_send(Interactive, bytes(1001)), Err(SendRefused::TooLarge));
    assert_eq!(page.frames(), []);
    page.send(bytes(1000));
    assert_eq!(page.frames().len(), 10);
}

#[test]
fn a_long_queue_keeps_its_order() {
    let credit = PerLane::new(1_000_000_000, 1_000_000_000);
    let mut page = with_credit(credit);
    for sequence in 1..=1000 {
        page.send(sequence.to_string());
        page.pump();
        if sequence % 3 == 0 {
            page.receive(Frame::Ack(counts([sequence - 2, 0], credit)));
        }
    }
    assert_eq!(sequences(page.frames()), (1..=1000).collect::<Vec<_>>());
    assert_eq!(page.machine.unacknowledged(), 3);
}
