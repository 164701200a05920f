//! The application's side of a session: [`Session`] reads, [`SessionHandle`] sends, observes and closes from anywhere.

mod beside;
mod host;
mod lifecycle;
mod link;
mod receive;
mod restore;
mod send;
mod shared;
mod state;
mod tag;

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::cleanup::{SessionSnapshot, SessionState};
use crate::compression::InflateError;
use crate::ticket::Ticket;
use stillhere_proto::machine::{Event, SessionMachine};
use stillhere_proto::{EndReason, Lane, Message, SessionId};

pub(crate) use beside::Beside;
pub(crate) use host::{Host, Resized};
pub(crate) use link::Transmit;
pub use restore::Restoring;
pub use send::{SendError, TrySendError};
pub(crate) use shared::Shared;
pub(crate) use state::{Application, Teardown};
pub(crate) use tag::REFUSED_RETRY;

use receive::Taken;
use restore::RestoreFunction;
use send::Via;
use state::state_of;

/// A page's session, as its application function holds it: the one reader. Sends like a [`SessionHandle`], which it derefs to.
///
/// When the function that was given to [`Hub::open`](crate::Hub::open) returns, the session ends once everything sent has been delivered.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    /// The newest document that the application knows of: a message of it was read, or [`Session::next`] told of it.
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
            if let Incoming::Message(message) = self.read(None).await? {
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
        self.read(Some(self.incarnation)).await
    }

    /// The next message, or the news of a document beyond `known`, if that is asked for.
    async fn read(&mut self, known: Option<u64>) -> Option<Incoming> {
        loop {
            let shared = &self.handle.shared;
            let (lane, received) = match poll_fn(|context| shared.poll_take(known, context)).await? {
                Taken::Restored(incarnation) => {
                    self.incarnation = incarnation;
                    return Some(Incoming::Restored);
                }
                Taken::Message(lane, received) => (lane, received),
            };
            self.incarnation = self.incarnation.max(received.incarnation);
            match shared.unpack((lane, received)) {
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
    ///
    /// Register it before anything is awaited. A document that was quicker than the session's first `on_restore` is made up for: `restore` runs for it
    /// at once, ahead of what is sent from now on, unless it is the session's first, [`Session::next`] has told of it, or a message of it has been read.
    /// A later `on_restore` replaces the function for the documents to come.
    pub fn on_restore<F, R>(&self, restore: F)
    where
        F: Fn(Restoring) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let restore: RestoreFunction = Arc::new(move |restoring| Box::pin(restore(restoring)));
        self.handle.shared.set_on_restore(restore, self.incarnation);
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

    /// Declares how many bytes the application holds for this session, for its cleanup policy to judge by: see
    /// [`SessionSnapshot::weight`]. The policy is asked soon after each change, on another thread. At first it is 0.
    ///
    /// It does not count against [`HubBuilder::memory_limit`](crate::HubBuilder::memory_limit), which bounds what sessions buffer.
    pub fn set_weight(&self, bytes: u64) {
        self.shared.set_weight(bytes);
    }

    /// Ends the session once the browser has everything that was sent. The browser is told `text`; nothing more can be sent.
    ///
    /// One without a connection waits for its browser as long as its policy lets it, unless the browser has everything already. To end it at
    /// once, see [`SessionHandle::abort`].
    pub fn close(&self, text: &str) {
        self.shared.close(EndReason::Closed(text.into()));
    }

    /// Ends the session at once, whatever is on its way. The browser is told `text`.
    pub fn abort(&self, text: &str) {
        self.shared.abort(EndReason::Aborted(text.into()));
    }

    /// Ends the session as a server that shuts down does: once everything is delivered, with a hint when to try again.
    pub fn drain(&self, retry_after: Duration) {
        self.shared.drain(retry_after, DRAIN_WAIT);
    }

    /// Drops the connection and keeps the session; the browser comes back at once, if it can. A session without a connection stays as it is,
    /// and one whose policy allows no soft close ends as [`EndReason::Disconnected`].
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

    /// The address of the session's WebSocket: `/stillhere/<id>`, or absolute if the hub's [`public_url`](crate::HubBuilder::public_url) is. The
    /// ticket has the same, unless a kind of connection has [a URL of its own](crate::ConnectionSetup::url). All that a client of a plain session needs; it holds no secret otherwise.
    pub fn url(&self) -> String {
        self.shared.url(&self.shared.base)
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
    /// A [kind of connection](crate::ConnectionSetup) may have a script of its own, for which a second element follows.
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

const EVENTS_KEPT: usize = 16;
const DRAIN_WAIT: Duration = Duration::from_secs(10);
