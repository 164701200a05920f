//! Which sessions there are, and why others ended lately.

use std::collections::HashMap;
use std::sync::Arc;

use crate::code::EndReason;
use crate::hub::waiting::Waiting;
use crate::id::SessionId;
use crate::session::Shared;

/// Who lives, and who died lately of what.
#[derive(Default)]
pub(super) struct Book {
    pub(super) sessions: HashMap<SessionId, Arc<Shared>>,
    pub(super) waiting: Waiting,
    pub(super) tombstones: Tombstones,
}

/// Why sessions ended that ended lately: two generations, of which the older goes when the younger is full.
#[derive(Default)]
pub(super) struct Tombstones {
    younger: HashMap<SessionId, EndReason>,
    older: HashMap<SessionId, EndReason>,
}

impl Tombstones {
    pub(super) fn get(&self, id: &SessionId) -> Option<&EndReason> {
        self.younger.get(id).or_else(|| self.older.get(id))
    }

    pub(super) fn insert(&mut self, id: SessionId, reason: EndReason, most: usize) {
        if self.younger.len() >= most / 2 {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(id, reason);
    }
}

/// A table is given back when it holds less than one in so many.
pub(crate) const SPARSE: usize = 4;

/// What a table may keep however empty it is.
pub(crate) const KEPT_CAPACITY: usize = 1024;
