//! What a test's page has received and the test has not taken yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use stillhere_client::Client;
use tokio::sync::watch;

use crate::failure::FailureCode;
use crate::shared::Received;
use crate::testing::PageCallError;
use crate::testing::room::RoomView;
use crate::unit::{self, Kind, Unit};
use crate::value::Value;

/// Answers a call of the server: gets the call's id and its question, and returns the unit to send.
pub(super) type Handler = Arc<dyn Fn(u64, &Value) -> Vec<u8> + Send + Sync>;

/// How a call of the page ended.
pub(super) type Outcome = Result<Value, PageCallError>;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Changes when something has arrived.
    changed: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) messages: VecDeque<Received>,
    pub(super) events: HashMap<String, VecDeque<Value>>,
    /// The page's calls that are not answered, with the items of those that are streamed.
    pub(super) calls: HashMap<u64, Asked>,
    pub(super) observed: HashMap<String, Observed>,
    pub(super) handlers: HashMap<String, Handler>,
    pub(super) rooms: HashMap<String, RoomView>,
    is_over: bool,
}

/// A call of the page.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) items: Vec<Value>,
    pub(super) outcome: Option<Outcome>,
}

/// An observable, as the page has it.
#[derive(Default)]
pub(super) struct Observed {
    /// Number of the page's last set.
    pub(super) number: u64,
    pub(super) value: Option<Value>,
}

impl Inbox {
    /// Returns the inbox of a new document, in which the same script has run: it has the handlers.
    pub(super) fn of_next_document(&self) -> Self {
        let handlers = self.lock().handlers.clone();
        let state = State {
            handlers,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives until the session is over.
    pub(super) async fn fill(self: Arc<Self>, client: Arc<Client>) {
        while let Some(message) = client.recv().await {
            let answer = self.keep(&message.into_bytes());
            self.changed.send_replace(());
            if let Some(answer) = answer {
                // If the session is over, nobody waits for the answer.
                let _ = client.send(answer).await;
            }
        }
        self.lock().is_over = true;
        self.changed.send_replace(());
    }

    /// Waits until `take` finds what it wants.
    ///
    /// # Panics
    /// Panics if it is not there after [`PATIENCE`], or if the session is over without it.
    pub(super) async fn wait<T>(&self, what: &str, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                {
                    let state = &mut *self.lock();
                    if let Some(taken) = take(state) {
                        return taken;
                    }
                    assert!(!state.is_over, "the session ended before the page received {what}");
                }
                let _ = changed.changed().await;
            }
        });
        waiting
            .await
            .unwrap_or_else(|_| panic!("the page has not received {what} within an hour"))
    }

    /// Waits for the end of a call.
    pub(super) async fn outcome(&self, id: u64) -> (Vec<Value>, Outcome) {
        self.wait("an answer", |state| {
            let is_over = state.is_over;
            let asked = state.calls.get_mut(&id)?;
            if is_over {
                asked.outcome.get_or_insert(Err(PageCallError::SessionOver));
            }
            let outcome = asked.outcome.take()?;
            let items = std::mem::take(&mut asked.items);
            state.calls.remove(&id);
            Some((items, outcome))
        })
        .await
    }

    /// Keeps a unit for the test. Returns the answer if it is a call.
    fn keep(&self, message: &Bytes) -> Option<Vec<u8>> {
        let unit = Unit::decode(message).unwrap_or_else(|error| panic!("the server sent what is no unit: {error}"));
        let state = &mut *self.lock();
        match unit {
            Unit::Bytes(bytes) => state.messages.push_back(Received::Bytes(bytes)),
            Unit::Text(text) => state.messages.push_back(Received::Text(text.to_owned())),
            Unit::Message(value) => state.messages.push_back(Received::Value(value)),
            Unit::Event { name, value } => state.events.entry(name.to_owned()).or_default().push_back(value),
            Unit::Set { name, number, value } => state.set(name, number, value),
            Unit::Answer { id, value } => state.end_call(id, Ok(value)),
            Unit::Failure { id, code, text } => state.end_call(id, Err(PageCallError::new(code, text))),
            Unit::Item { id, value } => {
                if let Some(asked) = state.calls.get_mut(&id) {
                    asked.items.push(value);
                }
            }
            Unit::Call { id, name, value, .. } => return Some(state.answer(id, name, &value)),
            Unit::Room { room, action, value } => state.room(room).receive(action, &value),
            Unit::RoomEvent {
                room,
                member,
                name,
                value,
            } => {
                let events = state.room(room).events.entry(name.to_owned()).or_default();
                events.push_back((member, value));
            }
            // The handlers of a test answer at once, and do not stream.
            Unit::Cancel { .. } | Unit::More { .. } | Unit::Error(_) => {}
        }
        None
    }
}

impl State {
    /// Keeps a set of the server, unless a set of the page is on its way, which is newer.
    fn set(&mut self, name: &str, number: u64, value: Value) {
        let observed = self.observed.entry(name.to_owned()).or_default();
        if observed.number == number {
            observed.value = Some(value);
        }
    }

    pub(super) fn room(&mut self, name: &str) -> &mut RoomView {
        self.rooms.entry(name.to_owned()).or_default()
    }

    fn end_call(&mut self, id: u64, outcome: Outcome) {
        if let Some(asked) = self.calls.get_mut(&id) {
            asked.outcome = Some(outcome);
        }
    }

    fn answer(&self, id: u64, name: &str, question: &Value) -> Vec<u8> {
        match self.handlers.get(name) {
            Some(handler) => handler(id, question),
            None => unit::failure(id, FailureCode::Missing, ""),
        }
    }
}

/// Returns the answer of a handler as a unit.
pub(super) fn answer<Q, A>(id: u64, question: &Value, handler: impl FnOnce(Q) -> Result<A, String>) -> Vec<u8>
where
    Q: serde::de::DeserializeOwned,
    A: serde::Serialize,
{
    let question = match question.decode() {
        Ok(question) => question,
        Err(error) => return unit::failure(id, FailureCode::Undecodable, &error.to_string()),
    };
    match handler(question) {
        Ok(answer) => {
            let head = unit::begin_with(Kind::Answer, id);
            let answer = crate::codec::Codec::Json.write(&answer, head);
            answer.unwrap_or_else(|error| panic!("a handler of the page: {error}"))
        }
        Err(text) => unit::failure(id, FailureCode::Rejected, &text),
    }
}

/// How long a page waits for something, on tokio's clock.
const PATIENCE: Duration = Duration::from_secs(3600);
