//! The end of a session on the server's side (PROTOCOL.md, section 10).

use std::time::Duration;

use super::{TEN_SECONDS, assert_ended, closed, soft_closed};
use crate::code::{Code, EndReason};
use crate::machine::tests::harness::{PLENTY, ack, counts, data, fragment, ms, sequences, text};
use crate::machine::tests::host::{Host, hello, hello_again};
use crate::machine::{Event, Phase};
use crate::message::{Lane, PerLane};
use crate::wire::Frame;

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
