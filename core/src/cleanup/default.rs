//! Three waits: what a hub does that was told nothing else.

use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use stillhere_proto::machine::Cause;

/// Three waits: for the first browser, for one that lost its connection, and for one whose page said that it goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultCleanupPolicy {
    /// How long a session waits for its first browser. Default 30 s.
    pub unconnected: Duration,
    /// How long a soft-closed session waits for its browser to come back; zero closes it at once. Default 120 s.
    pub soft_closed: Duration,
    /// How long a session waits for a page that said that it goes away ([`Cause::Left`]): its tab was closed, reloaded or sent elsewhere. Default
    /// 15 s, and never longer than `soft_closed`.
    ///
    /// A reload, and Back or Forward, bring the page back within it: 5 s to load, and the 10 s that a connection may take to be answered. A page
    /// that comes later out of the back/forward cache is told `Ended` with the reason `Expired`, and a reload after that gets a new session.
    /// Sessions whose closed tabs may be opened again later need longer. To act on a page that left at once, listen to
    /// [`SessionHandle::events`](crate::SessionHandle::events):
    ///
    /// ```
    /// # use stillhere::{Cause, Event, SessionHandle};
    /// # async fn watch(session: SessionHandle) {
    /// let mut events = session.events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::SoftClosed(Cause::Left) => println!("the page was closed or reloaded"),
    ///         Event::Resumed { .. } | Event::Restored { .. } => println!("and is back"),
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

    /// What a page is told that is there: how long it has to come back from a lost connection. Before it leaves it cannot need the other wait.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        self.soft_closed
    }
}
