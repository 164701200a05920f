//! A watch of the members of a room.

use std::sync::Arc;

use tokio::sync::watch;

use super::member::Member;
use super::replica::Replica;

/// A watch of the members of a room, in the order of joining. The list is made when it is read, so
/// members that come and go quickly cost little.
///
/// It keeps the room. Clones watch independently.
#[derive(Debug, Clone)]
pub struct Present {
    replica: Arc<Replica>,
    version: watch::Receiver<u64>,
}

impl Present {
    pub(super) fn new(replica: Arc<Replica>, version: watch::Receiver<u64>) -> Self {
        Self { replica, version }
    }

    /// Returns the members, and waits for later changes from now on.
    pub fn borrow_and_update(&mut self) -> Arc<[Member]> {
        self.version.borrow_and_update();
        self.replica.members()
    }

    /// Waits until a member has joined, left, gone away, come back or changed its state since the
    /// last call of a method that waits or updates. Cancel safe.
    pub async fn changed(&mut self) {
        let changed = self.version.changed().await;
        changed.expect("the room, which is kept here, has the sender");
    }

    /// Waits until the members satisfy the condition, and returns them. Cancel safe.
    pub async fn wait_for(&mut self, mut is_met: impl FnMut(&[Member]) -> bool) -> Arc<[Member]> {
        loop {
            let members = self.borrow_and_update();
            if is_met(&members) {
                return members;
            }
            self.changed().await;
        }
    }
}
