//! A value that both sides set and watch.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use stillhere::Message;
use tokio::sync::watch;

use crate::codec::{Codec, EncodeError};
use crate::shared::Shared;
use crate::unit::{self, Kind};
use crate::value::{DecodeError, Value};
use crate::varint;

/// A value that the server and the page both set and watch. The newest value wins.
///
/// The page gets the newest value once it can be sent, as
/// [`send_latest`](stillhere::SessionHandle::send_latest) describes. Values that are replaced
/// before that are never sent, so a page that was away gets one. A new document gets the value
/// before anything else. Clones share the value.
pub struct Observable<T> {
    cell: Arc<Cell<T>>,
    shared: Arc<Shared>,
}

impl<T> Clone for Observable<T> {
    fn clone(&self) -> Self {
        Self {
            cell: Arc::clone(&self.cell),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Observable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observable")
            .field("name", &self.cell.name)
            .finish_non_exhaustive()
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Observable<T> {
    pub(crate) fn new(name: &str, value: T, shared: Arc<Shared>) -> Self {
        let cell = Arc::new(Cell {
            name: name.into(),
            value: watch::Sender::new(value),
            state: Mutex::default(),
        });
        Self { cell, shared }
    }

    pub(crate) fn observed(&self) -> Arc<dyn Observed> {
        Arc::clone(&self.cell) as _
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
        let is_news = {
            let mut state = self.cell.lock();
            self.cell.value.send_modify(change);
            state.is_newer = true;
            !std::mem::replace(&mut state.is_queued, true)
        };
        if is_news {
            self.shared.queue(self.observed());
        }
    }

    /// Returns a watch of the value, which sees sets by both sides.
    pub fn watch(&self) -> watch::Receiver<T> {
        self.cell.value.subscribe()
    }
}

/// An observable of any type, as the pump sees it.
pub(crate) trait Observed: Send + Sync {
    fn name(&self) -> &str;

    /// Takes the observable out of the queue. Returns the set to send, or `None` if the page has
    /// the newest value.
    fn take_set(&self, codec: Codec) -> Result<Option<Message>, EncodeError>;

    /// Applies a set of the page. Returns true if the observable has to be queued, as it has after
    /// an error.
    fn receive(&self, number: u64, value: &Value) -> Result<bool, DecodeError>;

    /// Returns the set for a document that takes over the session.
    fn restore(&self, codec: Codec) -> Result<Message, EncodeError>;

    /// Called when all later sets come from a new document. Returns true if the document has to be
    /// sent the value again.
    fn begin_document(&self) -> bool;
}

struct Cell<T> {
    name: Box<str>,
    value: watch::Sender<T>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last set that the document has made.
    number: u64,
    /// The value is newer than the one that the page has.
    is_newer: bool,
    /// The pump has been told to send the value.
    is_queued: bool,
    /// The page has set the value, or tried to, since a document was last restored.
    is_set_by_page: bool,
}

impl<T> Cell<T> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Serialize> Cell<T> {
    fn set_unit(&self, number: u64, codec: Codec) -> Result<Message, EncodeError> {
        Ok(set_unit(&self.name, number, &*self.value.borrow(), codec)?.into())
    }
}

/// Returns the unit that sets an observable, whose name was checked.
pub(crate) fn set_unit<T: Serialize>(name: &str, number: u64, value: &T, codec: Codec) -> Result<Vec<u8>, EncodeError> {
    let mut head = unit::begin(Kind::Set);
    unit::write_name(name, &mut head).expect("the name was checked");
    varint::write(number, &mut head);
    codec.write(value, head)
}

impl<T: Serialize + DeserializeOwned + Send + Sync> Observed for Cell<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn take_set(&self, codec: Codec) -> Result<Option<Message>, EncodeError> {
        let mut state = self.lock();
        state.is_queued = false;
        let is_newer = std::mem::take(&mut state.is_newer);
        is_newer.then(|| self.set_unit(state.number, codec)).transpose()
    }

    fn receive(&self, number: u64, value: &Value) -> Result<bool, DecodeError> {
        let decoded = value.decode();
        let mut state = self.lock();
        state.number = number;
        state.is_set_by_page = true;
        let value = match decoded {
            Ok(value) => value,
            Err(error) => {
                // The page gets the value that it has not replaced.
                state.is_newer = true;
                return Err(error);
            }
        };
        // The page's value is the newest, and the page has it.
        state.is_newer = false;
        let replaced = self.value.send_replace(value);
        drop(state);
        drop(replaced);
        Ok(false)
    }

    fn restore(&self, codec: Codec) -> Result<Message, EncodeError> {
        let mut state = self.lock();
        state.number = 0;
        // A value that is newer stays so: one that is older may wait in the session, where only a
        // newer one replaces it.
        state.is_set_by_page = false;
        self.set_unit(0, codec)
    }

    fn begin_document(&self) -> bool {
        let mut state = self.lock();
        state.number = 0;
        // A set that was read after the restore came from the document before.
        let is_behind = std::mem::take(&mut state.is_set_by_page);
        state.is_newer |= is_behind;
        is_behind && !std::mem::replace(&mut state.is_queued, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::AppOptions;

    fn count() -> (Observable<u64>, Arc<dyn Observed>) {
        let count = Observable::new("count", 0, Arc::new(Shared::new(Arc::default(), AppOptions::default())));
        let observed = count.observed();
        (count, observed)
    }

    fn take(observed: &Arc<dyn Observed>) -> Option<Vec<u8>> {
        let set = observed.take_set(Codec::Json).expect("a number can be encoded");
        set.map(|set| set.to_vec())
    }

    fn value(json: &'static str) -> Value {
        Value::new(format!("\0{json}").into(), 0)
    }

    #[test]
    fn a_set_of_the_page_replaces_one_that_was_not_taken_and_is_not_echoed() {
        let (count, observed) = count();
        count.set(1);
        observed.receive(1, &value("2")).expect("it is a number");
        assert_eq!((count.get(), take(&observed)), (2, None));
        count.set(3);
        assert_eq!(take(&observed).as_deref(), Some(&b"\x08\x05count\x01\x003"[..]));
    }

    #[test]
    fn a_set_that_cannot_be_decoded_is_answered_with_the_value() {
        let (count, observed) = count();
        count.set(5);
        assert!(take(&observed).is_some());
        observed.receive(1, &value("\"text\"")).expect_err("it is no number");
        assert_eq!(take(&observed).as_deref(), Some(&b"\x08\x05count\x01\x005"[..]));
    }

    #[test]
    fn a_value_that_was_not_taken_before_a_restore_is_taken_after_it() {
        let (count, observed) = count();
        count.set(1);
        assert!(take(&observed).is_some(), "it may wait in the session");
        count.set(2);
        let restored = observed.restore(Codec::Json).expect("a number can be encoded");
        assert_eq!(take(&observed), Some(restored.to_vec()));
        assert_eq!(take(&observed), None);
    }
}
