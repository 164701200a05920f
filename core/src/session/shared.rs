//! A session as the hub, its connections, its function and its handles share it, and what follows from a change of it.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::cleanup::SessionSnapshot;
use crate::client;
use crate::kind::{ConnectionSetup, Kind};
use crate::memory::Account;
use crate::options::SessionOptions;
use crate::script_tag::{client_tag, plain_tag};
use crate::session::state::{Effect, Function, Inner, Teardown, state_of};
use crate::session::{Session, SessionHandle};
use crate::ticket::Ticket;
use stillhere_proto::Limits;
use stillhere_proto::machine::{ConnectionKey, Phase, PlainDocument, SessionMachine};
use stillhere_proto::wire::Frame;
use stillhere_proto::{Code, EndReason};
use stillhere_proto::{Secret, SessionId};

pub(crate) type Application = Box<dyn FnOnce(Session) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What a session needs of the hub it lives in. The hub implements it, so that this layer knows nothing of the one above.
pub(crate) trait Host: Send + Sync {
    /// Where application functions run.
    fn runtime(&self) -> &Handle;

    /// How long the session is kept without a connection.
    fn keep(&self, session: &SessionSnapshot) -> Duration;

    /// How the session's page is to connect. Calls the application: not under a lock.
    fn connection_setup(&self, session: &SessionHandle) -> ConnectionSetup;

    /// The application function of a session that waited begins.
    fn session_started(&self, session: &Shared);

    /// The session's phase, link or document has changed.
    fn session_changed(&self, session: &Arc<Shared>, now: Instant);

    /// What the session weighs has changed, or what it buffers while no connection carries it.
    fn session_resized(&self, session: &Shared, by: Resized);

    /// The session is over. Called once for each.
    fn session_ended(&self, session: &Shared, teardown: Teardown, now: Instant);

    /// The function of an ended session may go on for a while.
    fn give_grace(&self, task: AbortHandle, now: Instant);
}

/// A session, shared by the hub, its connections, its function and its handles.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    /// Grows from session to session of the hub.
    pub(crate) number: u64,
    secret: Secret,
    pub(crate) options: Arc<SessionOptions>,
    opened: Instant,
    pub(crate) host: Weak<dyn Host>,
    pub(crate) base: Arc<str>,
    pub(crate) reader: AtomicWaker,
    /// The document that the server plays for a plain client. Its lock is never held over another.
    pub(crate) plain: Option<Arc<Mutex<PlainDocument>>>,
    /// Told when there may be room in the outbox, and when the session is restored or over.
    pub(crate) changed: Notify,
    /// How many wait for room.
    pub(crate) senders: AtomicUsize,
    inner: Mutex<Inner>,
}

/// What to write on a connection.
pub(crate) enum Transmit {
    Frame(Frame),
    /// Nothing before something happens, or this time comes.
    Nothing {
        until: Option<Instant>,
    },
    /// The connection has no part in the session any more.
    Over,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        host: Weak<dyn Host>,
        base: Arc<str>,
        options: Arc<SessionOptions>,
        application: Application,
        account: Account,
        (number, now): (u64, Instant),
    ) -> Arc<Self> {
        let id = SessionId::random();
        let seed = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has 16 bytes"));
        let secret = Secret::random();
        let limits = options.session_limits();
        let machine = SessionMachine::new(limits, options.timing, seed, now);
        let machine = if options.compress_from.is_some() {
            machine.taking_compressed()
        } else {
            machine
        };
        let document = || Arc::new(Mutex::new(PlainDocument::new(secret.clone(), *machine.limits())));
        let plain = options.plain.map(|_| document());
        Arc::new(Self {
            id,
            number,
            secret,
            plain,
            options,
            opened: now,
            host,
            base,
            reader: AtomicWaker::new(),
            changed: Notify::new(),
            senders: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                version: machine.version(),
                machine,
                function: Function::Unstarted(application),
                reader_is_gone: false,
                connections: Vec::new(),
                next_connection: 0,
                events: None,
                on_restore: None,
                gate: None,
                undelivered: 0,
                account,
                beside: 0,
                weight: 0,
                weighings: 0,
                scheduled: None,
                called_up: false,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn has_secret(&self, secret: &Secret) -> bool {
        self.secret == *secret
    }

    pub(crate) fn hello_deadline(&self) -> Duration {
        self.options.timing.hello
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    pub(crate) fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Why the session is over, if it is.
    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        match self.lock().machine.phase() {
            Phase::Closed(reason) => Some(reason.clone()),
            Phase::Unconnected | Phase::Open | Phase::SoftClosed(_) | Phase::Ending(_) => None,
        }
    }

    /// Lets `change` change the machine, then does what follows from it.
    pub(crate) fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut SessionMachine, Instant) -> T) -> T {
        self.change(None, |inner, now| change(&mut inner.machine, now))
    }

    /// [`Shared::update`] by a connection that sees to itself afterwards and need not be woken.
    pub(crate) fn update_for<T>(
        self: &Arc<Self>,
        awake: Option<ConnectionKey>,
        change: impl FnOnce(&mut SessionMachine, Instant) -> T,
    ) -> T {
        self.change(awake, |inner, now| change(&mut inner.machine, now))
    }

    pub(crate) fn change<T>(
        self: &Arc<Self>,
        awake: Option<ConnectionKey>,
        change: impl FnOnce(&mut Inner, Instant) -> T,
    ) -> T {
        let mut inner = self.lock();
        let now = crate::clock::now();
        let result = change(&mut inner, now);
        let effects = self.settle(inner, awake);
        if !effects.is_empty()
            && let Some(host) = self.host.upgrade()
        {
            self.apply(effects, &*host, now);
        }
        result
    }

    /// Ends the session as the last act of its host.
    pub(crate) fn abort_on(self: &Arc<Self>, host: &dyn Host, reason: EndReason) {
        let mut inner = self.lock();
        let now = crate::clock::now();
        inner.machine.abort(reason, now);
        let effects = self.settle(inner, None);
        self.apply(effects, host, now);
    }

    /// What follows from a change at once; returns what follows outside the lock. Takes the lock's guard so that it is released before anything is called.
    fn settle(&self, mut inner: MutexGuard<'_, Inner>, awake: Option<ConnectionKey>) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(event) = inner.machine.poll_event() {
            effects.extend(inner.effect_of(&event));
            inner.publish(event);
        }
        if inner.machine.version() != inner.version {
            inner.version = inner.machine.version();
            if !inner.is_over() {
                effects.push(Effect::Changed);
            }
        }
        if inner.reader_is_gone && inner.is_ending_or_over() {
            inner.machine.discard_received();
        }
        inner.settle_account();
        let readable = inner.machine.has_message() || !effects.is_empty();
        let room = !effects.is_empty() || self.senders.load(Ordering::Relaxed) > 0;
        let connections = inner.wakers(awake);
        drop(inner);
        connections.for_each(|waker| waker.wake());
        if readable {
            self.reader.wake();
        }
        if room {
            self.changed.notify_waiters();
        }
        effects
    }

    pub(crate) fn apply(self: &Arc<Self>, effects: impl IntoIterator<Item = Effect>, host: &dyn Host, now: Instant) {
        for effect in effects {
            match effect {
                Effect::Start(application) => self.start(host, application),
                Effect::Restore(restore, incarnation) => self.restore(host, restore, incarnation),
                Effect::Changed => host.session_changed(self, now),
                Effect::Ended(teardown) => {
                    self.let_plain_go();
                    host.session_ended(self, teardown, now);
                }
            }
        }
    }

    /// The application function begins: a browser has come.
    fn start(self: &Arc<Self>, host: &dyn Host, application: Application) {
        host.session_started(self);
        let session = Session {
            handle: SessionHandle::new(Arc::clone(self)),
            incarnation: 1,
        };
        let shared = Arc::clone(self);
        let task = host.runtime().spawn(async move {
            let result = AssertUnwindSafe(async move { application(session).await })
                .catch_unwind()
                .await;
            if result.is_err() {
                tracing::error!(session = %shared.id, "the application function panicked");
            }
            shared.change(None, |inner, now| {
                inner.function = Function::Returned;
                match result {
                    Ok(()) => inner.close(EndReason::Finished, now),
                    Err(_) => inner.machine.abort(EndReason::Panicked, now),
                }
            });
        });
        let task = task.abort_handle();
        let mut inner = self.lock();
        match inner.function {
            Function::Starting if inner.is_over() => {
                drop(inner);
                host.give_grace(task, crate::clock::now());
            }
            Function::Starting => inner.function = Function::Running(task),
            Function::Unstarted(_) | Function::Running(_) | Function::Returned => {}
        }
    }

    pub(crate) fn register(&self, waker: Arc<AtomicWaker>) -> ConnectionKey {
        let mut inner = self.lock();
        let key = ConnectionKey(inner.next_connection);
        inner.next_connection += 1;
        // Hardly ever is there a second one.
        inner.connections.reserve_exact(1);
        inner.connections.push((key, waker));
        key
    }

    pub(crate) fn unregister(self: &Arc<Self>, key: ConnectionKey) {
        self.change(None, |inner, now| {
            inner.connections.retain(|(known, _)| *known != key);
            if inner.connections.is_empty() {
                inner.connections = Vec::new();
            }
            inner.machine.handle_closed(key, now);
        });
    }

    /// What to write next on a connection.
    pub(crate) fn poll_transmit(&self, key: ConnectionKey, now: Instant) -> Transmit {
        let machine = &mut self.lock().machine;
        match machine.poll_transmit(key, now) {
            Some(frame) => Transmit::Frame(frame),
            None if machine.is_known(key) => Transmit::Nothing {
                until: machine.poll_timeout(),
            },
            None => Transmit::Over,
        }
    }

    /// How long browsers are told that the session waits for them, in ms.
    pub(crate) fn keep(&self) -> u64 {
        self.host
            .upgrade()
            .map_or(0, |host| stillhere_proto::machine::millis(host.keep(&self.snapshot())))
    }

    pub(crate) fn set_weight(&self, bytes: u64) {
        {
            let mut inner = self.lock();
            if inner.weight == bytes {
                return;
            }
            inner.weight = bytes;
            inner.weighings += 1;
        }
        self.tell_resized(Resized::Weight);
    }

    pub(crate) fn tell_resized(&self, by: Resized) {
        if let Some(host) = self.host.upgrade() {
            host.session_resized(self, by);
        }
    }

    pub(crate) fn drain(self: &Arc<Self>, retry_after: Duration, wait: Duration) {
        self.change(None, |inner, now| {
            inner.empty_gate();
            inner.machine.close_with(EndReason::Draining, retry_after, wait, now);
        });
    }

    /// Ends the session at once; if it is ending already, for the reason it has.
    pub(crate) fn abort_now(self: &Arc<Self>, reason: EndReason) {
        self.update(|machine, now| {
            let reason = match machine.phase() {
                Phase::Ending(reason) => reason.clone(),
                Phase::Unconnected | Phase::Open | Phase::SoftClosed(_) | Phase::Closed(_) => reason,
            };
            machine.abort(reason, now);
        });
    }

    /// Closes the session if nothing has changed since `version`. Whether it did.
    pub(crate) fn abort_if_unchanged(self: &Arc<Self>, version: u64, reason: Option<EndReason>) -> bool {
        self.change(None, |inner, now| {
            if inner.version() != version {
                return false;
            }
            let machine = &mut inner.machine;
            let reason = match (machine.phase(), reason) {
                (Phase::Ending(reason), _) => reason.clone(),
                (_, Some(reason)) => reason,
                (Phase::Unconnected, None) => EndReason::NeverConnected,
                (_, None) => EndReason::Expired,
            };
            machine.abort(reason, now);
            true
        })
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.options.principal.as_deref()
    }

    pub(crate) fn snapshot(&self) -> SessionSnapshot {
        let inner = self.lock();
        let machine = &inner.machine;
        SessionSnapshot {
            id: self.id,
            state: state_of(machine),
            since: machine.since(),
            opened: self.opened,
            cause: machine.cause(),
            buffered: inner.buffered(),
            weight: inner.weight,
            reconnects: machine.reconnects(),
            principal: self.options.principal.clone(),
            version: inner.version(),
        }
    }

    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        self.ticket_for(&self.connection_setup())
    }

    pub(crate) fn script_tag(self: &Arc<Self>, attributes: &str) -> String {
        let setup = self.connection_setup();
        let src = format!("{}/{}", setup.base(&self.base), client::script_name());
        let mut tag = client_tag(&src, attributes, &self.options.renewal, &self.ticket_for(&setup));
        if let Some(script) = &setup.script {
            tag.push_str(&plain_tag(script, attributes));
        }
        tag
    }

    /// How the application wants the page to connect.
    fn connection_setup(self: &Arc<Self>) -> ConnectionSetup {
        let session = SessionHandle::new(Arc::clone(self));
        self.host
            .upgrade()
            .map_or_else(ConnectionSetup::web_socket, |host| host.connection_setup(&session))
    }

    fn ticket_for(&self, setup: &ConnectionSetup) -> Ticket {
        if setup.kind == Kind::None {
            return Ticket::without_server();
        }
        let refused = |code, reason: &EndReason| Ticket::refused(code, REFUSED_RETRY, reason.to_string());
        match self.end_reason() {
            Some(reason @ EndReason::Full) => return refused(Code::Full, &reason),
            Some(reason @ EndReason::Draining) => return refused(Code::Draining, &reason),
            _ => {}
        }
        let url = format!("{}/{}", setup.base(&self.base), self.id);
        let (limits, restore) = (self.options.limits.normalised(), self.options.restore.clone());
        Ticket::access(url, &self.id, &self.secret, limits, restore).with_connection(setup.name())
    }
}

/// When a page that was refused may try again.
pub(crate) const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// What a session's size has changed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resized {
    Weight,
    Buffer,
}
