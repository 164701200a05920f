//! The end of a session on the document's side (PROTOCOL.md, section 10).

use std::time::Duration;

use bytes::Bytes;

use super::{assert_over, settled, settled_with};
use crate::code::{Class, Code, EndReason};
use crate::machine::tests::harness::{LIMITS, Page, ack, bytes, data, data_of, end, end_of_session, ms, text, welcome};
use crate::machine::{Action, DocumentEvent, DocumentPhase, SendRefused};
use crate::message::Lane;
use crate::wire::{End, Frame};

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
