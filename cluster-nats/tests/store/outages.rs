//! A server of NATS that is away, stopped, or killed.

use std::time::{Duration, Instant};

use stillhere::SessionId;
use stillhere::durable::{Commit, Store as _, StoreError};
use stillhere_nats::{NatsStore, NatsStoreOptions};

use crate::proxy::{Fault, Proxy};
use crate::store_contract::{HOUR, head};
use crate::support::NatsServer;
use crate::{adding, client, create_stream, filled, large_row, load, open, open_with, stream};

/// Commits until it succeeds, as a hub does.
async fn commit_at_last(store: &NatsStore, commit: Commit) -> Result<u64, StoreError> {
    let began = Instant::now();
    loop {
        match store.commit(commit.clone()).await {
            Err(StoreError::Failed(reason)) => {
                assert!(began.elapsed() < Duration::from_secs(60), "{reason}");
                tokio::task::yield_now().await;
            }
            result => return result,
        }
    }
}

fn impatient() -> NatsStoreOptions {
    let mut options = NatsStoreOptions::default();
    options.timeout = Duration::from_millis(200);
    options
}

#[tokio::test]
async fn what_was_committed_survives_kill_9_of_the_server() {
    let mut server = NatsServer::start();
    let store = open(&server).await;
    let id = SessionId::random();
    let mut revision = 0;
    for round in 0..5 {
        for sequence in 20 * round + 1..=20 * (round + 1) {
            let mut commit = adding(id, revision, large_row(sequence, 2_000));
            commit.acknowledged.interactive = sequence.saturating_sub(60);
            revision = commit_at_last(&store, commit).await.expect("it commits");
        }
        server.kill();
        server.restart();
        let last = 20 * (round + 1);
        let other = open(&server).await;
        let record = load(&other, id).await;
        assert_eq!(
            (record.revision, record.head),
            (revision, head(&format!("up to {last}")))
        );
        let kept: Vec<_> = record.rows.interactive.iter().map(|row| row.last).collect();
        assert_eq!(kept, (last.saturating_sub(60) + 1..=last).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_reported_and_waited_for() {
    let mut server = NatsServer::start();
    let store = open_with(&server, impatient()).await;
    let id = SessionId::random();
    let first = store.commit(adding(id, 0, large_row(1, 10))).await.expect("it commits");
    let other = client(&server).await;
    server.kill();
    let began = Instant::now();
    let error = loop {
        match store.commit(adding(id, first, large_row(2, 10))).await {
            // The client has not noticed yet.
            Err(StoreError::Failed(reason)) if !reason.contains("no connection to NATS") => {
                assert!(began.elapsed() < Duration::from_secs(10), "{reason}");
            }
            Err(error) => break error,
            Ok(_) => panic!("nobody is there"),
        }
    };
    assert!(error.to_string().contains("no connection to NATS"), "{error}");
    assert!(store.load(id).await.is_err());
    assert!(store.expired(10).await.is_err());
    let error = NatsStore::new(other, impatient()).await.expect_err("nobody is there");
    assert!(error.to_string().contains("JetStream must be on"), "{error}");
    server.restart();
    let second = commit_at_last(&store, adding(id, first, large_row(2, 10)))
        .await
        .expect("it commits");
    let record = load(&open(&server).await, id).await;
    assert_eq!(record.revision, second);
    assert_eq!(record.rows.interactive, [large_row(1, 10), large_row(2, 10)]);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let server = NatsServer::start();
    let store = open_with(&server, impatient()).await;
    let id = SessionId::random();
    let mut revision = 0;
    // Small records, changes of large ones, and whole ones again.
    for sequence in 1..=12 {
        let length = if sequence % 3 == 0 { 40_000 } else { 3_000 };
        server.pause(true);
        let began = Instant::now();
        let lost = store.commit(adding(id, revision, large_row(sequence, length))).await;
        let Err(StoreError::Failed(reason)) = &lost else {
            panic!("the server is stopped: {lost:?}");
        };
        assert!(reason.contains("did not answer within 200ms"), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(2), "requests end in time");
        server.pause(false);
        // Now the first attempt is stored, which the store has called lost. The hub commits more.
        while stream(&server)
            .await
            .get_info()
            .await
            .expect("it is there")
            .state
            .last_sequence
            <= revision
        {
            tokio::task::yield_now().await;
        }
        let commit = adding(id, revision, large_row(sequence, length));
        revision = commit_at_last(&store, commit)
            .await
            .expect("it is not fenced by itself");
        let record = load(&open(&server).await, id).await;
        assert_eq!(record.revision, revision);
        let kept: Vec<_> = record.rows.interactive.iter().map(|row| row.last).collect();
        assert_eq!(kept, (1..=sequence).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_commit_that_arrives_late_does_not_outlive_its_owner() {
    let server = NatsServer::start();
    let (old, new) = (open_with(&server, impatient()).await, open(&server).await);
    let id = SessionId::random();
    let first = old.commit(adding(id, 0, large_row(1, 10))).await.expect("it commits");
    server.pause(true);
    let lost = old.commit(adding(id, first, large_row(2, 10))).await;
    assert!(matches!(lost, Err(StoreError::Failed(_))), "{lost:?}");
    server.pause(false);
    let record = commit_claim(&new, id).await;
    let late = commit_at_last(&old, adding(id, first, large_row(2, 10))).await;
    assert_eq!(late, Err(StoreError::Fenced));
    assert_eq!(load(&new, id).await.revision, record);
}

/// Claims a session, as a hub does that reads it again when somebody was faster.
async fn commit_claim(store: &NatsStore, id: SessionId) -> u64 {
    loop {
        let record = load(store, id).await;
        match store
            .commit(Commit::new(id, record.revision, head("claimed"), HOUR))
            .await
        {
            Ok(revision) => return revision,
            Err(error) => assert_eq!(error, StoreError::Fenced),
        }
    }
}

/// Opens a store that reaches the server through a proxy.
async fn open_through(proxy: &Proxy) -> NatsStore {
    let options = async_nats::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(10));
    let client = options.connect(format!("nats://{}", proxy.address)).await;
    let opened = NatsStore::new(client.expect("the server is there"), impatient()).await;
    opened.expect("the store opens")
}

#[tokio::test]
async fn what_was_stored_without_an_answer_is_found() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_message_size = 32 << 10).await;
    let proxy = Proxy::start(&server).await;
    let store = open_through(&proxy).await;
    for fault in [Fault::HoldAnswer, Fault::Cut] {
        // One message, and the first, the second and the last one of four.
        for (length, after) in [(100, 0), (100_000, 0), (100_000, 1), (100_000, 3)] {
            let id = SessionId::random();
            let first = store
                .commit(Commit::new(id, 0, head("first"), HOUR))
                .await
                .expect("it commits");
            proxy.fail(fault, after);
            let commit = Commit::new(id, first, filled(length, 1), HOUR);
            let second = store.commit(commit).await;
            assert!(proxy.has_failed(), "{fault:?} after {after}");
            let second = second.unwrap_or_else(|error| panic!("{fault:?} after {after}: {error}"));
            let record = load(&open(&server).await, id).await;
            assert_eq!((record.revision, record.head), (second, filled(length, 1)));
            // The store knows where the record begins.
            let mut commit = Commit::new(id, second, filled(length, 2), HOUR);
            commit.rows.interactive = vec![large_row(1, 10)];
            let third = store.commit(commit).await.expect("it commits");
            assert_eq!(load(&store, id).await.head, filled(length, 2));
            proxy.fail(fault, 0);
            assert_eq!(store.remove(id, third).await, Ok(()), "{fault:?}");
            assert_eq!(store.load(id).await, Ok(None));
        }
    }
}
