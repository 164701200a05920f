//! The newest messages of keys, and waiting until everything is acknowledged.

mod support;

use std::sync::Arc;

use stillhere::wire::{Counts, Frame};
use stillhere::{FRAME_CHARGE, Hub, Lane, Message, PerLane, SendLatestError, Session, SessionHandle, TrySendError};
use tokio::sync::{Notify, watch};

use support::browser::Browser;
use support::wire::{RawDocument, Wire, charge};
use support::{assert_waits, milliseconds, seconds, settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

fn set(session: &SessionHandle, key: &str, value: impl Into<Message>) {
    session.send_latest(key, value).expect("the session is open");
}

/// Returns the texts that have arrived by now.
fn arrived(page: &Browser) -> Vec<String> {
    let texts = page.inbox().into_iter().map(|(_, message)| String::from_utf8(message));
    texts.map(|text| text.expect("the message is text")).collect()
}

#[tokio::test(start_paused = true)]
async fn six_thousand_sets_in_a_gap_of_a_minute_send_one_value() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let page = Browser::connected(&hub, &session).await;
    page.set_online(false);
    page.cut();
    settled().await;
    for value in 1..=6000 {
        set(&session, "value", value.to_string());
        assert_eq!(session.unacknowledged(), 1);
        assert_eq!(
            session.snapshot().buffered,
            value.to_string().len() as u64 + FRAME_CHARGE
        );
        tokio::time::sleep(milliseconds(10)).await;
    }
    page.set_online(true);
    assert_eq!(page.text().await, "6000");
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(arrived(&page), [""; 0]);
    assert_eq!((session.unacknowledged(), session.snapshot().buffered), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_sent_again_unchanged_before_the_newest() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    set(&session, "value", "first");
    assert_eq!(wire.data().await.payload, "first");
    drop(wire);
    settled().await;
    set(&session, "value", "second");
    set(&session, "value", "third");
    let (wire, _) = document.welcomed(&hub).await;
    for (sequence, payload) in [(1, "first"), (2, "third")] {
        let data = wire.data().await;
        assert_eq!((data.sequence, &data.payload[..]), (sequence, payload.as_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn newest_messages_follow_what_was_sent_before_them_and_keep_their_place() {
    let hub = Hub::new();
    let session = hub.open(idle);
    session.try_send("before").expect("there is room");
    set(&session, "a", "a1");
    set(&session, "b", "b1");
    session.try_send("after").expect("there is room");
    set(&session, "a", "a2");
    let page = Browser::connected(&hub, &session).await;
    settled().await;
    assert_eq!(arrived(&page), ["before", "after", "a2", "b1"]);
}

/// Waits for data, and returns the payload of everything that is written now.
async fn written(wire: &Wire) -> Vec<String> {
    let mut payloads = vec![wire.data().await.payload];
    settled().await;
    while let Some(Some(packet)) = futures_util::FutureExt::now_or_never(wire.packet()) {
        let stillhere::connection::Packet::Binary(bytes) = packet else {
            panic!("only frames are sent")
        };
        if let Ok(Frame::Data(data)) = Frame::decode(bytes, stillhere::wire::Sender::Server) {
            payloads.push(data.payload);
        }
    }
    payloads
        .iter()
        .map(|payload| String::from_utf8_lossy(payload).into_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn sixteen_messages_of_a_key_are_on_their_way_and_then_only_the_newest_follows() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    for value in 1..=100 {
        set(&session, "value", value.to_string());
        settled().await;
    }
    set(&session, "other", "other");
    let expected: Vec<_> = (1..=16)
        .map(|value| value.to_string())
        .chain(["other".into()])
        .collect();
    assert_eq!(written(&wire).await, expected);
    assert_eq!(session.unacknowledged(), 18);
    wire.ack(1, 0);
    assert_eq!(written(&wire).await, ["100"]);
}

#[tokio::test(start_paused = true)]
async fn large_messages_of_a_key_wait_for_one_that_is_on_its_way() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    for value in ["a", "b", "c", "d"] {
        set(&session, "value", value.repeat(30_000));
        settled().await;
    }
    let first = |texts: Vec<String>| texts.iter().map(|text| text[..1].to_owned()).collect::<Vec<_>>();
    assert_eq!(first(written(&wire).await), ["a", "b"]);
    wire.ack(1, 0);
    assert_eq!(first(written(&wire).await), ["d"]);
}

/// Connects with credit for so many messages of 100 bytes.
async fn connected_with_credit(hub: &Hub, session: &SessionHandle, messages: u64) -> Wire {
    let mut document = RawDocument::new(session);
    document.counts.credit.interactive = messages * charge(100);
    document.welcomed(hub).await.0
}

fn grant(wire: &Wire, received: u64, messages: u64) {
    wire.send(Frame::Ack(Counts {
        received: PerLane::new(received, 0),
        credit: PerLane::new(messages * charge(100), 1 << 40),
    }));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_does_not_keep_newest_messages_waiting() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let stream = || session.try_send([b'-'; 100]).expect("there is room");
    (0..10).for_each(|_| stream());
    let wire = connected_with_credit(&hub, &session, 2).await;
    assert_eq!(written(&wire).await.len(), 2);
    set(&session, "value", "newest");
    (0..10).for_each(|_| stream());
    for received in 1.. {
        // As many messages wait as ever.
        stream();
        grant(&wire, received, received + 2);
        if written(&wire).await.iter().any(|text| text == "newest") {
            assert!((20..=30).contains(&received), "after {received} messages");
            return;
        }
        assert!(received < 100, "it never comes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_has_a_thousand_keys_on_their_way() {
    let hub = Hub::new();
    let session = hub.open(idle);
    for key in 0..1024 {
        set(&session, &key.to_string(), "first");
    }
    let refused = session.send_latest("one more", "kept").expect_err("it is one too many");
    assert!(matches!(refused, SendLatestError::TooManyKeys(_)));
    assert_eq!(&refused.into_message()[..], b"kept");
    set(&session, "1023", "second");
    let page = Browser::connected(&hub, &session).await;
    soon("everything arrives", session.drained()).await;
    set(&session, "one more", "now there is room");
    settled().await;
    assert_eq!(arrived(&page).len(), 1025);
}

#[tokio::test(start_paused = true)]
async fn a_message_above_the_limit_and_one_after_the_end_come_back() {
    let hub = Hub::builder().message_limit(1000).build();
    let session = hub.open(idle);
    let error = session
        .send_latest("value", vec![7; 1001])
        .expect_err("it is too large");
    assert!(
        matches!(
            error,
            SendLatestError::TooLarge {
                size: 1001,
                limit: 1000,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.into_message().len(), 1001);
    set(&session, "value", "undelivered");
    session.abort("enough");
    assert_eq!(session.unacknowledged(), 1);
    let error = session.send_latest("value", "late").expect_err("it has ended");
    assert!(matches!(&error, SendLatestError::Ended { .. }), "{error}");
    assert_eq!(&error.into_message()[..], b"late");
}

#[tokio::test(start_paused = true)]
async fn a_closing_session_delivers_the_newest_messages() {
    let hub = Hub::new();
    let session = hub.open(idle);
    set(&session, "value", "last words");
    session.close("bye");
    let page = Browser::open(&hub, &session);
    assert_eq!(page.text().await, "last words");
}

#[tokio::test(start_paused = true)]
async fn another_document_gets_only_what_is_set_after_it_took_over() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let session = hub.open(async move |session: Session| {
        session.on_restore(move |restoring| {
            let go = Arc::clone(&goes);
            async move {
                go.notified().await;
                let _ = restoring.send("restored").await;
            }
        });
        session.ended().await;
    });
    let before = Browser::connected(&hub, &session).await;
    before.set_online(false);
    before.cut();
    settled().await;
    set(&session, "old", "for the document before");
    let page = Browser::connected(&hub, &session).await;
    settled().await;
    session.try_send("sent meanwhile").expect("there is room");
    let mut drained = draining(session.clone());
    settled().await;
    set(&session, "new", "1");
    set(&session, "new", "2");
    settled().await;
    assert!(arrived(&page).is_empty() && !drained.is_finished());
    go.notify_one();
    soon("it is drained", &mut drained).await.expect("no panic");
    assert_eq!(arrived(&page), ["restored", "sent meanwhile", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_before_it_while_a_document_is_restored_is_not_overtaken() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let session = hub.open(async move |session: Session| {
        session.on_restore(move |_| {
            let go = Arc::clone(&goes);
            async move { go.notified().await }
        });
        session.ended().await;
    });
    drop(Browser::connected(&hub, &session).await);
    settled().await;
    let wire = connected_with_credit(&hub, &session, 2).await;
    (0..4).for_each(|_| session.try_send([b'-'; 100]).expect("there is room"));
    set(&session, "value", "newest");
    settled().await;
    session.try_send([b'+'; 100]).expect("there is room");
    go.notify_one();
    assert_eq!(written(&wire).await.len(), 2);
    set(&session, "value", "newest of all");
    grant(&wire, 2, 10);
    let written = written(&wire).await;
    let first: Vec<_> = written.iter().map(|text| &text[..1]).collect();
    assert_eq!(first, ["-", "-", "+", "n"]);
    assert_eq!(written[3], "newest of all");
}

fn draining(session: SessionHandle) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { session.drained().await })
}

#[tokio::test(start_paused = true)]
async fn drained_waits_for_what_was_sent_before_it_and_for_nothing_else() {
    let hub = Hub::new();
    let session = hub.open(idle);
    soon("nothing was sent", session.drained()).await;
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    session.try_send("interactive").expect("there is room");
    session.try_send_bulk("bulk").expect("there is room");
    set(&session, "value", "newest");
    let drained = draining(session.clone());
    settled().await;
    session.try_send("later").expect("there is room");
    for (received, received_bulk) in [(1, 0), (1, 1)] {
        wire.ack(received, received_bulk);
        settled().await;
        assert!(!drained.is_finished());
    }
    assert_eq!(written(&wire).await.len(), 4);
    wire.ack(2, 1);
    soon("all but the last is acknowledged", drained)
        .await
        .expect("no panic");
    assert_waits(session.drained()).await;
    let drained = draining(session.clone());
    session.abort("enough");
    soon("the session has ended", drained).await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn drained_ends_when_another_document_takes_over() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let first = Browser::connected(&hub, &session).await;
    first.set_online(false);
    first.cut();
    settled().await;
    session.try_send("lost with its document").expect("there is room");
    let drained = draining(session.clone());
    settled().await;
    assert!(!drained.is_finished());
    let _second = Browser::connected(&hub, &session).await;
    soon("the document is gone", drained).await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_followed_watch_is_sent_until_its_sender_is_gone_or_the_session_closes() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let page = Browser::connected(&hub, &session).await;
    let (sender, receiver) = watch::channel("first".to_owned());
    let follow = |session: SessionHandle| {
        let receiver = receiver.clone();
        tokio::spawn(async move { session.follow("text", receiver).await })
    };
    let following = follow(session.clone());
    assert_eq!(page.text().await, "first");
    for value in ["second", "third"] {
        sender.send(value.to_owned()).expect("it is followed");
    }
    assert_eq!(page.text().await, "third");
    let closed = hub.open(idle);
    let ends = follow(closed.clone());
    settled().await;
    closed.abort("enough");
    assert_eq!(soon("the session is over", ends).await.expect("no panic"), Ok(()));
    sender.send("last".into()).expect("it is followed");
    drop(sender);
    assert_eq!(soon("the sender is gone", following).await.expect("no panic"), Ok(()));
    assert_eq!(page.text().await, "last");
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_does_not_refuse_newest_messages() {
    let hub = Hub::builder().outbox_limit(2000).build();
    let session = hub.open(idle);
    while session.try_send([7; 100]).is_ok() {}
    set(&session, "value", "newest");
    assert!(matches!(session.try_send([7; 100]), Err(TrySendError::Full(_))));
    let page = Browser::connected(&hub, &session).await;
    soon("everything arrives", session.drained()).await;
    let last = page.inbox().pop().expect("something has arrived");
    assert_eq!(last, (Lane::Interactive, b"newest".to_vec()));
}
