//! A store in a file.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use tokio::sync::oneshot;

use crate::durable::file_record::{EXPIRY, HEADS, Head, Id, META, ROWS, RowKey, SET_ASIDE, decode_row, encode_row};
use crate::durable::overdue::Overdue;
use crate::durable::store::{Commit, Record, Store, StoreError, StoreFuture};
use crate::rate_limited_log::RateLimitedLog;
use stillhere_proto::machine::Row;
use stillhere_proto::{Lane, PerLane, SessionId};

/// Keeps records in one file, with [redb](https://docs.rs/redb).
///
/// A thread of its own writes the file. Commits that arrive while it writes are written together,
/// so that one flush serves many sessions; a lone commit does not wait for others. A commit has
/// returned only after the file was flushed.
///
/// One process at a time has the file open. A second one waits until the first has let go, as in a
/// deployment on one machine: see [`FileStoreOptions::wait`].
#[derive(Debug, Clone)]
pub struct FileStore {
    requests: Sender<Request>,
}

/// How to open a [`FileStore`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FileStoreOptions {
    /// How long to wait for another process that has the file open. Default 30 s.
    pub wait: Duration,
    /// How long each record is kept at least after the store was opened, so that the time while
    /// nothing ran does not count against a session. Default 30 s.
    pub least_keep: Duration,
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(30),
            least_keep: Duration::from_secs(30),
        }
    }
}

/// Why a [`FileStore`] could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// Another process had the file open for the whole of [`FileStoreOptions::wait`].
    #[error("another process has {path} open: stop it, or give this one a file of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of stillhere has written the file.
    #[error(
        "{path} has format {found}, but this version of stillhere reads formats up to {known}: \
         run the version that wrote it, or move it away to begin with an empty one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u64,
        /// The newest format that can be read.
        known: u64,
    },
    /// The file cannot be read or created.
    #[error("cannot open {path}: {reason}; if the file is damaged, move it away to begin with an empty one")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

impl FileStore {
    /// Opens the file, or creates it if there is none.
    ///
    /// # Errors
    /// Returns an [`OpenStoreError`] if the file is in use for too long, is damaged or too new, or
    /// cannot be opened.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenStoreError> {
        Self::open_with(path, FileStoreOptions::default()).await
    }

    /// Does the same as [`FileStore::open`], with these options.
    ///
    /// # Errors
    /// Returns the errors of [`FileStore::open`].
    pub async fn open_with(path: impl Into<PathBuf>, options: FileStoreOptions) -> Result<Self, OpenStoreError> {
        let path = path.into();
        let (requests, received) = channel();
        let (opened, is_open) = oneshot::channel();
        let failed = |reason: &str| OpenStoreError::Failed {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let of_thread = path.clone();
        let thread = std::thread::Builder::new().name("stillhere-store".to_owned());
        let spawned = thread.spawn(move || match open_when_free(&of_thread, options.wait) {
            Ok(database) => {
                let _ = opened.send(Ok(()));
                Thread::new(of_thread, database, options.least_keep).run(&received);
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        });
        spawned.map_err(|error| failed(&error.to_string()))?;
        is_open.await.map_err(|_| failed("its thread panicked"))??;
        Ok(Self { requests })
    }

    fn ask<T: Send + 'static>(&self, request: impl FnOnce(Answer<T>) -> Request) -> StoreFuture<'_, T> {
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(request(answer));
        Box::pin(async {
            let lost = || StoreError::Failed("the thread of the store has ended".to_owned());
            answered.await.unwrap_or_else(|_| Err(lost()))
        })
    }
}

impl Store for FileStore {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        self.ask(|answer| Request::Commit(Box::new(commit), answer))
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        self.ask(|answer| Request::Load(id, answer))
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        self.ask(|answer| Request::Remove(id, revision, answer))
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        self.ask(|answer| Request::Expired(most, answer))
    }
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Request {
    Commit(Box<Commit>, Answer<u64>),
    Load(SessionId, Answer<Option<Record>>),
    Remove(SessionId, u64, Answer<()>),
    Expired(usize, Answer<Vec<(SessionId, u64)>>),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

const FORMAT: u64 = 1;

const PANICKED: &str = "the file is damaged: reading it panicked";

/// The most requests that are written together.
const GROUP: usize = 4096;

/// The most of the file that is kept in memory, in bytes. The default of redb is 1 GiB.
const CACHE: usize = 64 << 20;

/// How long to wait before the file is tried again.
const RETRY: Duration = Duration::from_millis(50);

fn open_when_free(path: &Path, wait: Duration) -> Result<Database, OpenStoreError> {
    let until = Instant::now() + wait;
    let mut has_told = false;
    loop {
        let damaged = || OpenStoreError::Failed {
            path: path.to_owned(),
            reason: PANICKED.to_owned(),
        };
        match catch_unwind(AssertUnwindSafe(|| open(path))).unwrap_or_else(|_| Err(damaged())) {
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) if Instant::now() < until => {
                if !std::mem::replace(&mut has_told, true) {
                    tracing::info!(path = %path.display(), wait = ?wait, "waiting for another process to close the store");
                }
                std::thread::sleep(RETRY);
            }
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => return Err(OpenStoreError::InUse { path: path.to_owned() }),
            Ok(Err(error)) => {
                return Err(OpenStoreError::Failed {
                    path: path.to_owned(),
                    reason: error.to_string(),
                });
            }
            Ok(Ok(database)) => return Ok(database),
            Err(error) => return Err(error),
        }
    }
}

/// Opens the file and checks its format.
fn open(path: &Path) -> Result<Result<Database, DatabaseError>, OpenStoreError> {
    let database = match create(path) {
        Ok(database) => database,
        Err(error) => return Ok(Err(error)),
    };
    let failed = |error: redb::Error| OpenStoreError::Failed {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let found = prepare(&database).map_err(failed)?;
    if found > FORMAT {
        return Err(OpenStoreError::Newer {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    Ok(Ok(database))
}

fn create(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

/// Creates the tables of a new file. Returns the format of the file.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let read = database.begin_read()?;
    if let Ok(meta) = read.open_table(META)
        && let Some(format) = meta.get("format")?
    {
        return Ok(format.value());
    }
    let write = database.begin_write()?;
    write.open_table(META)?.insert("format", FORMAT)?;
    write.open_table(HEADS)?;
    write.open_table(ROWS)?;
    write.open_table(EXPIRY)?;
    write.open_table(SET_ASIDE)?;
    write.commit()?;
    Ok(FORMAT)
}

/// The thread that has the file.
struct Thread {
    path: PathBuf,
    /// Absent after a failure, until the file can be opened again.
    database: Option<Database>,
    overdue: Overdue,
    log: RateLimitedLog,
}

impl Thread {
    fn new(path: PathBuf, database: Database, least_keep: Duration) -> Self {
        Self {
            path,
            database: Some(database),
            overdue: Overdue::new(Instant::now(), least_keep),
            log: RateLimitedLog::default(),
        }
    }

    /// Runs until nobody has the store any more.
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let first = match requests.recv_timeout(Duration::from_secs(3600)) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let group = [first].into_iter().chain(requests.try_iter().take(GROUP)).collect();
            self.handle(group);
        }
    }

    fn handle(&mut self, group: Vec<Request>) {
        let (mut commits, mut removals, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for request in group {
            match request {
                Request::Commit(commit, answer) => commits.push((commit, answer)),
                Request::Remove(id, revision, answer) => removals.push((id, revision, answer)),
                read => reads.push(read),
            }
        }
        if !commits.is_empty() || !removals.is_empty() {
            self.write(commits, removals);
        }
        for read in reads {
            match read {
                Request::Load(id, answer) => drop(answer.send(self.attempt(|thread| thread.load(&id)))),
                Request::Expired(most, answer) => drop(answer.send(self.attempt(|thread| thread.expired(most)))),
                Request::Commit(..) | Request::Remove(..) => {}
            }
        }
    }

    /// Does something with the file. After an error redb refuses everything, and some damage makes
    /// it panic: both end with the file being opened again for the next request.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let panicked = || StoreError::Failed(PANICKED.to_owned());
        let result = catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| Err(panicked()));
        if let Err(error) = &result {
            if let Some(errors) = self.log.count(Instant::now()) {
                tracing::error!(path = %self.path.display(), errors, "{error}");
            }
            _ = catch_unwind(AssertUnwindSafe(|| drop(self.database.take())));
        }
        result
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            self.database = Some(create(&self.path).map_err(|error| store_error(&error.into()))?);
        }
        self.database.as_ref().ok_or(StoreError::Failed(String::new()))
    }

    /// Writes all in one transaction.
    fn write(&mut self, commits: Vec<(Box<Commit>, Answer<u64>)>, removals: Vec<(SessionId, u64, Answer<()>)>) {
        let now = SystemTime::now();
        let written = self.attempt(|thread| {
            let database = thread.database()?;
            let write = || -> Result<_, redb::Error> {
                let transaction = database.begin_write()?;
                let mut tables = Tables::open(&transaction)?;
                let mut committed = Vec::new();
                for (commit, _) in &commits {
                    committed.push(tables.commit(commit, now)?);
                }
                let mut removed = Vec::new();
                for (id, revision, _) in &removals {
                    removed.push(tables.remove(id, *revision)?);
                }
                drop(tables);
                transaction.commit()?;
                Ok((committed, removed))
            };
            write().map_err(|error| store_error(&error))
        });
        match written {
            Ok((committed, removed)) => {
                for ((_, answer), result) in commits.into_iter().zip(committed) {
                    let _ = answer.send(result);
                }
                for ((_, _, answer), result) in removals.into_iter().zip(removed) {
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                for (_, answer) in commits {
                    let _ = answer.send(Err(error.clone()));
                }
                for (_, _, answer) in removals {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn load(&mut self, id: &SessionId) -> Result<Option<Record>, StoreError> {
        let loaded = load_one(self.database()?, id).map_err(|error| store_error(&error))?;
        match loaded {
            Loaded::None => Ok(None),
            Loaded::Record(record) => Ok(Some(record)),
            Loaded::Damaged => {
                tracing::error!(session = %id, path = %self.path.display(), "set a damaged record aside: its session is lost");
                set_aside(self.database()?, id).map_err(|error| store_error(&error))?;
                Ok(None)
            }
        }
    }

    fn expired(&mut self, most: usize) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let now = (Instant::now(), millis(SystemTime::now()));
        self.database()?;
        let Self { database, overdue, .. } = self;
        let database = database.as_ref().ok_or(StoreError::Failed(String::new()))?;
        let found = overdue.look(database, most, now).map_err(|error| store_error(&error))?;
        if !found.stray.is_empty() {
            remove_stray(database, &found.stray).map_err(|error| store_error(&error))?;
        }
        let expired = found.expired.into_iter();
        Ok(expired
            .map(|(id, revision)| (SessionId::from_bytes(id), revision))
            .collect())
    }
}

/// The tables of a transaction.
struct Tables<'a> {
    heads: Table<'a, Id, &'static [u8]>,
    rows: Table<'a, RowKey, &'static [u8]>,
    expiry: Table<'a, (u64, Id), ()>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            heads: transaction.open_table(HEADS)?,
            rows: transaction.open_table(ROWS)?,
            expiry: transaction.open_table(EXPIRY)?,
        })
    }

    fn commit(&mut self, commit: &Commit, now: SystemTime) -> Result<Result<u64, StoreError>, redb::Error> {
        let id = *commit.id.as_bytes();
        let before = self.head(id)?;
        if before.as_ref().map_or(0, |head| head.revision) != commit.replaces {
            return Ok(Err(StoreError::Fenced));
        }
        let mut count = before.as_ref().map_or(0, |head| head.rows);
        for lane in Lane::ALL {
            let last = if commit.clears_rows {
                u64::MAX
            } else {
                commit.acknowledged[lane]
            };
            if count > 0 && last > 0 {
                let taken = (id, lane as u8, 0)..=(id, lane as u8, last);
                self.rows.retain_in(taken, |_, _| {
                    count = count.saturating_sub(1);
                    false
                })?;
            }
            for row in &commit.rows[lane] {
                let key = (id, lane as u8, row.last);
                let replaced = self.rows.insert(key, &encode_row(key, row)[..])?;
                count += u64::from(replaced.is_none());
            }
        }
        let head = Head {
            revision: commit.replaces + 1,
            rows: count,
            expires: millis(now + commit.keep.min(LONGEST)),
            keep: commit.keep.min(LONGEST),
            bytes: commit.head.clone(),
        };
        self.heads.insert(id, &head.encode(id)[..])?;
        if let Some(before) = before {
            self.expiry.remove((before.expires, id))?;
        }
        self.expiry.insert((head.expires, id), ())?;
        Ok(Ok(head.revision))
    }

    fn remove(&mut self, id: &SessionId, revision: u64) -> Result<Result<(), StoreError>, redb::Error> {
        let id = *id.as_bytes();
        let Some(head) = self.head(id)? else {
            return Ok(Ok(()));
        };
        if head.revision != revision {
            return Ok(Err(StoreError::Fenced));
        }
        self.heads.remove(id)?;
        self.expiry.remove((head.expires, id))?;
        self.rows
            .retain_in((id, 0, 0)..=(id, u8::MAX, u64::MAX), |_, _| false)?;
        Ok(Ok(()))
    }

    fn head(&self, id: Id) -> Result<Option<Head>, redb::Error> {
        Ok(self.heads.get(id)?.and_then(|head| Head::decode(id, head.value())))
    }
}

enum Loaded {
    None,
    Record(Record),
    Damaged,
}

fn load_one(database: &Database, id: &SessionId) -> Result<Loaded, redb::Error> {
    let id = *id.as_bytes();
    let read = database.begin_read()?;
    let heads = read.open_table(HEADS)?;
    let Some(bytes) = heads.get(id)? else {
        return Ok(Loaded::None);
    };
    let Some(head) = Head::decode(id, bytes.value()) else {
        return Ok(Loaded::Damaged);
    };
    let table = read.open_table(ROWS)?;
    let mut rows = PerLane::<Vec<Row>>::default();
    for lane in Lane::ALL {
        for entry in table.range((id, lane as u8, 0)..=(id, lane as u8, u64::MAX))? {
            let (key, value) = entry?;
            let Some(row) = decode_row(key.value(), value.value()) else {
                return Ok(Loaded::Damaged);
            };
            rows[lane].push(row);
        }
    }
    if rows.interactive.len() + rows.bulk.len() != usize::try_from(head.rows).unwrap_or(usize::MAX) {
        return Ok(Loaded::Damaged);
    }
    Ok(Loaded::Record(Record {
        revision: head.revision,
        head: head.bytes,
        rows,
    }))
}

/// Moves a record that cannot be read out of the way, so that it can be looked at. Its entry in the
/// index stays until its time has come.
fn set_aside(database: &Database, id: &SessionId) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    set_aside_in(&transaction, *id.as_bytes())?;
    transaction.commit()?;
    Ok(())
}

fn set_aside_in(transaction: &WriteTransaction, id: Id) -> Result<(), redb::Error> {
    let mut heads = transaction.open_table(HEADS)?;
    if let Some(head) = heads.remove(id)? {
        transaction.open_table(SET_ASIDE)?.insert(id, head.value())?;
    }
    transaction
        .open_table(ROWS)?
        .retain_in((id, 0, 0)..=(id, u8::MAX, u64::MAX), |_, _| false)?;
    Ok(())
}

/// Removes entries of the index whose records are gone, and sets records aside that cannot be read.
fn remove_stray(database: &Database, stray: &[(u64, Id)]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for entry in stray {
        transaction.open_table(EXPIRY)?.remove(*entry)?;
        let id = entry.1;
        let head = transaction
            .open_table(HEADS)?
            .get(id)?
            .map(|head| Head::decode(id, head.value()).is_some());
        if head == Some(false) {
            tracing::error!(session = %SessionId::from_bytes(id), "set a damaged record aside: its session is lost");
            set_aside_in(&transaction, id)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn store_error(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => StoreError::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                StoreError::ReadOnly(error.to_string())
            }
            _ => StoreError::Failed(error.to_string()),
        },
        error => StoreError::Failed(error.to_string()),
    }
}

/// The longest that a record is kept: about a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
