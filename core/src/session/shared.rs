//! The state that a session's hub, connections, function and handles share, and the only path by
//! which they change it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::cleanup::SessionSnapshot;
use crate::extensions::Extensions;
use crate::lock::Lock;
use crate::memory::Account;
use crate::options::SessionOptions;
#[cfg(feature = "durable")]
use crate::session::durable::Durable;
use crate::session::host::{Home, Host, Resized};
use crate::session::state::{Application, Effect, Inner, state_of};
use stillhere_proto::Limits;
use stillhere_proto::machine::{ConnectionKey, PlainDocument, SessionMachine, Timing};
use stillhere_proto::{Secret, SessionId};

/// What all sessions of a hub have in common.
pub(crate) struct Common {
    pub(crate) host: Weak<dyn Host>,
    /// Where pages find the mount.
    pub(crate) base: Arc<str>,
    /// The limits and the timing of sessions with default options.
    limits: Arc<Limits>,
    timing: Arc<Timing>,
    pub(crate) extensions: Extensions,
}

/// A session, shared by the hub, its connections, its function and its handles.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    /// Number of the session within its hub, in the order of opening.
    pub(crate) number: u64,
    secret: Secret,
    pub(crate) options: Arc<SessionOptions>,
    opened: Instant,
    pub(crate) common: Arc<Common>,
    pub(crate) reader: AtomicWaker,
    /// The document that the server plays for a plain client. No other lock is taken while this one
    /// is held.
    pub(crate) plain: Option<Arc<Lock<PlainDocument>>>,
    /// Notified when the outbox may have room, and when a restore or the session ends.
    pub(crate) changed: Notify,
    /// Number of senders that wait for room.
    pub(crate) senders: AtomicUsize,
    /// Present if the session is durable.
    #[cfg(feature = "durable")]
    pub(crate) durable: Option<Box<Durable>>,
    inner: Lock<Inner>,
}

/// The part of the state that a change has touched. It determines which tasks are woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    /// Nothing has changed.
    Nothing,
    /// Any part of the machine. The connection `awake` polls the machine itself and is not woken.
    Machine { awake: Option<ConnectionKey> },
    /// A message was queued.
    Outbox,
    /// A message was taken. With `credit`, the peer should soon be told that it may send more.
    Inbox { credit: bool },
    /// A restore function has returned, so others may send and read again.
    Gate,
    /// The bytes that are held for the session outside its machine.
    Beside,
    /// The weight that the application declares.
    Weight,
}

/// The effects of a change, to be carried out without the lock.
#[derive(Default)]
pub(super) struct FollowUp {
    effects: Vec<Effect>,
    /// A task has to be spawned that commits.
    commits: bool,
    /// There is room for newest messages, which leave as a turn of their own.
    ends_turn: bool,
    resized: Option<Resized>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Common {
    pub(crate) fn new(host: Weak<dyn Host>, base: Arc<str>, defaults: &SessionOptions, extensions: Extensions) -> Self {
        Self {
            host,
            base,
            extensions,
            limits: defaults.session_limits().into(),
            timing: defaults.timing.into(),
        }
    }

    /// Creates the machine of a session with these options. It shares what is as by default.
    pub(super) fn machine(&self, options: &SessionOptions, seed: u64, now: Instant) -> SessionMachine {
        let limits = shared_if_equal(&self.limits, options.session_limits());
        let timing = shared_if_equal(&self.timing, options.timing);
        let machine = SessionMachine::new(limits, timing, seed, now);
        if options.compress_from.is_some() {
            machine.taking_compressed()
        } else {
            machine
        }
    }
}

/// Returns the seed of a session's machine.
pub(super) fn seed_of(id: &SessionId) -> u64 {
    u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has 16 bytes"))
}

fn shared_if_equal<T: PartialEq>(default: &Arc<T>, value: T) -> Arc<T> {
    if **default == value {
        Arc::clone(default)
    } else {
        value.into()
    }
}

impl Shared {
    pub(crate) fn new(
        common: Arc<Common>,
        options: Arc<SessionOptions>,
        application: Application,
        account: Account,
        (number, now): (u64, Instant),
    ) -> Arc<Self> {
        let (id, secret) = (SessionId::random(), Secret::random());
        let machine = common.machine(&options, seed_of(&id), now);
        let inner = Inner::new(machine, application, account);
        #[cfg(feature = "durable")]
        return Arc::new(Self::with_inner(
            common,
            (id, secret),
            options,
            None,
            inner,
            (number, now),
        ));
        #[cfg(not(feature = "durable"))]
        Arc::new(Self::with_inner(common, (id, secret), options, inner, (number, now)))
    }

    pub(super) fn with_inner(
        common: Arc<Common>,
        (id, secret): (SessionId, Secret),
        options: Arc<SessionOptions>,
        #[cfg(feature = "durable")] durable: Option<Box<Durable>>,
        inner: Inner,
        (number, now): (u64, Instant),
    ) -> Self {
        let document = || Arc::new(Lock::new(PlainDocument::new(secret.clone(), *inner.machine.limits())));
        Self {
            id,
            number,
            plain: options.plain.map(|_| document()),
            secret,
            options,
            opened: now,
            common,
            reader: AtomicWaker::new(),
            changed: Notify::new(),
            senders: AtomicUsize::new(0),
            #[cfg(feature = "durable")]
            durable,
            inner: Lock::new(inner),
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn has_secret(&self, secret: &Secret) -> bool {
        self.secret == *secret
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    pub(crate) fn options(&self) -> &SessionOptions {
        &self.options
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.options.principal.as_deref()
    }

    /// Returns the session as a cleanup policy sees it.
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
            is_elsewhere: false,
            version: inner.version(),
        }
    }

    /// Locks the state. To change the machine, use [`Shared::touch`] or a method that calls it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Calls `change` with the machine, and then carries out the effects of the change.
    pub(crate) fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut SessionMachine, Instant) -> T) -> T {
        self.change(|inner, now| change(&mut inner.machine, now))
    }

    /// Does the same as [`Shared::update`], with the whole state.
    pub(crate) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        self.touch(|inner| {
            let result = change(inner, crate::clock::now());
            (result, Touched::Machine { awake: None })
        })
    }

    /// Calls `change` under the lock, which returns what it has touched, and then carries out the
    /// effects. Every change of the machine takes this path.
    pub(crate) fn touch<T>(self: &Arc<Self>, change: impl FnOnce(&mut Inner) -> (T, Touched)) -> T {
        self.touch_at(Home::Hub, change)
    }

    /// Does the same as [`Shared::touch`]. A function that the change starts is spawned in this
    /// home.
    pub(super) fn touch_at<T>(self: &Arc<Self>, home: Home, change: impl FnOnce(&mut Inner) -> (T, Touched)) -> T {
        let (result, follow_up) = self.settle(change);
        self.carry_out(follow_up, home);
        result
    }

    #[inline]
    pub(super) fn carry_out(self: &Arc<Self>, follow_up: FollowUp, home: Home) {
        if !follow_up.is_empty() {
            self.tell_host(follow_up, home);
        }
    }

    fn tell_host(self: &Arc<Self>, follow_up: FollowUp, home: Home) {
        if let Some(host) = self.common.host.upgrade() {
            self.follow_up(follow_up, &*host, home);
        }
    }

    /// Makes a change under the lock, wakes the tasks that it concerns, and returns the effects to
    /// carry out.
    pub(super) fn settle<T>(&self, change: impl FnOnce(&mut Inner) -> (T, Touched)) -> (T, FollowUp) {
        let mut inner = self.lock();
        let (result, touched) = change(&mut inner);
        if touched == Touched::Nothing {
            return (result, FollowUp::default());
        }
        let effects = if touched.has_effects() {
            inner.settle()
        } else {
            inner.count_memory();
            Vec::new()
        };
        let follow_up = FollowUp {
            resized: touched.resized(inner.is_soft_closed()),
            commits: inner.is_to_commit(),
            // What the browser acknowledges arrives over a connection.
            ends_turn: touched.awake().is_some() && inner.latest_may_leave(),
            effects,
        };
        let everybody = !follow_up.effects.is_empty() || touched == Touched::Gate;
        let is_machine = matches!(touched, Touched::Machine { .. });
        let readable = everybody || is_machine && inner.machine.has_message();
        let room = everybody || is_machine && self.senders.load(Ordering::Relaxed) > 0;
        let awake = touched.awake();
        let connections = (touched.wakes_connections() && inner.has_waiting(awake)).then(|| inner.wakers(awake));
        drop(inner);
        connections.iter().flatten().for_each(|waker| waker.wake());
        if readable {
            self.reader.wake();
        }
        if room {
            self.changed.notify_waiters();
        }
        (result, follow_up)
    }

    /// Reports the change to the hub and the application.
    pub(super) fn follow_up(self: &Arc<Self>, follow_up: FollowUp, host: &dyn Host, home: Home) {
        let now = crate::clock::now();
        for effect in follow_up.effects {
            match effect {
                Effect::Start(application) => self.start(host, home, application),
                Effect::Restore(restore, incarnation) => self.restore(host, restore, incarnation),
                Effect::Changed => host.session_changed(self, now),
                Effect::Ended(teardown) => {
                    self.close_plain_document();
                    host.session_ended(self, teardown, now);
                }
            }
        }
        #[cfg(feature = "durable")]
        if follow_up.commits {
            host.runtime().spawn(Arc::clone(self).run_commits());
        }
        if follow_up.ends_turn {
            self.end_outside_turn();
        }
        if let Some(by) = follow_up.resized {
            host.session_resized(self, by);
        }
    }
}

impl Touched {
    /// Returns false if the change cannot have caused an event of the machine, nor anything else
    /// that somebody else has to be told of.
    fn has_effects(self) -> bool {
        matches!(self, Self::Machine { .. } | Self::Gate)
    }

    fn wakes_connections(self) -> bool {
        match self {
            Self::Machine { .. } | Self::Outbox | Self::Inbox { credit: true } | Self::Gate => true,
            Self::Nothing | Self::Inbox { credit: false } | Self::Beside | Self::Weight => false,
        }
    }

    fn awake(self) -> Option<ConnectionKey> {
        match self {
            Self::Machine { awake } => awake,
            _ => None,
        }
    }

    /// Returns the size that has changed. The hub needs to know about buffers only while no
    /// connection empties them.
    fn resized(self, is_soft_closed: bool) -> Option<Resized> {
        match self {
            Self::Weight => Some(Resized::Weight),
            Self::Outbox | Self::Inbox { .. } if is_soft_closed => Some(Resized::Buffer),
            _ => None,
        }
    }
}

impl FollowUp {
    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.resized.is_none() && !self.commits && !self.ends_turn
    }
}
