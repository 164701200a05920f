//! Documents, connections, timing and end of a session on the server's side (PROTOCOL.md, sections
//! 5 to 10).

use std::time::Duration;

use bytes::Bytes;

use super::harness::{
    LIMITS, NOTHING, PLENTY, ack, bulk, bytes, counts, data, data_of, fragment, ms, ping, pong, sequences, text,
};
use super::host::{Host, KEEP, TIMING, hello, hello_again};
use crate::code::{Code, EndReason};
use crate::limits::Limits;
use crate::machine::{Cause, ConnectionKey, Event, Phase, Timing};
use crate::message::{Lane, PerLane};
use crate::wire::{Data, End, Frame, Hello, Welcome};

const HEARTBEAT: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(2);
const TEN_SECONDS: Duration = Duration::from_secs(10);

fn closed(text: &str) -> EndReason {
    EndReason::Closed(text.into())
}

/// Returns a session with document 1 that has lost its connection.
fn soft_closed() -> Host {
    let (mut host, key) = Host::open();
    host.close(key);
    host.events();
    host
}

/// Returns a session with document 1 connected while document 2 asks for the session, the keys of
/// both connections, and the nonce of the probe.
fn probed() -> (Host, ConnectionKey, ConnectionKey, u64) {
    let (mut host, incumbent) = Host::open();
    let newcomer = host.hello(&hello(2, 1));
    let nonce = host.ping(incumbent);
    (host, incumbent, newcomer, nonce)
}

/// Returns a session that document 2 has taken over from document 1.
fn restored() -> (Host, ConnectionKey) {
    let mut host = soft_closed();
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.receive(key, Frame::Confirm);
    host.welcome(key);
    host.events();
    (host, key)
}

fn assert_ended(host: &mut Host, key: ConnectionKey, reason: &EndReason) {
    let Some(Frame::End(end)) = host.frames(key).pop() else {
        panic!("expected an end on the connection")
    };
    assert_eq!((end.code, end.reason), (reason.code() as u64, reason.number()));
    assert_eq!(host.phase(), &Phase::Closed(reason.clone()));
    assert_eq!(host.events().last(), Some(&Event::Ended(reason.clone())));
}

#[test]
fn the_first_document_is_welcomed_at_once() {
    let mut host = Host::new();
    assert_eq!(host.phase(), &Phase::Unconnected);
    let key = host.hello(&hello(1, 1));
    let expected = Welcome {
        incarnation: 1,
        epoch: 1,
        counts: counts([0, 0], PerLane::new(2000, 1000)),
        heartbeat: 15_000,
        keep: KEEP,
        limits: LIMITS,
    };
    assert_eq!(host.welcome(key), expected);
    assert_eq!(host.event(), Event::Opened);
    assert_eq!((host.phase(), host.machine.has_connection()), (&Phase::Open, true));
}

#[test]
fn messages_sent_before_the_first_document_are_delivered_to_it() {
    let mut host = Host::new();
    host.send(text("early"));
    let key = host.hello(&hello(1, 1));
    let frames = host.frames(key);
    assert!(matches!(frames[..], [Frame::Welcome(_), Frame::Data(_)]));
    assert_eq!(data_of(frames), [data(1, text("early"))]);
}

#[test]
fn a_document_never_welcomed_that_claims_to_have_received_is_malformed() {
    let claim = |document| Hello {
        counts: counts([1, 0], PLENTY),
        ..hello(document, 1)
    };
    let mut host = Host::new();
    host.send(text("early"));
    let key = host.hello(&claim(1));
    host.assert_refused(key, Code::Malformed);
    assert_eq!(host.phase(), &Phase::Unconnected);

    let mut host = soft_closed();
    let key = host.hello(&claim(2));
    host.assert_refused(key, Code::Malformed);
    assert!(matches!(host.phase(), Phase::SoftClosed(_)));
}

#[test]
fn a_hello_of_another_incarnation_is_superseded() {
    let (mut host, key) = restored();
    for hello in [
        hello_again(2, 1, 9, [0, 0]),
        hello_again(2, 3, 9, [0, 0]),
        hello_again(9, 2, 9, [0, 0]),
    ] {
        let other = host.hello(&hello);
        host.assert_refused(other, Code::Superseded);
    }
    assert!(host.machine.has_connection() && host.frames(key).is_empty());
    let mut unopened = Host::new();
    let other = unopened.hello(&hello_again(1, 1, 1, [0, 0]));
    unopened.assert_refused(other, Code::Superseded);
}

#[test]
fn a_superseded_document_is_refused_at_every_attempt() {
    let (mut host, _) = restored();
    for attempt in 2..5 {
        let key = host.hello(&hello_again(1, 1, attempt, [0, 0]));
        host.assert_refused(key, Code::Superseded);
    }
}

#[test]
fn a_resume_continues_on_both_sides_where_the_other_stopped() {
    let (mut host, key) = Host::open();
    for message in ["1", "2", "3"] {
        host.send(text(message));
    }
    host.frames(key);
    host.receive_all(key, [data(1, text("a")), data(2, text("b"))]);
    host.close(key);
    assert_eq!(host.event(), Event::SoftClosed(Cause::Lost));
    host.advance(ms(700));
    let key = host.hello(&hello_again(1, 1, 2, [1, 0]));
    assert_eq!(
        host.event(),
        Event::Resumed {
            gap: ms(700),
            replayed: 2
        }
    );
    let mut frames = host.frames(key);
    let Frame::Welcome(welcome) = frames.remove(0) else {
        panic!("the welcome arrives first")
    };
    assert_eq!((welcome.incarnation, welcome.epoch), (1, 2));
    assert_eq!(welcome.counts.received, PerLane::new(2, 0));
    assert_eq!(sequences(frames), [2, 3]);
}

#[test]
fn a_message_cut_by_a_lost_connection_continues_at_the_next_fragment() {
    let (mut host, key) = Host::open();
    host.receive_all(key, [fragment(1), fragment(2)]);
    host.close(key);
    let key = host.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(host.welcome(key).counts.received, PerLane::new(2, 0));
    host.receive_all(key, [fragment(3), data(4, text("end"))]);
    assert_eq!(host.take_all(), ["x".repeat(300) + "end"]);
}

#[test]
fn a_lost_welcome_does_no_harm() {
    let mut host = Host::new();
    host.hello(&hello(1, 1));
    let key = host.hello(&hello(1, 2));
    let welcome = host.welcome(key);
    assert_eq!((welcome.incarnation, welcome.epoch), (1, 2));
}

#[test]
fn a_lost_welcome_of_a_restore_is_repeated() {
    let (mut host, first) = restored();
    host.close(first);
    let key = host.hello(&hello(2, 2));
    let welcome = host.welcome(key);
    assert_eq!((welcome.incarnation, welcome.epoch), (2, 3));
    assert_eq!(host.machine.incarnation(), 2);
}

#[test]
fn a_reconnect_while_the_old_connection_looks_alive_resumes_at_once() {
    let (mut host, old) = Host::open();
    let new = host.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(host.welcome(new).epoch, 2);
    assert_eq!(
        host.event(),
        Event::Resumed {
            gap: Duration::ZERO,
            replayed: 0
        }
    );
    host.assert_refused(old, Code::Replaced);
}

#[test]
fn a_stale_connection_cannot_soft_close_its_successor() {
    let (mut host, old) = Host::open();
    let new = host.hello(&hello_again(1, 1, 2, [0, 0]));
    host.frames(new);
    host.events();
    let version = host.machine.version();
    host.close(old);
    assert_eq!((host.events(), host.machine.version()), (vec![], version));
    assert!(host.machine.is_known(new) && !host.machine.is_known(old));
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn frames_of_an_older_connection_are_dropped() {
    let (mut host, old) = Host::open();
    let new = host.hello(&hello_again(1, 1, 2, [0, 0]));
    host.frames(new);
    host.receive_all(old, [data(1, text("late")), data(9, text("gap"))]);
    host.receive_all(old, [Frame::Leave, ack([9, 9])]);
    host.machine.handle_frame(old, Bytes::from_static(&[0xff]), host.now);
    host.machine.handle_unreadable(old, true, host.now);
    assert_eq!((host.take(), host.phase()), (None, &Phase::Open));
    host.receive(new, ping(1));
    assert!(matches!(host.frame(new), Frame::Pong { counts, .. } if counts.received == NOTHING));
}

#[test]
fn a_late_hello_after_a_newer_welcome_is_stale_and_changes_nothing() {
    let (mut host, _) = Host::open();
    let newest = host.hello(&hello_again(1, 1, 3, [0, 0]));
    host.frames(newest);
    host.events();
    let version = host.machine.version();
    for attempt in [1, 2, 3] {
        let late = host.hello(&hello_again(1, 1, attempt, [0, 0]));
        host.assert_refused(late, Code::Stale);
    }
    assert_eq!((host.machine.version(), host.events()), (version, vec![]));
    assert_eq!(host.machine.epoch(), 2);
    assert!(host.machine.is_known(newest));
}

#[test]
fn a_hello_with_impossible_counts_ends_only_its_connection() {
    let mut host = soft_closed();
    let key = host.hello(&hello_again(1, 1, 2, [1, 0]));
    host.assert_refused(key, Code::Malformed);
    let less = Hello {
        counts: counts([0, 0], NOTHING),
        ..hello_again(1, 1, 3, [0, 0])
    };
    let key = host.hello(&less);
    host.assert_refused(key, Code::Malformed);
    let key = host.hello(&hello_again(1, 1, 3, [0, 0]));
    assert_eq!(host.welcome(key).incarnation, 1);
}

#[test]
fn a_page_that_goes_away_soft_closes_at_once() {
    let (mut host, key) = Host::open();
    host.receive(key, Frame::Leave);
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Left));
    assert_eq!(host.event(), Event::SoftClosed(Cause::Left));
    host.close(key);
    assert_eq!(host.events(), []);
    let key = host.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(host.welcome(key).incarnation, 1);
}

#[test]
fn the_application_can_ask_for_a_new_connection() {
    let (mut host, key) = Host::open();
    host.machine.soft_close(host.now);
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Asked));
    host.assert_refused(key, Code::Replaced);
    host.machine.soft_close(host.now);
    assert_eq!(host.events(), [Event::SoftClosed(Cause::Asked)]);
}

#[test]
fn a_newcomer_is_offered_a_session_that_nobody_uses() {
    let mut host = soft_closed();
    let key = host.hello(&hello(2, 1));
    assert_eq!(host.frame(key), Frame::Offer);
    assert_eq!(host.machine.incarnation(), 1);
    host.receive(key, Frame::Confirm);
    let welcome = host.welcome(key);
    assert_eq!(
        (welcome.incarnation, welcome.epoch, welcome.counts.received),
        (2, 2, NOTHING)
    );
    assert_eq!(host.event(), Event::Restored { incarnation: 2 });
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn an_answering_incumbent_keeps_its_session_and_the_other_is_a_duplicate() {
    let (mut host, incumbent, newcomer, nonce) = probed();
    assert_eq!(host.frames(newcomer), []);
    host.advance(PROBE - ms(1));
    host.receive(incumbent, pong(nonce));
    host.assert_refused(newcomer, Code::Duplicate);
    host.advance(ms(1000));
    assert_eq!((host.machine.has_connection(), host.machine.incarnation()), (true, 1));
}

#[test]
fn a_silent_incumbent_is_superseded_after_two_seconds() {
    let (mut host, incumbent, newcomer, _) = probed();
    host.send(text("for the old page"));
    host.advance_with(PROBE, |host| assert_eq!(host.frames(newcomer), []));
    assert_eq!(host.frame(newcomer), Frame::Offer);
    assert!(host.machine.is_known(incumbent), "only the confirm displaces it");
    host.receive(newcomer, Frame::Confirm);
    host.assert_refused(incumbent, Code::Superseded);
    assert_eq!(host.welcome(newcomer).incarnation, 2);
    assert_eq!(host.event(), Event::Restored { incarnation: 2 });
}

#[test]
fn only_an_answer_to_the_probe_proves_that_the_incumbent_is_alive() {
    let (mut host, incumbent) = Host::open();
    host.advance(HEARTBEAT);
    let older = host.ping(incumbent);
    let newcomer = host.hello(&hello(2, 1));
    let probe = host.ping(incumbent);
    assert!(probe > older);
    host.receive(incumbent, data(1, text("late")));
    host.receive_all(incumbent, [ack([0, 0]), ping(5), pong(older), pong(probe + 1)]);
    assert!(host.frames(newcomer).is_empty());
    host.receive(incumbent, pong(probe));
    host.assert_refused(newcomer, Code::Duplicate);
}

#[test]
fn an_answer_to_a_later_ping_answers_the_probe_too() {
    let timing = Timing {
        heartbeat: ms(500),
        ..TIMING
    };
    let (mut host, incumbent) = Host::with(LIMITS, timing).opened();
    let newcomer = host.hello(&hello(2, 1));
    host.ping(incumbent);
    host.receive(incumbent, ack([0, 0]));
    host.advance(ms(500));
    let later = host.ping(incumbent);
    host.receive(incumbent, pong(later));
    host.assert_refused(newcomer, Code::Duplicate);
}

#[test]
fn an_answer_after_the_offer_is_too_late() {
    let (mut host, incumbent, newcomer, nonce) = probed();
    host.advance(PROBE);
    assert_eq!(host.frame(newcomer), Frame::Offer);
    host.receive(incumbent, pong(nonce));
    host.receive(newcomer, Frame::Confirm);
    assert_eq!(host.welcome(newcomer).incarnation, 2);
}

#[test]
fn the_end_of_the_incumbents_connection_ends_the_probe() {
    for leaves in [false, true] {
        let (mut host, incumbent, newcomer, _) = probed();
        if leaves {
            host.receive(incumbent, Frame::Leave);
        } else {
            host.close(incumbent);
        }
        assert_eq!(host.frame(newcomer), Frame::Offer);
    }
}

#[test]
fn an_application_may_choose_takeover_without_a_probe() {
    let (mut host, incumbent) = Host::with(LIMITS, Timing { probe: None, ..TIMING }).opened();
    let newcomer = host.hello(&hello(2, 1));
    assert_eq!(host.frames(incumbent), []);
    assert_eq!(host.frame(newcomer), Frame::Offer);
    host.receive(newcomer, Frame::Confirm);
    host.assert_refused(incumbent, Code::Superseded);
    assert_eq!(host.welcome(newcomer).incarnation, 2);
}

#[test]
fn one_newcomer_waits_and_others_are_told_to_come_later() {
    let mut host = soft_closed();
    let first = host.hello(&hello(2, 1));
    let second = host.hello(&hello(3, 1));
    let end = host.end(second);
    assert_eq!((end.code, end.reason, end.retry_after), (Code::Busy as u64, 0, 2000));
    host.close(first);
    let second = host.hello(&hello(3, 2));
    assert_eq!(host.frame(second), Frame::Offer);
}

#[test]
fn a_newcomer_that_sends_another_hello_keeps_its_place_and_is_offered_again() {
    let mut host = soft_closed();
    let first = host.hello(&hello(2, 5));
    assert_eq!(host.frame(first), Frame::Offer);
    let stale = host.hello(&hello(2, 5));
    host.assert_refused(stale, Code::Stale);
    let second = host.hello(&hello(2, 6));
    host.assert_refused(first, Code::Replaced);
    host.close(first);
    host.receive(first, Frame::Confirm);
    assert_eq!(host.frame(second), Frame::Offer);
    host.receive(second, Frame::Confirm);
    assert_eq!(host.welcome(second).incarnation, 2);
}

#[test]
fn a_newcomer_that_does_not_confirm_in_ten_seconds_makes_room() {
    let mut host = soft_closed();
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.advance_with(TEN_SECONDS, |host| {
        assert!(host.machine.is_known(key) && host.frames(key).is_empty());
    });
    host.assert_refused(key, Code::HelloDeadline);
    assert_eq!(host.machine.poll_timeout(), None);
}

#[test]
fn a_newcomer_with_a_blocked_socket_makes_room_too() {
    let mut host = soft_closed();
    let blocked = host.hello(&hello(2, 1));
    host.advance(TEN_SECONDS);
    let other = host.hello(&hello(3, 1));
    assert_eq!(host.frame(other), Frame::Offer);
    host.assert_refused(blocked, Code::HelloDeadline);
}

#[test]
fn any_frame_of_a_newcomer_but_confirm_and_leave_ends_only_its_connection() {
    for frame in [Frame::Data(data(1, text("x"))), ping(1), Frame::Hello(hello(2, 2))] {
        let mut host = soft_closed();
        let key = host.hello(&hello(2, 1));
        host.frames(key);
        host.receive(key, frame);
        host.assert_refused(key, Code::Malformed);
        assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Lost));
    }
    let (mut host, _, newcomer, _) = probed();
    host.receive(newcomer, Frame::Confirm);
    host.assert_refused(newcomer, Code::Malformed);
    let mut host = soft_closed();
    let key = host.hello(&hello(2, 1));
    host.receive(key, Frame::Leave);
    assert!(!host.machine.is_known(key));
}

#[test]
fn a_newcomer_that_gives_up_leaves_the_incumbent_alone() {
    let (mut host, incumbent, newcomer, nonce) = probed();
    host.close(newcomer);
    host.receive(incumbent, pong(nonce));
    host.advance(ms(3000));
    assert_eq!((host.phase(), host.machine.incarnation()), (&Phase::Open, 1));
}

#[test]
fn an_incumbent_that_reconnects_while_a_newcomer_waits_is_probed_again() {
    let mut host = soft_closed();
    let newcomer = host.hello(&hello(2, 1));
    host.frames(newcomer);
    let incumbent = host.hello(&hello_again(1, 1, 2, [0, 0]));
    let frames = host.frames(incumbent);
    let [Frame::Welcome(_), Frame::Ping { nonce, .. }] = frames[..] else {
        panic!("{frames:?}")
    };
    // The session remembers a confirm that arrives during the probe and does not repeat the offer.
    host.receive(newcomer, Frame::Confirm);
    assert_eq!((host.frames(newcomer), host.machine.incarnation()), (vec![], 1));
    host.receive(incumbent, pong(nonce));
    host.assert_refused(newcomer, Code::Duplicate);
}

#[test]
fn a_confirm_during_a_probe_counts_when_the_incumbent_stays_silent() {
    let mut host = soft_closed();
    let newcomer = host.hello(&hello(2, 1));
    host.frames(newcomer);
    let incumbent = host.hello(&hello_again(1, 1, 2, [0, 0]));
    host.frames(incumbent);
    host.receive(newcomer, Frame::Confirm);
    host.advance_with(PROBE, |host| assert_eq!(host.machine.incarnation(), 1));
    assert_eq!(host.welcome(newcomer).incarnation, 2);
    host.assert_refused(incumbent, Code::Superseded);
}

#[test]
fn a_confirm_during_a_probe_counts_when_the_incumbents_connection_ends() {
    let mut host = soft_closed();
    let newcomer = host.hello(&hello(2, 1));
    host.frames(newcomer);
    let incumbent = host.hello(&hello_again(1, 1, 2, [0, 0]));
    host.receive(newcomer, Frame::Confirm);
    host.close(incumbent);
    assert_eq!(host.welcome(newcomer).incarnation, 2);
}

#[test]
fn a_restore_drops_messages_in_transit_and_resets_the_counts() {
    let (mut host, old) = Host::open();
    for message in ["1", "2", "3"] {
        host.send(text(message));
    }
    host.frames(old);
    host.receive(old, fragment(1));
    host.close(old);
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.receive(key, Frame::Confirm);
    assert_eq!(host.machine.unacknowledged(), 0);
    host.send(text("for you"));
    let frames = host.frames(key);
    assert_eq!(data_of(frames), [data(1, text("for you"))]);
    host.receive(key, data(1, text("hello")));
    assert_eq!(host.take_all(), ["hello"]);
}

#[test]
fn messages_of_an_earlier_document_stay_readable_and_come_first() {
    let (mut host, old) = Host::open();
    host.receive_all(old, [data(1, text("a")), data(2, text("b")), bulk(data(1, text("A")))]);
    host.close(old);
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.receive(key, Frame::Confirm);
    host.welcome(key);
    host.receive_all(key, [data(1, text("c")), bulk(data(1, text("C")))]);
    let mut taken = Vec::new();
    while let Some(announced) = host.machine.next_incarnation() {
        let (lane, received) = host.machine.take(host.now).expect("a message was announced");
        assert_eq!(received.incarnation, announced);
        taken.push((lane, announced, received.into_bytes()));
    }
    let (earlier, later) = taken.split_at(3);
    assert!(earlier.iter().all(|message| message.1 == 1) && later.iter().all(|message| message.1 == 2));
    let of_lane = |lane| {
        taken
            .iter()
            .filter(move |message| message.0 == lane)
            .map(|message| message.2.clone())
    };
    assert_eq!(of_lane(Lane::Interactive).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(of_lane(Lane::Bulk).collect::<Vec<_>>(), ["A", "C"]);
}

#[test]
fn unread_messages_reduce_the_first_credit_of_the_next_document() {
    let (mut host, old) = Host::open();
    host.receive_all(old, (1..=12).map(|sequence| data(sequence, bytes(100))));
    host.close(old);
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.receive(key, Frame::Confirm);
    assert_eq!(host.welcome(key).counts.credit, PerLane::new(2000 - 12 * 164, 1000));
    host.take_all();
    host.advance(ms(200));
    let Frame::Ack(counts) = host.frame(key) else {
        panic!("expected an ack with the new credit")
    };
    assert_eq!(counts.credit.interactive, 2000);
}

#[test]
fn a_document_may_start_without_credit() {
    let limits = Limits {
        window: 4 * 164,
        message: 10_000,
        ..LIMITS
    };
    let (mut host, old) = Host::with(limits, TIMING).opened();
    host.receive(old, data(1, text("waits")));
    host.receive_all(old, (2..=4).map(|sequence| data(sequence, bytes(100))));
    host.close(old);
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.receive(key, Frame::Confirm);
    let credit = host.welcome(key).counts.credit.interactive;
    assert_eq!(credit, 4 * 164 - 69 - 3 * 164);
    host.receive(key, data(1, bytes(100)));
    assert_ended(&mut host, key, &EndReason::Flood);
}

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
    let mut page = super::harness::Page::connected();
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

#[test]
fn a_quiet_connection_is_pinged_within_a_heartbeat() {
    for seed in 0..50 {
        let mut host = Host::new();
        host.machine = crate::machine::SessionMachine::new(LIMITS, TIMING, seed, host.now);
        let (mut host, key) = host.opened();
        host.advance(HEARTBEAT * 3 / 4 - ms(1));
        assert_eq!(host.frames(key), []);
        host.advance(HEARTBEAT / 4 + ms(1));
        host.ping(key);
    }
}

#[test]
fn two_heartbeats_without_a_frame_are_silence() {
    let (mut host, key) = Host::open();
    host.advance(HEARTBEAT);
    host.ping(key);
    host.advance_with(HEARTBEAT, |host| assert_eq!(host.phase(), &Phase::Open));
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Silent));
    assert_eq!(host.event(), Event::SoftClosed(Cause::Silent));
    host.assert_refused(key, Code::Silent);
    assert_eq!(host.machine.poll_timeout(), None);
}

#[test]
fn any_frame_shows_that_the_peer_is_alive() {
    let (mut host, key) = Host::open();
    for sequence in 1..=5 {
        host.advance(HEARTBEAT);
        host.ping(key);
        host.advance(HEARTBEAT - ms(1));
        host.receive(key, data(sequence, text("")));
    }
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn a_ping_is_answered_at_once_and_only_the_newest() {
    let (mut host, key) = Host::open();
    host.receive_all(key, [ping(3), ping(9)]);
    assert!(matches!(host.frame(key), Frame::Pong { nonce: 9, .. }));
}

#[test]
fn a_ping_that_was_sent_late_still_has_its_full_time_for_an_answer() {
    // The process was suspended, so the timer fires long after it was due.
    let (mut host, key) = Host::open();
    host.now += 100 * HEARTBEAT;
    host.machine.handle_timeout(host.now);
    host.ping(key);
    host.advance_with(HEARTBEAT, |host| assert_eq!(host.phase(), &Phase::Open));
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Silent));
}

#[test]
fn ready_input_is_handled_before_expired_timers() {
    let (mut host, key) = Host::open();
    host.advance(HEARTBEAT);
    let nonce = host.ping(key);
    host.now += 100 * HEARTBEAT;
    host.receive(key, pong(nonce));
    host.machine.handle_timeout(host.now);
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn a_blocked_socket_becomes_silent_and_its_timer_does_not_spin() {
    let (mut host, key) = Host::open();
    host.send(text("never written"));
    host.receive(key, data(1, text("unacknowledged")));
    // `Host::advance` writes nothing and panics if a timer is due again and again.
    host.advance_with(2 * HEARTBEAT, |host| assert_eq!(host.phase(), &Phase::Open));
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Silent));
}

#[test]
fn the_loss_of_the_last_frame_is_detected_when_a_ping_is_answered() {
    let (mut host, mut key) = Host::open();
    host.send(text("lost"));
    // This may happen any number of times, because the gap is not the browser's fault.
    for attempt in 2..6 {
        assert_eq!(sequences(host.frames(key)), [1]);
        host.advance(HEARTBEAT);
        let nonce = host.ping(key);
        host.receive(key, pong(nonce));
        host.assert_refused(key, Code::Gap);
        assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Gap));
        key = host.hello(&hello_again(1, 1, attempt, [0, 0]));
    }
    assert_eq!(sequences(host.frames(key)), [1], "it is sent again");
}

#[test]
fn a_frame_written_after_a_ping_is_not_taken_for_lost_when_the_pong_arrives() {
    let (mut host, key) = Host::open();
    host.send(text("received"));
    host.frames(key);
    host.advance(HEARTBEAT);
    let nonce = host.ping(key);
    host.send(text("on its way"));
    assert_eq!(sequences(host.frames(key)), [2]);
    let counts = counts([1, 0], PLENTY);
    host.receive(key, Frame::Pong { nonce, counts });
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn a_browser_that_sends_without_acknowledging_is_pinged() {
    let (mut host, key) = Host::open();
    host.send(text("lost"));
    assert_eq!(sequences(host.frames(key)), [1]);
    for sequence in 1..4 {
        host.advance(HEARTBEAT / 4);
        host.receive(key, data(sequence, text("")));
        assert!(
            host.frames(key)
                .iter()
                .all(|frame| !matches!(frame, Frame::Ping { .. }))
        );
    }
    host.advance(HEARTBEAT / 4);
    let nonce = host.ping(key);
    host.receive(key, pong(nonce));
    host.assert_refused(key, Code::Gap);
}

#[test]
fn newcomers_do_not_keep_a_silent_incumbent() {
    let (mut host, incumbent) = Host::open();
    host.advance(HEARTBEAT);
    host.ping(incumbent);
    for attempt in 1..=14 {
        host.advance(ms(1000));
        let newcomer = host.hello(&hello(2, attempt));
        host.close(newcomer);
    }
    host.advance(ms(1000));
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Silent));
}

#[test]
fn a_session_without_a_connection_has_no_timer() {
    let mut host = Host::new();
    assert_eq!(host.machine.poll_timeout(), None);
    host = soft_closed();
    host.send(text("waits"));
    assert_eq!(host.machine.poll_timeout(), None);
    host.machine.close(EndReason::Finished, host.now);
    assert_eq!(host.machine.poll_timeout(), None);
}

#[test]
fn every_change_of_phase_link_or_document_changes_the_version() {
    let mut host = Host::new();
    let mut versions = vec![host.machine.version()];
    let key = host.hello(&hello(1, 1));
    versions.push(host.machine.version());
    host.frames(key);
    host.close(key);
    versions.push(host.machine.version());
    let newcomer = host.hello(&hello(2, 1));
    host.frames(newcomer);
    host.receive(newcomer, Frame::Confirm);
    versions.push(host.machine.version());
    host.send(text("last"));
    host.machine.close(EndReason::Finished, host.now);
    versions.push(host.machine.version());
    host.close(newcomer);
    versions.push(host.machine.version());
    host.machine.abort(EndReason::Expired, host.now);
    versions.push(host.machine.version());
    assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?}");
}

#[test]
fn a_closed_session_delivers_first_and_then_reports_the_reason() {
    let (mut host, key) = Host::open();
    host.receive(key, data(1, text("unread")));
    host.send(text("bye"));
    host.machine.close(closed("done"), host.now);
    assert_eq!(host.phase(), &Phase::Ending(closed("done")));
    assert_eq!(sequences(host.frames(key)), [1]);
    host.advance(ms(9999));
    host.receive(key, ack([1, 0]));
    let end = host.end(key);
    assert_eq!(
        (end.code, end.reason, end.retry_after, &end.text[..]),
        (Code::Ended as u64, 2, 0, "done")
    );
    assert_eq!(host.event(), Event::Ended(closed("done")));
    assert_eq!(host.machine.unacknowledged(), 0);
    assert_eq!(host.take_all(), ["unread"]);
}

#[test]
fn a_session_with_nothing_to_deliver_ends_at_once() {
    let (mut host, key) = Host::open();
    host.machine.close(EndReason::Finished, host.now);
    assert_ended(&mut host, key, &EndReason::Finished);
    let mut host = Host::new();
    host.machine.close(EndReason::Finished, host.now);
    assert_eq!(host.events(), [Event::Ended(EndReason::Finished)]);
}

#[test]
fn an_ending_session_waits_ten_seconds_while_it_has_a_connection() {
    let (mut host, key) = Host::open();
    host.send(text("never acknowledged"));
    host.machine.close(EndReason::Finished, host.now);
    host.frames(key);
    host.advance_with(TEN_SECONDS, |host| assert_eq!(host.events(), []));
    assert_ended(&mut host, key, &EndReason::Finished);
    assert_eq!(host.machine.unacknowledged(), 1);
}

#[test]
fn an_ending_session_without_a_connection_waits_for_its_own_document() {
    let mut host = soft_closed();
    host.send(text("bye"));
    host.machine.close(EndReason::Finished, host.now);
    host.advance(Duration::from_secs(3600));
    assert_eq!(host.phase(), &Phase::Ending(EndReason::Finished));
    let key = host.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(sequences(host.frames(key)), [1]);
    // The wait starts when the document connects.
    host.advance(TEN_SECONDS - ms(1));
    host.receive(key, ack([1, 0]));
    assert_ended(&mut host, key, &EndReason::Finished);
    assert_eq!(host.machine.unacknowledged(), 0);
}

#[test]
fn an_ending_session_whose_messages_had_arrived_ends_at_the_resume() {
    let (mut host, key) = Host::open();
    host.send(text("bye"));
    host.frames(key);
    host.close(key);
    host.machine.close(EndReason::Finished, host.now);
    let key = host.hello(&hello_again(1, 1, 2, [1, 0]));
    assert_ended(&mut host, key, &EndReason::Finished);
}

#[test]
fn an_ending_session_refuses_every_other_document() {
    let mut host = soft_closed();
    host.send(text("bye"));
    let waiting = host.hello(&hello(2, 1));
    host.machine.close(EndReason::Finished, host.now);
    let reload = host.hello(&hello(3, 1));
    for key in [waiting, reload] {
        let end = host.end(key);
        assert_eq!(
            (end.code, end.reason),
            (Code::Ended as u64, EndReason::Finished.number())
        );
    }
    assert_eq!(host.phase(), &Phase::Ending(EndReason::Finished));
}

#[test]
fn an_ending_session_that_never_had_a_document_delivers_to_the_first() {
    let mut host = Host::new();
    host.send(text("all I have to say"));
    host.machine.close(EndReason::Finished, host.now);
    let key = host.hello(&hello(1, 1));
    assert_eq!(sequences(host.frames(key)), [1]);
    host.receive(key, ack([1, 0]));
    assert_ended(&mut host, key, &EndReason::Finished);
}

#[test]
fn an_ending_session_still_receives() {
    let (mut host, key) = Host::open();
    host.send(text("bye"));
    host.machine.close(EndReason::Finished, host.now);
    host.receive_all(key, [data(1, text("one")), data(2, text("two"))]);
    host.receive(key, Frame::Ack(counts([0, 0], PLENTY)));
    host.frames(key);
    host.receive(key, ack([1, 0]));
    assert_eq!(host.take_all(), ["one", "two"]);
}

#[test]
fn aborting_ends_at_once() {
    let (mut host, key) = Host::open();
    host.send(text("dropped"));
    host.machine.abort(EndReason::Aborted("logout".into()), host.now);
    assert_ended(&mut host, key, &EndReason::Aborted("logout".into()));
    assert_eq!(host.machine.unacknowledged(), 1);
    assert_eq!(host.machine.outgoing(Lane::Interactive), 0);
}

#[test]
fn received_messages_are_acknowledged_before_the_end_of_a_session() {
    let (mut host, key) = Host::open();
    host.receive(key, data(1, text("a")));
    host.machine.abort(EndReason::Panicked, host.now);
    let frames = host.frames(key);
    let [Frame::Ack(counts), Frame::End(_)] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(counts.received, PerLane::new(1, 0));

    let mut host = Host::new();
    let key = host.hello(&hello(1, 1));
    host.machine.abort(EndReason::Panicked, host.now);
    assert!(
        matches!(host.frames(key)[..], [Frame::End(_)]),
        "an ack needs an earlier welcome"
    );
}

#[test]
fn a_session_ends_exactly_once() {
    let (mut host, key) = Host::open();
    host.machine.close(EndReason::Finished, host.now);
    host.machine.close(closed("again"), host.now);
    host.machine.abort(EndReason::Expired, host.now);
    host.machine.handle_bad_payload(true, host.now);
    host.machine.soft_close(host.now);
    host.receive(key, Frame::Offer);
    host.close(key);
    host.advance(Duration::from_secs(3600));
    assert_eq!(host.events(), [Event::Ended(EndReason::Finished)]);
    assert_eq!(host.phase(), &Phase::Closed(EndReason::Finished));
}

#[test]
fn an_ended_session_answers_every_hello_with_its_reason() {
    let (mut host, _) = Host::open();
    let draining = EndReason::Draining;
    host.machine.close_with(
        draining.clone(),
        Duration::from_secs(3),
        Duration::from_secs(1),
        host.now,
    );
    for hello in [
        hello(1, 9),
        hello_again(1, 1, 9, [0, 0]),
        hello(2, 1),
        hello_again(1, 7, 1, [0, 0]),
    ] {
        let key = host.hello(&hello);
        let end = host.end(key);
        assert_eq!(
            (end.code, end.reason, end.retry_after),
            (Code::Draining as u64, draining.number(), 3000)
        );
    }
}

#[test]
fn each_reason_has_its_code() {
    let codes = [
        (EndReason::Finished, 4102),
        (EndReason::Expired, 4102),
        (EndReason::MemoryPressure, 4102),
        (EndReason::Draining, 4200),
        (EndReason::Malformed, 4107),
        (EndReason::TooLarge, 4108),
        (EndReason::Flood, 4109),
        (EndReason::Full, 4201),
    ];
    for (reason, code) in codes {
        let (mut host, key) = Host::open();
        host.machine.abort(reason.clone(), host.now);
        let end = host.end(key);
        assert_eq!((end.code, end.reason), (code, reason.number()));
    }
}

#[test]
fn messages_that_nobody_will_read_can_be_discarded() {
    let (mut host, key) = Host::open();
    host.receive_all(key, [data(1, text("a")), fragment(2)]);
    host.machine.abort(EndReason::Panicked, host.now);
    host.machine.discard_received();
    assert_eq!((host.take(), host.machine.owned()), (None, 0));
}
