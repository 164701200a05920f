//! Durable sessions: their kinds, and how they are opened again from a store.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{join_all, lazy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::durability::Durability;
use crate::durable::head::{Changing, Fixed, Standing, decode};
use crate::durable::state::State;
use crate::durable::store::{Commit, Record, StoreError, guarded_store};
use crate::hub::Hub;
use crate::hub::absent::Absent;
use crate::hub::inner::HubInner;
use crate::hub::records::{AnyKind, Records};
use crate::hub::whereabouts::{busy, unknown};
use crate::lock::Lock;
use crate::options::SessionOptions;
use crate::session::{Application, ENDED_KEEP, Opening, REFUSED_RETRY, Reopened, Session, SessionHandle, Shared};
use stillhere_proto::code::{Class, Code};
use stillhere_proto::wire::{End, millis};
use stillhere_proto::{EndReason, Secret, SessionId};

/// A kind of durable session, as [`Hub::durable`] returns it. It is cheap to clone.
pub struct DurableKind<S> {
    hub: Hub,
    kind: Arc<Kind<S>>,
}

struct Kind<S> {
    name: Box<str>,
    durability: Durability,
    function: Box<Function<S>>,
    versions: Lock<Versions<S>>,
}

type Function<S> = dyn Fn(State<S>) -> Application + Send + Sync;

struct Versions<S> {
    current: u32,
    migrate: Option<Arc<Migrate<S>>>,
}

type Migrate<S> = dyn Fn(u32, &[u8]) -> Result<S, Box<dyn Error + Send + Sync>> + Send + Sync;

impl Hub {
    /// Registers a kind of durable session: its sessions outlive the process, with their state. The
    /// [builder](crate::HubBuilder::store) must have set a store.
    ///
    /// `function` is the function of each session. It starts when a browser first connects, and
    /// again whenever the session is opened again by another process. Between two reads is a
    /// *turn*: its changes of the state, the messages that it has taken and those that it has sent
    /// count together or not at all. What it does elsewhere, such as in a database, happens at
    /// least once: [`Session::turn`] identifies it.
    ///
    /// Register each kind before the first request, because a session of an unknown kind cannot be
    /// opened again. `name` must be the same in all versions of the application.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use stillhere::durable::{Durability, MemoryStore, State};
    /// use stillhere::{Hub, Session};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Counter {
    ///     clicks: u64,
    /// }
    ///
    /// async fn count(mut session: Session, state: State<Counter>) {
    ///     while session.recv().await.is_some() {
    ///         let clicks = state.update(|counter| {
    ///             counter.clicks += 1;
    ///             counter.clicks
    ///         });
    ///         if session.send(clicks.to_be_bytes()).await.is_err() {
    ///             return;
    ///         }
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // A `FileStore` outlives the process.
    /// let hub = Hub::builder().store(MemoryStore::new()).build();
    /// let counters = hub.durable("counter", Durability::Crash, count);
    /// let session = counters.open(Counter { clicks: 0 });
    /// assert!(session.script_tag().contains("<script"));
    /// # }
    /// ```
    ///
    /// # Panics
    /// Panics if the hub has no store, or a kind with this name.
    #[track_caller]
    pub fn durable<S, F, R>(&self, name: &str, durability: Durability, function: F) -> DurableKind<S>
    where
        S: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Session, State<S>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let records = self.inner.records.as_deref();
        let records = records.expect("durable sessions need a store: call HubBuilder::store");
        let function = Arc::new(function);
        let kind = Arc::new(Kind {
            name: name.into(),
            durability,
            function: Box::new(move |state| {
                let function = Arc::clone(&function);
                Box::new(move |session| Box::pin(lazy(move |_| function(session, state)).flatten()))
            }),
            versions: Lock::new(Versions {
                current: 0,
                migrate: None,
            }),
        });
        let known = records.kinds.lock().insert(name.to_owned(), Arc::clone(&kind) as _);
        assert!(known.is_none(), "two kinds of durable session have the name {name:?}");
        DurableKind {
            hub: self.clone(),
            kind,
        }
    }
}

impl<S: Serialize + DeserializeOwned + Send + 'static> DurableKind<S> {
    /// Opens a session for a page that is about to be sent, as [`Hub::open`] does. `state` is its
    /// first state.
    ///
    /// The session is written when a browser first connects. If the process stops before that, the
    /// page gets another ticket.
    pub fn open(&self, state: S) -> SessionHandle {
        self.open_with(self.hub.session_options(), state)
    }

    /// Opens a session for one user, as [`Hub::open_for`] does.
    pub fn open_for(&self, principal: &str, state: S) -> SessionHandle {
        let options = SessionOptions {
            principal: Some(principal.into()),
            ..self.hub.session_options()
        };
        self.open_with(options, state)
    }

    /// Opens a session with options of its own, as [`Hub::open_with`] does. Two of them are
    /// limited: [`SessionOptions::plain`] has no effect, because plain sessions cannot be durable,
    /// and [`Limits::fragment`](crate::Limits::fragment) is at most that of the hub, which decides
    /// what a connection may send before its session is read from the store.
    pub fn open_with(&self, options: SessionOptions, state: S) -> SessionHandle {
        let hub = &self.hub.inner;
        let mut options = SessionOptions { plain: None, ..options }.normalised();
        options.limits.fragment = options.limits.fragment.min(hub.defaults.limits.fragment);
        let options = options.normalised();
        let state = State::new(state);
        let (application, opening) = self.kind.opening(state, &hub.records);
        hub.open_durable(options.into(), application, opening)
    }

    /// Sets the version of the state's format; 0 by default. A state of another version is given to
    /// [`DurableKind::migrate`].
    #[must_use]
    pub fn state_version(self, version: u32) -> Self {
        self.kind.versions.lock().current = version;
        self
    }

    /// Sets the function that reads a state of another version, which it gets with the state's
    /// bytes: MessagePack with named fields. Without it such a state is read like one of the
    /// current version, so a field with `#[serde(default)]` needs no migration.
    ///
    /// A session whose state cannot be read ends as [`EndReason::Aborted`].
    #[must_use]
    pub fn migrate<E>(self, migrate: impl Fn(u32, &[u8]) -> Result<S, E> + Send + Sync + 'static) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let migrate: Arc<Migrate<S>> = Arc::new(move |version, bytes| migrate(version, bytes).map_err(Into::into));
        self.kind.versions.lock().migrate = Some(migrate);
        self
    }
}

impl<S> Clone for DurableKind<S> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            kind: Arc::clone(&self.kind),
        }
    }
}

impl<S> fmt::Debug for DurableKind<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableKind")
            .field("name", &self.kind.name)
            .field("durability", &self.kind.durability)
            .finish_non_exhaustive()
    }
}

impl<S: Serialize + DeserializeOwned + Send + 'static> Kind<S> {
    fn opening(&self, state: State<S>, records: &Option<Box<Records>>) -> (Application, Opening) {
        let records = records.as_deref().expect("a hub with a kind has a store");
        let opening = Opening {
            kind: self.name.clone(),
            durability: self.durability,
            state: Arc::new(state.clone()),
            state_version: self.versions.lock().current,
            store: Arc::clone(&records.store),
        };
        ((self.function)(state), opening)
    }
}

impl<S: Serialize + DeserializeOwned + Send + 'static> AnyKind for Kind<S> {
    fn read(
        &self,
        version: u32,
        bytes: &[u8],
        records: &Option<Box<Records>>,
    ) -> Result<(Application, Opening), Box<dyn Error + Send + Sync>> {
        let migrate = {
            let versions = self.versions.lock();
            versions.migrate.clone().filter(|_| versions.current != version)
        };
        let state = match migrate {
            Some(migrate) => migrate(version, bytes)?,
            None => rmp_serde::from_slice(bytes)?,
        };
        Ok(self.opening(State::new(state), records))
    }
}

impl HubInner {
    /// Opens a session again that is in the store, unless it is live already. `is_answered` tells
    /// whether all other servers have said that they do not have it.
    pub(super) async fn reopen(
        self: Arc<Self>,
        absent: &Absent,
        secret: &Secret,
        is_answered: bool,
    ) -> Result<Arc<Shared>, End> {
        let nowhere = || if is_answered { unknown() } else { silent() };
        let Some(records) = &self.records else {
            return Err(nowhere());
        };
        let lock = records.lock_of(absent.id);
        let _opening = lock.lock().await;
        if let Some(session) = self.find(&absent.id) {
            return if session.has_secret(secret) {
                self.check_stored_principal(absent, session.principal())
                    .map(|()| session)
            } else {
                Err(wrong_secret())
            };
        }
        if self.is_draining() {
            let retry_after = millis(crate::hub::RETRY_FIRST);
            return Err(End::connection(Code::Draining, "the server restarts").retry_after(retry_after));
        }
        for _ in 0..ATTEMPTS {
            let record = match guarded_store(async { records.store.load(absent.id).await }).await {
                Ok(Some(record)) => record,
                Ok(None) => return Err(nowhere()),
                Err(error) => {
                    records.note_failure(&absent.id, &error);
                    return Err(busy("the server cannot read its sessions at present"));
                }
            };
            match self.open_record(records, absent, secret, record, is_answered).await {
                Ok(session) => return Ok(session),
                Err(Refused::End(end)) => return Err(end),
                // Somebody has written it meanwhile. If it is another server, that is asked first.
                Err(Refused::Store(StoreError::Fenced)) if self.has_others() => break,
                Err(Refused::Store(StoreError::Fenced)) => {}
                Err(Refused::Store(error)) => {
                    records.note_failure(&absent.id, &error);
                    return Err(busy("the server cannot write its sessions at present"));
                }
            }
        }
        Err(busy("another server opens this session"))
    }

    /// Returns true if other servers may open the sessions of the store.
    fn has_others(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.cluster.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// Waits until all sessions are open that were being opened when the hub began to drain.
    pub(crate) async fn finish_opening(&self) {
        if let Some(records) = &self.records {
            records.all_open().await;
        }
    }

    /// Waits until the ends of all sessions are written.
    pub(crate) async fn ends_are_written(&self) {
        if let Some(records) = &self.records {
            records.unwritten.written().await;
        }
    }

    async fn open_record(
        self: &Arc<Self>,
        records: &Records,
        absent: &Absent,
        secret: &Secret,
        record: Record,
        is_answered: bool,
    ) -> Result<Arc<Shared>, Refused> {
        let Record { revision, head, rows } = record;
        let (fixed, changing) = match decode(&head) {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(session = %absent.id, %error, "a durable session cannot be read");
                return Err(unknown().into());
            }
        };
        if !fixed.has_secret(secret) {
            return Err(wrong_secret().into());
        }
        self.check_stored_principal(absent, fixed.principal())?;
        let closing = match &changing.standing {
            Standing::Live => None,
            Standing::Closing(reason) => Some(EndReason::from(reason)),
            Standing::Ended(reason) => return Err(ended(&reason.into()).into()),
            Standing::Lent if !is_answered => return Err(silent().into()),
            Standing::Lent => {
                // Its process has died, and with it what was not written.
                guarded_store(async { records.store.remove(absent.id, revision).await }).await?;
                return Err(unknown().into());
            }
        };
        let kind = records.kinds.lock().get(&fixed.kind).cloned();
        let Some(kind) = kind else {
            tracing::error!(
                session = %absent.id,
                kind = fixed.kind,
                "a durable session cannot be opened: its kind is unknown; register it with Hub::durable under this name before the first request"
            );
            return Err(unknown().into());
        };
        let read = kind.read(changing.state_version, &changing.state, &self.records);
        let (application, opening) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(
                    session = %absent.id,
                    kind = fixed.kind,
                    version = changing.state_version,
                    %error,
                    "ended a durable session: its state cannot be read; see DurableKind::migrate"
                );
                let reason = EndReason::Aborted("its state cannot be read by this version of the application".into());
                let mut commit = tombstone(absent.id, revision, &fixed, &reason);
                commit.clears_rows = true;
                guarded_store(async { records.store.commit(commit).await }).await?;
                return Err(ended(&reason).into());
            }
        };
        if opening.durability != fixed.durability {
            tracing::error!(
                session = %absent.id,
                kind = fixed.kind,
                was = ?fixed.durability,
                is = ?opening.durability,
                "a durable session cannot be opened: its kind has another durability now; give the new kind another name"
            );
            return Err(unknown().into());
        }
        if self.registry().sessions.len() >= self.config.max_sessions {
            let retry_after = millis(REFUSED_RETRY);
            return Err(End::connection(Code::Full, "the server has no room for the session")
                .retry_after(retry_after)
                .into());
        }
        let Changing {
            mut saved,
            turn,
            greeted,
            state,
            state_version,
            ..
        } = changing;
        saved.generation += 1;
        // The record belongs to this process from here on.
        let lent = fixed.durability == Durability::Restart;
        let claim = Changing {
            standing: match &closing {
                _ if lent => Standing::Lent,
                Some(reason) => Standing::Closing(reason.into()),
                None => Standing::Live,
            },
            state_version,
            state: state.clone(),
            saved: saved.clone(),
            turn,
            greeted,
        };
        let keep = CLAIM_KEEP;
        let mut commit = Commit::new(absent.id, revision, claim.encode(&fixed.encode()), keep);
        commit.clears_rows = lent;
        let revision = guarded_store(async { records.store.commit(commit).await }).await?;
        let reopened = Reopened {
            revision,
            saved,
            turn,
            greeted,
        };
        let session = self.enter_reopened(absent, secret, &fixed, (application, opening), (reopened, rows));
        if let Some(reason) = closing {
            session.close_reopened(reason);
        }
        Ok(session)
    }

    fn check_stored_principal(&self, absent: &Absent, owner: Option<&str>) -> Result<(), End> {
        if owner.is_none() || owner == absent.principal.as_deref() {
            return Ok(());
        }
        if absent.has_no_hook {
            self.note_missing_hook(&absent.id);
        }
        Err(self.not_its_user(&absent.id))
    }

    fn enter_reopened(
        self: &Arc<Self>,
        absent: &Absent,
        secret: &Secret,
        fixed: &Fixed,
        (application, opening): (Application, Opening),
        record: (Reopened, stillhere_proto::PerLane<Vec<stillhere_proto::machine::Row>>),
    ) -> Arc<Shared> {
        let session = Shared::reopen(
            Arc::clone(&self.common),
            (absent.id, secret.clone()),
            fixed.options().into(),
            (application, opening),
            record,
            (self.account(), self.number()),
        );
        self.announce(&session);
        self.registry().sessions.insert(Arc::clone(&session));
        if !self.hold(&session, &absent.peers) {
            tracing::debug!(session = %absent.id, "a session that was opened again exceeds the share of its user");
        }
        // Its page is about to connect, so it waits whatever the policy says.
        self.tell(&*self.policy(), &session);
        self.schedule.check_at(&session, crate::clock::now() + REOPENED_KEEP);
        session
    }
}

/// Why a record was not opened.
enum Refused {
    End(End),
    Store(StoreError),
}

impl From<End> for Refused {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn tombstone(id: SessionId, revision: u64, fixed: &Fixed, reason: &EndReason) -> Commit {
    let head = Changing {
        standing: Standing::Ended(reason.into()),
        state_version: 0,
        state: Bytes::new(),
        saved: Default::default(),
        turn: None,
        greeted: 0,
    };
    Commit::new(id, revision, head.encode(&fixed.encode()), ENDED_KEEP)
}

fn wrong_secret() -> End {
    End::connection(Code::WrongSecret, "the secret is wrong")
}

fn silent() -> End {
    busy("the server that has this session does not answer at present")
}

fn ended(reason: &EndReason) -> End {
    let end = End::of(reason);
    let retry_after = match Class::of(end.code) {
        Class::Later => millis(REFUSED_RETRY),
        Class::Never | Class::Now | Class::Ignore => 0,
    };
    end.retry_after(retry_after)
}

/// Removes the records that have expired, until the hub is dropped.
pub(super) async fn run_expiry(hub: Weak<HubInner>) {
    loop {
        tokio::time::sleep(EXPIRY_PAUSE).await;
        let Some(hub) = hub.upgrade() else { return };
        hub.remove_expired().await;
    }
}

impl HubInner {
    async fn remove_expired(&self) {
        let Some(records) = &self.records else { return };
        loop {
            let expired = match guarded_store(async { records.store.expired(EXPIRED_AT_ONCE).await }).await {
                Ok(expired) => expired,
                Err(error) => return tracing::debug!(%error, "the store did not say what has expired"),
            };
            let is_all = expired.len() < EXPIRED_AT_ONCE;
            // All at once, so that one flush of the store serves them.
            let removing = expired.into_iter().map(|(id, revision)| async move {
                if let Some(session) = self.find(&id) {
                    session.refresh_record();
                    return false;
                }
                self.remove_record(records, id, revision).await
            });
            let removed = join_all(removing).await;
            if is_all || !removed.contains(&true) {
                return;
            }
        }
    }

    /// Removes a record unless its session is live. Returns true if it has.
    async fn remove_record(&self, records: &Records, id: SessionId, revision: u64) -> bool {
        let lock = records.lock_of(id);
        let _opening = lock.lock().await;
        // What is handed over belongs to the next process.
        if self.find(&id).is_some() || self.is_draining() {
            return false;
        }
        let removed = guarded_store(async { records.store.remove(id, revision).await }).await;
        if let Err(error) = &removed {
            tracing::debug!(session = %id, %error, "an expired record was not removed");
        }
        removed.is_ok()
    }
}

/// How long a session that was opened again is kept for its page at least.
const REOPENED_KEEP: Duration = Duration::from_secs(30);

/// How often a record is read again that somebody else writes at the same time.
const ATTEMPTS: usize = 3;

/// How long a record is kept that was claimed, unless its session is written later.
const CLAIM_KEEP: Duration = Duration::from_secs(600);

/// Pause between two looks for records that have expired.
const EXPIRY_PAUSE: Duration = Duration::from_secs(10);

/// Most records that are removed at once.
const EXPIRED_AT_ONCE: usize = 1000;
