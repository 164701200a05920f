//! What each store of durable sessions promises.

use std::time::Duration;

use bytes::Bytes;
use stillhere::durable::{Commit, Record, Store, StoreError};
use stillhere::machine::{Row, Taken};
use stillhere::{PerLane, SessionId};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn head(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn row(sequence: u64, payload: &'static str) -> Row {
    Row {
        before: Taken {
            sequence: sequence - 1,
            charge: 100 * (sequence - 1),
        },
        last: sequence,
        compressed: false,
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

/// A record is what was committed last, until it is removed.
pub(crate) async fn keeps_what_was_committed(store: &dyn Store) {
    let id = SessionId::random();
    assert_eq!(store.load(id).await, Ok(None));
    let mut commit = Commit::new(id, 0, head("one"), HOUR);
    commit.rows = PerLane::new(vec![row(1, "a"), row(2, "b")], vec![row(1, "bulk")]);
    let first = store.commit(commit).await.expect("it commits");
    assert!(first > 0);
    let mut commit = Commit::new(id, first, head("two"), HOUR);
    commit.acknowledged = PerLane::new(1, 0);
    commit.rows.interactive = vec![row(3, "c")];
    let second = store.commit(commit).await.expect("it commits");
    assert!(second > first);

    let record = store.load(id).await.expect("it can be read").expect("it is there");
    let expected = Record {
        revision: second,
        head: head("two"),
        rows: PerLane::new(vec![row(2, "b"), row(3, "c")], vec![row(1, "bulk")]),
    };
    assert_eq!(record, expected);

    let mut commit = Commit::new(id, second, head("three"), HOUR);
    commit.clears_rows = true;
    commit.rows.interactive = vec![row(1, "new")];
    let third = store.commit(commit).await.expect("it commits");
    let record = store.load(id).await.expect("it can be read").expect("it is there");
    assert_eq!(record.rows, PerLane::new(vec![row(1, "new")], vec![]));

    assert_eq!(store.remove(id, second).await, Err(StoreError::Fenced));
    assert_eq!(store.remove(id, third).await, Ok(()));
    assert_eq!(store.load(id).await, Ok(None));
    assert_eq!(store.remove(id, third).await, Ok(()));
}

/// A process that no longer owns a session cannot write it.
pub(crate) async fn fences(store: &dyn Store) {
    let id = SessionId::random();
    let commit = |replaces, text| store.commit(Commit::new(id, replaces, head(text), HOUR));
    let first = commit(0, "first").await.expect("it commits");
    let second = commit(first, "second").await.expect("it commits");
    for replaces in [0, first, second + 1] {
        assert_eq!(commit(replaces, "late").await, Err(StoreError::Fenced), "{replaces}");
    }
    let unknown = Commit::new(SessionId::random(), 7, head("gone"), HOUR);
    assert_eq!(store.commit(unknown).await, Err(StoreError::Fenced));
    let record = store.load(id).await.expect("it can be read").expect("it is there");
    assert_eq!((record.revision, record.head), (second, head("second")));
}
