//! A value of the server that many pages watch.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use stillhere::{Message, SessionHandle};
use tokio::sync::watch;

use crate::codec::{Codec, EncodeError};
use crate::observable::{Observed, set_unit};
use crate::shared::Shared;
use crate::value::{DecodeError, Value};

/// A value that many pages watch and only the server sets: for each page, an
/// [`Observable`](crate::Observable) that it cannot set.
///
/// However many sessions share it ([`share`](crate::SessionHandle::share)), each value is encoded
/// and compressed once, and only if a page takes it. Each page gets the newest value when it can,
/// and none waits for another. Sessions with different codecs cost one encoding each time they
/// alternate. Clones share the value.
///
/// ```
/// use stillhere_app::{Session, SharedObservable};
///
/// async fn visitor(session: Session, visitors: SharedObservable<u32>) {
///     session.share(&visitors);
///     visitors.update(|count| *count += 1);
///     session.ended().await;
///     visitors.update(|count| *count -= 1);
/// }
/// ```
pub struct SharedObservable<T> {
    cell: Arc<Cell<T>>,
}

impl<T> Clone for SharedObservable<T> {
    fn clone(&self) -> Self {
        let cell = Arc::clone(&self.cell);
        Self { cell }
    }
}

impl<T> fmt::Debug for SharedObservable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedObservable")
            .field("name", &self.cell.name)
            .finish_non_exhaustive()
    }
}

impl<T: Serialize + Send + Sync + 'static> SharedObservable<T> {
    /// Creates an observable, which pages know by this name.
    ///
    /// # Panics
    /// Panics unless the name has 1 to 255 bytes.
    pub fn new(name: &str, value: T) -> Self {
        assert!((1..=255).contains(&name.len()), "{}", crate::unit::BadName);
        let cell = Cell {
            name: name.into(),
            value: watch::Sender::new(value),
            encoded: Mutex::default(),
            followers: Mutex::default(),
        };
        Self { cell: cell.into() }
    }

    /// Returns the current value.
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.cell.value.borrow().clone()
    }

    /// Sets the value.
    pub fn set(&self, value: T) {
        self.update(|current| *current = value);
    }

    /// Changes the value. `change` must not use this observable.
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        {
            let mut encoded = self.cell.encoded();
            self.cell.value.send_modify(change);
            *encoded = None;
        }
        for follower in self.cell.live_followers() {
            follower.queue();
        }
    }

    /// Returns a watch of the value.
    pub fn watch(&self) -> watch::Receiver<T> {
        self.cell.value.subscribe()
    }

    pub(crate) fn name(&self) -> &str {
        &self.cell.name
    }

    /// Returns what tells the page of a session, for its observables. It holds `source`, which
    /// keeps the value up to date.
    pub(crate) fn follower(
        &self,
        core: &SessionHandle,
        shared: &Arc<Shared>,
        source: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Arc<Follower<T>> {
        Arc::new(Follower {
            cell: Arc::clone(&self.cell),
            core: core.clone(),
            shared: Arc::downgrade(shared),
            state: Mutex::default(),
            _source: source,
        })
    }

    /// Tells a follower of this value and of all later ones.
    pub(crate) fn begin(&self, follower: &Arc<Follower<T>>) {
        self.cell.followers().push(Arc::downgrade(follower));
        follower.queue();
    }
}

struct Cell<T> {
    name: Box<str>,
    value: watch::Sender<T>,
    /// The set of the value for pages that have set none, in the format that was wanted last.
    encoded: Mutex<Option<(Codec, Message)>>,
    followers: Mutex<Vec<Weak<Follower<T>>>>,
}

impl<T> Cell<T> {
    fn encoded(&self) -> MutexGuard<'_, Option<(Codec, Message)>> {
        self.encoded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Weak<Follower<T>>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns those whose session has not ended, and forgets the others.
    fn live_followers(&self) -> Vec<Arc<Follower<T>>> {
        let mut live = Vec::new();
        self.followers().retain(|follower| {
            let follower = follower.upgrade();
            let is_live = follower.is_some();
            live.extend(follower);
            is_live
        });
        live
    }
}

/// A session that shares the value.
pub(crate) struct Follower<T> {
    cell: Arc<Cell<T>>,
    core: SessionHandle,
    shared: Weak<Shared>,
    state: Mutex<State>,
    _source: Option<Arc<dyn Any + Send + Sync>>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last set that the document has tried.
    number: u64,
    is_newer: bool,
    is_queued: bool,
    /// The page has tried to set the value since a document was last restored.
    is_set_by_page: bool,
}

impl<T: Serialize + Send + Sync + 'static> Follower<T> {
    fn queue(self: &Arc<Self>) {
        let is_news = {
            let mut state = self.lock();
            state.is_newer = true;
            !std::mem::replace(&mut state.is_queued, true)
        };
        if is_news && let Some(shared) = self.shared.upgrade() {
            shared.queue(Arc::clone(self) as _);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_unit(&self, number: u64, codec: Codec) -> Result<Message, EncodeError> {
        let cell = &*self.cell;
        let mut encoded = cell.encoded();
        if number > 0 {
            return Ok(set_unit(&cell.name, number, &*cell.value.borrow(), codec)?.into());
        }
        if let Some((known, message)) = &*encoded
            && *known == codec
        {
            return Ok(message.clone());
        }
        let unit = set_unit(&cell.name, 0, &*cell.value.borrow(), codec)?;
        let message = self.core.share(unit);
        *encoded = Some((codec, message.clone()));
        Ok(message)
    }
}

impl<T: Serialize + Send + Sync + 'static> Observed for Follower<T> {
    fn name(&self) -> &str {
        &self.cell.name
    }

    fn take_set(&self, codec: Codec) -> Result<Option<Message>, EncodeError> {
        let number = {
            let mut state = self.lock();
            state.is_queued = false;
            std::mem::take(&mut state.is_newer).then_some(state.number)
        };
        number.map(|number| self.set_unit(number, codec)).transpose()
    }

    /// Takes nothing: the page gets the value that it may not replace.
    fn receive(&self, number: u64, _value: &Value) -> Result<bool, DecodeError> {
        let mut state = self.lock();
        state.number = number;
        state.is_set_by_page = true;
        state.is_newer = true;
        Ok(!std::mem::replace(&mut state.is_queued, true))
    }

    fn restore(&self, codec: Codec) -> Result<Message, EncodeError> {
        {
            let mut state = self.lock();
            state.number = 0;
            state.is_set_by_page = false;
        }
        self.set_unit(0, codec)
    }

    fn begin_document(&self) -> bool {
        let mut state = self.lock();
        state.number = 0;
        let is_behind = std::mem::take(&mut state.is_set_by_page);
        state.is_newer |= is_behind;
        is_behind && !std::mem::replace(&mut state.is_queued, true)
    }
}
