//! All sessions of one application.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::cleanup::{CleanupPolicy, DefaultCleanupPolicy, SessionSnapshot, SessionState};
use crate::code::{Class, Code, EndReason};
use crate::exchange::Exchanges;
use crate::guard::guarded;
use crate::id::SessionId;
use crate::kind::{ConnectionSetup, Kinds};
use crate::machine::{end_of_session, millis};
use crate::memory::{Account, Memory};
use crate::message::{Message, SharedBytes};
use crate::options::{PlainOptions, SessionOptions};
use crate::request::UpgradeRequest;
use crate::session::{Application, Farewell, Host, REFUSED_RETRY, Resized, Session, SessionHandle, Shared};
use crate::sweeper::{Sweeper, check, observe};
use crate::wire::End;

/// All sessions of one application. Cheap to clone; the sessions live as long as any clone.
#[derive(Clone)]
pub struct Hub {
    pub(crate) inner: Arc<HubInner>,
}

/// Settings of a [`Hub`]; every one has a default.
#[must_use]
pub struct HubBuilder {
    config: Config,
    policy: Arc<dyn CleanupPolicy>,
    runtime: Option<Handle>,
    on_end: Option<EndHook>,
    principal: Option<PrincipalHook>,
}

type EndHook = Box<dyn Fn(&SessionId, &EndReason) + Send + Sync>;

type PrincipalHook = Box<dyn Fn(&UpgradeRequest<'_>) -> Option<String> + Send + Sync>;

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
        f.debug_struct("HubBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    /// The path under which the adapter's routes are mounted; `/` is the root. Default `/stillhere`.
    pub fn mount(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.config.mount = if path.is_empty() {
            "".into()
        } else {
            format!("/{path}").into()
        };
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
        self.config
            .origins
            .push(origin.trim_end_matches('/').to_ascii_lowercase());
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

    /// Tells who makes a request, usually by its login cookie; `None` is nobody. Must not block.
    ///
    /// Asked for every connection to a session of [`Hub::open_for`], at each reconnect anew: somebody else's is refused as `Forbidden`, and the
    /// session goes on without it. Without this hook such sessions can only be reached by routes that say themselves who it is.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use stillhere::Hub;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let logins = HashMap::from([("6f1c".to_owned(), "ada".to_owned())]);
    /// let hub = Hub::builder()
    ///     .principal(move |request| logins.get(request.cookie("login")?).cloned())
    ///     .build();
    /// # }
    /// ```
    pub fn principal(mut self, hook: impl Fn(&UpgradeRequest<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        self.principal = Some(Box::new(hook));
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
        let inner = Arc::new_cyclic(|itself| HubInner {
            itself: Weak::clone(itself),
            base: self
                .config
                .public_url
                .clone()
                .unwrap_or_else(|| Arc::clone(&self.config.mount)),
            defaults: Arc::new(self.config.defaults.clone().normalised()),
            config: self.config,
            policy: RwLock::new(self.policy),
            runtime: runtime.clone(),
            on_end: self.on_end,
            principal: self.principal,
            kinds: Kinds::default(),
            sessions: Mutex::default(),
            waiting: AtomicUsize::new(0),
            hellos: Arc::default(),
            connections: TaskTracker::new(),
            exchanges: Arc::default(),
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
        HubBuilder {
            config: Config::default(),
            policy: Arc::new(DefaultCleanupPolicy::default()),
            runtime: None,
            on_end: None,
            principal: None,
        }
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
        self.inner.open(Arc::clone(&self.inner.defaults), boxed(application))
    }

    /// [`Hub::open`] for a user: only connections of this principal are let in, as [`HubBuilder::principal`] tells.
    pub fn open_for<F, R>(&self, principal: &str, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = SessionOptions {
            principal: Some(principal.into()),
            ..self.session_options()
        };
        self.open_with(options, application)
    }

    /// [`Hub::open`] with options of its own; begin with [`Hub::session_options`].
    pub fn open_with<F, R>(&self, options: SessionOptions, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.inner.open(Arc::new(options.normalised()), boxed(application))
    }

    /// [`Hub::open`] for a client with a protocol of its own, which finds the session at [`SessionHandle::url`] and needs nothing else.
    /// What that means is told at [`PlainOptions`].
    ///
    /// ```
    /// # use stillhere::{Hub, PlainOptions};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let hub = Hub::new();
    /// let robot = hub.open_plain(PlainOptions::default(), |mut session| async move {
    ///     while let Some(position) = session.recv().await {
    ///         if session.send(position.into_bytes()).await.is_err() {
    ///             return;
    ///         }
    ///     }
    /// });
    /// assert_eq!(robot.url(), format!("/stillhere/{}", robot.id()));
    /// # }
    /// ```
    pub fn open_plain<F, R>(&self, plain: PlainOptions, application: F) -> SessionHandle
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let options = SessionOptions {
            plain: Some(plain),
            ..self.session_options()
        };
        self.open_with(options, application)
    }

    /// What sessions get that are opened without options of their own.
    pub fn session_options(&self) -> SessionOptions {
        SessionOptions::clone(&self.inner.defaults)
    }

    /// The session with this id, unless it is over.
    pub fn session(&self, id: &SessionId) -> Option<SessionHandle> {
        self.inner.find(id).map(SessionHandle::new)
    }

    /// All sessions that are not over.
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.inner.all().into_iter().map(SessionHandle::new).collect()
    }

    /// The sessions that were opened for this principal and are not over. To log a user out:
    ///
    /// ```
    /// # async fn log_out(hub: stillhere::Hub) {
    /// for session in hub.sessions_of("ada") {
    ///     session.abort("logged out");
    /// }
    /// # }
    /// ```
    pub fn sessions_of(&self, principal: &str) -> Vec<SessionHandle> {
        let book = self.inner.book();
        let theirs = book
            .sessions
            .values()
            .filter(|session| session.principal() == Some(principal));
        theirs.cloned().map(SessionHandle::new).collect()
    }

    /// A message for many sessions: its bytes are counted once against the hub's memory, however many outboxes hold it, and compressed once.
    pub fn share(&self, message: impl Into<Message>) -> Message {
        let (message, memory) = (message.into(), &self.inner.memory);
        let size = message.len() as u64;
        let shared = SharedBytes::new(memory.counter(), size);
        let held = memory.held();
        memory.notice(held.saturating_sub(size), held);
        Message {
            shared: Some(shared),
            ..message
        }
    }

    /// Changes the cleanup policy; every session is judged by the new one at once.
    ///
    /// A policy that judges sessions by each other first gets to know them all.
    pub fn set_cleanup_policy(&self, policy: impl CleanupPolicy) {
        let policy: Arc<dyn CleanupPolicy> = Arc::new(policy);
        // Before it judges the first, so that it does not take the oldest it knows for the oldest there is.
        let known = self.inner.all();
        for session in &known {
            observe(&*policy, session);
        }
        let replaced = std::mem::replace(
            &mut *self.inner.policy.write().unwrap_or_else(PoisonError::into_inner),
            policy,
        );
        // Not under the lock: dropping it may run code of the application's.
        drop(replaced);
        // Those that ended meanwhile, which only its predecessor was told.
        let policy = self.inner.policy();
        for session in known.iter().filter(|session| session.end_reason().is_some()) {
            observe(&*policy, session);
        }
        let now = crate::clock::now();
        for session in self.inner.all() {
            check(&self.inner, &session, now);
        }
    }

    /// Registers a kind of connection: `condition` says how a session's page is to connect, or `None` if it has no opinion.
    ///
    /// Asked, the last registered first, whenever a ticket or script tag is made; the first answer counts, and without any a page connects by
    /// WebSocket. It must neither block nor make a ticket or script tag of the session itself. One that panics is reported and has no opinion.
    /// A clone of the hub in it would keep the hub for ever. What a kind consists of is told at [`ConnectionSetup`].
    ///
    /// ```
    /// # use stillhere::{ConnectionSetup, Hub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let hub = Hub::new();
    /// hub.register_connection(|session| {
    ///     let is_staff = session.principal() == Some("ada");
    ///     is_staff.then(|| ConnectionSetup::web_socket().url("https://staff.example/stillhere"))
    /// });
    /// # }
    /// ```
    pub fn register_connection<F>(&self, condition: F)
    where
        F: Fn(&SessionHandle) -> Option<ConnectionSetup> + Send + Sync + 'static,
    {
        self.inner.kinds.register(Arc::new(condition));
    }

    /// The path under which the adapter's routes are mounted; empty for the root.
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
    /// For the sessions, which do not keep their hub alive.
    itself: Weak<Self>,
    pub(crate) config: Config,
    /// `config.defaults` brought back to sense, shared by all sessions without options of their own.
    defaults: Arc<SessionOptions>,
    base: Arc<str>,
    policy: RwLock<Arc<dyn CleanupPolicy>>,
    runtime: Handle,
    on_end: Option<EndHook>,
    principal: Option<PrincipalHook>,
    kinds: Kinds,
    sessions: Mutex<Book>,
    waiting: AtomicUsize,
    hellos: Arc<AtomicUsize>,
    pub(crate) connections: TaskTracker,
    pub(crate) exchanges: Arc<Exchanges>,
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
    tombstones: Tombstones,
}

/// Why sessions ended that ended lately: two generations, of which the older goes when the younger is full.
#[derive(Default)]
struct Tombstones {
    younger: HashMap<SessionId, EndReason>,
    older: HashMap<SessionId, EndReason>,
}

impl Tombstones {
    fn get(&self, id: &SessionId) -> Option<&EndReason> {
        self.younger.get(id).or_else(|| self.older.get(id))
    }

    fn insert(&mut self, id: SessionId, reason: EndReason, most: usize) {
        if self.younger.len() >= most / 2 {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(id, reason);
    }
}

impl HubInner {
    fn open(&self, options: Arc<SessionOptions>, application: Application) -> SessionHandle {
        let now = crate::clock::now();
        let account = Account::new(Arc::clone(&self.memory));
        let host: Weak<dyn Host> = self.itself.clone();
        let session = Shared::new(host, Arc::clone(&self.base), options, application, account, now);
        self.opened.fetch_add(1, Ordering::Relaxed);
        match self.enter(&session) {
            Ok(()) => self.session_changed(&session, now),
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

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(crate) fn sweeper(&self) -> &Sweeper {
        &self.sweeper
    }

    pub(crate) fn policy(&self) -> Arc<dyn CleanupPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the policy how the session is, and calls up those that the policy wants to judge for it.
    pub(crate) fn tell(&self, policy: &dyn CleanupPolicy, session: &Shared) -> SessionSnapshot {
        let (snapshot, called_up) = observe(policy, session);
        for id in called_up {
            if let Some(session) = self.find(&id) {
                self.sweeper.call_up(&session);
            }
        }
        snapshot
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
            let later = Class::of(reason.code() as u64) == Class::Later;
            return end_of_session(reason, if later { millis(REFUSED_RETRY) } else { 0 });
        }
        let text = "no such session here: it ended long ago, or the server has restarted".to_owned();
        End {
            code: Code::Unknown as u64,
            reason: 0,
            retry_after: 0,
            text,
        }
    }

    /// Whether `owner` makes this request.
    pub(crate) fn is_principal(&self, session: &SessionId, owner: &str, request: &UpgradeRequest<'_>) -> bool {
        if let Some(known) = request.known_principal() {
            return known == owner;
        }
        let Some(hook) = &self.principal else {
            tracing::error!(
                "a session of a user is asked for, and the hub has no way to know users: set HubBuilder::principal"
            );
            return false;
        };
        let principal = guarded(session, "the principal hook", || hook(request)).flatten();
        principal.as_deref() == Some(owner)
    }

    /// A place among the connections that wait for their hello.
    pub(crate) fn admit_hello(&self) -> Option<PendingHello> {
        let pending = PendingHello(Arc::clone(&self.hellos));
        let before = pending.0.fetch_add(1, Ordering::Relaxed);
        (before < self.config.max_hellos).then_some(pending)
    }

    /// Whether the session was in the book: one that never got in is not.
    fn bury(&self, id: SessionId, reason: &EndReason) -> bool {
        let mut book = self.book();
        if book.sessions.remove(&id).is_none() {
            return false;
        }
        if book.sessions.len() < book.sessions.capacity() / SPARSE && book.sessions.capacity() > KEPT_CAPACITY {
            let len = book.sessions.len();
            book.sessions.shrink_to(2 * len);
        }
        book.tombstones.insert(id, reason.clone(), self.config.tombstones);
        true
    }

    /// Ends sessions until what is buffered fits again: the longest soft-closed first, then those that hold most. Whether it fits.
    pub(crate) fn relieve_memory(&self) -> bool {
        if !self.memory.is_exceeded() {
            return true;
        }
        let mut victims: Vec<_> = self
            .all()
            .into_iter()
            .map(|session| (session.snapshot(), session))
            .collect();
        victims.sort_by_key(|(snapshot, _)| {
            let soft_closed = snapshot.state.is_soft_closed() && snapshot.buffered > 0;
            let since = soft_closed.then_some(snapshot.since);
            (!soft_closed, since, std::cmp::Reverse(snapshot.buffered))
        });
        for (snapshot, session) in victims {
            if !self.memory.is_exceeded() {
                return true;
            }
            if snapshot.buffered > 0 && session.clean_up(snapshot.version, Some(EndReason::MemoryPressure)) {
                tracing::warn!(session = %session.id, buffered = snapshot.buffered, "ended: the hub's memory limit is reached");
                session.update(|machine, _| machine.discard_received());
            }
        }
        !self.memory.is_exceeded()
    }
}

impl Host for HubInner {
    fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn keep(&self, session: &SessionSnapshot) -> Duration {
        let policy = self.policy();
        let keep = || {
            if policy.allow_soft_close(session) {
                policy.keep(session)
            } else {
                Duration::ZERO
            }
        };
        guarded(&session.id, "the cleanup policy", keep).unwrap_or(DefaultCleanupPolicy::default().soft_closed)
    }

    fn connection_setup(&self, session: &SessionHandle) -> ConnectionSetup {
        self.kinds.setup(session)
    }

    fn session_started(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Asks the policy whether the session may wait, and when it wants to be asked again.
    fn session_changed(&self, session: &Arc<Shared>, now: Instant) {
        let policy = self.policy();
        let snapshot = self.tell(&*policy, session);
        if snapshot.state == SessionState::Closed {
            return;
        }
        let allowed = !snapshot.state.is_soft_closed()
            || guarded(&session.id, "the cleanup policy", || policy.allow_soft_close(&snapshot)).unwrap_or(true);
        if !allowed {
            // Unless it has changed since: then this is called again.
            session.clean_up(snapshot.version, Some(EndReason::Disconnected));
            return;
        }
        match guarded(&session.id, "the cleanup policy", || policy.next_check(&snapshot, now)) {
            Some(Some(at)) => self.sweeper.schedule(session, at.max(now)),
            Some(None) => {}
            None => self.sweeper.schedule(session, now),
        }
    }

    fn session_resized(&self, session: &Shared, by: Resized) {
        let weighs = || guarded(&session.id, "the cleanup policy", || self.policy().weighs()).unwrap_or(false);
        if by == Resized::Weight || weighs() {
            self.sweeper.call_up(session);
        }
    }

    fn session_ended(&self, session: &Shared, farewell: Farewell, now: Instant) {
        let Farewell {
            reason,
            never_started,
            task,
            on_restore,
        } = farewell;
        tracing::debug!(session = %session.id, %reason, "session ended");
        if self.bury(session.id, &reason) && never_started.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.tell(&*self.policy(), session);
        if let Some(task) = task {
            self.give_grace(task, now);
        }
        guarded(&session.id, "what the application function captured", || {
            drop((never_started, on_restore));
        });
        if let Some(hook) = &self.on_end {
            guarded(&session.id, "the end hook", || hook(&session.id, &reason));
        }
    }

    fn give_grace(&self, task: AbortHandle, now: Instant) {
        if !task.is_finished()
            && let Some(at) = now.checked_add(self.config.function_grace)
        {
            self.sweeper.schedule_abort(task, at);
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
        for session in self.all() {
            session.abandon(self, EndReason::Aborted("the hub is gone".into()));
            // Over already, but nobody was left to whom that could be reported.
            if self.find(&session.id).is_some()
                && let Some(reason) = session.end_reason()
            {
                self.session_ended(
                    &session,
                    Farewell {
                        reason,
                        never_started: None,
                        task: None,
                        on_restore: None,
                    },
                    crate::clock::now(),
                );
            }
        }
        let tasks = self.sweeper.close();
        if !tasks.is_empty() {
            let grace = self.config.function_grace;
            self.runtime.spawn(async move {
                tokio::time::sleep(grace).await;
                tasks.iter().for_each(AbortHandle::abort);
            });
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

fn boxed<F, R>(application: F) -> Application
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    Box::new(|session| Box::pin(application(session)))
}

/// A table is given back when it holds less than one in so many.
pub(crate) const SPARSE: usize = 4;

/// What a table may keep however empty it is.
pub(crate) const KEPT_CAPACITY: usize = 1024;
