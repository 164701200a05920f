//! A page without a browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use stillhere::{Hub, SessionHandle};
use stillhere_client::{Client, Status};
use tokio::task::AbortHandle;

use crate::app::app;
use crate::codec::Codec;
use crate::rooms::{Action, Member};
use crate::session::Session;
use crate::shared::Received;
use crate::testing::inbox::{Asked, Inbox, answer};
use crate::testing::network::{Network, connect};
use crate::testing::page_call_error::PageCallError;
use crate::unit::{self, Kind};
use crate::value::Value;
use crate::varint;

/// A page of a session, within the process. It is what `stillhere/app` is in a browser.
///
/// It sends JSON. What it receives stays with it until the test takes it. Its methods panic if
/// something does not happen within an hour of tokio's clock, if the session ends first, or if a
/// value is of another type: a test then fails there.
///
/// Dropping the page is like closing the tab: the session soft-closes.
pub struct Page {
    hub: Hub,
    session: SessionHandle,
    client: Arc<Client>,
    network: Network,
    inbox: Arc<Inbox>,
    reader: AbortHandle,
    /// Id of the last call. A document that takes over goes on with it.
    last_id: AtomicU64,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("session", self.session.id())
            .finish_non_exhaustive()
    }
}

impl Page {
    /// Opens a session of this function, and a page that connects to it.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn open<F, R>(hub: &Hub, function: F) -> Self
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::of(hub, &hub.open(app(function)))
    }

    /// Opens a page that connects to a session, whose function is one for [`app()`](crate::app()).
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn of(hub: &Hub, session: &SessionHandle) -> Self {
        Self::with(hub, session, Inbox::default(), 0)
    }

    fn with(hub: &Hub, session: &SessionHandle, inbox: Inbox, last_id: u64) -> Self {
        let (client, network) = connect(hub, session);
        let (client, inbox) = (Arc::new(client), Arc::new(inbox));
        let reader = tokio::spawn(Arc::clone(&inbox).fill(Arc::clone(&client))).abort_handle();
        Self {
            hub: hub.clone(),
            session: session.clone(),
            client,
            network,
            inbox,
            reader,
            last_id: AtomicU64::new(last_id),
        }
    }

    /// Returns the session.
    pub fn session(&self) -> &SessionHandle {
        &self.session
    }

    /// Returns whether the page is connected, and why not.
    pub fn status(&self) -> Status {
        self.client.status()
    }

    /// Lets nothing more reach the page, until the connection is cut. Both sides still believe in
    /// it.
    pub fn stall(&self) {
        self.network.stall();
    }

    /// Loses the connection and what is on its way. The page reconnects at once.
    pub fn cut(&self) {
        self.network.cut();
    }

    /// Loses the connection, and lets none through until [`Page::come_back`].
    pub fn go_away(&self) {
        self.network.go_away();
    }

    /// Lets connections through again. The page connects at once, as a browser does when the
    /// machine wakes up.
    pub fn come_back(&self) {
        self.network.come_back();
        self.client.wake();
    }

    /// Replaces the document by a new one, as F5 does. Handlers stay, since the same script runs
    /// again; everything else that was received and not taken is gone.
    pub fn reload(&mut self) {
        let inbox = self.inbox.of_next_document();
        let last_id = self.last_id.load(Ordering::Relaxed);
        *self = Self::with(&self.hub, &self.session, inbox, last_id);
    }

    /// Sends bytes.
    pub async fn send(&self, bytes: &[u8]) {
        self.deliver(unit::raw(Kind::Bytes, bytes)).await;
    }

    /// Sends text.
    pub async fn send_text(&self, text: &str) {
        self.deliver(unit::raw(Kind::Text, text.as_bytes())).await;
    }

    /// Sends a value.
    pub async fn send_json<T: Serialize + ?Sized>(&self, value: &T) {
        self.deliver(encode(value, unit::begin(Kind::Message))).await;
    }

    /// Sends an event.
    pub async fn emit<T: Serialize + ?Sized>(&self, name: &str, value: &T) {
        self.deliver(encode(value, begin(Kind::Event, name))).await;
    }

    /// Waits for the next bytes, text or value.
    pub async fn recv(&self) -> Received {
        self.inbox.wait("a message", |state| state.messages.pop_front()).await
    }

    /// Waits for the next message, which is a value, and decodes it.
    pub async fn recv_json<T: DeserializeOwned>(&self) -> T {
        match self.recv().await {
            Received::Value(value) => decode("the message", &value),
            other => panic!("the page received no value but {other:?}"),
        }
    }

    /// Waits for the next event of this name.
    pub async fn event<T: DeserializeOwned>(&self, name: &str) -> T {
        let what = format!("an event {name:?}");
        let event = self.inbox.wait(&what, |state| state.events.get_mut(name)?.pop_front());
        decode(&what, &event.await)
    }

    /// Calls the server's handler of this name.
    ///
    /// # Errors
    /// Returns a [`PageCallError`] if the server answers with a failure or the session ends.
    pub async fn call<A: DeserializeOwned>(
        &self,
        name: &str,
        question: &(impl Serialize + ?Sized),
    ) -> Result<A, PageCallError> {
        let (_, outcome) = self.ask(name, 0, question).await;
        Ok(decode("the answer", &outcome?))
    }

    /// Calls the server's handler of this name, which answers with a stream. Returns the items and
    /// the answer.
    ///
    /// # Errors
    /// Returns a [`PageCallError`] if the server answers with a failure or the session ends.
    pub async fn items<I: DeserializeOwned, A: DeserializeOwned>(
        &self,
        name: &str,
        question: &(impl Serialize + ?Sized),
    ) -> Result<(Vec<I>, A), PageCallError> {
        let (items, outcome) = self.ask(name, varint::MOST, question).await;
        let answer = decode("the answer", &outcome?);
        Ok((items.iter().map(|item| decode("an item", item)).collect(), answer))
    }

    async fn ask(
        &self,
        name: &str,
        credit: u64,
        question: &(impl Serialize + ?Sized),
    ) -> (Vec<Value>, Result<Value, PageCallError>) {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut head = unit::begin_with(Kind::Call, id);
        varint::write(credit, &mut head);
        write_name(name, &mut head);
        let question = encode(question, head);
        self.inbox.lock().calls.insert(id, Asked::default());
        if self.client.send(question).await.is_err() {
            return (Vec::new(), Err(PageCallError::SessionOver));
        }
        self.inbox.outcome(id).await
    }

    /// Sets the handler of the server's calls of this name. It answers at once; an `Err` rejects
    /// the call.
    pub fn handle<Q, A>(&self, name: &str, handler: impl Fn(Q) -> Result<A, String> + Send + Sync + 'static)
    where
        Q: DeserializeOwned,
        A: Serialize,
    {
        let handler = Arc::new(move |id, question: &Value| answer(id, question, &handler));
        self.inbox.lock().handlers.insert(name.to_owned(), handler);
    }

    /// Sets an observable.
    pub async fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) {
        let mut head = begin(Kind::Set, name);
        let number = {
            let state = &mut *self.inbox.lock();
            let observed = state.observed.entry(name.to_owned()).or_default();
            observed.number += 1;
            observed.value = Some(Value::new(encode(value, Vec::new()).into(), 0));
            observed.number
        };
        varint::write(number, &mut head);
        self.deliver(encode(value, head)).await;
    }

    /// Returns the value of an observable, as the page has it. Returns `None` if the page has none.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let state = self.inbox.lock();
        let value = state.observed.get(name)?.value.as_ref()?;
        Some(decode("the observable", value))
    }

    /// Waits until an observable has a value that satisfies the condition, and returns it.
    pub async fn wait_for<T: DeserializeOwned>(&self, name: &str, is_met: impl Fn(&T) -> bool) -> T {
        let what = format!("such a value of {name:?}");
        let found = self.inbox.wait(&what, |state| {
            let value = state.observed.get(name)?.value.as_ref()?;
            Some(decode("the observable", value)).filter(&is_met)
        });
        found.await
    }

    /// Asks to join a room. [`Page::wait_for_members`] waits until the page has.
    pub async fn join<T: Serialize + ?Sized>(&self, room: &str, state: &T) {
        self.ask_room(room, Action::Join, state).await;
    }

    /// Leaves a room.
    pub async fn leave(&self, room: &str) {
        self.inbox.lock().room(room).is_leaving = true;
        self.ask_room(room, Action::Leave, &()).await;
    }

    /// Changes what the page says of itself in a room. The server may refuse it.
    pub async fn set_room_state<T: Serialize + ?Sized>(&self, room: &str, state: &T) {
        let state = serde_json::to_value(state).unwrap_or_else(|error| panic!("a state: {error}"));
        let (number, version) = self.inbox.lock().room(room).set_state(state.clone());
        let set = serde_json::json!({ "number": number, "version": version, "state": state });
        self.ask_room(room, Action::State, &set).await;
    }

    /// Sends an event to the other members of a room.
    ///
    /// # Panics
    /// Panics if the page is not in the room.
    pub async fn emit_in<T: Serialize + ?Sized>(&self, room: &str, name: &str, value: &T) {
        let you = self.inbox.lock().room(room).you;
        assert!(you > 0, "the page is not in the room {room:?}");
        let mut head = begin(Kind::RoomEvent, room);
        varint::write(you, &mut head);
        write_name(name, &mut head);
        self.deliver(encode(value, head)).await;
    }

    /// Returns the members of a room as the page knows them, in the order of joining.
    pub fn members(&self, room: &str) -> Vec<Member> {
        self.inbox.lock().room(room).members()
    }

    /// Waits until the members of a room, as the page knows them, satisfy the condition.
    pub async fn wait_for_members(&self, room: &str, is_met: impl Fn(&[Member]) -> bool) -> Vec<Member> {
        let what = format!("such members of {room:?}");
        let found = self.inbox.wait(&what, |state| {
            Some(state.room(room).members()).filter(|members| is_met(members))
        });
        found.await
    }

    /// Waits for the next event of this name in a room. Returns the member that sent it, or 0 for
    /// the server, and the value.
    pub async fn room_event<T: DeserializeOwned>(&self, room: &str, name: &str) -> (u64, T) {
        let what = format!("an event {name:?} in {room:?}");
        let event = self
            .inbox
            .wait(&what, |state| state.room(room).events.get_mut(name)?.pop_front());
        let (from, value) = event.await;
        (from, decode(&what, &value))
    }

    /// Returns how many events of a room the page was told that it missed.
    pub fn missed(&self, room: &str) -> u64 {
        self.inbox.lock().room(room).missed
    }

    /// Waits until the page is told that it is not in a room, and returns why: `left`, `lagged` or
    /// `refused`.
    pub async fn wait_for_out(&self, room: &str) -> String {
        let what = format!("that it is not in {room:?}");
        self.inbox.wait(&what, |state| state.room(room).out.clone()).await
    }

    async fn ask_room<T: Serialize + ?Sized>(&self, room: &str, action: Action, value: &T) {
        let mut head = begin(Kind::Room, room);
        head.push(action as u8);
        self.deliver(encode(value, head)).await;
    }

    async fn deliver(&self, unit: Vec<u8>) {
        let sent = self.client.send(unit).await;
        sent.unwrap_or_else(|error| panic!("the page cannot send: {error}"));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn begin(kind: Kind, name: &str) -> Vec<u8> {
    let mut unit = unit::begin(kind);
    write_name(name, &mut unit);
    unit
}

fn write_name(name: &str, unit: &mut Vec<u8>) {
    unit::write_name(name, unit).unwrap_or_else(|error| panic!("{name:?}: {error}"));
}

fn encode<T: Serialize + ?Sized>(value: &T, head: Vec<u8>) -> Vec<u8> {
    let unit = Codec::Json.write(value, head);
    unit.unwrap_or_else(|error| panic!("the page sends a value: {error}"))
}

fn decode<T: DeserializeOwned>(what: &str, value: &Value) -> T {
    value.decode().unwrap_or_else(|error| panic!("{what}: {error}"))
}
