//! What a session's function, its handles and its pump share.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::call_error::CallError;
use crate::items::Credit;
use crate::layer::Layer;
use crate::observable::Observed;
use crate::options::AppOptions;
use crate::restoring::RestoreFunction;
use crate::rooms::{Door, JoinBudget, Seated};
use crate::trouble::Trouble;
use crate::value::{DecodeError, Value};

/// What [`Session::recv`](crate::Session::recv) returns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// Bytes.
    Bytes(bytes::Bytes),
    /// Text.
    Text(String),
    /// A value, to be decoded.
    Value(Value),
}

impl Received {
    /// What it counts against [`AppOptions::unread`].
    pub(crate) fn charge(&self) -> usize {
        ENTRY_CHARGE
            + match self {
                Self::Bytes(bytes) => bytes.len(),
                Self::Text(text) => text.len(),
                Self::Value(value) => value.size(),
            }
    }
}

/// Answers one call: returns the unit to send.
pub(crate) type CallWork = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;
pub(crate) type CallHandler = Arc<dyn Fn(Question) -> CallWork + Send + Sync>;

/// A call of the page, for its handler.
pub(crate) struct Question {
    pub(crate) id: u64,
    pub(crate) value: Value,
    /// Present if the page takes a stream.
    pub(crate) credit: Option<Credit>,
}
pub(crate) type EventWork = Pin<Box<dyn Future<Output = Result<(), DecodeError>> + Send>>;
pub(crate) type EventHandler = Arc<dyn Fn(Value) -> EventWork + Send + Sync>;
pub(crate) type TroubleHook = Arc<dyn Fn(&Trouble) + Send + Sync>;
pub(crate) type Answer = Result<Value, CallError>;

/// A call to the page that is not answered.
pub(crate) struct Pending {
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Takes the items of a stream, as many as the page may send.
    pub(crate) items: Option<mpsc::Sender<Value>>,
}

pub(crate) struct Shared {
    /// What the session's hub has of this layer.
    pub(crate) layer: Arc<Layer>,
    pub(crate) options: AppOptions,
    state: Mutex<State>,
    /// Something can be read, or the session is over.
    pub(crate) arrived: Notify,
    /// The pump has something to do: there is room again, or a call was given up.
    pub(crate) work: Notify,
}

/// What one lock protects. No code of the application runs while it is held.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) unread: VecDeque<Received>,
    /// The charge of what the function has not read and of waiting events.
    pub(crate) unread_charge: usize,
    pub(crate) call_handlers: HashMap<Box<str>, CallHandler>,
    pub(crate) event_handlers: HashMap<Box<str>, EventHandler>,
    pub(crate) observables: HashMap<Box<str>, Arc<dyn Observed>>,
    /// Observables that have a newer value than the page.
    pub(crate) changed: VecDeque<Arc<dyn Observed>>,
    pub(crate) restore: Option<RestoreFunction>,
    /// The rooms of which the session is a member.
    pub(crate) rooms: HashMap<Box<str>, Arc<Seated>>,
    pub(crate) door: Option<Arc<Door>>,
    pub(crate) joins: JoinBudget,
    pub(crate) trouble_hook: Option<TroubleHook>,
    /// Calls to the page that are not answered.
    pub(crate) calls: HashMap<u64, Pending>,
    pub(crate) last_id: u64,
    /// Calls to the page that were given up while there was no room for the cancel.
    pub(crate) cancels: Vec<u64>,
    /// The function has dropped its session, so what it would read is dropped.
    pub(crate) reader_is_gone: bool,
    pub(crate) is_over: bool,
}

impl State {
    /// Returns true if so much is unread that nothing more is read from the page.
    pub(crate) fn is_full(&self, options: &AppOptions) -> bool {
        self.unread_charge > options.unread
    }
}

impl Shared {
    pub(crate) fn new(layer: Arc<Layer>, options: AppOptions) -> Self {
        Self {
            layer,
            options,
            state: Mutex::default(),
            arrived: Notify::new(),
            work: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the pump send the value of an observable.
    pub(crate) fn queue(&self, observed: Arc<dyn Observed>) {
        {
            let mut state = self.lock();
            if state.is_over {
                return;
            }
            state.changed.push_back(observed);
        }
        self.work.notify_one();
    }

    /// Keeps something for the function to read.
    pub(crate) fn keep(&self, received: Received) {
        {
            let mut state = self.lock();
            if state.reader_is_gone {
                return;
            }
            state.unread_charge += received.charge();
            state.unread.push_back(received);
        }
        self.arrived.notify_one();
    }

    /// Drops what is unread, and what arrives from now on.
    pub(crate) fn reader_is_gone(&self) {
        let unread = {
            let mut state = self.lock();
            state.reader_is_gone = true;
            let unread = std::mem::take(&mut state.unread);
            state.unread_charge -= unread.iter().map(Received::charge).sum::<usize>();
            unread
        };
        drop(unread);
        self.work.notify_one();
    }

    /// Takes the oldest unread message. Returns `None` if there is none.
    pub(crate) fn take(&self) -> Option<Received> {
        let (received, is_room) = {
            let mut state = self.lock();
            let was_full = state.is_full(&self.options);
            let received = state.unread.pop_front()?;
            state.unread_charge -= received.charge();
            (received, was_full && !state.is_full(&self.options))
        };
        if is_room {
            self.work.notify_one();
        }
        Some(received)
    }

    /// Hands on an item of a stream. A page that sends more than it may loses the stream.
    pub(crate) fn item(&self, id: u64, item: Value) {
        let failed = {
            let state = &mut *self.lock();
            let items = state.calls.get(&id).and_then(|call| call.items.as_ref());
            let is_full = items.is_some_and(|items| matches!(items.try_send(item), Err(TrySendError::Full(_))));
            if is_full {
                state.cancels.push(id);
            }
            is_full.then(|| state.calls.remove(&id)).flatten()
        };
        if let Some(call) = failed {
            let text = "the page sent more items than it may".to_owned();
            let _ = call.answer.send(Err(CallError::Failed(text)));
        }
    }

    /// Fails every call that waits for the page.
    pub(crate) fn fail_calls(&self, error: impl Fn() -> CallError) {
        let calls = std::mem::take(&mut self.lock().calls);
        for (_, call) in calls {
            let _ = call.answer.send(Err(error()));
        }
    }

    /// Fails calls to the page, now and later, because nothing more comes from it.
    pub(crate) fn end_calls(&self) {
        self.lock().is_over = true;
        self.fail_calls(|| CallError::SessionOver);
        self.arrived.notify_one();
    }

    /// Ends the layer: calls fail, the reader learns it, and handlers are dropped, because they may
    /// hold a handle of this session.
    pub(crate) fn end(&self) {
        let handlers = {
            let mut state = self.lock();
            state.is_over = true;
            state.cancels = Vec::new();
            (
                std::mem::take(&mut state.call_handlers),
                std::mem::take(&mut state.event_handlers),
                state.trouble_hook.take(),
                state.restore.take(),
                std::mem::take(&mut state.observables),
                std::mem::take(&mut state.changed),
                std::mem::take(&mut state.rooms),
                state.door.take(),
            )
        };
        drop(handlers);
        self.end_calls();
    }
}

/// Bytes that an unread message counts in addition to its content.
pub(crate) const ENTRY_CHARGE: usize = 64;
