//! All sessions of one application.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::cleanup::{CleanupPolicy, DefaultCleanupPolicy};
use crate::code::{Code, EndReason};
use crate::id::SessionId;
use crate::limits::Limits;
use crate::machine::{Timing, end_of_session};
use crate::memory::{Account, Memory};
use crate::message::{Message, SharedBytes};
use crate::session::{Application, Farewell, Session, SessionHandle, Shared};
use crate::sweeper::{Sweeper, check};
use crate::wire::End;

/// All sessions of one application. Cheap to clone; the sessions live as long as any clone.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<HubInner>,
}

/// What one session may differ in from its hub's defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Sizes. See [`Limits`] for the defaults.
    pub limits: Limits,
    /// Waits. See [`Timing`] for the defaults.
    pub timing: Timing,
    /// Keep the session over a reload of its page, under this label. `None` (the default): a reload gets a fresh session.
    pub restore: Option<String>,
    /// Compress messages of at least this many bytes, when that saves something. `None` (the default): never.
    pub compress_from: Option<usize>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { limits: Limits::default(), timing: Timing::default(), restore: None, compress_from: None }
    }
}

/// Settings of a [`Hub`]; every one has a default.
#[must_use]
pub struct HubBuilder {
    config: Config,
    policy: Arc<dyn CleanupPolicy>,
    runtime: Option<Handle>,
    on_end: Option<EndHook>,
}

type EndHook = Box<dyn Fn(&SessionId, &EndReason) + Send + Sync>;

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mount: Arc<str>,
    public_url: Option<Arc<str>>,
    pub(crate) origins: Vec<String>,
    defaults: SessionOptions,
    max_sessions: usize,
    max_waiting: usize,
    max_hellos: usize,
    memory: u64,
    function_grace: Duration,
    tombstones: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mount: "/stillhere".into(),
            public_url: None,
            origins: Vec::new(),
            defaults: SessionOptions::default(),
            max_sessions: 100_000,
            max_waiting: 10_000,
            max_hellos: 10_000,
            memory: 512 * 1024 * 1024,
            function_grace: Duration::from_secs(10),
            tombstones: 100_000,
        }
    }
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl HubBuilder {
    /// The path under which the adapter's routes are mounted. Default `/stillhere`.
    pub fn mount(mut self, path: &str) -> Self {
        self.config.mount = format!("/{}", path.trim_matches('/')).into();
        self
    }

    /// Where browsers find the mount, if not at the mount itself: behind a proxy that adds a prefix (`/app/stillhere`), or on another origin
    /// (`https://live.example.com/stillhere`, which must then allow the page's origin). Default: the mount.
    pub fn public_url(mut self, url: &str) -> Self {
        self.config.public_url = Some(url.trim_end_matches('/').into());
        self
    }

    /// Also accept connections from pages of this origin (`https://example.com`, with its port unless it is the default). Default: same host only.
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.config.origins.push(origin.trim_end_matches('/').to_ascii_lowercase());
        self
    }

    /// Decides which sessions are freed. Default [`DefaultCleanupPolicy`].
    pub fn cleanup_policy(mut self, policy: impl CleanupPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// What sessions get that are opened without options of their own.
    pub fn session_options(mut self, options: SessionOptions) -> Self {
        self.config.defaults = options;
        self
    }

    /// After how much quiet the server pings; twice as long is silence. Default 15 s.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.config.defaults.timing.heartbeat = interval;
        self
    }

    /// The most wire bytes of a message, in either direction. Default 1 MiB.
    pub fn message_limit(mut self, bytes: u64) -> Self {
        self.config.defaults.limits.message = bytes;
        self
    }

    /// How much may wait unacknowledged in each lane of a session's outbox. Default 4 MiB.
    pub fn outbox_limit(mut self, bytes: u64) -> Self {
        self.config.defaults.limits.outbox = bytes;
        self
    }

    /// Keep sessions over a reload of their page, under this label. Default: a reload gets a fresh session.
    pub fn restore_on_reload(mut self, label: &str) -> Self {
        self.config.defaults.restore = Some(label.to_owned());
        self
    }

    /// Compress messages of at least this many bytes. Default: never; below about 1 KiB it costs more than it saves.
    pub fn compress_from(mut self, bytes: usize) -> Self {
        self.config.defaults.compress_from = Some(bytes);
        self
    }

    /// How many sessions there may be. Default 100,000.
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.config.max_sessions = count;
        self
    }

    /// How many sessions may wait for their first browser: crawlers open pages too. Default 10,000.
    pub fn max_never_connected(mut self, count: usize) -> Self {
        self.config.max_waiting = count;
        self
    }

    /// How many connections may wait for their hello. Default 10,000.
    pub fn max_pending_hellos(mut self, count: usize) -> Self {
        self.config.max_hellos = count;
        self
    }

    /// How many bytes all sessions may buffer together; beyond it the longest soft-closed end, then those that hold most. Default 512 MiB.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.config.memory = bytes;
        self
    }

    /// How long an application function may go on after its session's end. Default 10 s; then its task is aborted.
    pub fn function_grace(mut self, grace: Duration) -> Self {
        self.config.function_grace = grace;
        self
    }

    /// Called once for each session's end, with its reason. Must not block.
    pub fn on_end(mut self, hook: impl Fn(&SessionId, &EndReason) + Send + Sync + 'static) -> Self {
        self.on_end = Some(Box::new(hook));
        self
    }

    /// The runtime on which sessions live. Default: the one [`HubBuilder::build`] is called on.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The hub. Its sessions live on the runtime this is called on, whatever thread opens them later.
    ///
    /// # Panics
    /// When called outside a tokio runtime without [`HubBuilder::runtime`].
    pub fn build(self) -> Hub {
        let runtime = self.runtime.unwrap_or_else(Handle::current);
        let sweeper = Sweeper::new();
        let woken = sweeper.woken();
        let memory = Arc::new(Memory::new(self.config.memory, Arc::clone(&woken)));
        let inner = Arc::new(HubInner {
            base: self.config.public_url.clone().unwrap_or_else(|| Arc::clone(&self.config.mount)),
            config: self.config,
            policy: RwLock::new(self.policy),
            runtime: runtime.clone(),
            on_end: self.on_end,
            sessions: Mutex::default(),
            waiting: AtomicUsize::new(0),
            hellos: Arc::default(),
            connections: TaskTracker::new(),
            memory,
            sweeper,
            draining: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            evaluations: AtomicU64::new(0),
        });
        runtime.spawn(Sweeper::run(Arc::downgrade(&inner), woken));
        Hub { inner }
    }
}

impl Hub {
    /// A hub with all defaults. Like [`HubBuilder::build`] it belongs to the runtime it is called on.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A hub with settings of its own.
    pub fn builder() -> HubBuilder {
        HubBuilder { config: Config::default(), policy: Arc::new(DefaultCleanupPolicy::default()), runtime: None, on_end: None }
    }

    /// A session for a page that is about to be sent. `application` is its function: it starts when a browser first connects, and when it returns
    /// the session ends once everything sent has been delivered.
    ///
    /// Never fails: beyond the hub's limits, or while it shuts down, the handle is closed already and its script tells the page why and when to try again.
    pub fn open<F, R>(&self, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.open_with(self.inner.config.defaults.clone(), application)
    }

    /// [`Hub::open`] with options of its own; begin with [`Hub::session_options`].
    pub fn open_with<F, R>(&self, options: SessionOptions, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let application: Application = Box::new(|session| Box::pin(application(session)));
        self.inner.open(options, application)
    }

    /// What sessions get that are opened without options of their own.
    pub fn session_options(&self) -> SessionOptions {
        self.inner.config.defaults.clone()
    }

    /// The session with this id, unless it is over.
    pub fn session(&self, id: &SessionId) -> Option<SessionHandle> {
        self.inner.find(id).map(SessionHandle::new)
    }

    /// All sessions that are not over.
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.inner.all().into_iter().map(SessionHandle::new).collect()
    }

    /// A message for many sessions: its bytes are counted once against the hub's memory, however many outboxes hold it.
    pub fn share(&self, message: impl Into<Message>) -> Message {
        let message = message.into();
        let shared = SharedBytes::new(self.inner.memory.counter(), message.len() as u64);
        Message { shared: Some(shared), ..message }
    }

    /// Changes the cleanup policy; every session is judged by the new one at once.
    pub fn set_cleanup_policy(&self, policy: impl CleanupPolicy) {
        *self.inner.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        let now = crate::clock::now();
        for session in self.inner.all() {
            check(&self.inner, &session, now);
        }
    }

    /// The path under which the adapter's routes are mounted.
    pub fn mount(&self) -> &str {
        &self.inner.config.mount
    }

    /// Numbers for dashboards and tests.
    pub fn stats(&self) -> Stats {
        let book = self.inner.book();
        Stats {
            sessions: book.sessions.len(),
            waiting: self.inner.waiting.load(Ordering::Relaxed),
            connections: self.inner.connections.len(),
            buffered: self.inner.memory.held(),
            opened: self.inner.opened.load(Ordering::Relaxed),
            policy_evaluations: self.inner.evaluations.load(Ordering::Relaxed),
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stats", &self.stats()).finish()
    }
}

/// Numbers of a hub at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions that are not over.
    pub sessions: usize,
    /// Those of them whose first browser has not come.
    pub waiting: usize,
    /// Connections, including those that have not said hello.
    pub connections: usize,
    /// Bytes that all sessions buffer together.
    pub buffered: u64,
    /// Sessions ever opened.
    pub opened: u64,
    /// How often a cleanup policy was asked.
    pub policy_evaluations: u64,
}

pub(crate) struct HubInner {
    pub(crate) config: Config,
    base: Arc<str>,
    policy: RwLock<Arc<dyn CleanupPolicy>>,
    runtime: Handle,
    on_end: Option<EndHook>,
    sessions: Mutex<Book>,
    waiting: AtomicUsize,
    hellos: Arc<AtomicUsize>,
    pub(crate) connections: TaskTracker,
    memory: Arc<Memory>,
    sweeper: Sweeper,
    draining: AtomicBool,
    opened: AtomicU64,
    evaluations: AtomicU64,
}

/// Who lives, and who died lately of what.
#[derive(Default)]
struct Book {
    sessions: HashMap<SessionId, Arc<Shared>>,
    tombstones: HashMap<SessionId, EndReason>,
    oldest: VecDeque<SessionId>,
}

impl HubInner {
    fn open(self: &Arc<Self>, options: SessionOptions, application: Application) -> SessionHandle {
        let now = crate::clock::now();
        let account = Account::new(Arc::clone(&self.memory));
        let session = Shared::new(self, Arc::clone(&self.base), options, application, account, now);
        self.opened.fetch_add(1, Ordering::Relaxed);
        match self.enter(&session) {
            Ok(()) => self.schedule_check(&session, now),
            Err(reason) => session.update(|machine, now| machine.abort(reason, now)),
        }
        SessionHandle::new(session)
    }

    fn enter(&self, session: &Arc<Shared>) -> Result<(), EndReason> {
        let mut book = self.book();
        if self.is_draining() {
            return Err(EndReason::Draining);
        }
        let waiting = self.waiting.load(Ordering::Relaxed);
        if book.sessions.len() >= self.config.max_sessions || waiting >= self.config.max_waiting {
            return Err(EndReason::Full);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        book.sessions.insert(session.id, Arc::clone(session));
        Ok(())
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn sweeper(&self) -> &Sweeper {
        &self.sweeper
    }

    pub(crate) fn policy(&self) -> Arc<dyn CleanupPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count_evaluation(&self) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// No new sessions from now on.
    pub(crate) fn begin_drain(&self) {
        let _book = self.book();
        self.draining.store(true, Ordering::Release);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, id: &SessionId) -> Option<Arc<Shared>> {
        self.book().sessions.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        self.book().sessions.values().cloned().collect()
    }

    /// What to tell somebody who asks for a session that is not here.
    pub(crate) fn epitaph(&self, id: &SessionId) -> End {
        if let Some(reason) = self.book().tombstones.get(id) {
            return end_of_session(reason, 0);
        }
        let text = "no such session here: it ended long ago, or the server has restarted".to_owned();
        End { code: Code::Unknown as u64, reason: 0, retry_after: 0, text }
    }

    /// A place among the connections that wait for their hello.
    pub(crate) fn admit_hello(&self) -> Option<PendingHello> {
        let pending = PendingHello(Arc::clone(&self.hellos));
        let before = pending.0.fetch_add(1, Ordering::Relaxed);
        (before < self.config.max_hellos).then_some(pending)
    }

    // ---- what sessions report

    pub(crate) fn session_started(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn session_connected(self: &Arc<Self>, session: &Arc<Shared>, now: Instant) {
        self.schedule_check(session, now);
    }

    pub(crate) fn session_soft_closed(self: &Arc<Self>, session: &Arc<Shared>, now: Instant) {
        let policy = self.policy();
        let snapshot = session.snapshot();
        let allowed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| policy.allow_soft_close(&snapshot)));
        match allowed {
            Ok(false) if snapshot.state.is_soft_closed() => {
                session.clean_up(snapshot.version, Some(EndReason::Disconnected));
            }
            Ok(_) => self.schedule_check(session, now),
            Err(_) => {
                tracing::error!(session = %session.id, "the cleanup policy panicked; the session is kept for now");
                self.schedule_check(session, now);
            }
        }
    }

    pub(crate) fn session_ended(&self, session: &Arc<Shared>, farewell: Farewell, now: Instant) {
        let Farewell { reason, never_started, task } = farewell;
        tracing::debug!(session = %session.id, %reason, "session ended");
        if self.bury(session.id, &reason) && never_started {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(task) = task {
            self.give_grace(task, now);
        }
        if let Some(hook) = &self.on_end {
            hook(&session.id, &reason);
        }
    }

    /// The function of an ended session may go on for a while.
    pub(crate) fn give_grace(&self, task: AbortHandle, now: Instant) {
        if !task.is_finished() {
            self.sweeper.schedule_abort(task, now + self.config.function_grace);
        }
    }

    /// Whether the session was in the book: one that never got in is not.
    fn bury(&self, id: SessionId, reason: &EndReason) -> bool {
        let mut book = self.book();
        if book.sessions.remove(&id).is_none() {
            return false;
        }
        if book.oldest.len() >= self.config.tombstones
            && let Some(oldest) = book.oldest.pop_front()
        {
            book.tombstones.remove(&oldest);
        }
        book.oldest.push_back(id);
        book.tombstones.insert(id, reason.clone());
        true
    }

    /// Asks the policy when it wants to be asked about this session.
    fn schedule_check(self: &Arc<Self>, session: &Arc<Shared>, now: Instant) {
        let policy = self.policy();
        let snapshot = session.snapshot();
        let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| policy.next_check(&snapshot, now)));
        match next {
            Ok(Some(at)) => self.sweeper.schedule(session, at.max(now)),
            Ok(None) => {}
            Err(_) => self.sweeper.schedule(session, now),
        }
    }

    /// Ends sessions until what is buffered fits again: the longest soft-closed first, then those that hold most.
    pub(crate) fn relieve_memory(&self) {
        if !self.memory.is_exceeded() {
            return;
        }
        let mut victims: Vec<_> = self.all().into_iter().map(|session| (session.snapshot(), session)).collect();
        victims.sort_by_key(|(snapshot, _)| {
            let soft_closed = snapshot.state.is_soft_closed() && snapshot.buffered > 0;
            let since = soft_closed.then_some(snapshot.since);
            (!soft_closed, since, std::cmp::Reverse(snapshot.buffered))
        });
        for (snapshot, session) in victims {
            if !self.memory.is_exceeded() {
                return;
            }
            if snapshot.buffered > 0 && session.clean_up(snapshot.version, Some(EndReason::MemoryPressure)) {
                tracing::warn!(session = %session.id, buffered = snapshot.buffered, "ended: the hub's memory limit is reached");
                session.update(|machine, _| machine.discard_received());
            }
        }
    }
}

impl fmt::Debug for HubInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Drop for HubInner {
    fn drop(&mut self) {
        let sessions = std::mem::take(&mut self.book().sessions);
        for session in sessions.into_values() {
            session.update(|machine, now| machine.abort(EndReason::Aborted("the hub is gone".into()), now));
        }
    }
}

/// Holds a place among the connections that wait for their hello.
#[derive(Debug)]
pub(crate) struct PendingHello(Arc<AtomicUsize>);

impl Drop for PendingHello {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
