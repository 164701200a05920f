//! The client's public methods.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use stillhere_proto::machine::{DocumentMachine, DocumentPhase, Received, SendRefused};
use stillhere_proto::{Lane, Message};
use tokio::sync::watch;

use crate::shared::{Shared, State, now};
use crate::status::Status;

/// The client's end of a session.
///
/// A client outlives its connections: messages arrive once and in order in both directions, even if
/// the network fails in between. All methods take `&self`, so different tasks can send and receive
/// through one `Arc<Client>`. Dropping the client cuts the connection, and the server keeps the
/// session as it does for a lost browser. To leave the session, use [`Client::close`].
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    inflated: u64,
}

/// Why a message was not sent. Contains the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refused}")]
pub struct SendError {
    /// The message that was not sent.
    pub message: Message,
    /// Why it was not sent.
    pub refused: SendRefused,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, inflated: u64) -> Self {
        Self { shared, inflated }
    }

    /// Sends a message on the interactive lane. Waits while the outbox is full.
    ///
    /// # Errors
    /// Returns a [`SendError`] if the message is too large or the session has ended.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_when_admitted(Lane::Interactive, message.into()).await
    }

    /// Sends a message on the bulk lane, which never delays the interactive one for long. Waits
    /// while the outbox is full.
    ///
    /// # Errors
    /// Returns the errors of [`Client::send`].
    pub async fn send_bulk(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_when_admitted(Lane::Bulk, message.into()).await
    }

    /// Sends a message on a lane, if the outbox has room for it now.
    ///
    /// # Errors
    /// Returns a [`SendError`] if the outbox is full, the message is too large or the session has
    /// ended.
    pub fn try_send(&self, lane: Lane, message: impl Into<Message>) -> Result<(), SendError> {
        let message = message.into();
        self.shared.with(|state| state.send(lane, message))
    }

    /// Receives the next message, interactive ones first. Returns `None` once the session has ended
    /// and all messages have been received.
    pub async fn recv(&self) -> Option<Message> {
        self.shared
            .wait_until(|state| match self.take(state) {
                None if state.is_over() => Some(None),
                taken => taken.map(Some),
            })
            .await
    }

    /// Returns the next message of a lane, if one has arrived.
    pub fn try_recv(&self, lane: Lane) -> Option<Message> {
        self.shared.with(|state| self.take_from(lane, state))
    }

    /// Returns the current status of the session.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Returns a receiver that reports each change of the status.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Waits until the server has acknowledged every message. Returns false if the session ends
    /// before that.
    pub async fn flush(&self) -> bool {
        self.shared
            .wait_until(|state| match state.machine.unacknowledged() {
                0 => Some(true),
                _ => state.is_over().then_some(false),
            })
            .await
    }

    /// Leaves the session, as a page does when its tab is closed, and waits until the connection is
    /// closed. Messages that the server has not acknowledged may be lost; call [`Client::flush`]
    /// first to avoid that.
    pub async fn close(&self) {
        self.shared.with(|state| {
            state.is_closed = true;
            state.machine.handle_leave();
        });
        let closed = self.shared.wait_until(|state| state.is_done.then_some(()));
        if tokio::time::timeout(CLOSE_DEADLINE, closed).await.is_err() {
            self.shared.with(|state| state.is_dropped = true);
        }
        let unacknowledged = self.shared.lock().machine.unacknowledged();
        self.shared.status.send_if_modified(|status| {
            let is_news = !status.is_over();
            if is_news {
                *status = Status::Closed { unacknowledged };
            }
            is_news
        });
    }

    /// Connects now instead of waiting, or checks the current connection with a ping. Call this
    /// when the network has returned or the computer has resumed from sleep.
    pub fn wake(&self) {
        self.with_machine(|machine| machine.handle_wake(now()));
    }

    /// Accesses the protocol's state machine, for tests and special tools. Afterwards the client
    /// acts on what has changed. Do not poll events from the machine, because the client needs
    /// them; a [`Connector`](crate::Connector) can observe them.
    pub fn with_machine<T>(&self, access: impl FnOnce(&mut DocumentMachine) -> T) -> T {
        self.shared.with(|state| access(&mut state.machine))
    }

    /// Waits until `condition` returns a value. The client calls it again after every change.
    /// `condition` may use the client.
    pub async fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        let mut changes = self.shared.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(value) = condition() {
                return value;
            }
            // The sender lives as long as self.
            let _ = changes.changed().await;
        }
    }

    async fn send_when_admitted(&self, lane: Lane, message: Message) -> Result<(), SendError> {
        let mut message = Some(message);
        self.shared
            .wait_until(|state| match state.send(lane, message.take()?) {
                Err(error) if error.refused == SendRefused::OutboxFull => {
                    message = Some(error.message);
                    None
                }
                result => Some(result),
            })
            .await
    }

    fn take(&self, state: &mut State) -> Option<Message> {
        Lane::ALL.into_iter().find_map(|lane| self.take_from(lane, state))
    }

    fn take_from(&self, lane: Lane, state: &mut State) -> Option<Message> {
        if state.is_closed {
            return None;
        }
        let received = state.machine.take(lane)?;
        state.machine.release(lane, now());
        match inflated(received, self.inflated) {
            Ok(bytes) => Some(Message::new(bytes).on(lane)),
            Err(BadPayload { is_too_large }) => {
                state.machine.handle_bad_payload(is_too_large);
                None
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.with(|state| state.is_dropped = true);
    }
}

impl State {
    fn send(&mut self, lane: Lane, message: Message) -> Result<(), SendError> {
        let sent = if self.is_closed {
            Err(SendRefused::SessionOver)
        } else {
            self.machine.send(lane, message.clone())
        };
        sent.map_err(|refused| SendError { message, refused })
    }

    fn is_over(&self) -> bool {
        self.is_closed || self.machine.phase() == DocumentPhase::Over
    }
}

struct BadPayload {
    is_too_large: bool,
}

/// Returns the bytes of a message, inflated up to a limit.
fn inflated(received: Received, limit: u64) -> Result<Bytes, BadPayload> {
    let is_compressed = received.compressed;
    let payload = received.into_bytes();
    if !is_compressed {
        return Ok(payload);
    }
    let mut rest = &payload[..];
    let mut inflated = Vec::new();
    let read = ZlibDecoder::new(&mut rest).take(limit + 1).read_to_end(&mut inflated);
    let is_too_large = inflated.len() as u64 > limit;
    if is_too_large || read.is_err() {
        return Err(BadPayload { is_too_large });
    }
    Ok(inflated.into())
}

/// How long the last frames may take to be written.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
