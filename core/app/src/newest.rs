//! Sends the newest values of observables: one set of each is on its way at a time, so that sets
//! during a gap do not pile up in the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use stillhere::{Events, SessionState, TrySendError};

use crate::observable::Observed;
use crate::shared::Shared;

pub(crate) struct Newest {
    core: stillhere::SessionHandle,
    shared: Arc<Shared>,
    events: Option<Events>,
    /// How many units had been sent when the last sets were. They are on their way until the page
    /// has acknowledged as many.
    on_their_way: Option<u64>,
}

impl Newest {
    pub(crate) fn new(core: stillhere::SessionHandle, shared: Arc<Shared>) -> Self {
        Self {
            core,
            shared,
            events: None,
            on_their_way: None,
        }
    }

    /// Sends what is queued, if nothing is on its way. Returns true if something is left, so that
    /// [`Newest::wait`] must be awaited.
    pub(crate) fn send(&mut self) -> bool {
        if self.shared.lock().changed.is_empty() {
            return false;
        }
        if !self.is_idle() {
            return true;
        }
        let changed = std::mem::take(&mut self.shared.lock().changed);
        let rest = self.send_sets(changed);
        let is_left = !rest.is_empty();
        self.shared.lock().changed.extend(rest);
        is_left
    }

    /// Sends sets until the outbox is full, and returns the observables whose set it did not take.
    fn send_sets(&mut self, mut changed: VecDeque<Arc<dyn Observed>>) -> VecDeque<Arc<dyn Observed>> {
        while let Some(observed) = changed.pop_front() {
            let name = observed.name();
            let set = match observed.take_set(self.shared.options.codec) {
                Ok(Some(set)) => set,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(session = %self.core.id(), name, %error, "an observable was not sent");
                    continue;
                }
            };
            match self.core.try_send(set) {
                Ok(()) => self.on_their_way = Some(self.shared.count_sent()),
                Err(TrySendError::Full(_)) => {
                    observed.put_back();
                    changed.push_front(observed);
                    break;
                }
                Err(error) => tracing::debug!(session = %self.core.id(), name, %error, "an observable was not sent"),
            }
        }
        changed
    }

    fn is_idle(&mut self) -> bool {
        if self.core.state() != SessionState::Open {
            return false;
        }
        let Some(then) = self.on_their_way else { return true };
        // Read before the messages that are unacknowledged, so that it is never too high.
        let sent_since = self.shared.sent() - then;
        let is_idle = self.core.unacknowledged() as u64 <= sent_since;
        if is_idle {
            self.on_their_way = None;
        }
        is_idle
    }

    /// Waits until sending may be possible. Cancel safe.
    pub(crate) async fn wait(&mut self) {
        let events = self.events.get_or_insert_with(|| self.core.events());
        if self.core.state() == SessionState::Open {
            tokio::time::sleep(PACE).await;
        } else if events.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// How often to look whether the page has acknowledged the last sets, while newer ones wait.
const PACE: Duration = Duration::from_millis(20);
