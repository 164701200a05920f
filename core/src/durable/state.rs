//! The state of a durable session: what survives the process.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::lock::Lock;

/// The state of a durable session. It survives the process; local variables of the session's
/// function do not. It is cheap to clone.
///
/// It is saved at the end of each turn that has called [`State::update`], as MessagePack with named
/// fields, together with what the turn has read and sent. A change from outside of the session's
/// function counts with what is sent next or with the next turn.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use stillhere::durable::State;
///
/// #[derive(Serialize, Deserialize)]
/// struct Counter {
///     clicks: u64,
/// }
///
/// fn click(state: &State<Counter>) -> u64 {
///     state.update(|counter| {
///         counter.clicks += 1;
///         counter.clicks
///     })
/// }
/// ```
pub struct State<S> {
    value: Arc<Lock<Value<S>>>,
}

struct Value<S> {
    value: S,
    is_changed: bool,
}

impl<S> State<S> {
    pub(crate) fn new(value: S) -> Self {
        let value = Value {
            value,
            is_changed: true,
        };
        Self {
            value: Arc::new(Lock::new(value)),
        }
    }

    /// Returns a copy of the state.
    pub fn get(&self) -> S
    where
        S: Clone,
    {
        self.read(S::clone)
    }

    /// Calls `read` with the state. It must not use the state again, which would wait forever.
    pub fn read<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        read(&self.value.lock().value)
    }

    /// Changes the state. `change` must not use the state again, which would wait forever.
    pub fn update<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let mut value = self.value.lock();
        value.is_changed = true;
        change(&mut value.value)
    }

    /// Replaces the state, and returns the one before.
    pub fn replace(&self, value: S) -> S {
        self.update(|state| std::mem::replace(state, value))
    }
}

impl<S> Clone for State<S> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
        }
    }
}

impl<S> fmt::Debug for State<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// Which states a turn saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Changed,
    Every,
}

/// A state whose type is not known.
pub(crate) trait AnyState: Send + Sync {
    /// Calls `end` with the encoded state, if it has changed, or with why it cannot be encoded. The
    /// state does not change meanwhile. It counts as saved if `end` returns true.
    fn end_turn(&self, which: Which, end: &mut dyn FnMut(Result<Option<Bytes>, EncodeError>) -> bool);
}

/// The error for a state that cannot be encoded.
pub(crate) type EncodeError = rmp_serde::encode::Error;

impl<S: Serialize + Send> AnyState for State<S> {
    fn end_turn(&self, which: Which, end: &mut dyn FnMut(Result<Option<Bytes>, EncodeError>) -> bool) {
        let mut value = self.value.lock();
        let encode = value.is_changed || which == Which::Every;
        let encoded = encode.then(|| rmp_serde::to_vec_named(&value.value).map(Bytes::from));
        if end(encoded.transpose()) && encode {
            value.is_changed = false;
        }
    }
}
