//! The application's side of a session: [`Session`] reads; [`SessionHandle`] sends, observes and
//! closes from anywhere.

mod batch;
mod beside;
#[cfg(feature = "durable")]
mod commits;
mod drained;
#[cfg(feature = "durable")]
mod durable;
#[cfg(feature = "durable")]
mod hand_over;
mod host;
mod latest;
mod lifecycle;
mod link;
#[cfg(not(feature = "durable"))]
mod not_durable;
#[cfg(feature = "durable")]
mod opening;
mod receive;
mod restore;
mod send;
mod shared;
mod state;
mod tag;

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::broadcast;

use crate::cleanup::{SessionSnapshot, SessionState};
use crate::client;
use crate::compression::InflateError;
#[cfg(feature = "durable")]
use crate::durable::head::TurnId;
use crate::ticket::Ticket;
use stillhere_proto::machine::{Event, SessionMachine};
use stillhere_proto::{EndReason, Lane, Message, SessionId};

pub(crate) use batch::Batch;
pub(crate) use beside::Beside;
#[cfg(feature = "durable")]
pub(crate) use commits::ENDED_KEEP;
#[cfg(feature = "durable")]
pub(crate) use durable::Reopened;
#[cfg(feature = "durable")]
pub(crate) use hand_over::HandOver;
pub(crate) use host::{Home, Host, Resized};
pub use latest::SendLatestError;
pub(crate) use link::Next;
#[cfg(feature = "durable")]
pub(crate) use opening::Opening;
pub use restore::Restoring;
pub use send::{SendError, TrySendError};
pub(crate) use shared::{Common, Shared};
pub(crate) use state::{Application, Teardown};
pub(crate) use tag::REFUSED_RETRY;

use receive::Taken;
use restore::RestoreFunction;
use send::Via;
use state::state_of;

/// The session of a page, as its application function gets it. Only a `Session` can read. To send,
/// it derefs to a [`SessionHandle`].
///
/// When the function given to [`Hub::open`](crate::Hub::open) returns, the session closes: it ends
/// once everything that was sent has been delivered.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    /// The newest document that the application knows, by a message from it or by
    /// [`Session::next`].
    incarnation: u64,
}

/// What [`Session::next`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// A message from the browser.
    Message(Message),
    /// Another document has taken over the session, by a reload or a restored tab. All later
    /// messages come from it. It has no state yet, so send it what it needs.
    Restored,
}

impl Session {
    /// Waits for the next message. Returns `None` once the session has ended and everything
    /// received has been read.
    ///
    /// Messages of one lane arrive in order. Cancel safe: a cancelled call has taken no message.
    /// After a restore, messages of the new document wait until the function given to
    /// [`Session::on_restore`] has returned.
    pub async fn recv(&mut self) -> Option<Message> {
        let reading = Reading(self);
        poll_fn(|context| {
            loop {
                match ready!(reading.0.poll_read(false, context)) {
                    Some(Incoming::Message(message)) => return Poll::Ready(Some(message)),
                    Some(Incoming::Restored) => {}
                    None => return Poll::Ready(None),
                }
            }
        })
        .await
    }

    /// Waits for the next message or the next document. Returns `None` once the session has ended
    /// and everything received has been read. Cancel safe.
    ///
    /// Useful for functions that keep their state in local variables:
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
        let reading = Reading(self);
        poll_fn(|context| reading.0.poll_read(true, context)).await
    }

    /// Reads the next message. With `reports_restore`, a document that the application does not
    /// know is reported first. A function keeps no state of its own while it waits here, so that
    /// its future stays small.
    fn poll_read(&mut self, reports_restore: bool, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        loop {
            let shared = &self.handle.shared;
            let known = reports_restore.then_some(self.incarnation);
            let (lane, received) = match ready!(shared.poll_take(known, context)) {
                None => return Poll::Ready(None),
                Some(Taken::Restored(incarnation)) => {
                    self.incarnation = incarnation;
                    return Poll::Ready(Some(Incoming::Restored));
                }
                Some(Taken::Message(lane, received)) => (lane, received),
            };
            self.incarnation = self.incarnation.max(received.incarnation);
            match shared.unpack((lane, received)) {
                Ok(message) => return Poll::Ready(Some(Incoming::Message(message))),
                Err(error) => {
                    tracing::debug!(session = %shared.id, %error, "ended the session: a message cannot be inflated");
                    shared.update(|machine, now| {
                        machine.handle_bad_payload(error == InflateError::TooLarge, now);
                        // Otherwise the application would read on and not notice that one is
                        // missing.
                        machine.discard_received();
                    });
                }
            }
        }
    }

    /// Ends the current turn by hand, and waits until it counts. Afterwards everything that it has
    /// sent reaches the browser even if the process is killed.
    ///
    /// A function that reads does not need this: its turn ends at each read. In a session that is
    /// not [`Durability::Crash`](crate::durable::Durability::Crash) there is nothing to wait for.
    /// While the store fails, this waits, and while a restore function runs: what is sent meanwhile
    /// counts together with what that sends.
    ///
    /// # Errors
    /// Returns why the session has ended, if it has.
    #[cfg(feature = "durable")]
    pub async fn commit(&mut self) -> Result<(), EndReason> {
        self.handle.shared.commit(true).await
    }

    /// Returns the message with which the current turn of a durable session began, or `None` before
    /// the first message. It is the same when the turn runs again after a crash, so with
    /// [`SessionHandle::id`] it is a key under which other systems can recognise what they have
    /// done before. A turn that began without a message, such as at the tick of a timer, has the id
    /// of the last one.
    #[cfg(feature = "durable")]
    pub fn turn(&self) -> Option<TurnId> {
        self.handle.shared.turn()
    }

    /// Returns a handle to use from other tasks.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// Sets the function that sends a new document its state. It runs whenever another document
    /// takes over the session, by a reload or a restored tab.
    ///
    /// `restore` sends first: other senders wait until it has returned, and so do messages of the
    /// new document. If it panics or takes longer than 10 s, the failure is logged and the session
    /// continues. It is dropped when another document takes over or the session ends.
    ///
    /// Call this before the function's first `.await`. If a second document has connected even
    /// earlier, `restore` runs for it at once, ahead of later sends, unless [`Session::next`] has
    /// reported that document or a message of it has been read. Calling this again replaces the
    /// function for later documents.
    pub fn on_restore<F, R>(&self, restore: F)
    where
        F: Fn(Restoring) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let restore: RestoreFunction = Arc::new(move |restoring| Box::pin(restore(restoring)));
        self.handle.shared.set_on_restore(restore, self.incarnation);
    }
}

/// A read. When it is over, also because it was cancelled, a turn begins.
struct Reading<'a>(&'a mut Session);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.handle.shared.read_is_over();
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

/// Sends to, observes and closes a session from anywhere. It is cheap to clone and does not keep
/// the session alive.
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

impl SessionHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the public id of the session.
    pub fn id(&self) -> &SessionId {
        &self.shared.id
    }

    /// Queues a message on the interactive lane. Waits while the outbox is full, even if no browser
    /// is connected.
    ///
    /// The message is kept until the browser has acknowledged it. Cancel safe: a cancelled send has
    /// queued nothing.
    ///
    /// # Errors
    /// Returns a [`SendError`] with the message if the session has ended or is closing, or if the
    /// message exceeds its limit.
    pub fn send(&self, message: impl Into<Message>) -> impl Future<Output = Result<(), SendError>> {
        self.shared.send(Lane::Interactive, message.into(), Via::Handle)
    }

    /// Queues a message on the bulk lane. Large messages there do not delay the interactive lane.
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::send`].
    pub fn send_bulk(&self, message: impl Into<Message>) -> impl Future<Output = Result<(), SendError>> {
        self.shared.send(Lane::Bulk, message.into(), Via::Handle)
    }

    /// Queues a message on the interactive lane if there is room.
    ///
    /// # Errors
    /// Returns a [`TrySendError`] with the message if there is no room, if the session has ended or
    /// is closing, or if the message exceeds its limit.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.shared.try_send(Lane::Interactive, message.into(), Via::Handle)
    }

    /// Queues a message on the bulk lane if there is room.
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::try_send`].
    pub fn try_send_bulk(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.shared.try_send(Lane::Bulk, message.into(), Via::Handle)
    }

    /// Prepares a message for many sessions, as [`Hub::share`](crate::Hub::share) of the session's
    /// hub does. Returns it as it is if the hub is gone.
    pub fn share(&self, message: impl Into<Message>) -> Message {
        match self.shared.common.host.upgrade() {
            Some(host) => host.share(message.into()),
            None => message.into(),
        }
    }

    /// Sets how many bytes the application holds for this session; 0 by default.
    ///
    /// Cleanup policies see it as [`SessionSnapshot::weight`]. The policy is asked soon after each
    /// change, on another thread. The weight does not count against
    /// [`HubBuilder::memory_limit`](crate::HubBuilder::memory_limit), which bounds the buffers.
    pub fn set_weight(&self, bytes: u64) {
        self.shared.set_weight(bytes);
    }

    /// Waits until everything that was sent to a durable session counts: it reaches the browser
    /// even if the process is killed. Messages that are sent while the function is in the middle of
    /// a turn count with that turn.
    ///
    /// Within the session's function use [`Session::commit`], because this waits for the end of the
    /// function's turn. Within a restore function use neither: both wait until it has returned. In
    /// a session that is not [`Durability::Crash`](crate::durable::Durability::Crash) there is
    /// nothing to wait for.
    ///
    /// # Errors
    /// Returns why the session has ended, if it has.
    #[cfg(feature = "durable")]
    pub async fn commit(&self) -> Result<(), EndReason> {
        self.shared.commit(false).await
    }

    /// Ends the session once the browser has acknowledged everything that was sent, and tells the
    /// browser `text`. Nothing more can be sent.
    ///
    /// If messages are left and there is no connection, the session waits for its browser as long
    /// as its policy allows. To end it at once, see [`SessionHandle::abort`].
    pub fn close(&self, text: &str) {
        self.shared.close(EndReason::Closed(text.into()));
    }

    /// Ends the session at once and tells the browser `text`. Messages that are not delivered yet
    /// are dropped.
    pub fn abort(&self, text: &str) {
        self.shared.abort(EndReason::Aborted(text.into()));
    }

    /// Closes the session as [`EndReason::Draining`] and tells the browser to try again after
    /// `retry_after`, as [`Hub::shutdown`](crate::Hub::shutdown) does.
    pub fn drain(&self, retry_after: Duration) {
        self.shared.drain(retry_after, DRAIN_WAIT);
    }

    /// Ends the connection and keeps the session. The browser reconnects at once, if it can.
    ///
    /// Has no effect on a session without a connection. If the policy allows no soft close, the
    /// session ends as [`EndReason::Disconnected`].
    pub fn soft_close(&self) {
        self.shared.update(SessionMachine::soft_close);
    }

    /// Returns the current state.
    pub fn state(&self) -> SessionState {
        state_of(&self.shared.lock().machine)
    }

    /// Returns the session as a cleanup policy sees it.
    pub fn snapshot(&self) -> SessionSnapshot {
        self.shared.snapshot()
    }

    /// Returns the user for whom the session was opened, if any.
    pub fn principal(&self) -> Option<&str> {
        self.shared.principal()
    }

    /// Returns the value of this type that is kept with the session's hub, as [`Hub::extension`]
    /// does, also after the hub was dropped.
    ///
    /// [`Hub::extension`]: crate::Hub::extension
    pub fn extension<T: Default + Any + Send + Sync>(&self) -> Arc<T> {
        self.shared.common.extensions.get()
    }

    /// Returns the runtime of the hub, for tasks that do something for several sessions. Unlike the
    /// current one, it does not end with the thread that a session's function runs on. Returns
    /// `None` once the hub was dropped.
    pub fn runtime(&self) -> Option<Handle> {
        Some(self.shared.common.host.upgrade()?.runtime().clone())
    }

    /// Waits until the session has ended, and returns why.
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

    /// Subscribes to the session's events from now on. A slow reader misses all but the last 16.
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

    /// Returns the number of messages that the browser has not acknowledged. After the end of the
    /// session it no longer changes.
    pub fn unacknowledged(&self) -> usize {
        self.shared.lock().unacknowledged()
    }

    /// Returns the address of the session's WebSocket: `/stillhere/<id>`, or an absolute URL if the
    /// hub's [`public_url`](crate::HubBuilder::public_url) is one.
    ///
    /// The client of a plain session needs nothing else, so there the URL is a secret; otherwise it
    /// is not. The ticket contains the same address, unless a kind of connection has [a URL of its
    /// own](crate::ConnectionSetup::url).
    pub fn url(&self) -> String {
        self.shared.url(&self.shared.common.base)
    }

    /// Returns what the page needs to connect. Clients of a plain session use
    /// [`SessionHandle::url`] instead.
    pub fn ticket(&self) -> Ticket {
        self.shared.ticket()
    }

    /// Returns [`SessionHandle::ticket`] as JSON.
    pub fn ticket_json(&self) -> String {
        self.ticket().to_json()
    }

    /// Returns a script element that connects the page. In the page, `stillhere.session` is the
    /// session.
    ///
    /// If a [kind of connection](crate::ConnectionSetup) has a script of its own, a second element
    /// follows. There is no inline code, so a Content-Security-Policy of `script-src 'self'` and
    /// `connect-src 'self'` is enough. The page must not be cached; the `Page` response of the
    /// adapters sets the headers for that.
    pub fn script_tag(&self) -> String {
        self.shared.script_tag(&client::script_name(), None)
    }

    /// Returns [`SessionHandle::script_tag`] with a nonce for the page's Content-Security-Policy. A
    /// nonce with characters outside of base64 is left out.
    pub fn script_tag_with_nonce(&self, nonce: &str) -> String {
        self.shared.script_tag(&client::script_name(), Some(nonce))
    }

    /// Returns [`SessionHandle::script_tag`] for a session whose function uses `stillhere-app`. In
    /// the page, `stillhere.session` then has the layer: `send`, `emit`, `on`, `call`, `observable`
    /// and so on.
    #[cfg(feature = "app")]
    pub fn app_script_tag(&self) -> String {
        self.shared.script_tag(&client::app_script_name(), None)
    }

    /// Returns [`SessionHandle::app_script_tag`] with a nonce, as
    /// [`SessionHandle::script_tag_with_nonce`] does.
    #[cfg(feature = "app")]
    pub fn app_script_tag_with_nonce(&self, nonce: &str) -> String {
        self.shared.script_tag(&client::app_script_name(), Some(nonce))
    }
}

/// A subscription to the events of a session, in order.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// Waits for the next event. Returns `None` after the end of the session. Skips events that a
    /// slow reader has missed. Cancel safe.
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

const EVENTS_KEPT: usize = 16;
const DRAIN_WAIT: Duration = Duration::from_secs(10);
