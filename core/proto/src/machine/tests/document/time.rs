//! Pings, deadlines and reconnecting on the document's side (PROTOCOL.md, section 9).

use std::time::Duration;

use super::{PATIENCE, SUSPICION, assert_near, delays, longest_delays, settled, settled_with};
use crate::code::Code;
use crate::machine::tests::harness::{
    HEARTBEAT, KEEP, LIMITS, Page, ack, counts, data, end, ms, ping, pong, sequences, text, welcome,
};
use crate::machine::{Action, DocumentEvent, DocumentPhase};
use crate::message::PerLane;
use crate::wire::{End, Frame, Welcome};

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
