//! Pings, deadlines and versions on the server's side (PROTOCOL.md, section 9).

use super::{HEARTBEAT, soft_closed};
use crate::code::{Code, EndReason};
use crate::machine::tests::harness::{LIMITS, PLENTY, counts, data, ms, ping, pong, sequences, text};
use crate::machine::tests::host::{Host, TIMING, hello, hello_again};
use crate::machine::{Cause, Event, Phase};
use crate::wire::Frame;

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
