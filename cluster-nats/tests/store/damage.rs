//! Messages of the stream that are damaged, missing, or of a newer version.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Stream;
use stillhere::SessionId;
use stillhere::durable::{Commit, Record, Store as _, StoreError};
use stillhere_nats::NatsStore;

use crate::store_contract::{HOUR, head};
use crate::support::NatsServer;
use crate::{adding, client, create_stream, filled, large_row, load, messages, open, stream};

const LABEL: &str = "Stillhere-Record";

/// Publishes the messages of a session again, as `change` leaves them. A message without a header
/// is left out.
async fn rewrite(server: &NatsServer, id: SessionId, change: impl Fn(usize, &mut String, &mut Vec<u8>)) {
    let context = async_nats::jetstream::new(client(server).await);
    let stream = stream(server).await;
    let subject = format!("stillhere.sessions.{id}");
    let mut changed = Vec::new();
    for (number, (sequence, _)) in messages(&stream, id).await.into_iter().enumerate() {
        let message = stream.get_raw_message(sequence).await.expect("it is there");
        let mut label = message.headers.get(LABEL).expect("it has a label").to_string();
        let mut payload = message.payload.to_vec();
        change(number, &mut label, &mut payload);
        changed.push((label, payload));
    }
    stream.purge().filter(&subject).await.expect("it is purged");
    for (label, payload) in changed.into_iter().filter(|(label, _)| !label.is_empty()) {
        let mut headers = HeaderMap::new();
        headers.insert(LABEL, label.as_str());
        let published = context.publish_with_headers(subject.clone(), headers, payload.into());
        published.await.expect("it is sent").await.expect("it is stored");
    }
}

/// Creates a record, which is one message, and returns its revision.
async fn small(store: &NatsStore, id: SessionId) -> u64 {
    let commit = adding(id, 0, large_row(1, 100));
    store.commit(commit).await.expect("it commits")
}

async fn is_aside(stream: &Stream, id: SessionId) -> bool {
    let subject = format!("stillhere.sessions.aside.{id}");
    stream.get_last_raw_message_by_subject(&subject).await.is_ok()
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_others_are_there() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let [payload, label, whole] = [(); 3].map(|()| SessionId::random());
    for id in [payload, label, whole] {
        small(&store, id).await;
    }
    rewrite(&server, payload, |_, _, payload| payload[50] ^= 1).await;
    rewrite(&server, label, |_, label, _| *label = label.replace("whole", "hole")).await;
    let stream = stream(&server).await;
    for id in [payload, label] {
        assert!(!is_aside(&stream, id).await);
        assert_eq!(store.load(id).await, Ok(None));
        assert!(is_aside(&stream, id).await, "it can be looked at");
        assert_eq!(messages(&stream, id).await, []);
        // The session can be stored again.
        let revision = store.commit(Commit::new(id, 0, head("new"), HOUR)).await;
        assert_eq!(load(&store, id).await.revision, revision.expect("it commits"));
    }
    assert_eq!(load(&store, whole).await.rows.interactive, [large_row(1, 100)]);
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_left_alone() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let id = SessionId::random();
    small(&store, id).await;
    rewrite(&server, id, |_, label, _| label.replace_range(..1, "2")).await;
    let stream = stream(&server).await;
    let before = messages(&stream, id).await;
    let error = store.load(id).await.expect_err("it cannot be read");
    assert!(error.to_string().contains("newer version"), "{error}");
    let error = store.commit(Commit::new(id, 0, head("new"), HOUR)).await;
    assert!(matches!(error, Err(StoreError::Failed(_))), "{error:?}");
    assert_eq!(messages(&stream, id).await, before);
}

/// Makes a record of two whole parts, four changes in parts, and one lone change.
async fn record_of_many_messages(server: &NatsServer, id: SessionId) -> Record {
    let store = open(server).await;
    let commit = adding(id, 0, large_row(1, 90_000));
    let mut revision = store.commit(commit).await.expect("it commits");
    for (sequence, length) in [(2, 20), (3, 80_000), (4, 300)] {
        let commit = adding(id, revision, large_row(sequence, length));
        revision = store.commit(commit).await.expect("it commits");
    }
    load(&store, id).await
}

#[tokio::test]
async fn no_damage_makes_a_record_that_was_never_written() {
    let seed = std::env::var("STILLHERE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    println!("STILLHERE_SEED={seed}");
    let mut state = seed;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_message_size = 48 << 10).await;
    let store = open(&server).await;
    let (mut missing, mut there) = (0, 0);
    for round in 0..40 {
        let id = SessionId::random();
        let record = record_of_many_messages(&server, id).await;
        let count = messages(&stream(&server).await, id).await.len();
        assert!(count >= 5, "{count} messages");
        let (at, offset, bit) = (random(count), random(usize::MAX >> 1), random(7));
        rewrite(&server, id, |number, label, payload| {
            if number != at {
                return;
            }
            match round % 4 {
                0 => label.clear(),
                1 => payload.truncate(offset % payload.len()),
                2 => {
                    let at = offset % payload.len();
                    payload[at] ^= 1 << bit;
                }
                _ => {
                    let mut bytes = label.clone().into_bytes();
                    let at = offset % bytes.len();
                    bytes[at] = b'0' + (bytes[at] + 1) % 10;
                    *label = String::from_utf8(bytes).expect("it is ASCII");
                }
            }
        })
        .await;
        match store.load(id).await {
            Ok(None) => missing += 1,
            // The sequences are others now, so only a record without its last part would be whole.
            Ok(Some(found)) => {
                assert_eq!(found, record, "round {round}");
                there += 1;
            }
            Err(StoreError::Failed(reason)) => assert!(reason.contains("newer"), "round {round}: {reason}"),
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    println!("{missing} records missing, {there} there");
    assert!(missing > 30);
}

#[tokio::test]
async fn a_change_that_is_missing_is_noticed() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let id = SessionId::random();
    let mut commit = Commit::new(id, 0, filled(100_000, 1), HOUR);
    commit.rows.interactive = vec![large_row(1, 10)];
    let mut revision = store.commit(commit).await.expect("it commits");
    for sequence in 2..=5 {
        revision = store
            .commit(adding(id, revision, large_row(sequence, 10)))
            .await
            .expect("it commits");
    }
    let stream = stream(&server).await;
    let stored = messages(&stream, id).await;
    assert_eq!(stored.len(), 1, "the head is small now");
    let mut commit = Commit::new(id, revision, head("large again"), HOUR);
    commit.rows.bulk = vec![large_row(1, 100_000)];
    revision = store.commit(commit).await.expect("it commits");
    for sequence in 6..=9 {
        revision = store
            .commit(adding(id, revision, large_row(sequence, 10)))
            .await
            .expect("it commits");
    }
    let stored = messages(&stream, id).await;
    assert_eq!(stored.len(), 5);
    assert_eq!(load(&store, id).await.rows.interactive.len(), 9);
    stream.delete_message(stored[2].0).await.expect("it is deleted");
    assert_eq!(store.load(id).await, Ok(None), "it is not a record without a message");
    assert!(is_aside(&stream, id).await);
}
