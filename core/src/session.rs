//! The application's side of a session: [`Session`] reads, [`SessionHandle`] sends, observes and closes from anywhere.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};
use tokio::task::AbortHandle;

use crate::cleanup::{SessionSnapshot, SessionState};
use crate::client;
use crate::code::{Code, EndReason};
use crate::compression::{InflateError, deflate, inflate};
use crate::gate::Gate;
use crate::id::{Secret, SessionId};
use crate::limits::Limits;
use crate::machine::{Cause, ConnectionKey, Event, Phase, PlainDocument, Received, SessionMachine};
use crate::memory::Account;
use crate::message::{Lane, Message};
use crate::options::SessionOptions;
use crate::ticket::Ticket;
use crate::wire::Frame;

/// A page's session, as its application function holds it: the one reader. Sends like a [`SessionHandle`], which it derefs to.
///
/// When the function that was given to [`Hub::open`](crate::Hub::open) returns, the session ends once everything sent has been delivered.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    /// The incarnation whose messages are being read.
    incarnation: u64,
}

/// What a session's reader gets, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// A message from the browser.
    Message(Message),
    /// What follows comes from another document (a reload, a restored tab) that knows nothing yet: send it the state it needs.
    Restored,
}

impl Session {
    /// The next message. `None` once the session is over and everything received has been read.
    ///
    /// Messages of one lane come in order. Cancel safe: a message is taken only when it is returned.
    /// After a restore the first message of the new document waits until the function given to [`Session::on_restore`] has returned.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            if let Incoming::Message(message) = self.next().await? {
                return Some(message);
            }
        }
    }

    /// The next message, or the news that another document follows. `None` once the session is over and everything has been read. Cancel safe.
    ///
    /// For functions whose state is in local variables:
    ///
    /// ```
    /// # use stillhere::{Incoming, Session};
    /// async fn counter(mut session: Session) {
    ///     let mut clicks = 0u64;
    ///     while let Some(incoming) = session.next().await {
    ///         if let Incoming::Message(_) = incoming {
    ///             clicks += 1;
    ///         }
    ///         if session.send(clicks.to_be_bytes()).await.is_err() {
    ///             return;
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let shared = &self.handle.shared;
            let received = match poll_fn(|context| shared.poll_take(&mut self.incarnation, context)).await? {
                Taken::Restored => return Some(Incoming::Restored),
                Taken::Message(lane, received) => (lane, received),
            };
            match shared.unpack(received) {
                Ok(message) => return Some(Incoming::Message(message)),
                Err(error) => {
                    tracing::debug!(session = %shared.id, %error, "a message cannot be inflated: the session ends");
                    shared.update(|machine, now| {
                        machine.handle_bad_payload(error == InflateError::TooLarge, now);
                        // What came after it would look as if it had never been there.
                        machine.discard_received();
                    });
                }
            }
        }
    }

    /// A handle that can be cloned and used from anywhere.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// Runs `restore` whenever another document takes the session over (a reload, a restored tab), to send it the state it needs.
    ///
    /// What `restore` sends goes first: other sends queue behind it, and messages of the new document are not read before it has returned.
    /// It gets 10 s; after that, or if it panics, the session goes on and the failure is logged. It is dropped when its document is gone
    /// because yet another one has taken over, or because the session is over.
    pub fn on_restore<F, R>(&self, restore: F)
    where
        F: Fn(Restoring) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let restore: RestoreFunction = Arc::new(move |restoring| Box::pin(restore(restoring)));
        let shared = &self.handle.shared;
        let replaced = {
            let mut inner = shared.lock();
            if inner.is_over() {
                Some(restore)
            } else {
                inner.on_restore.replace(restore)
            }
        };
        // Not under the lock: what it captured may run code of its own.
        drop(replaced);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.shared.reader_is_gone();
    }
}

impl Deref for Session {
    type Target = SessionHandle;

    fn deref(&self) -> &SessionHandle {
        &self.handle
    }
}

/// Sends to, observes and closes a session from anywhere. Cheap to clone; holding one does not keep the session alive.
#[derive(Clone)]
pub struct SessionHandle {
    shared: Arc<Shared>,
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("id", &self.shared.id)
            .field("state", &self.state())
            .finish()
    }
}

/// A message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is over, or ending.
    #[error("the session is over: {0}")]
    Ended(EndReason),
    /// The message is above the session's limit and can never be sent. Sizes are wire bytes.
    #[error("a message of {size} bytes is above this session's limit of {limit}")]
    TooLarge {
        /// The message's.
        size: u64,
        /// The session's.
        limit: u64,
    },
}

/// A message was not accepted without waiting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// The lane's outbox is full: the browser is slow or away. `send` would wait.
    #[error("the session's outbox is full")]
    Full,
    /// The session is over, or ending.
    #[error("the session is over: {0}")]
    Ended(EndReason),
    /// The message is above the session's limit and can never be sent. Sizes are wire bytes.
    #[error("a message of {size} bytes is above this session's limit of {limit}")]
    TooLarge {
        /// The message's.
        size: u64,
        /// The session's.
        limit: u64,
    },
}

impl From<SendError> for TrySendError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Ended(reason) => Self::Ended(reason),
            SendError::TooLarge { size, limit } => Self::TooLarge { size, limit },
        }
    }
}

impl SessionHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The session's public name.
    pub fn id(&self) -> &SessionId {
        &self.shared.id
    }

    /// Queues a message on the interactive lane. Waits while the outbox is full, also while no browser is connected.
    ///
    /// The message is kept until the browser has acknowledged it. Cancel safe: a cancelled send has queued nothing.
    ///
    /// # Errors
    /// [`SendError`]: the session is over, or the message is above its limit.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.send(Lane::Interactive, message.into(), Via::Handle).await
    }

    /// Queues a message on the bulk lane, where large ones do not delay the interactive lane.
    ///
    /// # Errors
    /// As [`SessionHandle::send`].
    pub async fn send_bulk(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.send(Lane::Bulk, message.into(), Via::Handle).await
    }

    /// Queues a message on the interactive lane if there is room.
    ///
    /// # Errors
    /// [`TrySendError`]: there is no room, the session is over, or the message is above its limit.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.shared.try_send(Lane::Interactive, message.into(), Via::Handle)
    }

    /// Queues a message on the bulk lane if there is room.
    ///
    /// # Errors
    /// As [`SessionHandle::try_send`].
    pub fn try_send_bulk(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.shared.try_send(Lane::Bulk, message.into(), Via::Handle)
    }

    /// Ends the session once the browser has everything that was sent. The browser is told `text`; nothing more can be sent.
    pub fn close(&self, text: &str) {
        let reason = EndReason::Closed(text.into());
        self.shared.change(None, |inner, now| inner.close(reason, now));
    }

    /// Ends the session at once, whatever is on its way. The browser is told `text`.
    pub fn abort(&self, text: &str) {
        let reason = EndReason::Aborted(text.into());
        self.shared.update(|machine, now| machine.abort(reason, now));
    }

    /// Ends the session as a server that shuts down does: once everything is delivered, with a hint when to try again.
    pub fn drain(&self, retry_after: Duration) {
        self.shared.drain(retry_after, DRAIN_WAIT);
    }

    /// Drops the connection and keeps the session; the browser comes back at once, if it can.
    pub fn soft_close(&self) {
        self.shared.update(SessionMachine::soft_close);
    }

    /// Where the session is in its life.
    pub fn state(&self) -> SessionState {
        state_of(&self.shared.lock().machine)
    }

    /// The session as a cleanup policy sees it.
    pub fn snapshot(&self) -> SessionSnapshot {
        self.shared.snapshot()
    }

    /// Whose session it is, if it was opened for somebody.
    pub fn principal(&self) -> Option<&str> {
        self.shared.principal()
    }

    /// Waits for the session's end.
    pub async fn ended(&self) -> EndReason {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(reason) = self.shared.end_reason() {
                return reason;
            }
            changed.await;
        }
    }

    /// What happens to the session from now on. The last 16 events are kept for a slow reader.
    pub fn events(&self) -> Events {
        let mut inner = self.shared.lock();
        if inner.is_over() {
            return Events {
                receiver: broadcast::Sender::new(1).subscribe(),
            };
        }
        let sender = inner.events.get_or_insert_with(|| broadcast::Sender::new(EVENTS_KEPT));
        Events {
            receiver: sender.subscribe(),
        }
    }

    /// Messages the browser has not acknowledged; after the end, those it never did.
    pub fn unacknowledged(&self) -> usize {
        self.shared.lock().unacknowledged()
    }

    /// The address of the session's WebSocket, as its ticket has it: `/stillhere/<id>`, or absolute if the hub's
    /// [`public_url`](crate::HubBuilder::public_url) is. All that a client of a plain session needs; it holds no secret otherwise.
    pub fn url(&self) -> String {
        format!("{}/{}", self.shared.base, self.shared.id)
    }

    /// What the page needs to connect. Of no use to the clients of a plain session, which have [`SessionHandle::url`].
    pub fn ticket(&self) -> Ticket {
        self.shared.ticket()
    }

    /// [`SessionHandle::ticket`] as JSON.
    pub fn ticket_json(&self) -> String {
        self.ticket().to_json()
    }

    /// A script element that connects the page: afterwards `stillhere.session` is the session.
    ///
    /// It has no inline code, so a Content-Security-Policy of `script-src 'self'` and `connect-src 'self'` is enough.
    /// A page that carries it must not be cached: the adapters' `Page` response sees to that.
    pub fn script_tag(&self) -> String {
        self.shared.script_tag("")
    }

    /// [`SessionHandle::script_tag`] with a nonce for a Content-Security-Policy that asks for one.
    pub fn script_tag_with_nonce(&self, nonce: &str) -> String {
        let plain = nonce.chars().all(|c| c.is_ascii_alphanumeric() || "+/=-_".contains(c));
        self.shared.script_tag(&if plain {
            format!(" nonce=\"{nonce}\"")
        } else {
            String::new()
        })
    }
}

/// What happened to a session, in order.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` after the session's end. Events that were missed are skipped. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Sends to a document that has just taken the session over, before everybody else.
#[derive(Debug)]
pub struct Restoring {
    handle: SessionHandle,
    incarnation: u64,
}

impl Restoring {
    /// As [`SessionHandle::send`], ahead of what others send.
    ///
    /// # Errors
    /// As [`SessionHandle::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.handle
            .shared
            .send(Lane::Interactive, message.into(), Via::Restore(self.incarnation))
            .await
    }

    /// As [`SessionHandle::send_bulk`], ahead of what others send.
    ///
    /// # Errors
    /// As [`SessionHandle::send`].
    pub async fn send_bulk(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.handle
            .shared
            .send(Lane::Bulk, message.into(), Via::Restore(self.incarnation))
            .await
    }
}

pub(crate) type Application = Box<dyn FnOnce(Session) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

pub(crate) type RestoreFunction = Arc<dyn Fn(Restoring) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What a session needs of the hub it lives in. The hub implements it, so that this layer knows nothing of the one above.
pub(crate) trait Host: Send + Sync {
    /// Where application functions run.
    fn runtime(&self) -> &Handle;

    /// How long the session is kept without a connection.
    fn keep(&self, session: &SessionSnapshot) -> Duration;

    /// The application function of a session that waited begins.
    fn session_started(&self);

    /// The session's phase, link or document has changed.
    fn session_changed(&self, session: &Arc<Shared>, now: Instant);

    /// The session is over. Called once for each.
    fn session_ended(&self, session: &Shared, farewell: Farewell, now: Instant);

    /// The function of an ended session may go on for a while.
    fn give_grace(&self, task: AbortHandle, now: Instant);
}

/// A session, shared by the hub, its connections, its function and its handles.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    secret: Secret,
    options: Arc<SessionOptions>,
    opened: Instant,
    host: Weak<dyn Host>,
    base: Arc<str>,
    reader: AtomicWaker,
    /// The document that the server plays for a plain client. Its lock is never held over another.
    pub(crate) plain: Option<Arc<Mutex<PlainDocument>>>,
    /// Told when there may be room in the outbox, and when the session is restored or over.
    changed: Notify,
    /// How many wait for room.
    senders: AtomicUsize,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) machine: SessionMachine,
    /// The machine's version when the hub was last told.
    version: u64,
    function: Function,
    /// Nobody will read what is received.
    reader_is_gone: bool,
    connections: Vec<(ConnectionKey, Arc<AtomicWaker>)>,
    next_connection: u64,
    events: Option<broadcast::Sender<Event>>,
    on_restore: Option<RestoreFunction>,
    /// There while a restore function runs.
    gate: Option<Box<Gate>>,
    /// Messages that were still behind the gate at the end.
    undelivered: usize,
    account: Account,
    /// When the sweeper looks at this session next.
    pub(crate) scheduled: Option<Instant>,
}

/// The application function of a session.
enum Function {
    /// Waits for the first browser.
    Waiting(Application),
    /// Is about to be spawned.
    Starting,
    Running(AbortHandle),
    Returned,
}

enum Taken {
    Message(Lane, Received),
    Restored,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Handle,
    /// The restore function for this document.
    Restore(u64),
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
        now: Instant,
    ) -> Arc<Self> {
        let id = SessionId::random();
        let seed = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has 16 bytes"));
        let secret = Secret::random();
        let limits = options.session_limits();
        let machine = SessionMachine::new(limits, options.timing, seed, now);
        let document = || Arc::new(Mutex::new(PlainDocument::new(secret.clone(), *machine.limits())));
        let plain = options.plain.map(|_| document());
        Arc::new(Self {
            id,
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
                function: Function::Waiting(application),
                reader_is_gone: false,
                connections: Vec::new(),
                next_connection: 0,
                events: None,
                on_restore: None,
                gate: None,
                undelivered: 0,
                account,
                scheduled: None,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
            Phase::Waiting | Phase::Open | Phase::SoftClosed(_) | Phase::Ending(_) => None,
        }
    }

    // ---- changes

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

    fn change<T>(self: &Arc<Self>, awake: Option<ConnectionKey>, change: impl FnOnce(&mut Inner, Instant) -> T) -> T {
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
    pub(crate) fn abandon(self: &Arc<Self>, host: &dyn Host, reason: EndReason) {
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

    fn apply(self: &Arc<Self>, effects: Vec<Effect>, host: &dyn Host, now: Instant) {
        for effect in effects {
            match effect {
                Effect::Start(application) => self.start(host, application),
                Effect::Restore(restore, incarnation) => self.restore(host, restore, incarnation),
                Effect::Changed => host.session_changed(self, now),
                Effect::Ended(farewell) => host.session_ended(self, farewell, now),
            }
        }
    }

    /// The application function begins: a browser has come.
    fn start(self: &Arc<Self>, host: &dyn Host, application: Application) {
        host.session_started();
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
            Function::Waiting(_) | Function::Running(_) | Function::Returned => {}
        }
    }

    /// Runs the application's restore function, then lets the others' messages follow.
    fn restore(self: &Arc<Self>, host: &dyn Host, restore: RestoreFunction, incarnation: u64) {
        let opener = GateOpener {
            shared: Arc::clone(self),
            incarnation,
        };
        host.runtime().spawn(async move {
            let shared = &opener.shared;
            let restoring = Restoring {
                handle: SessionHandle::new(Arc::clone(shared)),
                incarnation,
            };
            let restored = AssertUnwindSafe(async move { restore(restoring).await }).catch_unwind();
            tokio::select! {
                biased;
                () = shared.gate_is_gone(incarnation) => {}
                restored = tokio::time::timeout(RESTORE_WAIT, restored) => match restored {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => tracing::error!(session = %shared.id, "the restore function panicked"),
                    Err(_) => tracing::error!(session = %shared.id, "the restore function did not return within 10 s"),
                }
            }
        });
    }

    /// The restore function for this document has nothing left to do.
    async fn gate_is_gone(&self, incarnation: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().gate.as_ref().is_none_or(|gate| !gate.is_for(incarnation)) {
                return;
            }
            changed.await;
        }
    }

    fn open_gate(self: &Arc<Self>, incarnation: u64) {
        self.change(None, |inner, _| {
            if inner.gate.as_ref().is_some_and(|gate| gate.is_for(incarnation)) {
                inner.empty_gate();
                inner.gate = None;
            }
        });
        self.reader.wake();
        self.changed.notify_waiters();
    }

    // ---- connections

    pub(crate) fn register(&self, waker: Arc<AtomicWaker>) -> ConnectionKey {
        let mut inner = self.lock();
        let key = ConnectionKey(inner.next_connection);
        inner.next_connection += 1;
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
            .map_or(0, |host| crate::machine::millis(host.keep(&self.snapshot())))
    }

    // ---- reading

    fn poll_take(&self, incarnation: &mut u64, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        self.reader.register(context.waker());
        let mut inner = self.lock();
        let next = inner.machine.next_incarnation();
        let current = inner.machine.incarnation();
        if inner.gate.is_some() && next.is_none_or(|next| next == current) {
            return Poll::Pending;
        }
        let next_or_current = next.unwrap_or(current);
        if next_or_current > *incarnation {
            *incarnation = next_or_current;
            return Poll::Ready(Some(Taken::Restored));
        }
        let before = (inner.machine.is_ack_due(), inner.machine.poll_timeout());
        let Some((lane, received)) = inner.machine.take(crate::clock::now()) else {
            return if inner.is_over() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        inner.settle_account();
        // Credit has come back: the connection must hear of it if that is to be reported, now or soon.
        if (inner.machine.is_ack_due(), inner.machine.poll_timeout()) != before {
            let connections = inner.wakers(None);
            drop(inner);
            connections.for_each(|waker| waker.wake());
        }
        Poll::Ready(Some(Taken::Message(lane, received)))
    }

    fn unpack(&self, (lane, received): (Lane, Received)) -> Result<Message, InflateError> {
        let compressed = received.compressed;
        let payload = received.into_bytes();
        let payload = if compressed {
            inflate(&payload, self.options.limits.inflated)?
        } else {
            payload
        };
        Ok(Message {
            lane,
            ..Message::new(payload)
        })
    }

    fn reader_is_gone(self: &Arc<Self>) {
        self.change(None, |inner, _| inner.reader_is_gone = true);
        // It belongs to a task that may be over, whose memory it would keep.
        drop(self.reader.take());
    }

    // ---- sending

    async fn send(&self, lane: Lane, message: Message, via: Via) -> Result<(), SendError> {
        let mut message = Some(self.pack(message)?);
        if self.push(lane, &mut message, via)? {
            return Ok(());
        }
        let _waiting = Waiting::new(&self.senders);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.push(lane, &mut message, via)? {
                return Ok(());
            }
            changed.await;
        }
    }

    fn try_send(&self, lane: Lane, message: Message, via: Via) -> Result<(), TrySendError> {
        let mut message = Some(self.pack(message)?);
        if self.push(lane, &mut message, via)? {
            Ok(())
        } else {
            Err(TrySendError::Full)
        }
    }

    /// Compresses what is worth it and refuses what could never be sent.
    fn pack(&self, mut message: Message) -> Result<Message, SendError> {
        let threshold = self.options.compress_from.unwrap_or(usize::MAX);
        if message.len() >= threshold && message.len() as u64 <= self.options.limits.inflated {
            let deflated = match &message.shared {
                Some(shared) => shared.deflated(|| deflate(&message.payload)),
                None => deflate(&message.payload),
            };
            if let Some(deflated) = deflated {
                message = Message {
                    payload: deflated,
                    compressed: true,
                    ..message
                };
            }
        }
        let (size, limit) = (message.payload.len() as u64, self.options.session_limits().message);
        if size > limit {
            Err(SendError::TooLarge { size, limit })
        } else {
            Ok(message)
        }
    }

    /// Takes the message out of `message` and queues it, if there is room.
    fn push(&self, lane: Lane, message: &mut Option<Message>, via: Via) -> Result<bool, SendError> {
        let limits = &self.options.limits;
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Phase::Ending(reason) | Phase::Closed(reason) = inner.machine.phase() {
            return Err(SendError::Ended(reason.clone()));
        }
        if matches!(via, Via::Restore(incarnation) if incarnation != inner.machine.incarnation()) {
            // That document is gone, and with it all that was on its way there.
            *message = None;
            return Ok(true);
        }
        let Some(size) = message.as_ref().map(|message| message.payload.len()) else {
            return Ok(true);
        };
        let gate = inner.gate.as_mut().filter(|_| via == Via::Handle);
        let admitted = match &gate {
            Some(gate) => gate.admits(lane, size, inner.machine.outgoing(lane), limits),
            None => inner.machine.admits(lane, size),
        };
        let Some(message) = message.take_if(|_| admitted) else {
            return Ok(false);
        };
        match gate {
            Some(gate) => gate.push(lane, message, limits),
            None => inner.machine.send(lane, message),
        }
        inner.settle_account();
        let connections = inner.wakers(None);
        drop(guard);
        connections.for_each(|waker| waker.wake());
        Ok(true)
    }

    // ---- the rest

    pub(crate) fn drain(self: &Arc<Self>, retry_after: Duration, wait: Duration) {
        self.change(None, |inner, now| {
            inner.empty_gate();
            inner.machine.close_with(EndReason::Draining, retry_after, wait, now);
        });
    }

    /// Ends the session at once; if it is ending already, for the reason it has.
    pub(crate) fn cut_off(self: &Arc<Self>, reason: EndReason) {
        self.update(|machine, now| {
            let reason = match machine.phase() {
                Phase::Ending(reason) => reason.clone(),
                Phase::Waiting | Phase::Open | Phase::SoftClosed(_) | Phase::Closed(_) => reason,
            };
            machine.abort(reason, now);
        });
    }

    /// Closes the session if nothing has changed since `version`. Whether it did.
    pub(crate) fn clean_up(self: &Arc<Self>, version: u64, reason: Option<EndReason>) -> bool {
        self.update(|machine, now| {
            if machine.version() != version {
                return false;
            }
            let reason = match (machine.phase(), reason) {
                (Phase::Ending(reason), _) => reason.clone(),
                (_, Some(reason)) => reason,
                (Phase::Waiting, None) => EndReason::NeverConnected,
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
        let cause = match machine.phase() {
            Phase::SoftClosed(cause) => Some(*cause),
            _ => None,
        };
        SessionSnapshot {
            id: self.id,
            state: state_of(machine),
            since: machine.since(),
            opened: self.opened,
            cause,
            buffered: inner.buffered(),
            reconnects: machine.reconnects(),
            principal: self.options.principal.clone(),
            version: machine.version(),
        }
    }

    fn ticket(&self) -> Ticket {
        let inner = self.lock();
        if let Phase::Closed(reason @ (EndReason::Full | EndReason::Draining)) = inner.machine.phase() {
            let code = if *reason == EndReason::Full {
                Code::Full
            } else {
                Code::Draining
            };
            return Ticket::refused(code, REFUSED_RETRY, reason.to_string());
        }
        Ticket::access(
            &self.base,
            &self.id,
            &self.secret,
            self.options.limits.normalised(),
            self.options.restore.clone(),
        )
    }

    fn script_tag(&self, attributes: &str) -> String {
        let (base, script, ticket) = (&self.base, client::script_name(), self.ticket().to_attribute());
        format!("<script src=\"{base}/{script}\"{attributes} data-stillhere=\"{ticket}\"></script>")
    }
}

/// What a change of a machine leads to outside the lock.
enum Effect {
    Start(Application),
    Restore(RestoreFunction, u64),
    Changed,
    Ended(Farewell),
}

/// What the hub needs to know of a session that has ended.
pub(crate) struct Farewell {
    pub(crate) reason: EndReason,
    /// Its function, if no browser ever came: to be dropped, and not under the lock.
    pub(crate) never_started: Option<Application>,
    pub(crate) task: Option<AbortHandle>,
    pub(crate) on_restore: Option<RestoreFunction>,
}

impl Inner {
    fn is_over(&self) -> bool {
        matches!(self.machine.phase(), Phase::Closed(_))
    }

    fn is_ending_or_over(&self) -> bool {
        matches!(self.machine.phase(), Phase::Ending(_) | Phase::Closed(_))
    }

    fn effect_of(&mut self, event: &Event) -> Option<Effect> {
        match event {
            // One that was closed before its browser came has no more use for its function.
            Event::Opened if matches!(self.machine.phase(), Phase::Open) => {
                match std::mem::replace(&mut self.function, Function::Starting) {
                    Function::Waiting(application) => Some(Effect::Start(application)),
                    Function::Starting | Function::Running(_) | Function::Returned => None,
                }
            }
            Event::Restored { incarnation } => {
                let restore = self.on_restore.clone()?;
                self.gate = Some(Box::new(Gate::new(*incarnation)));
                Some(Effect::Restore(restore, *incarnation))
            }
            Event::Ended(reason) => Some(Effect::Ended(self.farewell(reason.clone()))),
            Event::Opened | Event::SoftClosed(_) | Event::Resumed { .. } => None,
        }
    }

    fn farewell(&mut self, reason: EndReason) -> Farewell {
        self.undelivered = self.gate.take().map_or(0, |gate| gate.len());
        let (never_started, task) = match std::mem::replace(&mut self.function, Function::Returned) {
            Function::Waiting(application) => (Some(application), None),
            Function::Running(task) => (None, Some(task)),
            function @ (Function::Starting | Function::Returned) => {
                self.function = function;
                (None, None)
            }
        };
        self.reader_is_gone |= never_started.is_some();
        Farewell {
            reason,
            never_started,
            task,
            on_restore: self.on_restore.take(),
        }
    }

    /// Under the lock, so that the events keep their order.
    fn publish(&mut self, event: Event) {
        let is_last = matches!(event, Event::Ended(_));
        if let Some(events) = &self.events {
            // Nobody listening any more is no error.
            let _ = events.send(event);
        }
        if is_last {
            self.events = None;
        }
    }

    fn close(&mut self, reason: EndReason, now: Instant) {
        self.empty_gate();
        self.machine.close(reason, now);
    }

    /// Lets what waits behind the gate follow. Where nothing more can be sent it would otherwise be lost.
    fn empty_gate(&mut self) {
        if self.is_ending_or_over() {
            return;
        }
        let queued = self.gate.as_mut().map(|gate| gate.take()).unwrap_or_default();
        for (lane, message) in queued {
            self.machine.send(lane, message);
        }
    }

    fn unacknowledged(&self) -> usize {
        let queued = self.gate.as_ref().map_or(self.undelivered, |gate| gate.len());
        self.machine.unacknowledged() + queued
    }

    /// Everything that waits in either direction.
    fn buffered(&self) -> u64 {
        let machine = &self.machine;
        let lanes: u64 = Lane::ALL
            .iter()
            .map(|lane| machine.outgoing(*lane) + machine.incoming(*lane))
            .sum();
        lanes + self.gate.as_ref().map_or(0, |gate| gate.charge())
    }

    /// Tells the hub what this session holds now.
    fn settle_account(&mut self) {
        self.account
            .set(self.machine.owned() + self.gate.as_ref().map_or(0, |gate| gate.owned()));
    }

    /// The connections' wakers, to be woken without the lock. Hardly ever more than one.
    fn wakers(&self, except: Option<ConnectionKey>) -> impl Iterator<Item = Arc<AtomicWaker>> + use<> {
        let mut wakers = self
            .connections
            .iter()
            .filter(|(key, _)| Some(*key) != except)
            .map(|(_, waker)| Arc::clone(waker));
        let first = wakers.next();
        let others: Vec<_> = wakers.collect();
        first.into_iter().chain(others)
    }
}

/// Opens the gate when the restore function has returned, panicked or was dropped.
struct GateOpener {
    shared: Arc<Shared>,
    incarnation: u64,
}

impl Drop for GateOpener {
    fn drop(&mut self) {
        self.shared.open_gate(self.incarnation);
    }
}

fn state_of(machine: &SessionMachine) -> SessionState {
    match machine.phase() {
        Phase::Waiting => SessionState::Waiting,
        Phase::Open => SessionState::Open,
        Phase::SoftClosed(_) => SessionState::SoftClosed,
        Phase::Ending(_) if machine.has_connection() => SessionState::Ending,
        Phase::Ending(_) if machine.has_document() => SessionState::EndingSoftClosed,
        Phase::Ending(_) => SessionState::Waiting,
        Phase::Closed(_) => SessionState::Closed,
    }
}

/// Counts a sender that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const EVENTS_KEPT: usize = 16;
const RESTORE_WAIT: Duration = Duration::from_secs(10);
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// When a page that was refused may try again.
pub(crate) const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// Kept out of the public enum: what the cause is called in a log line.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the connection was lost",
            Self::Left => "the page went away",
            Self::Silent => "the browser fell silent",
            Self::Gap => "a frame was missing",
            Self::Asked => "the application asked for it",
        })
    }
}
