//! Sends, calls and handles from anywhere.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stillhere::{EndReason, SessionId};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::call::Call;
use crate::call_error::CallError;
use crate::codec::EncodeError;
use crate::items::Items;
use crate::newest::send_newest;
use crate::observable::{Observable, Observed};
use crate::page_stream::{CREDIT, PageStream};
use crate::rooms::{Door, PageRights, PublishError, Room, RoomError};
use crate::shared::{CallHandler, EventHandler, Shared};
use crate::shared_observable::SharedObservable;
use crate::trouble::Trouble;
use crate::unit::{self, BadName, Kind};
use crate::{handler, varint};

/// Sends to the page and handles what it sends, from anywhere. It is cheap to clone and does not
/// keep the session alive.
#[derive(Clone)]
pub struct SessionHandle {
    pub(crate) core: stillhere::SessionHandle,
    pub(crate) shared: Arc<Shared>,
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session has ended or is closing, or the message is above its limit. The message within
    /// is encoded for the page.
    #[error(transparent)]
    Session(#[from] stillhere::SendError),
    /// The value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The name is empty or too long.
    #[error(transparent)]
    Name(#[from] BadName),
    /// It is for a room, and the other servers cannot be told.
    #[error(transparent)]
    Room(#[from] PublishError),
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl SessionHandle {
    /// Returns the session below, to observe, drain or end it. Do not send with it: the page would
    /// take the bytes for malformed messages.
    pub fn core(&self) -> &stillhere::SessionHandle {
        &self.core
    }

    /// Returns the public id of the session.
    pub fn id(&self) -> &SessionId {
        self.core.id()
    }

    /// Returns the user for whom the session was opened, if any.
    pub fn principal(&self) -> Option<&str> {
        self.core.principal()
    }

    /// Ends the session once everything that was sent has arrived, and tells the page `text`.
    pub fn close(&self, text: &str) {
        self.core.close(text);
    }

    /// Waits until the session has ended, and returns why.
    pub async fn ended(&self) -> EndReason {
        self.core.ended().await
    }

    /// Sends bytes. Waits while the outbox is full, even if no browser is connected. Cancel safe.
    ///
    /// # Errors
    /// Returns [`SendError::Session`] if the session has ended or is closing, or the bytes exceed
    /// its limit.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.deliver(unit::raw(Kind::Bytes, bytes.as_ref())).await
    }

    /// Sends text, as [`SessionHandle::send`] does.
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::send`].
    pub async fn send_text(&self, text: impl AsRef<str>) -> Result<(), SendError> {
        self.deliver(unit::raw(Kind::Text, text.as_ref().as_bytes())).await
    }

    /// Sends a value, in the format of [`AppOptions::codec`](crate::AppOptions::codec) or, for an
    /// [`Array`](crate::Array), as its bytes.
    ///
    /// # Errors
    /// Returns a [`SendError`] if the value cannot be encoded, and the errors of
    /// [`SessionHandle::send`].
    pub async fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        let unit = self.encode(value, unit::begin(Kind::Message))?;
        self.deliver(unit).await
    }

    /// Sends an event to the page's handler of this name.
    ///
    /// # Errors
    /// Returns [`SendError::Name`] unless the name has 1 to 255 bytes, and the errors of
    /// [`SessionHandle::send_json`].
    pub async fn emit<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), SendError> {
        let mut unit = unit::begin(Kind::Event);
        unit::write_name(name, &mut unit)?;
        let unit = self.encode(value, unit)?;
        self.deliver(unit).await
    }

    /// Calls the page's handler of this name. Await the [`Call`] to make it.
    pub fn call<Q: Serialize + ?Sized, A: DeserializeOwned>(&self, name: &str, question: &Q) -> Call<A> {
        let id = self.next_id();
        let question = self.question(id, 0, name, question);
        Call::new(self.core.clone(), Arc::clone(&self.shared), id, question)
    }

    /// Calls the page's handler of this name, which answers with a stream: in the page, a handler
    /// that is an `async function*`. Its items come only as fast as they are taken.
    ///
    /// ```
    /// use stillhere_app::{CallError, SessionHandle};
    ///
    /// async fn read(session: &SessionHandle) -> Result<u64, CallError> {
    ///     let mut lines = session.stream::<_, String>("lines", "notes.txt");
    ///     let mut bytes = 0;
    ///     while let Some(line) = lines.next().await {
    ///         bytes += line?.len() as u64;
    ///     }
    ///     Ok(bytes)
    /// }
    /// ```
    pub fn stream<Q: Serialize + ?Sized, T: DeserializeOwned>(&self, name: &str, question: &Q) -> PageStream<T> {
        let id = self.next_id();
        let question = self.question(id, CREDIT, name, question);
        PageStream::new(self.core.clone(), Arc::clone(&self.shared), id, question)
    }

    fn next_id(&self) -> u64 {
        let mut state = self.shared.lock();
        state.last_id += 1;
        state.last_id
    }

    /// Sets the handler of an event. It replaces an earlier one of the same name.
    ///
    /// Events are handled one after another, in order with each other, also while the session's
    /// function awaits something else. One whose value cannot be decoded goes to
    /// [`SessionHandle::on_trouble`] instead. Handlers end with the function.
    ///
    /// # Panics
    /// Panics unless the name has 1 to 255 bytes.
    pub fn on<T, F, R>(&self, name: &str, handler: F)
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler: EventHandler = handler::of_events(handler);
        assert!((1..=255).contains(&name.len()), "{BadName}");
        let replaced = {
            let mut state = self.shared.lock();
            if state.is_over {
                Some(handler)
            } else {
                state.event_handlers.insert(name.into(), handler)
            }
        };
        drop(replaced);
    }

    /// Sets the handler of calls of this name. It replaces an earlier one.
    ///
    /// Handlers run at the same time as the session's function, within its task, and may call the
    /// page themselves. The text of an error is what the page gets. If the page cancels, the
    /// handler is dropped at its next `.await`. If it panics, the call fails, and the session goes
    /// on. Handlers end with the function.
    ///
    /// # Panics
    /// Panics unless the name has 1 to 255 bytes.
    pub fn handle<Q, A, E, F, R>(&self, name: &str, handler: F)
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + 'static,
        E: fmt::Display + 'static,
        F: Fn(Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
    {
        self.set_call_handler(name, handler::of_calls(name, self.shared.options.codec, handler));
    }

    /// Sets the handler of calls of this name, which answers with a stream: it sends items, as the
    /// page wants them, and then returns the answer. Otherwise it is a handler like those of
    /// [`SessionHandle::handle`]. A call that takes no stream fails.
    ///
    /// # Panics
    /// Panics unless the name has 1 to 255 bytes.
    pub fn handle_stream<Q, I, A, E, F, R>(&self, name: &str, handler: F)
    where
        Q: DeserializeOwned + Send + 'static,
        I: Serialize + 'static,
        A: Serialize + 'static,
        E: fmt::Display + 'static,
        F: Fn(Q, Items<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
    {
        self.set_call_handler(name, handler::of_streams(name, self, handler));
    }

    fn set_call_handler(&self, name: &str, handler: CallHandler) {
        assert!((1..=255).contains(&name.len()), "{BadName}");
        let replaced = {
            let mut state = self.shared.lock();
            if state.is_over {
                Some(handler)
            } else {
                state.call_handlers.insert(name.into(), handler)
            }
        };
        drop(replaced);
    }

    /// Creates an observable, which the page knows by the same name.
    ///
    /// # Panics
    /// Panics if the session has an observable of this name or 1,024 observables, or if the name
    /// does not have 1 to 255 bytes.
    pub fn observable<T>(&self, name: &str, value: T) -> Observable<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        assert!((1..=255).contains(&name.len()), "{BadName}");
        let observable = Observable::new(name, value, Arc::clone(&self.shared));
        self.add_observable(name, observable.observed());
        observable.update(|_| {});
        observable
    }

    /// Shows the page a value that many sessions share, as an observable of its name. What the page
    /// sets is not taken: it gets the value again.
    ///
    /// # Panics
    /// Panics if the session has an observable of this name or 1,024 observables.
    pub fn share<T: Serialize + Send + Sync + 'static>(&self, observable: &SharedObservable<T>) {
        self.share_while(observable, None);
    }

    /// Shares an observable, and holds what keeps it up to date for as long.
    fn share_while<T>(&self, observable: &SharedObservable<T>, source: Option<Arc<dyn Any + Send + Sync>>)
    where
        T: Serialize + Send + Sync + 'static,
    {
        let follower = observable.follower(&self.core, &self.shared, source);
        self.add_observable(observable.name(), Arc::clone(&follower) as _);
        observable.begin(&follower);
    }

    fn add_observable(&self, name: &str, observed: Arc<dyn Observed>) {
        let (is_taken, fits) = {
            let mut state = self.shared.lock();
            let is_taken = state.observables.contains_key(name);
            let fits = state.observables.len() < MOST_OBSERVABLES;
            if !is_taken && fits && !state.is_over {
                state.observables.insert(name.into(), observed);
            }
            (is_taken, fits)
        };
        assert!(!is_taken, "there is an observable {name:?}");
        assert!(fits, "a session has at most {MOST_OBSERVABLES} observables");
    }

    /// Shows the page the value of a watch, now and after each change, as an observable of this
    /// name. What the page sets is not taken: it gets the value again. It is sent until the watch's
    /// sender is dropped or the function ends.
    ///
    /// However many sessions of the hub follow one watch under one name, each value is encoded and
    /// compressed once, as that of a [`SharedObservable`], and none waits for another.
    ///
    /// ```
    /// # use stillhere_app::Session;
    /// # use tokio::sync::watch;
    /// async fn visitor(session: Session, visitors: watch::Receiver<u32>) {
    ///     session.follow("visitors", visitors);
    ///     session.ended().await;
    /// }
    /// ```
    ///
    /// # Panics
    /// Panics as [`SessionHandle::observable`] does, and outside of a Tokio runtime.
    pub fn follow<T>(&self, name: &str, newest: watch::Receiver<T>)
    where
        T: Clone + Serialize + Send + Sync + 'static,
    {
        assert!((1..=255).contains(&name.len()), "{BadName}");
        // The runtime of a session's function may end before other sessions do.
        let runtime = self.core.runtime().unwrap_or_else(Handle::current);
        let followed = self.shared.layer.followed.follow(name, newest, &runtime);
        self.share_while(&followed.observable, Some(Arc::clone(&followed) as _));
    }

    /// Waits until the page's client has everything that was sent before, including the newest
    /// value of every observable, or the session has ended. Cancel safe.
    pub async fn drained(&self) {
        send_newest(&self.core, &self.shared);
        self.core.drained().await;
    }

    /// Returns the room of this name in the session's hub, and creates it if it does not exist; see
    /// [`HubExt::room`](crate::HubExt::room).
    ///
    /// ```
    /// use stillhere_app::Session;
    ///
    /// async fn visitor(session: Session) {
    ///     let Ok(lobby) = session.room("lobby") else { return };
    ///     let Ok(_member) = lobby.join(&session, &"somebody") else { return };
    ///     session.ended().await; // leaves when `_member` is dropped
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns a [`RoomError`] if the name is empty or too long, or there are too many rooms.
    pub fn room(&self, name: &str) -> Result<Room, RoomError> {
        self.shared.layer.room(name)
    }

    /// Lets the page join rooms of the hub by itself. `admits` gets the name of a room, which comes
    /// from the page, and returns the page's rights in it, or `None` if it may not join. The page
    /// leaves by itself too. Calling this again replaces the function.
    pub fn on_join(&self, admits: impl Fn(&str) -> Option<PageRights> + Send + Sync + 'static) {
        let door = Arc::new(Door {
            admits: Box::new(admits),
        });
        let replaced = {
            let mut state = self.shared.lock();
            if state.is_over {
                Some(door)
            } else {
                state.door.replace(door)
            }
        };
        drop(replaced);
    }

    /// Sets the function that learns what went wrong with something that the page sent. It is
    /// logged besides, at most once a minute for each session. `hook` must not block.
    pub fn on_trouble(&self, hook: impl Fn(&Trouble) + Send + Sync + 'static) {
        let hook: crate::shared::TroubleHook = Arc::new(hook);
        let replaced = {
            let mut state = self.shared.lock();
            if state.is_over {
                Some(hook)
            } else {
                state.trouble_hook.replace(hook)
            }
        };
        drop(replaced);
    }

    pub(crate) async fn deliver(&self, unit: Vec<u8>) -> Result<(), SendError> {
        Ok(self.core.send(unit).await?)
    }

    pub(crate) fn encode<T: Serialize + ?Sized>(&self, value: &T, unit: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
        self.shared.options.codec.write(value, unit)
    }

    fn question<Q: Serialize + ?Sized>(
        &self,
        id: u64,
        credit: u64,
        name: &str,
        question: &Q,
    ) -> Result<Vec<u8>, CallError> {
        let mut unit = unit::begin_with(Kind::Call, id);
        varint::write(credit, &mut unit);
        unit::write_name(name, &mut unit)?;
        Ok(self.encode(question, unit)?)
    }
}

/// Most observables of a session. The session keeps the newest value of as many.
const MOST_OBSERVABLES: usize = 1024;
