//! Values that other crates keep with a hub, one of each type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::lock::Lock;

/// Values by their type.
#[derive(Default)]
pub(crate) struct Extensions {
    by_type: Lock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Extensions {
    /// Returns the value of this type. The first call creates it.
    pub(crate) fn get<T: Default + Any + Send + Sync>(&self) -> Arc<T> {
        let known = self.by_type.lock().get(&TypeId::of::<T>()).cloned();
        let value = known.unwrap_or_else(|| {
            // Not under the lock, because this is code of another crate.
            let created: Arc<T> = Arc::default();
            let mut by_type = self.by_type.lock();
            let kept = by_type
                .entry(TypeId::of::<T>())
                .or_insert_with(|| Arc::clone(&created) as _);
            Arc::clone(kept)
        });
        value.downcast().expect("values are kept by their type")
    }

    /// Changes the value of this type, before anybody shares it.
    pub(crate) fn change<T: Default + Any + Send + Sync>(&mut self, change: impl FnOnce(&mut T)) {
        let mut value = self.get::<T>();
        self.by_type.lock().remove(&TypeId::of::<T>());
        change(Arc::get_mut(&mut value).expect("nobody shares it yet"));
        self.by_type.lock().insert(TypeId::of::<T>(), value);
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.by_type.lock().len();
        f.debug_struct("Extensions").field("count", &count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type() {
        let mut extensions = Extensions::default();
        extensions.change(|number: &mut u32| *number += 1);
        extensions.change(|number: &mut u32| *number += 1);
        assert_eq!((*extensions.get::<u32>(), *extensions.get::<u64>()), (2, 0));
        assert!(Arc::ptr_eq(&extensions.get::<u64>(), &extensions.get::<u64>()));
    }
}
