//! The kinds of connection that an application has registered.

use std::fmt;
use std::sync::Arc;

use crate::guard::guarded;
use crate::kind::ConnectionSetup;
use crate::lock::Lock;
use crate::session::SessionHandle;

/// Returns the setup for the page of a session, or `None` if it does not apply to it.
type Condition = dyn Fn(&SessionHandle) -> Option<ConnectionSetup> + Send + Sync;

/// The registered conditions.
#[derive(Default)]
pub(super) struct Kinds {
    /// In the order of registration. Replaced as a whole, so that they are called without the lock.
    conditions: Lock<Arc<[Arc<Condition>]>>,
}

impl Kinds {
    pub(super) fn register(&self, condition: Arc<Condition>) {
        let mut conditions = self.conditions.lock();
        *conditions = conditions.iter().cloned().chain([condition]).collect();
    }

    /// Asks the conditions from the last registered to the first, and returns the first setup.
    /// Pages for which there is none use WebSockets.
    pub(super) fn setup(&self, session: &SessionHandle) -> ConnectionSetup {
        let conditions = Arc::clone(&self.conditions.lock());
        let ask = |condition: &Arc<Condition>| {
            guarded(session.id(), "a connection kind's condition", || condition(session)).flatten()
        };
        conditions
            .iter()
            .rev()
            .find_map(ask)
            .unwrap_or_else(ConnectionSetup::web_socket)
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kinds").finish_non_exhaustive()
    }
}
