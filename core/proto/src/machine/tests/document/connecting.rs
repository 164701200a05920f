//! Connecting and resuming on the document's side (PROTOCOL.md, sections 5 and 6).

use bytes::Bytes;

use super::{outcome, settled};
use crate::code::Code;
use crate::limits::Limits;
use crate::machine::tests::harness::{NOTHING, PLENTY, Page, counts, data, ms, ping, text, welcome};
use crate::machine::{Action, DocumentEvent, DocumentPhase, Outcome};
use crate::message::PerLane;
use crate::wire::{Counts, Frame, Welcome};

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
