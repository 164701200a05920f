//! Chooses the kind of connection for the next attempt (PROTOCOL.md, section 16).

use std::time::{Duration, Instant};

use crate::connection::ConnectionError;

/// The kind of connection that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Route {
    /// Tries a WebSocket, then a streamed connection, then a polled one, until the server answers.
    /// Each attempt may take 4 seconds.
    #[default]
    Any,
    /// Only WebSockets.
    WebSocket,
    /// One streamed HTTP answer from the server, and POSTs to the server.
    Streamed,
    /// POSTs whose answers carry the frames from the server.
    Polled,
}

/// One kind of connection, and whether it has worked.
#[derive(Debug)]
struct Kind {
    route: Route,
    /// True if the server has answered over this kind before.
    is_proven: bool,
}

/// The kinds to try in turn.
#[derive(Debug)]
pub(crate) struct Routes {
    kinds: Vec<Kind>,
    /// Index of the current kind.
    at: usize,
    /// Number of unanswered attempts in a row with the current kind.
    failures: usize,
    /// Number of attempts that timed out since the server last answered.
    silences: usize,
    /// Time before which no POST may be sent.
    posts_at: Option<Instant>,
    /// Number of refusals in a row without a `Retry-After` time.
    refusals: u32,
}

impl Routes {
    pub(crate) fn new(route: Route) -> Self {
        let routes: &[Route] = match &route {
            Route::Any => &[Route::WebSocket, Route::Streamed, Route::Polled],
            one => std::slice::from_ref(one),
        };
        let kinds = routes.iter().map(|route| Kind {
            route: *route,
            is_proven: false,
        });
        Self {
            kinds: kinds.collect(),
            at: 0,
            failures: 0,
            silences: 0,
            posts_at: None,
            refusals: 0,
        }
    }

    pub(crate) fn current(&self) -> Route {
        self.kinds[self.at].route
    }

    /// Returns how long an attempt may wait for an answer. Returns `None` if there is only one
    /// kind, or once all kinds have timed out twice: then the machine's own deadlines decide.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let rounds = self.silences / self.kinds.len();
        let patience = PATIENCE * 2u32.pow(rounds.min(2) as u32);
        (self.kinds.len() > 1 && patience <= LONGEST_PATIENCE).then_some(patience)
    }

    /// Returns when the next connection may be opened, or `None` if it may be opened at once.
    pub(crate) fn wait_until(&self) -> Option<Instant> {
        self.posts_at.filter(|_| self.current() != Route::WebSocket)
    }

    pub(crate) fn succeed(&mut self) {
        self.kinds[self.at].is_proven = true;
        self.failures = 0;
        self.silences = 0;
        self.refusals = 0;
        self.posts_at = None;
    }

    /// Records that an attempt with this kind was not answered.
    pub(crate) fn fail(&mut self, route: Route, error: Option<&ConnectionError>, now: Instant) {
        if route != self.current() {
            return;
        }
        match error {
            Some(ConnectionError::Silent) => self.silences += 1,
            Some(ConnectionError::Status { status, retry_after }) => self.hold(*status, *retry_after, now),
            _ => {}
        }
        self.failures += 1;
        // A kind that has worked before gets a second attempt.
        if self.failures > usize::from(self.kinds[self.at].is_proven) {
            self.failures = 0;
            self.at = (self.at + 1) % self.kinds.len();
        }
    }

    /// Delays the next POST as the server or a proxy asks.
    fn hold(&mut self, status: u16, retry_after: Option<Duration>, now: Instant) {
        let is_limit = matches!(status, 413 | 429);
        let wait = retry_after.or_else(|| {
            self.refusals += u32::from(is_limit);
            is_limit.then(|| FIRST_WAIT * 2u32.pow((self.refusals - 1).min(6)))
        });
        self.posts_at = wait.map(|wait| now + wait.min(LONGEST_WAIT)).or(self.posts_at);
    }
}

/// How long an attempt may take. Doubles once every kind has timed out.
const PATIENCE: Duration = Duration::from_secs(4);

const LONGEST_PATIENCE: Duration = Duration::from_secs(8);

/// How long to wait after a refusal without a `Retry-After` time. Doubles with each one in a row.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest `Retry-After` time that the client respects.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<Duration>) -> ConnectionError {
        ConnectionError::Status { status, retry_after }
    }

    #[test]
    fn an_unanswered_kind_gives_way_to_the_next_and_a_proven_one_gets_a_second_attempt() {
        let now = Instant::now();
        let mut routes = Routes::new(Route::Any);
        assert_eq!(routes.current(), Route::WebSocket);
        routes.fail(Route::WebSocket, None, now);
        assert_eq!(routes.current(), Route::Streamed);
        routes.succeed();
        routes.fail(Route::Streamed, None, now);
        assert_eq!(routes.current(), Route::Streamed);
        routes.fail(Route::Streamed, None, now);
        assert_eq!(routes.current(), Route::Polled);
        routes.fail(Route::Polled, None, now);
        assert_eq!(routes.current(), Route::WebSocket);
    }

    #[test]
    fn an_attempt_gets_more_time_after_all_kinds_timed_out_and_a_single_kind_has_no_limit() {
        let now = Instant::now();
        let mut routes = Routes::new(Route::Any);
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push(routes.patience().map(|patience| patience.as_secs()));
            routes.fail(routes.current(), Some(&ConnectionError::Silent), now);
        }
        assert_eq!(seen, [Some(4), Some(4), Some(4), Some(8), Some(8), Some(8), None]);
        assert_eq!(Routes::new(Route::Polled).patience(), None);
    }

    #[test]
    fn posts_wait_for_as_long_as_a_refusal_asks_and_web_sockets_do_not() {
        let now = Instant::now();
        let mut routes = Routes::new(Route::Polled);
        for seconds in [1, 2, 4] {
            routes.fail(Route::Polled, Some(&refused(429, None)), now);
            assert_eq!(routes.wait_until(), Some(now + Duration::from_secs(seconds)));
        }
        routes.fail(Route::Polled, Some(&refused(503, Some(Duration::from_secs(9)))), now);
        assert_eq!(routes.wait_until(), Some(now + Duration::from_secs(9)));
        routes.succeed();
        assert_eq!(routes.wait_until(), None);
        let mut routes = Routes::new(Route::WebSocket);
        routes.fail(Route::WebSocket, Some(&refused(429, None)), now);
        assert_eq!(routes.wait_until(), None);
    }
}
