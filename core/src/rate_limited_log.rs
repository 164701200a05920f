//! Limits log lines that peers can cause at any rate to one a minute.

use std::time::{Duration, Instant};

use crate::lock::Lock;

/// Counts events for a log line that appears at most once a minute.
#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog(Lock<State>);

#[derive(Debug, Default)]
struct State {
    last_line: Option<Instant>,
    events: u64,
}

impl RateLimitedLog {
    /// Counts one event. If a log line is due, returns the number of events since the last line,
    /// including this one.
    pub(crate) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.events += 1;
        let is_due = state
            .last_line
            .is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL);
        is_due.then(|| {
            state.last_line = Some(now);
            std::mem::take(&mut state.events)
        })
    }
}

const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_in_a_minute_is_logged_with_the_count_since_the_last_line() {
        let (log, start) = (RateLimitedLog::default(), Instant::now());
        let at = |seconds| log.count(start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(59), at(60), at(61), at(200)],
            [Some(1), None, None, Some(3), None, Some(2)]
        );
    }
}
