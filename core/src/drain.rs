//! Shuts down a hub: tells every browser, and delivers the last messages.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::{Hub, RETRY_FIRST};
use crate::options::LONGEST_WAIT;
#[cfg(feature = "durable")]
use crate::session::HandOver;
use crate::session::{SessionHandle, Shared};
use stillhere_proto::EndReason;
use stillhere_proto::SessionId;

/// The outcome of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Number of live sessions when the shutdown started.
    pub sessions: usize,
    /// Number of durable sessions that the next process goes on with.
    pub handed_over: usize,
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
    /// Durable sessions do not end: once their functions have come to the end of their turns, they
    /// are written and left to the next process. Their pages are told to come back after 1 s, and
    /// up to 1 ms more for each page. A function that does not read before the deadline is stopped:
    /// with `Durability::Crash` the session goes on from its last turn, and with
    /// `Durability::Restart` it is aborted.
    ///
    /// Browsers of other sessions are told to try again after 1 s to 1 s + `deadline`, spread
    /// evenly, so that they do not all reconnect at once. Call this when the signal arrives, and
    /// await it together with the server's own graceful shutdown, which does not wait for upgraded
    /// connections.
    pub async fn shutdown(&self, deadline: Duration) -> DrainReport {
        let deadline = deadline.min(LONGEST_WAIT);
        let until = tokio::time::Instant::now() + deadline;
        self.inner.begin_drain();
        #[cfg(feature = "durable")]
        let _ = tokio::time::timeout_at(until, self.inner.finish_opening()).await;
        let all = self.inner.all();
        let mut report = DrainReport {
            sessions: all.len(),
            ..DrainReport::default()
        };
        let (durable, sessions): (Vec<_>, Vec<_>) = all.into_iter().partition(|session| session.is_durable());
        let handing_over = hand_over(durable, until);
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        for (position, session) in (0u32..).zip(&sessions) {
            // A little longer than the deadline, because the loop below aborts and counts it.
            session.drain(RETRY_FIRST + deadline * position / count, deadline + CLOSING_TIME);
        }
        let (handed_over, left) = handing_over.await;
        report.handed_over = handed_over;
        for session in &left {
            session.drain(RETRY_FIRST, CLOSING_TIME);
        }
        // This also waits for sessions whose page has left, because a page in the back/forward
        // cache has also sent `leave`, and fetches its last messages when it is shown again.
        for session in sessions.into_iter().chain(left) {
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
        #[cfg(feature = "durable")]
        let _ = tokio::time::timeout_at(until, self.inner.ends_are_written()).await;
        // Not earlier, because a page whose hello is in transit may fetch its last messages.
        self.inner.end_drain(deadline);
        self.inner.connections.close();
        let _ = tokio::time::timeout_at(until + CLOSING_TIME, self.inner.connections.wait()).await;
        report.connections_left = self.inner.connections.len();
        report
    }
}

/// Hands the durable sessions over to the next process. Returns how many, and those that cannot go
/// on there.
#[cfg(feature = "durable")]
async fn hand_over(sessions: Vec<Arc<Shared>>, until: tokio::time::Instant) -> (usize, Vec<Arc<Shared>>) {
    let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let spread = Duration::from_millis(count.into()).min(MOST_SPREAD);
    sessions.iter().for_each(Shared::begin_hand_over);
    let handing_over = (0u32..).zip(&sessions).map(|(position, session)| {
        let retry_after = RETRY_FIRST + spread * position / count;
        session.hand_over(retry_after, until)
    });
    let outcomes = futures_util::future::join_all(handing_over).await;
    let handed_over = outcomes.iter().filter(|outcome| **outcome == HandOver::Done).count();
    let outcomes = sessions.into_iter().zip(outcomes);
    let left = outcomes.filter(|(_, outcome)| *outcome == HandOver::Failed);
    (handed_over, left.map(|(session, _)| session).collect())
}

#[cfg(not(feature = "durable"))]
async fn hand_over(_sessions: Vec<Arc<Shared>>, _until: tokio::time::Instant) -> (usize, Vec<Arc<Shared>>) {
    (0, Vec::new())
}

/// The longest time over which the pages of handed over sessions spread their return; 1 ms for each
/// page otherwise.
#[cfg(feature = "durable")]
const MOST_SPREAD: Duration = Duration::from_secs(30);

/// How long connections have after the deadline to send why they end.
const CLOSING_TIME: Duration = Duration::from_millis(500);
