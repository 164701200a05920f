//! The policy of a hub for which no other was set: three time limits.

use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use stillhere_proto::machine::Cause;

/// Limits how long a session waits: for its first browser, for a browser that lost its connection,
/// and for a page that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultCleanupPolicy {
    /// How long a session waits for its first browser. Default 30 s.
    pub unconnected: Duration,
    /// How long a soft-closed session waits for its browser to reconnect. Zero closes it at once.
    /// Default 120 s.
    pub soft_closed: Duration,
    /// How long a session waits for a page that announced that it is going away ([`Cause::Left`]):
    /// its tab was closed, reloaded or navigated elsewhere. Default 15 s, and never longer than
    /// `soft_closed`.
    ///
    /// A page returns within this time after a reload, or after Back and Forward: 5 s for loading,
    /// and the 10 s within which a connection must be answered. A page that returns later from the
    /// back/forward cache is told `Ended` with the reason `Expired`, and a reload after that gets a
    /// new session. Allow more time if users should be able to reopen closed tabs. To react when a
    /// page leaves, listen to [`SessionHandle::events`](crate::SessionHandle::events):
    ///
    /// ```
    /// # use stillhere::{Cause, Event, SessionHandle};
    /// # async fn watch(session: SessionHandle) {
    /// let mut events = session.events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::SoftClosed(Cause::Left) => println!("the page was closed or reloaded"),
    ///         Event::Resumed { .. } | Event::Restored { .. } => println!("the page has returned"),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub left: Duration,
}

impl Default for DefaultCleanupPolicy {
    fn default() -> Self {
        Self {
            unconnected: Duration::from_secs(30),
            soft_closed: Duration::from_secs(120),
            left: Duration::from_secs(15),
        }
    }
}

impl DefaultCleanupPolicy {
    fn deadline(&self, session: &SessionSnapshot) -> Option<Instant> {
        match session.state {
            SessionState::Unconnected => session.since.checked_add(self.unconnected),
            state if state.is_soft_closed() => session.since.checked_add(self.wait_for_return(session)),
            _ => None,
        }
    }

    fn wait_for_return(&self, session: &SessionSnapshot) -> Duration {
        match session.cause {
            Some(Cause::Left) => self.left.min(self.soft_closed),
            _ => self.soft_closed,
        }
    }
}

impl CleanupPolicy for DefaultCleanupPolicy {
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
        self.deadline(session).is_some_and(|deadline| deadline <= now)
    }

    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool {
        !self.wait_for_return(session).is_zero()
    }

    fn next_check(&self, session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        self.deadline(session)
    }

    /// Returns `soft_closed`, the time that a connected page has if it loses its connection. The
    /// shorter time applies only to a page that has left.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        self.soft_closed
    }
}
