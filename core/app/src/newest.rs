//! Sends the newest values of observables. The session keeps one of each until it can be sent.

use stillhere::SendLatestError;

use crate::shared::Shared;

/// Gives the session the newest value of each observable that has changed.
pub(crate) fn send_newest(core: &stillhere::SessionHandle, shared: &Shared) {
    loop {
        let Some(observed) = shared.lock().changed.pop_front() else {
            return;
        };
        let name = observed.name();
        let set = match observed.take_set(shared.options.codec) {
            Ok(Some(set)) => set,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(session = %core.id(), name, %error, "an observable was not sent");
                continue;
            }
        };
        match core.send_latest(name, set) {
            Ok(()) | Err(SendLatestError::Ended { .. }) => {}
            Err(error) => tracing::error!(session = %core.id(), name, %error, "an observable was not sent"),
        }
    }
}
