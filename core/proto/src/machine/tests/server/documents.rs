//! Documents and connections on the server's side (PROTOCOL.md, sections 5 and 6).

use std::time::Duration;

use bytes::Bytes;

use super::{HEARTBEAT, PROBE, TEN_SECONDS, assert_ended, probed, restored, soft_closed};
use crate::code::{Code, EndReason};
use crate::limits::Limits;
use crate::machine::tests::harness::{
    LIMITS, NOTHING, PLENTY, ack, bulk, bytes, counts, data, data_of, fragment, ms, ping, pong, sequences, text,
};
use crate::machine::tests::host::{Host, KEEP, TIMING, hello, hello_again};
use crate::machine::{Cause, Event, Phase, Timing};
use crate::message::{Lane, PerLane};
use crate::wire::{Frame, Hello, Welcome};

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
