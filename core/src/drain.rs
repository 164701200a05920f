//! Shuts down a hub: tells every browser, and delivers the last messages.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::{Hub, RETRY_FIRST};
use crate::options::LONGEST_WAIT;
use crate::session::SessionHandle;
use stillhere_proto::EndReason;
use stillhere_proto::SessionId;

/// The outcome of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Number of live sessions when the shutdown started.
    pub sessions: usize,
    /// Number of them that were aborted at the deadline.
    pub aborted: usize,
    /// For each session with unacknowledged messages at its end, the number of those messages.
    pub unacknowledged: Vec<(SessionId, usize)>,
    /// Number of connections that were still open at the deadline.
    pub connections_left: usize,
}

impl Hub {
    /// Shuts down the hub: refuses new sessions and documents, and drains every session. Returns
    /// when all sessions have ended and their connections are closed, or when `deadline` has
    /// passed. A session ends as soon as its last messages are acknowledged. Sessions that are
    /// still live at the deadline are aborted.
    ///
    /// Browsers are told to try again after 1 s to 1 s + `deadline`, spread evenly, so that they do
    /// not all reconnect at once. Call this when the signal arrives, and await it together with the
    /// server's own graceful shutdown, which does not wait for upgraded connections.
    pub async fn shutdown(&self, deadline: Duration) -> DrainReport {
        let deadline = deadline.min(LONGEST_WAIT);
        let until = tokio::time::Instant::now() + deadline;
        self.inner.begin_drain();
        let sessions = self.inner.all();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        for (position, session) in (0u32..).zip(&sessions) {
            // A little longer than the deadline, because the loop below aborts and counts it.
            session.drain(RETRY_FIRST + deadline * position / count, deadline + CLOSING_TIME);
        }
        let mut report = DrainReport {
            sessions: sessions.len(),
            ..DrainReport::default()
        };
        // This also waits for sessions whose page has left, because a page in the back/forward
        // cache has also sent `leave`, and fetches its last messages when it is shown again.
        for session in sessions {
            let handle = SessionHandle::new(Arc::clone(&session));
            if tokio::time::timeout_at(until, handle.ended()).await.is_err() {
                report.aborted += 1;
                session.abort_now(EndReason::Draining);
            }
            let unacknowledged = handle.unacknowledged();
            if unacknowledged > 0 {
                report.unacknowledged.push((*handle.id(), unacknowledged));
            }
        }
        // Not earlier, because a page whose hello is in transit may fetch its last messages.
        self.inner.end_drain(deadline);
        self.inner.connections.close();
        let _ = tokio::time::timeout_at(until + CLOSING_TIME, self.inner.connections.wait()).await;
        report.connections_left = self.inner.connections.len();
        report
    }
}

/// How long connections have after the deadline to send why they end.
const CLOSING_TIME: Duration = Duration::from_millis(500);
