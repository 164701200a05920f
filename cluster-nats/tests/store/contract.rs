//! What a store promises, and what this one does for large records and rivals.

use futures_util::future::join_all;
use stillhere::durable::{Commit, Store as _, StoreError};
use stillhere::{PerLane, SessionId};
use stillhere_nats::{NatsStore, NatsStoreOptions, OpenNatsStoreError};

use crate::store_contract::{HOUR, fences, head, keeps_what_was_committed};
use crate::support::NatsServer;
use crate::{adding, client, create_stream, filled, large_row, load, messages, open, stream};

#[tokio::test]
async fn it_keeps_the_contract_of_a_store() {
    let server = NatsServer::start();
    let store = open(&server).await;
    keeps_what_was_committed(&store).await;
    fences(&store).await;
}

#[tokio::test]
async fn removed_records_leave_nothing_in_the_stream() {
    let server = NatsServer::start();
    let store = open(&server).await;
    keeps_what_was_committed(&store).await;
    let info = stream(&server).await.get_info().await.expect("there is a stream");
    assert_eq!(info.state.messages, 0);
}

#[tokio::test]
async fn a_second_store_takes_a_session_over() {
    let server = NatsServer::start();
    let (old, new) = (open(&server).await, open(&server).await);
    let id = SessionId::random();
    let first = old.commit(adding(id, 0, large_row(1, 10))).await.expect("it commits");
    let record = load(&new, id).await;
    assert_eq!(record.revision, first);
    let claim = new.commit(Commit::new(id, first, head("claimed"), HOUR)).await;
    let claim = claim.expect("it commits");
    let late = old.commit(adding(id, first, large_row(2, 10))).await;
    assert_eq!(late, Err(StoreError::Fenced));
    assert_eq!(old.remove(id, first).await, Err(StoreError::Fenced));
    let record = load(&old, id).await;
    assert_eq!((record.revision, record.head), (claim, head("claimed")));
    assert_eq!(
        record.rows.interactive,
        [large_row(1, 10)],
        "the claim keeps the messages"
    );
}

#[tokio::test]
async fn a_large_record_is_written_as_its_changes_until_they_outgrow_it() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let stream = stream(&server).await;
    let id = SessionId::random();
    let mut revision = 0;
    for sequence in 1..=100 {
        let commit = adding(id, revision, large_row(sequence, 5_000));
        revision = store.commit(commit).await.expect("it commits");
    }
    let stored = messages(&stream, id).await;
    assert!((2..60).contains(&stored.len()), "{stored:?}");
    assert!(stored[0].1 > 64 << 10, "the whole record comes first: {stored:?}");
    assert!(stored[1..].iter().all(|(_, size)| *size < 6_000), "{stored:?}");
    let expected: Vec<_> = (1..=100).map(|sequence| large_row(sequence, 5_000)).collect();
    let other = open(&server).await;
    let record = load(&other, id).await;
    assert_eq!(record.rows, PerLane::new(expected, vec![]));
    assert_eq!((record.revision, record.head), (revision, head("up to 100")));

    // Whoever goes on writes changes too, after it has read what is there.
    let mut commit = adding(id, revision, large_row(101, 10));
    commit.acknowledged.interactive = 50;
    revision = other.commit(commit).await.expect("it commits");
    assert_eq!(messages(&stream, id).await.len(), stored.len() + 1);
    let record = load(&store, id).await;
    let kept: Vec<_> = record.rows.interactive.iter().map(|row| row.last).collect();
    assert_eq!(kept, (51..=101).collect::<Vec<_>>());

    // Once it is small it is one message again.
    let mut commit = adding(id, revision, large_row(102, 10));
    commit.acknowledged.interactive = 101;
    other.commit(commit).await.expect("it commits");
    assert_eq!(messages(&stream, id).await.len(), 1);
    assert_eq!(load(&store, id).await.rows.interactive, [large_row(102, 10)]);
}

#[tokio::test]
async fn a_large_record_can_lose_its_messages() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let id = SessionId::random();
    let mut commit = Commit::new(id, 0, filled(100_000, 1), HOUR);
    commit.rows.interactive = vec![large_row(1, 50_000)];
    let first = store.commit(commit).await.expect("it commits");
    let mut commit = Commit::new(id, first, filled(100_000, 2), HOUR);
    commit.clears_rows = true;
    commit.rows.bulk = vec![large_row(1, 10)];
    store.commit(commit).await.expect("it commits");
    let record = load(&open(&server).await, id).await;
    assert_eq!(record.rows, PerLane::new(vec![], vec![large_row(1, 10)]));
}

#[tokio::test]
async fn many_small_changes_of_a_large_record_are_rolled_up() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let stream = stream(&server).await;
    let id = SessionId::random();
    let commit = adding(id, 0, large_row(1, 500_000));
    let mut revision = store.commit(commit).await.expect("it commits");
    for sequence in 2..=300 {
        let commit = adding(id, revision, large_row(sequence, 1));
        revision = store.commit(commit).await.expect("it commits");
    }
    let stored = messages(&stream, id).await;
    assert!(stored.len() < 150, "reading the record takes {} requests", stored.len());
    assert_eq!(load(&store, id).await.rows.interactive.len(), 300);
}

#[tokio::test]
async fn a_record_above_the_largest_message_goes_in_parts() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let stream = stream(&server).await;
    let id = SessionId::random();
    let mut commit = Commit::new(id, 0, filled(3_500_000, 1), HOUR);
    commit.rows.bulk = vec![large_row(1, 700_000)];
    let first = store.commit(commit).await.expect("it commits");
    assert_eq!(messages(&stream, id).await.len(), 5);
    let mut commit = Commit::new(id, first, filled(3_700_000, 2), HOUR);
    commit.rows.bulk = vec![large_row(2, 900_000)];
    let second = store.commit(commit).await.expect("it commits");
    assert_eq!(messages(&stream, id).await.len(), 6, "the first ones are purged");
    let record = load(&open(&server).await, id).await;
    assert_eq!(record.revision, second);
    assert_eq!(record.head, filled(3_700_000, 2));
    assert_eq!(record.rows.bulk, [large_row(1, 700_000), large_row(2, 900_000)]);
    assert_eq!(store.remove(id, second).await, Ok(()));
    assert_eq!(messages(&stream, id).await, []);
}

/// Begins a commit of many parts, and drops it after some of them, as a crash does.
async fn commit_and_crash(server: &NatsServer, commit: Commit) {
    let store = open(server).await;
    let stream = stream(server).await;
    let last = async || stream.get_info().await.expect("there is a stream").state.last_sequence;
    let before = last().await;
    let committing = tokio::spawn(async move { store.commit(commit).await });
    while last().await < before + 3 {
        tokio::task::yield_now().await;
    }
    committing.abort();
    let crashed = committing.await;
    assert!(crashed.is_err_and(|error| error.is_cancelled()), "it was interrupted");
}

#[tokio::test]
async fn a_crash_between_parts_leaves_the_record_as_it_was() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_message_size = 8 << 10).await;
    let store = open(&server).await;
    let id = SessionId::random();
    let mut commit = Commit::new(id, 0, head("first"), HOUR);
    commit.rows.interactive = vec![large_row(1, 3_000_000)];
    let first = store.commit(commit).await.expect("it commits");
    let before = load(&store, id).await;
    // As changes, and as a whole.
    commit_and_crash(&server, Commit::new(id, first, filled(2_000_000, 2), HOUR)).await;
    assert_eq!(load(&store, id).await, before);
    commit_and_crash(&server, Commit::new(id, first, filled(4_000_000, 3), HOUR)).await;
    assert_eq!(load(&open(&server).await, id).await, before);
    // The owner is not disturbed by what lies there.
    let mut commit = Commit::new(id, first, filled(100_000, 4), HOUR);
    commit.rows.interactive = vec![large_row(2, 10)];
    let second = store.commit(commit).await.expect("it commits");
    let after = load(&open(&server).await, id).await;
    assert_eq!((after.revision, after.head), (second, filled(100_000, 4)));
    assert_eq!(after.rows.interactive, [large_row(1, 3_000_000), large_row(2, 10)]);
}

#[tokio::test]
async fn a_session_whose_first_commit_was_cut_short_can_be_created_again() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_message_size = 8 << 10).await;
    let store = open(&server).await;
    let id = SessionId::random();
    commit_and_crash(&server, Commit::new(id, 0, filled(2_000_000, 1), HOUR)).await;
    assert_eq!(store.load(id).await, Ok(None));
    let revision = store.commit(Commit::new(id, 0, head("again"), HOUR)).await;
    assert_eq!(load(&store, id).await.revision, revision.expect("it commits"));
}

/// Lets 20 stores replace the same record at once, and returns what became of their commits.
async fn race(server: &NatsServer, id: SessionId, replaces: u64, length: usize) -> Vec<Result<u64, StoreError>> {
    let stores = join_all((0..20).map(|_| open(server))).await;
    let commits = stores.iter().zip(0..).map(|(store, number)| {
        let head = filled(length, number);
        store.commit(Commit::new(id, replaces, head, HOUR))
    });
    join_all(commits).await
}

fn winner(results: &[Result<u64, StoreError>]) -> (usize, u64) {
    let mut won = results
        .iter()
        .enumerate()
        .filter_map(|(number, result)| Some((number, *result.as_ref().ok()?)));
    let winner = won.next().expect("somebody writes the record");
    assert_eq!(won.next(), None, "only one does");
    winner
}

#[tokio::test]
async fn of_many_that_write_a_record_at_once_one_does() {
    let server = NatsServer::start();
    let store = open(&server).await;
    let id = SessionId::random();
    let mut revision = 0;
    for _ in 0..5 {
        let results = race(&server, id, revision, 100).await;
        let (number, won) = winner(&results);
        let fenced = results.iter().filter(|result| **result == Err(StoreError::Fenced));
        assert_eq!(fenced.count(), 19, "{results:?}");
        let record = load(&store, id).await;
        assert_eq!((record.revision, record.head), (won, filled(100, number as u64)));
        revision = won;
    }
}

#[tokio::test]
async fn of_many_that_write_a_record_in_parts_at_most_one_does_and_the_record_is_whole() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_message_size = 8 << 10).await;
    let store = open(&server).await;
    let id = SessionId::random();
    let first = store
        .commit(Commit::new(id, 0, head("first"), HOUR))
        .await
        .expect("it commits");
    let results = race(&server, id, first, 20_000).await;
    let record = load(&store, id).await;
    if results.iter().any(Result::is_ok) {
        let (number, won) = winner(&results);
        assert_eq!((record.revision, record.head), (won, filled(20_000, number as u64)));
    } else {
        assert_eq!((record.revision, record.head), (first, head("first")));
    }
    let again = store
        .commit(Commit::new(id, record.revision, head("after"), HOUR))
        .await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn a_stream_that_would_lose_sessions_is_refused() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_age = HOUR).await;
    let error = NatsStore::new(client(&server).await, NatsStoreOptions::default()).await;
    let error = error.expect_err("its messages would vanish");
    assert!(matches!(&error, OpenNatsStoreError::Unfit { .. }), "{error}");
    assert!(error.to_string().contains("greatest age"), "{error}");
}

#[tokio::test]
async fn a_stream_whose_server_drops_messages_at_its_limit_is_refused() {
    let server = NatsServer::start();
    create_stream(&server, |config| config.max_bytes = 100_000).await;
    let client = client(&server).await;
    let is_old = client.server_info().version.starts_with("2.9.");
    let opened = NatsStore::new(client, NatsStoreOptions::default()).await;
    assert_eq!(opened.is_err(), is_old, "{opened:?}");
}

#[tokio::test]
async fn a_full_server_is_reported_loses_nothing_and_has_room_again_after_a_removal() {
    let account = "{ jetstream: { max_file: 100000 }, users: [{ user: a, password: a }] }";
    let server = NatsServer::start_with(&format!("accounts {{ A: {account} }}\nno_auth_user: a\n"));
    let store = open(&server).await;
    let mut stored = Vec::new();
    let mut errors = Vec::new();
    for length in [10_000, 0] {
        errors.push(loop {
            let id = SessionId::random();
            match store.commit(Commit::new(id, 0, filled(length, 1), HOUR)).await {
                Ok(revision) => stored.push((id, revision, length)),
                Err(error) => break error,
            }
            assert!(stored.len() < 1000, "it is full at some time");
        });
    }
    assert_eq!(errors, [StoreError::Full, StoreError::Full]);
    // Not even the mark of a removal shall find room.
    let context = async_nats::jetstream::new(client(&server).await);
    while let Ok(published) = context.publish("stillhere.sessions.aside.x", "".into()).await
        && published.await.is_ok()
    {}
    for (id, _, length) in &stored {
        assert_eq!(load(&store, *id).await.head, filled(*length, 1));
    }
    for (id, revision, _) in stored.drain(..5) {
        assert_eq!(store.remove(id, revision).await, Ok(()));
        assert_eq!(store.load(id).await, Ok(None));
    }
    let commit = Commit::new(SessionId::random(), 0, filled(5_000, 1), HOUR);
    let committed = store.commit(commit).await;
    assert!(committed.is_ok(), "{committed:?}");
}
