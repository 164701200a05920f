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
use tokio::sync::{Notify, broadcast};
use tokio::task::AbortHandle;

use crate::cleanup::{SessionSnapshot, SessionState};
use crate::client;
use crate::code::{Code, EndReason};
use crate::compression::{InflateError, deflate, inflate};
use crate::hub::{HubInner, SessionOptions};
use crate::id::{Secret, SessionId};
use crate::limits::Limits;
use crate::machine::{Cause, ConnectionKey, Event, Phase, Received, SessionMachine};
use crate::memory::Account;
use crate::message::{Lane, Message};
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
                    shared.update(|machine, now| machine.handle_bad_payload(error == InflateError::TooLarge, now));
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
    /// It gets 10 s; after that, or if it panics, the session goes on and the failure is logged.
    pub fn on_restore<F, R>(&self, restore: F)
    where
        F: Fn(Restoring) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let restore: RestoreFunction = Arc::new(move |restoring| Box::pin(restore(restoring)));
        self.handle.shared.lock().on_restore = Some(restore);
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
        f.debug_struct("SessionHandle").field("id", &self.shared.id).field("state", &self.state()).finish()
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
        self.shared.update(|machine, now| machine.close(reason, now));
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

    pub(crate) fn cut_off(&self, reason: EndReason) {
        self.shared.update(|machine, now| machine.abort(reason, now));
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

    /// Waits for the session's end.
    pub async fn ended(&self) -> EndReason {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Phase::Closed(reason) = self.shared.lock().machine.phase() {
                return reason.clone();
            }
            changed.await;
        }
    }

    /// What happens to the session from now on. The last 16 events are kept for a slow reader.
    pub fn events(&self) -> Events {
        let mut inner = self.shared.lock();
        let sender = inner.events.get_or_insert_with(|| broadcast::Sender::new(EVENTS_KEPT));
        Events { receiver: sender.subscribe() }
    }

    /// Messages the browser has not acknowledged; after the end, those it never did.
    pub fn unacknowledged(&self) -> usize {
        self.shared.lock().machine.unacknowledged()
    }

    /// What the page needs to connect.
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
        self.shared.script_tag(&if plain { format!(" nonce=\"{nonce}\"") } else { String::new() })
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
}

impl Restoring {
    /// As [`SessionHandle::send`], ahead of what others send.
    ///
    /// # Errors
    /// As [`SessionHandle::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.handle.shared.send(Lane::Interactive, message.into(), Via::Restore).await
    }

    /// As [`SessionHandle::send_bulk`], ahead of what others send.
    ///
    /// # Errors
    /// As [`SessionHandle::send`].
    pub async fn send_bulk(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.handle.shared.send(Lane::Bulk, message.into(), Via::Restore).await
    }
}

pub(crate) type Application = Box<dyn FnOnce(Session) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

type RestoreFunction = Arc<dyn Fn(Restoring) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A session, shared by the hub, its connections, its function and its handles.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    secret: Secret,
    options: SessionOptions,
    opened: Instant,
    hub: Weak<HubInner>,
    base: Arc<str>,
    reader: AtomicWaker,
    /// Told when there may be room in the outbox, and when the session is over.
    changed: Notify,
    /// How many wait for `changed`.
    senders: AtomicUsize,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) machine: SessionMachine,
    application: Option<Application>,
    task: Option<AbortHandle>,
    connections: Vec<(ConnectionKey, Arc<AtomicWaker>)>,
    next_connection: u64,
    events: Option<broadcast::Sender<Event>>,
    on_restore: Option<RestoreFunction>,
    /// What others send while a restore runs.
    gate: Option<Gate>,
    account: Account,
    /// When the sweeper looks at this session next.
    pub(crate) scheduled: Option<Instant>,
}

#[derive(Default)]
struct Gate {
    queued: Vec<(Lane, Message)>,
    charge: u64,
}

enum Taken {
    Message(Lane, Received),
    Restored,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Handle,
    Restore,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        hub: &Arc<HubInner>,
        base: Arc<str>,
        options: SessionOptions,
        application: Application,
        account: Account,
        now: Instant,
    ) -> Arc<Self> {
        let id = SessionId::random();
        let seed = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has 16 bytes"));
        let machine = SessionMachine::new(options.limits, options.timing, seed, now);
        Arc::new(Self {
            id,
            secret: Secret::random(),
            options,
            opened: now,
            hub: Arc::downgrade(hub),
            base,
            reader: AtomicWaker::new(),
            changed: Notify::new(),
            senders: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                machine,
                application: Some(application),
                task: None,
                connections: Vec::new(),
                next_connection: 0,
                events: None,
                on_restore: None,
                gate: None,
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

    /// The next frame for a connection.
    pub(crate) fn poll_transmit(&self, key: ConnectionKey, now: Instant) -> Option<Frame> {
        self.lock().machine.poll_transmit(key, now)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Lets `change` change the machine, then does what follows from it.
    pub(crate) fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut SessionMachine, Instant) -> T) -> T {
        self.update_for(None, change)
    }

    /// [`Shared::update`] by the loop of a connection, which is awake and need not be woken.
    pub(crate) fn update_for<T>(
        self: &Arc<Self>,
        awake: Option<ConnectionKey>,
        change: impl FnOnce(&mut SessionMachine, Instant) -> T,
    ) -> T {
        let now = crate::clock::now();
        let mut inner = self.lock();
        let result = change(&mut inner.machine, now);
        self.settle(inner, awake, now);
        result
    }

    /// What follows from a change of the machine. Takes the lock's guard so that it is released before anything is called.
    fn settle(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, awake: Option<ConnectionKey>, now: Instant) {
        let mut effects = Vec::new();
        while let Some(event) = inner.machine.poll_event() {
            if let Some(effect) = inner.effect_of(&event) {
                effects.push(effect);
            }
            if let Some(events) = &inner.events {
                // Nobody listening any more is no error.
                let _ = events.send(event);
            }
        }
        inner.account();
        let readable = inner.machine.has_message() || !effects.is_empty();
        for (key, waker) in &inner.connections {
            if Some(*key) != awake {
                waker.wake();
            }
        }
        let has_room = self.senders.load(Ordering::Relaxed) > 0;
        drop(inner);
        if readable {
            self.reader.wake();
        }
        if has_room || !effects.is_empty() {
            self.changed.notify_waiters();
        }
        for effect in effects {
            self.apply(effect, now);
        }
    }

    fn apply(self: &Arc<Self>, effect: Effect, now: Instant) {
        let Some(hub) = self.hub.upgrade() else { return };
        match effect {
            Effect::Start(application) => {
                self.start(&hub, application);
                hub.session_connected(self, now);
            }
            Effect::Connected => hub.session_connected(self, now),
            Effect::SoftClosed => hub.session_soft_closed(self, now),
            Effect::Restore(restore) => self.restore(&hub, restore),
            Effect::Ended(farewell) => hub.session_ended(self, farewell, now),
        }
    }

    /// The application function begins: a browser has come.
    fn start(self: &Arc<Self>, hub: &Arc<HubInner>, application: Application) {
        hub.session_started();
        let session = Session { handle: SessionHandle::new(Arc::clone(self)), incarnation: 1 };
        let shared = Arc::clone(self);
        let task = hub.runtime().spawn(async move {
            let result = AssertUnwindSafe(async move { application(session).await }).catch_unwind().await;
            match result {
                Ok(()) => shared.update(|machine, now| machine.close(EndReason::Finished, now)),
                Err(_) => shared.update(|machine, now| machine.abort(EndReason::Panicked, now)),
            }
            shared.update(|machine, _| machine.discard_received());
        });
        let mut inner = self.lock();
        if matches!(inner.machine.phase(), Phase::Closed(_)) {
            drop(inner);
            hub.give_grace(task.abort_handle(), crate::clock::now());
        } else {
            inner.task = Some(task.abort_handle());
        }
    }

    /// Runs the application's restore function, then lets the others' messages follow.
    fn restore(self: &Arc<Self>, hub: &Arc<HubInner>, restore: RestoreFunction) {
        let shared = Arc::clone(self);
        hub.runtime().spawn(async move {
            let restoring = Restoring { handle: SessionHandle::new(Arc::clone(&shared)) };
            let restored = AssertUnwindSafe(async move { restore(restoring).await }).catch_unwind();
            match tokio::time::timeout(RESTORE_WAIT, restored).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::error!(session = %shared.id, "the restore function panicked"),
                Err(_) => tracing::error!(session = %shared.id, "the restore function did not return within 10 s"),
            }
            shared.open_gate();
        });
    }

    fn open_gate(self: &Arc<Self>) {
        let mut inner = self.lock();
        let gate = inner.gate.take().unwrap_or_default();
        for (lane, message) in gate.queued {
            inner.machine.send(lane, message);
        }
        self.settle(inner, None, crate::clock::now());
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
        let mut inner = self.lock();
        inner.connections.retain(|(known, _)| *known != key);
        if inner.connections.is_empty() {
            inner.connections = Vec::new();
        }
        let now = crate::clock::now();
        inner.machine.handle_closed(key, now);
        self.settle(inner, None, now);
    }

    /// How long browsers are told that the session waits for them, in ms.
    pub(crate) fn keep(&self) -> u64 {
        let Some(hub) = self.hub.upgrade() else { return 0 };
        let snapshot = self.snapshot();
        let policy = hub.policy();
        crate::machine::millis(if policy.allow_soft_close(&snapshot) { policy.keep(&snapshot) } else { Duration::ZERO })
    }

    // ---- reading

    fn poll_take(self: &Arc<Self>, incarnation: &mut u64, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        self.reader.register(context.waker());
        let now = crate::clock::now();
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
        let was_due = inner.machine.is_ack_due();
        let timer = inner.machine.poll_timeout();
        match inner.machine.take(now) {
            Some((lane, received)) => {
                inner.account();
                // Credit has come back: the connection must hear of it if that is to be reported, now or soon.
                if inner.machine.is_ack_due() != was_due || inner.machine.poll_timeout() != timer {
                    inner.connections.iter().for_each(|(_, waker)| waker.wake());
                }
                Poll::Ready(Some(Taken::Message(lane, received)))
            }
            None if matches!(inner.machine.phase(), Phase::Closed(_)) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn unpack(&self, (lane, received): (Lane, Received)) -> Result<Message, InflateError> {
        let compressed = received.compressed;
        let payload = received.into_bytes();
        let payload = if compressed { inflate(&payload, self.options.limits.inflated)? } else { payload };
        Ok(Message { lane, ..Message::new(payload) })
    }

    // ---- sending

    async fn send(self: &Arc<Self>, lane: Lane, message: Message, via: Via) -> Result<(), SendError> {
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

    fn try_send(self: &Arc<Self>, lane: Lane, message: Message, via: Via) -> Result<(), TrySendError> {
        let mut message = Some(self.pack(message)?);
        if self.push(lane, &mut message, via)? { Ok(()) } else { Err(TrySendError::Full) }
    }

    /// Compresses what is worth it and refuses what could never be sent.
    fn pack(&self, mut message: Message) -> Result<Message, SendError> {
        let threshold = self.options.compress_from.unwrap_or(usize::MAX);
        if !message.compressed && message.len() >= threshold && message.len() as u64 <= self.options.limits.inflated {
            if let Some(deflated) = deflate(&message.payload) {
                message = Message { payload: deflated, compressed: true, lane: message.lane, shared: None };
            }
        }
        let (size, limit) = (message.payload.len() as u64, self.options.limits.message);
        if size > limit { Err(SendError::TooLarge { size, limit }) } else { Ok(message) }
    }

    /// Takes the message out of `message` and queues it, if there is room.
    fn push(self: &Arc<Self>, lane: Lane, message: &mut Option<Message>, via: Via) -> Result<bool, SendError> {
        let mut inner = self.lock();
        if let Phase::Ending(reason) | Phase::Closed(reason) = inner.machine.phase() {
            return Err(SendError::Ended(reason.clone()));
        }
        let Some(size) = message.as_ref().map(|message| message.len()) else { return Ok(true) };
        if !inner.admits(lane, size, via, &self.options.limits) {
            return Ok(false);
        }
        let Some(message) = message.take() else { return Ok(true) };
        match &mut inner.gate {
            Some(gate) if via == Via::Handle => {
                gate.charge += size as u64 + crate::limits::FRAME_CHARGE;
                gate.queued.push((lane, message));
            }
            _ => inner.machine.send(lane, message),
        }
        inner.account();
        inner.connections.iter().for_each(|(_, waker)| waker.wake());
        Ok(true)
    }

    // ---- the rest

    pub(crate) fn drain(self: &Arc<Self>, retry_after: Duration, wait: Duration) {
        self.update(|machine, now| machine.close_with(EndReason::Draining, retry_after, wait, now));
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
            buffered: machine.owned(),
            reconnects: machine.reconnects(),
            version: machine.version(),
        }
    }

    fn ticket(&self) -> Ticket {
        let inner = self.lock();
        if let Phase::Closed(reason @ (EndReason::Full | EndReason::Draining)) = inner.machine.phase() {
            let code = if *reason == EndReason::Full { Code::Full } else { Code::Draining };
            return Ticket::refused(code, REFUSED_RETRY, reason.to_string());
        }
        Ticket::access(&self.base, &self.id, &self.secret, self.options.limits.normalised(), self.options.restore.clone())
    }

    fn script_tag(&self, attributes: &str) -> String {
        let (base, script, ticket) = (&self.base, client::script_name(), self.ticket().to_attribute());
        format!("<script src=\"{base}/{script}\"{attributes} data-stillhere=\"{ticket}\"></script>")
    }
}

/// What a change of a machine leads to outside the lock.
enum Effect {
    Start(Application),
    Connected,
    SoftClosed,
    Restore(RestoreFunction),
    Ended(Farewell),
}

/// What the hub needs to know of a session that has ended.
pub(crate) struct Farewell {
    pub(crate) reason: EndReason,
    pub(crate) never_started: bool,
    pub(crate) task: Option<AbortHandle>,
}

impl Inner {
    fn effect_of(&mut self, event: &Event) -> Option<Effect> {
        match event {
            // One that was closed before its browser came has no more use for its function.
            Event::Opened if matches!(self.machine.phase(), Phase::Open) => self.application.take().map(Effect::Start),
            Event::Opened | Event::Resumed { .. } => Some(Effect::Connected),
            Event::SoftClosed(_) => Some(Effect::SoftClosed),
            Event::Restored { .. } => match self.on_restore.clone() {
                Some(restore) => {
                    self.gate = Some(Gate::default());
                    Some(Effect::Restore(restore))
                }
                None => Some(Effect::Connected),
            },
            Event::Ended(reason) => {
                let never_started = self.application.take().is_some();
                if never_started {
                    self.machine.discard_received();
                }
                self.gate = None;
                Some(Effect::Ended(Farewell { reason: reason.clone(), never_started, task: self.task.take() }))
            }
        }
    }

    fn admits(&self, lane: Lane, size: usize, via: Via, limits: &Limits) -> bool {
        match &self.gate {
            Some(gate) if via == Via::Handle => {
                let charge = size as u64 + crate::limits::FRAME_CHARGE;
                gate.queued.is_empty() || gate.charge + self.machine.outgoing(lane) + charge <= limits.outbox
            }
            _ => self.machine.admits(lane, size),
        }
    }

    /// Tells the hub what this session holds now.
    fn account(&mut self) {
        self.account.set(self.machine.owned() + self.gate.as_ref().map_or(0, |gate| gate.charge));
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
const REFUSED_RETRY: Duration = Duration::from_secs(5);

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
