//! Sending: with room, without room, and refused.

mod support;

use std::sync::Arc;

use futures_util::FutureExt as _;
use stillhere::connection::Packet;
use stillhere::{EndReason, Hub, Lane, Message, SendError, Session, SessionHandle, SessionOptions, TrySendError};

use support::browser::Browser;
use support::wire::{RawDocument, Wire, charge};
use support::{assert_waits, seconds, settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

fn hub_with_outbox(bytes: u64) -> Hub {
    Hub::builder().outbox_limit(bytes).build()
}

/// Fills the lane with messages of 1,000 bytes, and returns how many there was room for.
fn fill(session: &SessionHandle, lane: Lane) -> usize {
    let send = |lane| match lane {
        Lane::Interactive => session.try_send([7; 1000]),
        Lane::Bulk => session.try_send_bulk([7; 1000]),
    };
    for count in 0.. {
        match send(lane) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("an outbox is bounded")
}

async fn data_frames(wire: &Wire, count: usize) {
    for _ in 0..count {
        wire.data().await;
    }
}

#[tokio::test(start_paused = true)]
async fn send_waits_for_room_and_continues_when_the_browser_acknowledges() {
    let hub = hub_with_outbox(10 * charge(1000));
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    assert_eq!(fill(&session, Lane::Interactive), 10);

    let sender = session.clone();
    let eleventh = tokio::spawn(async move { sender.send([8; 1000]).await });
    data_frames(&wire, 10).await;
    settled().await;
    assert!(!eleventh.is_finished(), "written frames are not acknowledged");
    wire.ack(1, 0);
    assert_eq!(wire.data().await.payload[0], 8);
    assert_eq!(
        soon("the send", eleventh).await.expect("the task does not panic"),
        Ok(())
    );
}

#[tokio::test(start_paused = true)]
async fn send_waits_also_while_nobody_is_connected() {
    let hub = hub_with_outbox(2 * charge(1000));
    let session = hub.open(idle);
    assert_eq!(fill(&session, Lane::Interactive), 2);
    let sender = session.clone();
    let waiting = tokio::spawn(async move { sender.send("third").await });
    tokio::time::sleep(seconds(20)).await;
    assert!(!waiting.is_finished());

    let browser = Browser::connected(&hub, &session).await;
    assert_eq!(
        soon("the send", waiting).await.expect("the task does not panic"),
        Ok(())
    );
    browser.next().await;
    browser.next().await;
    assert_eq!(browser.text().await, "third");

    tokio::time::sleep(seconds(1)).await;
    browser.set_online(false);
    settled().await;
    assert_eq!(fill(&session, Lane::Interactive), 2);
    let sender = session.clone();
    let waiting = tokio::spawn(async move { sender.send("sixth").await });
    tokio::time::sleep(seconds(20)).await;
    assert!(!waiting.is_finished());
    browser.set_online(true);
    assert_eq!(
        soon("the send", waiting).await.expect("the task does not panic"),
        Ok(())
    );
}

#[tokio::test(start_paused = true)]
async fn many_waiting_senders_all_get_their_turn() {
    let hub = hub_with_outbox(3 * charge(1000));
    let session = hub.open(idle);
    let senders: Vec<_> = (0..500u32)
        .map(|number| {
            let session = session.clone();
            tokio::spawn(async move { session.send([&number.to_le_bytes()[..], &[0; 996]].concat()).await })
        })
        .collect();
    settled().await;
    let browser = Browser::connected(&hub, &session).await;
    let mut seen: Vec<u32> = Vec::new();
    for _ in 0..500 {
        let message = browser.next().await;
        seen.push(u32::from_le_bytes(
            *message.first_chunk().expect("the value is a number"),
        ));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    for sender in senders {
        assert_eq!(sender.await.expect("the task does not panic"), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_senders_fail_when_the_session_ends_or_is_closed() {
    for gently in [false, true] {
        let hub = hub_with_outbox(2 * charge(1000));
        let session = hub.open(idle);
        fill(&session, Lane::Interactive);
        let sender = session.clone();
        let waiting = tokio::spawn(async move { sender.send([8; 1000]).await });
        settled().await;
        assert!(!waiting.is_finished());
        let reason = if gently {
            session.close("over");
            EndReason::Closed("over".into())
        } else {
            session.abort("over");
            EndReason::Aborted("over".into())
        };
        assert_eq!(
            soon("the send", waiting).await.expect("the task does not panic"),
            Err(SendError::Ended {
                reason: reason.clone(),
                message: [8; 1000].into()
            })
        );
        let message = Message::from("more");
        assert_eq!(
            session.send("more").await,
            Err(SendError::Ended {
                reason: reason.clone(),
                message: message.clone()
            })
        );
        assert_eq!(session.try_send("more"), Err(TrySendError::Ended { reason, message }));
    }
}

#[tokio::test(start_paused = true)]
async fn try_send_never_waits_and_reports_the_error() {
    let hub = Hub::builder().outbox_limit(charge(1000)).message_limit(2000).build();
    let session = hub.open(idle);
    let too_large = Err(TrySendError::TooLarge {
        size: 2001,
        limit: 2000,
        message: vec![0; 2001].into(),
    });
    assert_eq!(session.try_send(vec![0; 2001]), too_large);
    assert_eq!(session.try_send([0; 1000]), Ok(()));
    assert_eq!(session.try_send(""), Err(TrySendError::Full("".into())));
    assert_eq!(session.try_send(vec![0; 2001]), too_large, "even if the outbox is full");
    assert_eq!(
        session.send(vec![0; 2001]).now_or_never(),
        Some(Err(SendError::TooLarge {
            size: 2001,
            limit: 2000,
            message: vec![0; 2001].into()
        }))
    );
    session.abort("");
    assert_eq!(
        session.try_send(""),
        Err(TrySendError::Ended {
            reason: EndReason::Aborted("".into()),
            message: "".into()
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_send_cancelled_while_waiting_has_queued_nothing() {
    let hub = hub_with_outbox(charge(1000));
    let session = hub.open(idle);
    session.try_send([1; 1000]).expect("the outbox is empty");
    {
        let cancelled = session.send([2; 1000]);
        assert_waits(cancelled).await;
    }
    let browser = Browser::connected(&hub, &session).await;
    browser.next().await;
    settled().await;
    session.send([3; 1000]).await.expect("there is room");
    assert_eq!(browser.next().await[0], 3);
    assert!(browser.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_outbox_is_admitted_into_an_empty_lane() {
    let hub = hub_with_outbox(1000);
    let session = hub.open(idle);
    let large: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    session.try_send(large.clone()).expect("the lane is empty");
    assert_eq!(session.try_send("x"), Err(TrySendError::Full("x".into())));
    let browser = Browser::connected(&hub, &session).await;
    assert_eq!(browser.next().await, large);
    soon("room", session.send("x")).await.expect("the session lives");
    assert_eq!(browser.text().await, "x");
}

#[tokio::test(start_paused = true)]
async fn messages_at_every_limit_arrive_whole() {
    let hub = Hub::new();
    let session = hub.open(|mut session| async move {
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    });
    let browser = Browser::connected(&hub, &session).await;
    let fragment = 64 * 1024;
    for size in [
        0,
        1,
        1023,
        1024,
        1025,
        fragment - 1,
        fragment,
        fragment + 1,
        2 * fragment,
        1024 * 1024 - 1,
        1024 * 1024,
    ] {
        let message: Vec<u8> = (0..size).map(|n| n as u8).collect();
        browser.send(message.clone());
        assert_eq!(browser.next().await, message, "{size}");
    }
    let too_large = vec![0; 1024 * 1024 + 1];
    assert!(browser.try_send(Lane::Interactive, too_large.clone()).is_err());
    assert!(matches!(
        session.try_send(too_large),
        Err(TrySendError::TooLarge { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn the_two_lanes_have_outboxes_of_their_own() {
    let hub = hub_with_outbox(5 * charge(1000));
    let session = hub.open(idle);
    assert_eq!(fill(&session, Lane::Bulk), 5);
    assert_eq!(fill(&session, Lane::Interactive), 5);
    assert_eq!(session.try_send_bulk(""), Err(TrySendError::Full("".into())));
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    data_frames(&wire, 10).await;
    wire.ack(0, 2);
    settled().await;
    assert_eq!((fill(&session, Lane::Bulk), fill(&session, Lane::Interactive)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_empty_messages_are_bounded_and_arrive() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut queued = 0;
    while session.try_send("").is_ok() {
        queued += 1;
    }
    assert_eq!(queued, 4 * 1024 * 1024 / 64, "an empty message is charged 64");

    let sender = session.clone();
    let rest = tokio::spawn(async move {
        for _ in queued..100_000 {
            sender.send("").await.expect("the session lives");
        }
    });
    let browser = Browser::connected(&hub, &session).await;
    for _ in 0..100_000 {
        assert!(browser.next().await.is_empty());
    }
    rest.await.expect("the task does not panic");
    settled().await;
    assert!(browser.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn everything_queued_is_written_with_one_flush_and_no_timer() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    let start = tokio::time::Instant::now();
    for number in 0..50u8 {
        session.try_send([number]).expect("there is room");
    }
    let polls = wire.end.polls();
    for number in 0..50u8 {
        assert_eq!(wire.data().await.payload, [number][..]);
    }
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
    assert!(
        wire.end.polls() - polls <= 2,
        "one wake for all: {}",
        wire.end.polls() - polls
    );
}

#[tokio::test(start_paused = true)]
async fn a_received_message_costs_one_poll_and_the_acknowledgement_one_more() {
    let hub = Hub::new();
    let session = hub.open(|mut session| async move { while session.recv().await.is_some() {} });
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    settled().await;
    let polls = wire.end.polls();
    for sequence in 1..=100 {
        wire.send_data(Lane::Interactive, sequence, "x");
    }
    settled().await;
    assert!(wire.end.polls() - polls <= 100 + 6, "{}", wire.end.polls() - polls);
}

#[tokio::test(start_paused = true)]
async fn a_slow_browser_delays_no_other_session() {
    let hub = Hub::new();
    let slow = hub.open(idle);
    let quick = hub.open(idle);
    let mut document = RawDocument::new(&slow);
    let (wire, _) = document.welcomed(&hub).await;
    wire.end.block(true);
    let browser = Browser::connected(&hub, &quick).await;
    let start = tokio::time::Instant::now();
    for number in 0..1000u32 {
        let message = hub.share([&number.to_le_bytes()[..], &[0; 10_000]].concat());
        for session in [&slow, &quick] {
            match session.try_send(message.clone()) {
                Ok(()) | Err(TrySendError::Full(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(browser.next().await[..4], number.to_le_bytes());
    }
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);
    drop(wire);
}

#[tokio::test(start_paused = true)]
async fn bulk_and_interactive_share_the_connection_and_a_click_overtakes() {
    let hub = Hub::builder().message_limit(50 << 20).outbox_limit(60 << 20).build();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, welcome) = document.welcomed(&hub).await;
    session.send_bulk(vec![0; 10 << 20]).await.expect("there is room");
    settled().await;
    session.send("click").await.expect("there is room");
    let mut bulk = 0;
    loop {
        let data = wire.data().await;
        if data.lane == Lane::Interactive {
            break;
        }
        bulk += data.charge();
    }
    assert!(
        bulk <= welcome.limits.bulk_window,
        "{bulk} bytes of bulk before the click"
    );
}

#[tokio::test(start_paused = true)]
async fn senders_on_many_threads_wake_a_connection_that_sleeps() {
    // Real threads with a clock of their own, because the test checks that no wake-up is lost.
    let runtime = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .expect("the runtime starts");
        runtime.block_on(async {
            let mut options = SessionOptions::default();
            options.limits.outbox = 20 * charge(8);
            options.limits.fragment = 64;
            options.limits.window = 8 * charge(8);
            let hub = Hub::builder().session_options(options).build();
            let session = hub.open(|mut session| async move {
                while let Some(message) = session.recv().await {
                    if session.send(message).await.is_err() {
                        return;
                    }
                }
            });
            let browser = Arc::new(Browser::connected(&hub, &session).await);
            let senders: Vec<_> = (0..8u64)
                .map(|_| {
                    let session = session.clone();
                    tokio::spawn(async move {
                        for number in 0..2000u64 {
                            session.send(number.to_le_bytes()).await.expect("the session lives");
                        }
                    })
                })
                .collect();
            for _ in 0..8 * 2000 {
                browser.next().await;
            }
            for sender in senders {
                sender.await.expect("the task does not panic");
            }
            for number in 0..2000u64 {
                browser.send(number.to_le_bytes());
                assert_eq!(browser.next().await, number.to_le_bytes(), "echo");
            }
        });
    });
    runtime.join().expect("the task does not panic");
}

#[tokio::test(start_paused = true)]
async fn the_transports_own_packets_are_ignored_and_text_is_not() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    for _ in 0..1000 {
        wire.end.send(Packet::Other);
    }
    settled().await;
    assert_eq!(hub.stats().connections, 1);
    wire.end.send(Packet::Text(bytes::Bytes::new()));
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4107, EndReason::Malformed.number()));
    assert_eq!(soon("the end", session.ended()).await, EndReason::Malformed);
}
