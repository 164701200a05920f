//! Watches that sessions follow. The value of a watch is encoded once for all that follow it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::shared_observable::SharedObservable;

/// The watches that the sessions of a hub follow.
#[derive(Default)]
pub(crate) struct FollowedWatches {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_key: HashMap<Key, Weak<dyn Any + Send + Sync>>,
    /// How many entries there may be before those that nobody follows are removed.
    limit: usize,
}

/// The name under which pages know a watch, and the address of its value, which no other watch has
/// at the same time.
type Key = (Box<str>, usize);

/// A watch that sessions follow.
pub(crate) struct Followed<T> {
    pub(crate) observable: SharedObservable<T>,
    /// Keeps the address of the value.
    watch: watch::Receiver<T>,
    task: AbortHandle,
}

impl FollowedWatches {
    /// Returns the observable that has the value of this watch. `runtime` has to outlive the
    /// sessions that follow it.
    pub(crate) fn follow<T>(&self, name: &str, watch: watch::Receiver<T>, runtime: &Handle) -> Arc<Followed<T>>
    where
        T: Clone + Serialize + Send + Sync + 'static,
    {
        let key: Key = (name.into(), std::ptr::from_ref(&*watch.borrow()).addr());
        let known = self.lock().find(&key, &watch);
        known.unwrap_or_else(|| {
            // Not under the lock, because this copies a value of the application.
            let created = Followed::new(name, watch, runtime);
            self.lock().find_or_add(key, &created)
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find<T: Send + Sync + 'static>(&self, key: &Key, watch: &watch::Receiver<T>) -> Option<Arc<Followed<T>>> {
        let followed = self.by_key.get(key)?.upgrade()?.downcast::<Followed<T>>().ok()?;
        // The values of watches without a size may have the same address.
        followed.watch.same_channel(watch).then_some(followed)
    }

    /// Returns what another session has added meanwhile, or adds this.
    fn find_or_add<T: Send + Sync + 'static>(&mut self, key: Key, created: &Arc<Followed<T>>) -> Arc<Followed<T>> {
        if let Some(known) = self.find(&key, &created.watch) {
            return known;
        }
        if self.by_key.len() >= self.limit {
            self.by_key.retain(|_, followed| followed.strong_count() > 0);
            self.limit = FEWEST.max(2 * self.by_key.len());
        }
        self.by_key.insert(key, Arc::downgrade(created) as _);
        Arc::clone(created)
    }
}

impl<T: Clone + Serialize + Send + Sync + 'static> Followed<T> {
    fn new(name: &str, watch: watch::Receiver<T>, runtime: &Handle) -> Arc<Self> {
        let mut newest = watch.clone();
        let observable = SharedObservable::new(name, newest.borrow_and_update().clone());
        let passes_on = observable.clone();
        let task = runtime.spawn(async move {
            while newest.changed().await.is_ok() {
                let value = newest.borrow_and_update().clone();
                passes_on.set(value);
            }
        });
        let task = task.abort_handle();
        Arc::new(Self {
            observable,
            watch,
            task,
        })
    }
}

impl<T> Drop for Followed<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Entries that are never too many.
const FEWEST: usize = 64;
