//! Durable sessions (PROTOCOL.md, section 18).

use super::{HEARTBEAT, TEN_SECONDS};
use crate::code::Code;
use crate::limits::Limits;
use crate::machine::tests::harness::{LIMITS, PLENTY, counts, data, fragment, ms, ping, pong, text};
use crate::machine::tests::host::{Host, TIMING, hello, hello_again};
use crate::machine::{Cause, ConnectionKey, Event, Phase, Saved};
use crate::message::{Lane, PerLane};
use crate::wire::{Counts, Frame};

/// Returns a durable session whose document counts. With `waits`, what is taken counts only when
/// [`count`] says so.
fn open(waits: bool) -> (Host, ConnectionKey) {
    let mut host = Host::new().map(|machine| machine.into_durable(waits));
    let key = host.hello(&hello(1, 1));
    count(&mut host);
    host.welcome(key);
    host.events();
    (host, key)
}

/// Returns what would be stored now.
fn saved(host: &Host) -> Saved {
    Saved {
        document: host.machine.document(),
        incarnation: host.machine.incarnation(),
        generation: 0,
        lanes: host.machine.save(),
        queued: host.machine.queued_charge(),
    }
}

fn count(host: &mut Host) {
    let saved = saved(host);
    host.machine.handle_counted(&saved, host.now);
}

/// Returns the session in the next process, as it was stored.
fn reopened(host: &Host, mut saved: Saved) -> Host {
    saved.generation += 1;
    let mut next = Host::new().map(|machine| machine.into_durable(true).reopen(&saved, PerLane::default(), host.now));
    next.now = host.now;
    next
}

fn counts_of(frame: Option<Frame>) -> Counts {
    match frame {
        Some(Frame::Ack(counts) | Frame::Pong { counts, .. }) => counts,
        other => panic!("expected counts, got {other:?}"),
    }
}

#[test]
fn a_message_is_reported_once_it_was_taken_and_counts() {
    for waits in [false, true] {
        let (mut host, key) = open(waits);
        host.receive(key, data(1, text("one")));
        host.advance(ms(300));
        assert_eq!(host.frames(key), [], "it was not taken");
        host.take();
        host.advance(ms(300));
        let told: Vec<_> = host.frames(key);
        assert!(
            told.iter()
                .all(|frame| matches!(frame, Frame::Ack(counts) if counts.received.interactive == 0)),
            "{told:?}"
        );
        count(&mut host);
        host.advance(ms(300));
        assert_eq!(counts_of(host.frames(key).pop()).received.interactive, 1);
        // It is a duplicate if it arrives again.
        host.receive(key, data(1, text("one")));
        assert_eq!(host.machine.duplicates(), 1);
    }
}

#[test]
fn a_ping_is_answered_at_once_and_its_pong_waits_for_what_came_before() {
    let (mut host, key) = open(true);
    host.receive(key, data(1, text("one")));
    host.receive(
        key,
        Frame::Ping {
            nonce: 7,
            counts: counts([0, 0], PLENTY),
        },
    );
    assert!(matches!(host.frames(key)[..], [Frame::Ack(counts)] if counts.received.interactive == 0));
    host.advance(TEN_SECONDS);
    assert_eq!(host.frames(key), []);
    // What comes after the ping does not matter.
    host.receive(key, data(2, text("two")));
    host.take();
    count(&mut host);
    let pong = host.frames(key);
    assert!(
        matches!(pong[..], [Frame::Pong { nonce: 7, counts }] if counts.received.interactive == 1),
        "{pong:?}"
    );
}

#[test]
fn a_session_that_is_not_durable_answers_a_ping_with_its_pong() {
    let (mut host, key) = Host::open();
    host.receive(key, data(1, text("one")));
    host.receive(
        key,
        Frame::Ping {
            nonce: 7,
            counts: counts([0, 0], PLENTY),
        },
    );
    assert!(matches!(host.frame(key), Frame::Pong { nonce: 7, counts } if counts.received.interactive == 1));
}

#[test]
fn each_document_is_welcomed_once_it_counts() {
    let mut host = Host::new().map(|machine| machine.into_durable(true));
    let key = host.hello(&hello(1, 1));
    assert_eq!(host.frames(key), []);
    count(&mut host);
    assert_eq!(host.welcome(key).incarnation, 1);
    host.close(key);
    let key = host.hello(&hello(2, 1));
    assert_eq!(host.frame(key), Frame::Offer);
    host.receive(key, Frame::Confirm);
    assert_eq!(host.frames(key), []);
    count(&mut host);
    assert_eq!(host.welcome(key).incarnation, 2);
}

#[test]
fn credit_is_never_above_what_is_stored_and_never_falls() {
    let (mut host, key) = open(true);
    let stored = saved(&host);
    let mut told = 0;
    for sequence in 1.. {
        let before = host.machine.incoming(Lane::Interactive);
        host.receive(key, data(sequence, text("x")));
        if host.machine.incoming(Lane::Interactive) == before {
            break; // more than the credit: the session has ended as a flood
        }
        host.take();
        host.advance(ms(300));
        for frame in host.frames(key) {
            told = told.max(counts_of(Some(frame)).credit.interactive);
        }
        assert!(sequence < 10_000, "credit has no end");
    }
    assert_eq!(told, stored.lanes.interactive.horizon);

    let mut next = reopened(&host, stored);
    let key = next.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(next.welcome(key).counts.credit.interactive, told);
}

#[test]
fn a_session_is_opened_again_with_what_was_stored() {
    let (mut host, key) = open(true);
    host.receive_all(key, [data(1, text("one")), data(2, text("two"))]);
    host.take();
    count(&mut host);
    let stored = saved(&host);
    host.take();

    let mut next = reopened(&host, stored);
    assert_eq!(next.phase(), &Phase::SoftClosed(Cause::Lost));
    let key = next.hello(&hello_again(1, 1, 2, [0, 0]));
    let welcome = next.welcome(key);
    assert_eq!((welcome.incarnation, welcome.counts.received.interactive), (1, 1));
    assert!(welcome.epoch > host.machine.epoch());
    assert!(matches!(next.event(), Event::Resumed { .. }));
    next.receive(key, data(2, text("two")));
    assert_eq!(next.take_all(), ["two"]);
    // A hello of the time before the crash is stale, and one of another document a newcomer.
    let old = next.hello(&hello_again(1, 1, 1, [0, 0]));
    next.assert_refused(old, Code::Stale);
}

#[test]
fn a_message_larger_than_both_windows_completes_before_anything_counts() {
    let limits = Limits {
        message: 10 * LIMITS.window,
        ..LIMITS
    };
    let mut host = Host::with(limits, TIMING).map(|machine| machine.into_durable(true));
    let key = host.hello(&hello(1, 1));
    count(&mut host);
    host.welcome(key);
    let fragments = limits.message / limits.fragment;
    for sequence in 1..fragments {
        host.receive(key, fragment(sequence));
        host.frames(key);
    }
    host.receive(key, data(fragments, text("the end")));
    assert_eq!(host.take_all().len(), 1);
}

#[test]
fn a_hand_over_ends_the_connection_and_not_the_session() {
    let (mut host, key) = open(false);
    host.machine.hand_over(ms(700), host.now);
    let end = host.end(key);
    assert_eq!((end.code, end.reason, end.retry_after), (4200, 0, 700));
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Asked));
}

#[test]
fn what_waits_is_stored_with_its_boundaries() {
    let (mut host, key) = open(false);
    host.send(vec![1; 250]);
    host.send("two");
    host.frames(key);
    // The first fragment has arrived.
    host.receive(key, Frame::Ack(counts([1, 0], PLENTY)));
    let (stored, rows) = (saved(&host), host.machine.rows());
    assert_eq!(rows.interactive.iter().map(|row| row.last).collect::<Vec<_>>(), [3, 4]);

    let stored = Saved {
        generation: 1,
        ..stored
    };
    let mut next = Host::new().map(|machine| machine.into_durable(false).reopen(&stored, rows, host.now));
    let key = next.hello(&hello_again(1, 1, 2, [2, 0]));
    let sent: Vec<_> = next.frames(key).into_iter().skip(1).collect();
    let expected = [(3, 50), (4, 3)];
    let sizes = sent.iter().map(|frame| match frame {
        Frame::Data(data) => (data.sequence, data.payload.len()),
        other => panic!("expected data, got {other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), expected);
}

#[test]
fn the_loss_of_the_last_fragment_is_found_although_its_pong_never_comes() {
    let (mut host, key) = open(true);
    host.receive(key, fragment(1));
    host.receive(key, ping(1));
    let asked = asked(&mut host, key);
    // A page that wakes several times asks several times.
    host.receive(key, ping(2));
    assert!(matches!(host.frames(key)[..], [Frame::Ack(_)]));
    host.receive(key, pong(asked));
    host.advance(HEARTBEAT);
    host.frames(key);
    host.receive(key, ping(3));
    host.assert_refused(key, Code::Gap);
    assert_eq!(host.phase(), &Phase::SoftClosed(Cause::Gap));

    // The page sends again from what was reported.
    let key = host.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(host.welcome(key).counts.received.interactive, 0);
    host.receive(key, fragment(1));
    host.receive(key, data(2, text("the end")));
    assert_eq!(host.take_all().len(), 1);
}

/// Returns the nonce of the server's ping, which follows a sign of life.
fn asked(host: &mut Host, key: ConnectionKey) -> u64 {
    match host.frames(key)[..] {
        [Frame::Ack(_), Frame::Ping { nonce, .. }] => nonce,
        ref frames => panic!("{frames:?}"),
    }
}

#[test]
fn a_page_that_has_not_heard_of_its_credit_has_lost_nothing() {
    let (mut host, key) = open(true);
    host.receive(key, fragment(1));
    host.receive(key, ping(1));
    let asked = asked(&mut host, key);
    for nonce in 2..5 {
        host.advance(HEARTBEAT);
        host.frames(key);
        host.receive(key, ping(nonce));
    }
    // Now it has, and sends as soon as it can.
    host.receive(key, pong(asked));
    host.receive(key, ping(5));
    assert_eq!(host.phase(), &Phase::Open);
    host.receive(key, data(2, text("the end")));
    assert_eq!(host.take_all().len(), 1);
}

#[test]
fn a_message_that_arrives_slowly_is_not_lost() {
    let (mut host, key) = open(true);
    for sequence in 1..6 {
        host.receive(key, fragment(sequence));
        host.receive(key, ping(sequence));
        let asked = asked(&mut host, key);
        host.receive(key, pong(asked));
        host.advance(HEARTBEAT / 2);
        host.frames(key);
    }
    assert_eq!(host.phase(), &Phase::Open);
}

/// Returns the credit in the answer to a ping.
fn told_credit(host: &mut Host, key: ConnectionKey) -> u64 {
    host.receive(key, ping(0));
    counts_of(host.frames(key).pop()).credit.interactive
}

#[test]
fn a_message_whose_next_fragment_has_no_credit_is_not_lost() {
    let (mut host, key) = open(true);
    // All that has arrived waits for the application, and the last fragment that had credit has
    // come.
    let mut sequence = 0;
    while host.machine.incoming(Lane::Interactive) + 2 * 164 <= told_credit(&mut host, key) {
        sequence += 1;
        host.receive(key, data(sequence, vec![1; 100]));
    }
    host.receive(key, fragment(sequence + 1));
    host.frames(key);
    for nonce in 1..4 {
        host.receive(key, ping(nonce));
        host.advance(HEARTBEAT);
        host.frames(key);
    }
    assert_eq!(host.phase(), &Phase::Open);
}

#[test]
fn crashes_do_not_add_up_to_more_credit() {
    let (mut host, _) = open(true);
    let first = saved(&host).lanes;
    for attempt in 2..10 {
        let stored = saved(&host);
        host = reopened(&host, stored);
        let key = host.hello(&hello_again(1, 1, attempt, [0, 0]));
        count(&mut host);
        host.welcome(key);
    }
    assert_eq!(saved(&host).lanes, first);
}

#[test]
fn reconnects_are_counted_although_epochs_jump() {
    let (host, _) = open(true);
    assert_eq!(host.machine.reconnects(), 0);
    let mut next = reopened(&host, saved(&host));
    next.hello(&hello_again(1, 1, 2, [0, 0]));
    assert_eq!(next.machine.reconnects(), 1);
}
