//! What peers can cause at any rate is logged once a minute.

use std::time::{Duration, Instant};

use crate::lock::Lock;

/// Counts what happens, for a log line each minute.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Lock<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    since: u64,
}

impl Seldom {
    /// It has happened. If that is to be said: how often it has since it last was, this time included.
    pub(crate) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.since += 1;
        let is_due = state
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= INTERVAL);
        is_due.then(|| {
            state.said = Some(now);
            std::mem::take(&mut state.since)
        })
    }
}

const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_a_minute_is_said_with_how_many_there_were() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let at = |seconds| seldom.count(start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(59), at(60), at(61), at(200)],
            [Some(1), None, None, Some(3), None, Some(2)]
        );
    }
}
