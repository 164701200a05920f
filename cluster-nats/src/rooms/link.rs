//! What connects one room of this server with NATS.

use std::sync::{Arc, Weak};

use stillhere_app::{Happening, PublishError, Replica, RoomLink};
use tokio::task::AbortHandle;

use super::Shared;
use super::follower::Follower;
use super::outbox::Outbox;

/// Lives as long as this server uses the room. Nothing waits to be sent when it is dropped, because
/// that would keep the room.
pub(super) struct Link {
    outbox: Arc<Outbox>,
    follower: AbortHandle,
}

impl Link {
    pub(super) fn open(shared: &Arc<Shared>, room: Weak<Replica>, name: &str) -> Self {
        let outbox = Arc::new(Outbox::new(shared.limits()));
        let follower = Follower::new(Arc::clone(shared), room, Arc::clone(&outbox), name);
        let follower = shared.runtime.spawn(follower.run()).abort_handle();
        Self { outbox, follower }
    }
}

impl RoomLink for Link {
    fn publish(&self, room: &Arc<Replica>, happening: Happening) -> Result<(), PublishError> {
        self.outbox.push(room, happening)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.follower.abort();
    }
}
