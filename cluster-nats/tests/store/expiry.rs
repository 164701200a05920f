//! When records expire.

use std::time::{Duration, Instant};

use stillhere::SessionId;
use stillhere::durable::{Commit, Store as _};
use stillhere_nats::{NatsStore, NatsStoreOptions};

use crate::store_contract::{HOUR, head};
use crate::support::NatsServer;
use crate::{create_stream, filled, open, open_with, stream};

/// Scans at each call, and gives no time beyond a record's own.
fn eager() -> NatsStoreOptions {
    let mut options = NatsStoreOptions::default();
    options.least_keep = Duration::ZERO;
    options.scan_interval = Duration::ZERO;
    options.grace = Duration::ZERO;
    options
}

async fn create(store: &NatsStore, keep: Duration) -> (SessionId, u64) {
    let id = SessionId::random();
    let revision = store.commit(Commit::new(id, 0, head("a record"), keep)).await;
    (id, revision.expect("it commits"))
}

async fn expired(store: &NatsStore) -> Vec<(SessionId, u64)> {
    store.expired(10).await.expect("it can be read")
}

/// Returns what expires first.
async fn expired_at_last(store: &NatsStore) -> Vec<(SessionId, u64)> {
    let began = Instant::now();
    loop {
        let expired = expired(store).await;
        if !expired.is_empty() {
            return expired;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "something expires");
    }
}

#[tokio::test]
async fn records_expire_once_nothing_has_replaced_them_for_their_time() {
    let server = NatsServer::start();
    let store = open_with(&server, eager()).await;
    let (old, revision) = create(&store, Duration::ZERO).await;
    create(&store, HOUR).await;
    assert_eq!(expired_at_last(&store).await, [(old, revision)]);
    let renewed = Commit::new(old, revision, head("used again"), HOUR);
    store.commit(renewed).await.expect("it commits");
    assert_eq!(expired(&store).await, []);
    let (short, revision) = create(&store, Duration::from_millis(300)).await;
    let created = Instant::now();
    assert_eq!(expired_at_last(&store).await, [(short, revision)]);
    assert!(
        created.elapsed() > Duration::from_millis(250),
        "it was kept for its time"
    );
}

#[tokio::test]
async fn time_while_nothing_was_open_does_not_count() {
    let server = NatsServer::start();
    let mut options = eager();
    options.least_keep = Duration::from_secs(30);
    let store = open_with(&server, options).await;
    create(&store, Duration::ZERO).await;
    // A scan that sees the record as expired, to be sure that time has passed.
    expired_at_last(&open_with(&server, eager()).await).await;
    assert_eq!(expired(&store).await, []);
}

#[tokio::test]
async fn the_owner_may_renew_its_records_before_others_remove_them() {
    let server = NatsServer::start();
    let mut patient = eager();
    patient.grace = Duration::from_secs(3600);
    let (owner, other) = (
        open_with(&server, patient.clone()).await,
        open_with(&server, patient).await,
    );
    let (id, revision) = create(&owner, Duration::ZERO).await;
    assert_eq!(expired_at_last(&owner).await, [(id, revision)]);
    assert_eq!(expired(&other).await, []);
    let mut options = eager();
    options.grace = Duration::from_millis(300);
    let other = open_with(&server, options).await;
    let opened = Instant::now();
    assert_eq!(expired_at_last(&other).await, [(id, revision)], "its owner may be dead");
    assert!(opened.elapsed() > Duration::from_millis(250));
}

#[tokio::test]
async fn a_scan_is_made_once_in_an_interval_and_its_result_is_handed_out_in_portions() {
    let server = NatsServer::start();
    let mut options = eager();
    options.scan_interval = HOUR;
    let owner = open_with(&server, eager()).await;
    for _ in 0..25 {
        create(&owner, Duration::ZERO).await;
    }
    expired_at_last(&owner).await;
    let store = open_with(&server, options).await;
    let mut found = Vec::new();
    for portion in [10, 10, 5, 0, 0] {
        let expired = expired(&store).await;
        assert_eq!(expired.len(), portion);
        found.extend(expired);
    }
    for (id, revision) in found {
        store.remove(id, revision).await.expect("nobody has written it");
    }
    let info = stream(&server).await.get_info().await.expect("there is a stream");
    assert_eq!(info.state.messages, 0);
    assert_eq!(info.state.consumer_count, 0, "scans clean up");
}

#[tokio::test]
async fn more_records_than_one_batch_are_all_seen() {
    let server = NatsServer::start();
    let store = open_with(&server, eager()).await;
    let ids: Vec<_> = (0..2500).map(|_| SessionId::random()).collect();
    let commits = ids
        .iter()
        .map(|id| store.commit(Commit::new(*id, 0, head("a record"), Duration::ZERO)));
    for committed in futures_util::future::join_all(commits).await {
        committed.expect("it commits");
    }
    expired_at_last(&store).await;
    let fresh = open_with(&server, eager()).await;
    let began = Instant::now();
    loop {
        let expired = fresh.expired(10_000).await.expect("it can be read");
        if expired.len() == ids.len() {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{} of {}",
            expired.len(),
            ids.len()
        );
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_first_commit_expires() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_message_size = 8 << 10).await;
    let (id, store) = (SessionId::random(), open(&server).await);
    let commit = Commit::new(id, 0, filled(2_000_000, 1), Duration::ZERO);
    let committing = tokio::spawn(async move { store.commit(commit).await });
    let stream = stream(&server).await;
    while stream.get_info().await.expect("there is a stream").state.messages < 3 {
        assert!(!committing.is_finished(), "it is slow enough to be interrupted");
    }
    committing.abort();
    assert!(committing.await.is_err(), "it was interrupted");
    let store = open_with(&server, eager()).await;
    assert_eq!(expired_at_last(&store).await, [(id, 0)]);
    assert_eq!(store.remove(id, 0).await, Ok(()));
    let info = stream.get_info().await.expect("there is a stream");
    assert_eq!(info.state.messages, 0);
}
