//! Stores of durable sessions: both keep the same promises, and the file survives its process.

#[path = "support/store_contract.rs"]
mod store_contract;

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redb::{ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};
use stillhere::durable::{Commit, FileStore, FileStoreOptions, MemoryStore, OpenStoreError, Store, StoreError};
use stillhere_proto::{PerLane, SessionId};

use store_contract::{HOUR, fences, head, keeps_what_was_committed, row};

/// A folder that is removed with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("stillhere-{}", SessionId::random()));
        std::fs::create_dir(&path).expect("a folder for the test");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("sessions.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(path: &Path) -> FileStore {
    FileStore::open(path).await.expect("the store opens")
}

/// Runs the check with each kind of store.
async fn with_each(check: impl AsyncFn(&dyn Store)) {
    check(&MemoryStore::new()).await;
    let folder = Folder::new();
    check(&open(&folder.file()).await).await;
}

#[tokio::test]
async fn a_record_is_what_was_committed_last() {
    with_each(keeps_what_was_committed).await;
}

#[tokio::test]
async fn a_process_that_no_longer_owns_a_session_cannot_write_it() {
    with_each(fences).await;
}

#[tokio::test]
async fn records_expire_once_nothing_has_replaced_them_for_their_time() {
    let folder = Folder::new();
    let mut options = FileStoreOptions::default();
    options.least_keep = Duration::ZERO;
    let file = FileStore::open_with(folder.file(), options)
        .await
        .expect("the store opens");
    for store in [&MemoryStore::new() as &dyn Store, &file] {
        let [old, young] = [SessionId::random(), SessionId::random()];
        store
            .commit(Commit::new(old, 0, head("old"), Duration::ZERO))
            .await
            .expect("it commits");
        store
            .commit(Commit::new(young, 0, head("young"), HOUR))
            .await
            .expect("it commits");
        let expired = loop {
            let expired = store.expired(10).await.expect("it can be read");
            if !expired.is_empty() {
                break expired;
            }
        };
        assert_eq!(expired, [(old, 1)]);
        store
            .commit(Commit::new(old, 1, head("used again"), HOUR))
            .await
            .expect("it commits");
        assert_eq!(store.expired(10).await, Ok(vec![]));
    }
    // Time while nothing had the store open does not count.
    drop(file);
    let file = open(&folder.file()).await;
    let id = SessionId::random();
    file.commit(Commit::new(id, 0, head("old"), Duration::ZERO))
        .await
        .expect("it commits");
    assert_eq!(file.expired(10).await, Ok(vec![]));
}

#[tokio::test]
async fn many_commits_at_once_are_all_there_in_the_next_process() {
    let folder = Folder::new();
    let ids: Vec<_> = std::iter::repeat_with(SessionId::random).take(1000).collect();
    let store = open(&folder.file()).await;
    let commits = ids
        .iter()
        .map(|id| store.commit(Commit::new(*id, 0, head(&id.to_string()), HOUR)));
    for revision in futures_util::future::join_all(commits).await {
        assert_eq!(revision, Ok(1));
    }
    drop(store);
    let store = open(&folder.file()).await;
    for id in &ids {
        let record = store.load(*id).await.expect("it can be read").expect("it is there");
        assert_eq!(record.head, head(&id.to_string()));
    }
}

#[tokio::test]
async fn a_second_process_waits_for_the_first() {
    let folder = Folder::new();
    let first = open(&folder.file()).await;
    let mut options = FileStoreOptions::default();
    options.wait = Duration::from_millis(1);
    let refused = FileStore::open_with(folder.file(), options)
        .await
        .expect_err("it is in use");
    assert!(matches!(refused, OpenStoreError::InUse { .. }), "{refused}");
    let second = tokio::spawn(FileStore::open(folder.file()));
    first
        .commit(Commit::new(SessionId::random(), 0, head("last"), HOUR))
        .await
        .expect("it commits");
    drop(first);
    second
        .await
        .expect("it does not panic")
        .expect("it opens once the first has let go");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_says_what_to_do() {
    let folder = Folder::new();
    std::fs::write(
        folder.file(),
        "this is no database, but long enough to look like one".repeat(200),
    )
    .expect("it writes");
    let error = FileStore::open(folder.file()).await.expect_err("it is damaged");
    assert!(error.to_string().contains("move it away"), "{error}");
    let error = FileStore::open(folder.0.join("no/such/folder"))
        .await
        .expect_err("there is no folder");
    assert!(error.to_string().contains("no/such/folder"), "{error}");
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_others_are_there() {
    let folder = Folder::new();
    let [damaged, whole] = [SessionId::random(), SessionId::random()];
    let store = open(&folder.file()).await;
    for id in [damaged, whole] {
        store
            .commit(Commit::new(id, 0, head("a record"), HOUR))
            .await
            .expect("it commits");
    }
    drop(store);
    {
        let table = redb::TableDefinition::<[u8; 16], &[u8]>::new("heads");
        let database = when_closed(&folder.file()).await;
        let write = database.begin_write().expect("it writes");
        let mut heads = write.open_table(table).expect("there is a table");
        let mut bytes = heads
            .get(damaged.as_bytes())
            .expect("it reads")
            .expect("it is there")
            .value()
            .to_vec();
        *bytes.last_mut().expect("it is not empty") ^= 1;
        heads.insert(damaged.as_bytes(), &bytes[..]).expect("it writes");
        drop(heads);
        write.commit().expect("it writes");
    }
    let store = open(&folder.file()).await;
    assert_eq!(store.load(damaged).await, Ok(None));
    assert_eq!(
        store
            .load(whole)
            .await
            .map(|record| record.map(|record| record.revision)),
        Ok(Some(1))
    );
    // The session can be stored again.
    assert_eq!(store.commit(Commit::new(damaged, 0, head("new"), HOUR)).await, Ok(1));
}

#[tokio::test]
async fn nothing_of_a_damaged_record_stays_in_the_index() {
    for is_loaded in [true, false] {
        let folder = Folder::new();
        let id = SessionId::random();
        let store = open(&folder.file()).await;
        store
            .commit(Commit::new(id, 0, head("a record"), Duration::ZERO))
            .await
            .expect("it commits");
        drop(store);
        {
            let table = redb::TableDefinition::<[u8; 16], &[u8]>::new("heads");
            let database = when_closed(&folder.file()).await;
            let write = database.begin_write().expect("it writes");
            let mut heads = write.open_table(table).expect("there is a table");
            heads.insert(id.as_bytes(), &b"damaged"[..]).expect("it writes");
            drop(heads);
            write.commit().expect("it writes");
        }
        let store = open(&folder.file()).await;
        if is_loaded {
            assert_eq!(store.load(id).await, Ok(None));
        }
        assert_eq!(store.expired(10).await, Ok(vec![]));
        drop(store);
        let database = when_closed(&folder.file()).await;
        let read = database.begin_read().expect("it reads");
        let len = |name: &str| {
            let table = redb::TableDefinition::<[u8; 16], &[u8]>::new(name);
            read.open_table(table)
                .expect("there is a table")
                .len()
                .expect("it reads")
        };
        let index = redb::TableDefinition::<(u64, [u8; 16]), ()>::new("expiry");
        let index = read.open_table(index).expect("there is a table");
        assert_eq!(
            (len("heads"), len("set_aside"), index.len().expect("it reads")),
            (0, 1, 0),
            "{is_loaded}"
        );
    }
}

/// Opens the file as a database once the store's thread, which ends on its own, has closed it.
async fn when_closed(path: &Path) -> redb::Database {
    loop {
        match redb::Database::open(path) {
            Ok(database) => return database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    drop(open(&folder.file()).await);
    let database = when_closed(&folder.file()).await;
    let write = database.begin_write().expect("it writes");
    let mut meta = write
        .open_table(redb::TableDefinition::<&str, u64>::new("meta"))
        .expect("there is a table");
    meta.insert("format", 99).expect("it writes");
    drop(meta);
    write.commit().expect("it writes");
    drop(database);
    let error = FileStore::open(folder.file()).await.expect_err("it is newer");
    assert!(matches!(error, OpenStoreError::Newer { found: 99, .. }), "{error}");
}

fn numbered(number: usize) -> SessionId {
    let mut bytes = [0xa5; 16];
    bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    SessionId::from_bytes(bytes)
}

/// Makes a file of records that each have one commit, and waits until it is closed.
async fn fill(path: &Path, sessions: usize) {
    let store = open(path).await;
    for from in (0..sessions).step_by(1_000) {
        let commits = (from..sessions.min(from + 1_000)).map(|number| {
            let text = format!("record {number} ").repeat(20);
            let mut commit = Commit::new(numbered(number), 0, head(&text), HOUR);
            commit.rows.interactive = vec![row(1, "a message"), row(2, "another message")];
            store.commit(commit)
        });
        for revision in futures_util::future::join_all(commits).await {
            assert_eq!(revision, Ok(1));
        }
    }
    drop(store);
    drop(when_closed(path).await);
}

#[tokio::test]
async fn no_damage_makes_a_record_that_was_never_written_or_stops_the_store() {
    const SESSIONS: usize = 200;
    let folder = Folder::new();
    fill(&folder.file(), SESSIONS).await;
    let bytes = std::fs::read(folder.file()).expect("it can be read");
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
    let (mut refused, mut failed, mut missing, mut there) = (0, 0, 0, 0);
    for round in 0..60 {
        let mut damaged = bytes.clone();
        let at = random(damaged.len());
        match round % 4 {
            0 => damaged.truncate(at),
            1 => damaged[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
            _ => (0..20).for_each(|_| damaged[random(bytes.len())] ^= 1 << random(8)),
        }
        let path = folder.0.join(format!("damaged-{round}.db"));
        std::fs::write(&path, &damaged).expect("it can be written");
        let store = match FileStore::open(&path).await {
            Ok(store) => store,
            Err(error) => {
                assert!(error.to_string().contains("move it away"), "{error}");
                refused += 1;
                continue;
            }
        };
        for number in 0..SESSIONS {
            match store.load(numbered(number)).await {
                Ok(Some(record)) => {
                    assert_eq!(record.revision, 1);
                    assert_eq!(record.head, head(&format!("record {number} ").repeat(20)));
                    let rows = vec![row(1, "a message"), row(2, "another message")];
                    assert_eq!(record.rows, PerLane::new(rows, vec![]), "round {round}");
                    there += 1;
                }
                Ok(None) => missing += 1,
                Err(StoreError::Failed(reason)) => {
                    assert!(!reason.contains("ended"), "round {round}: {reason}");
                    failed += 1;
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
    }
    println!("{refused} files refused; records: {there} there, {missing} missing, {failed} failed");
    assert!(refused > 0 && there > 0 && failed > 0);
}

/// The variable that makes this program the one that may not write its file.
const READER: &str = "STILLHERE_STORE_READER";

/// Opens a file that it may not write.
#[tokio::test]
async fn open_without_the_right_to() {
    let Some(path) = std::env::var_os(READER) else { return };
    let error = FileStore::open(path).await.expect_err("it may not be written");
    println!("refused: {error}");
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_refused() {
    let folder = Folder::new();
    fill(&folder.file(), 1).await;
    // Root may write everything, so this is done by nobody, who can run a copy of this program.
    let program = folder.0.join("program");
    std::fs::copy(std::env::current_exe().expect("this program has a path"), &program).expect("it can be copied");
    for (path, mode) in [(&folder.file(), 0o444), (&program, 0o755), (&folder.0, 0o755)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("modes can be set");
    }
    let mut command = Command::new(&program);
    command.args(["--exact", "open_without_the_right_to", "--nocapture"]);
    command.env(READER, folder.file());
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command.uid(65_534);
    }
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("refused: cannot open") && said.contains("ermission denied"),
        "{said}"
    );
}

#[tokio::test]
async fn the_first_record_of_very_many_is_loaded_within_a_second() {
    let sessions = 5_000;
    let folder = Folder::new();
    fill(&folder.file(), sessions).await;
    let started = Instant::now();
    let store = open(&folder.file()).await;
    let opened = started.elapsed();
    let record = store.load(numbered(sessions / 2)).await.expect("it can be read");
    let took = started.elapsed();
    assert_eq!(record.map(|record| record.revision), Some(1));
    println!("{sessions} records: opened in {opened:?}, loaded one in {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// The variable that makes this program the one that is killed.
const VICTIM: &str = "STILLHERE_STORE_VICTIM";

/// Commits until it is killed, and prints each revision of each session once it is committed.
#[test]
fn commit_until_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open(Path::new(&path)).await;
        let sessions = (0..8).map(async |number: u8| {
            let id = SessionId::from_bytes([number; 16]);
            let record = store.load(id).await.expect("it can be read").unwrap_or_default();
            for revision in record.revision.. {
                let mut commit = Commit::new(id, revision, head(&(revision + 1).to_string()), HOUR);
                commit.rows.interactive = vec![row(revision + 1, "payload")];
                commit.acknowledged.interactive = (revision + 1).saturating_sub(3);
                store.commit(commit).await.expect("it commits");
                println!("{number} {}", revision + 1);
            }
        });
        futures_util::future::join_all(sessions).await;
    });
}

#[tokio::test]
async fn what_was_committed_survives_kill_9() {
    let folder = Folder::new();
    let rounds = if std::env::var_os("STILLHERE_LONG").is_some() {
        100
    } else {
        5
    };
    let mut committed = [0u64; 8];
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "commit_until_killed", "--nocapture"])
            .env(VICTIM, folder.file())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        for (count, line) in lines.map_while(Result::ok).enumerate() {
            if let Some((number, revision)) = line.split_once(' ')
                && let (Ok(number), Ok(revision)) = (number.parse::<usize>(), revision.parse())
            {
                committed[number] = revision;
            }
            if count == 40 + 7 * round {
                child.kill().expect("it is killed");
            }
        }
        child.wait().expect("it ends");
        let store = open(&folder.file()).await;
        for (number, known) in committed.iter().enumerate() {
            let id = SessionId::from_bytes([number as u8; 16]);
            let record = store.load(id).await.expect("it can be read").expect("it is there");
            assert!(
                record.revision >= *known,
                "{} of {known} after round {round}",
                record.revision
            );
            assert_eq!(record.head, head(&record.revision.to_string()), "a record is whole");
            let rows: Vec<_> = record.rows.interactive.iter().map(|row| row.last).collect();
            let expected: Vec<_> = (record.revision.saturating_sub(2).max(1)..=record.revision).collect();
            assert_eq!(rows, expected, "a record is whole");
        }
    }
}

/// The variable that makes this program the one whose disk is full.
const FULL: &str = "STILLHERE_STORE_FULL";

/// Commits until its file may not grow any more, and then reads.
#[test]
fn commit_until_the_disk_is_full() {
    let Some(path) = std::env::var_os(FULL) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open(Path::new(&path)).await;
        let mut ids = Vec::new();
        let error = loop {
            let id = SessionId::random();
            match store.commit(Commit::new(id, 0, head(&"x".repeat(100_000)), HOUR)).await {
                Ok(_) => ids.push(id),
                Err(error) => break error,
            }
            assert!(ids.len() < 1000, "the file may grow");
        };
        assert_eq!(error, StoreError::Full);
        // It says so again, and what was committed can be read.
        let again = Commit::new(SessionId::random(), 0, head(&"x".repeat(100_000)), HOUR);
        assert_eq!(store.commit(again).await, Err(StoreError::Full));
        for id in ids {
            assert!(store.load(id).await.expect("it can be read").is_some());
            println!("{id}");
        }
        println!("has failed as it should");
    });
}

#[tokio::test]
async fn a_full_disk_is_reported_and_loses_nothing() {
    let folder = Folder::new();
    // A file of 8 MiB at most, and an error instead of a signal at more.
    let limited = r#"trap '' XFSZ; ulimit -f 8192; exec "$0" "$@""#;
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new("bash")
        .args(["-c", limited])
        .arg(program)
        .args(["--exact", "commit_until_the_disk_is_full", "--nocapture"])
        .env(FULL, folder.file())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has failed as it should"), "{said}{complaints}");
    let store = open(&folder.file()).await;
    let ids: Vec<SessionId> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(ids.len() > 10, "{said}");
    for id in ids {
        assert!(store.load(id).await.expect("it can be read").is_some());
    }
    let commit = Commit::new(SessionId::random(), 0, head(&"x".repeat(100_000)), HOUR);
    assert_eq!(store.commit(commit).await, Ok(1), "there is room again");
}
