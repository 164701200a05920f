//! Shutting down: every browser is told, nothing that can be delivered is dropped.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::{Hub, RETRY_FIRST};
use crate::options::LONGEST_WAIT;
use crate::session::SessionHandle;
use stillhere_proto::EndReason;
use stillhere_proto::SessionId;

/// What a shutdown found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Sessions that were not over when it began.
    pub sessions: usize,
    /// Those of them that had to be cut off at the deadline.
    pub cut_off: usize,
    /// Messages that a browser had not acknowledged when its session ended, by session.
    pub unacknowledged: Vec<(SessionId, usize)>,
    /// Connections that were still there at the deadline.
    pub connections_left: usize,
}

impl Hub {
    /// Refuses new sessions and documents, ends every session as soon as its last messages are
    /// acknowledged, and returns when all are over and their connections gone, at the latest after
    /// `deadline`.
    ///
    /// Browsers are told to try again after 1 s to 1 s + `deadline`, spread evenly, so that they do
    /// not all come back at once. Start this at the signal and await it beside the server's own
    /// graceful shutdown, which knows nothing of upgraded connections.
    pub async fn shutdown(&self, deadline: Duration) -> DrainReport {
        let deadline = deadline.min(LONGEST_WAIT);
        let until = tokio::time::Instant::now() + deadline;
        self.inner.begin_drain();
        let sessions = self.inner.all();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        for (position, session) in (0u32..).zip(&sessions) {
            // A little longer than the deadline: it is cut off here, where that is counted.
            session.drain(RETRY_FIRST + deadline * position / count, deadline + LAST_WORDS);
        }
        let mut report = DrainReport {
            sessions: sessions.len(),
            ..DrainReport::default()
        };
        // A session whose page has left is waited for like the others. `leave` does not say whether
        // the page is gone for good: one that a browser keeps in its back/forward cache says the
        // same, and fetches its last messages when it is shown again.
        for session in sessions {
            let handle = SessionHandle::new(Arc::clone(&session));
            if tokio::time::timeout_at(until, handle.ended()).await.is_err() {
                report.cut_off += 1;
                session.abort_now(EndReason::Draining);
            }
            let unacknowledged = handle.unacknowledged();
            if unacknowledged > 0 {
                report.unacknowledged.push((*handle.id(), unacknowledged));
            }
        }
        // Not before: a page whose hello is on its way may have come for its last messages.
        self.inner.end_drain(deadline);
        self.inner.connections.close();
        let _ = tokio::time::timeout_at(until + LAST_WORDS, self.inner.connections.wait()).await;
        report.connections_left = self.inner.connections.len();
        report
    }
}

/// What connections get beyond the deadline to say why they end.
const LAST_WORDS: Duration = Duration::from_millis(500);
