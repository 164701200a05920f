//! The services that a session needs from its hub, as a trait: this layer does not name the hub.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::cleanup::SessionSnapshot;
#[cfg(feature = "durable")]
use crate::durable::store::{Commit, StoreError};
use crate::kind::ConnectionSetup;
use crate::session::SessionHandle;
use crate::session::shared::Shared;
use crate::session::state::Teardown;
use stillhere_proto::Message;
#[cfg(feature = "durable")]
use stillhere_proto::SessionId;

/// The hub, as its sessions see it. No method may be called while a lock is held.
pub(crate) trait Host: Send + Sync {
    /// Returns the runtime on which application functions are spawned, unless they are spawned
    /// where their first connection is.
    fn runtime(&self) -> &Handle;

    /// Returns how long to keep the session without a connection.
    fn keep(&self, session: &SessionSnapshot) -> Duration;

    /// Returns how the session's page should connect. Calls the application.
    fn connection_setup(&self, session: &SessionHandle) -> ConnectionSetup;

    /// Prepares a message for many sessions.
    fn share(&self, message: Message) -> Message;

    /// Called when a browser connects for the first time, before the application function starts.
    fn session_started(&self, session: &Shared);

    /// Called when the session's phase, connection or document has changed.
    fn session_changed(&self, session: &Arc<Shared>, now: Instant);

    /// Called when the declared weight of the session has changed, or the size of its buffers while
    /// it has no connection.
    fn session_resized(&self, session: &Shared, by: Resized);

    /// Called when the store has failed to write a durable session, which is tried again.
    #[cfg(feature = "durable")]
    fn commit_failed(&self, session: &SessionId, error: &StoreError);

    /// Writes the end of a session once the store works again.
    #[cfg(feature = "durable")]
    fn write_end_later(&self, end: Commit);

    /// Returns true if other servers may open the sessions of the store.
    #[cfg(feature = "cluster")]
    fn has_others(&self) -> bool;

    /// Called once for each session, after it has ended.
    fn session_ended(&self, session: &Shared, teardown: Teardown, now: Instant);

    /// Lets the function of an ended session run on for the hub's grace period, then aborts it.
    fn give_grace(&self, task: AbortHandle, now: Instant);
}

/// Where the application function of a session is spawned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// The hub's runtime.
    Hub,
    /// The [`LocalSet`](tokio::task::LocalSet) of the connection that starts the session.
    LocalSet,
}

impl Home {
    pub(super) fn spawn(self, host: &dyn Host, function: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        match self {
            Self::Hub => host.runtime().spawn(function).abort_handle(),
            Self::LocalSet => tokio::task::spawn_local(function).abort_handle(),
        }
    }
}

/// Which size of a session has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resized {
    /// The weight that the application declares.
    Weight,
    /// The number of buffered bytes.
    Buffer,
}
