//! Which kind of connection the next attempt takes (PROTOCOL.md, section 16).

use std::time::{Duration, Instant};

use crate::connection::ConnectionError;

/// The kind of connection that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Route {
    /// A WebSocket; where the server does not answer over it a streamed connection, and where that
    /// does not get through either a polled one. An attempt may take 4 seconds.
    #[default]
    Any,
    /// A WebSocket and nothing else.
    WebSocket,
    /// One HTTP answer down, and POSTs up.
    Streamed,
    /// POSTs whose answers carry what the server has to say.
    Polled,
}

/// One kind of connection, and how the last ones went.
#[derive(Debug)]
struct Kind {
    route: Route,
    /// The server has answered over it before.
    is_proven: bool,
}

/// The kinds to try in turn.
#[derive(Debug)]
pub(crate) struct Routes {
    kinds: Vec<Kind>,
    /// The index of the kind in use.
    at: usize,
    /// Attempts in a row of the kind in use that were not answered.
    failures: usize,
    /// Attempts that were silent for all their time since the server was heard last.
    silences: usize,
    /// No POST is wanted before this.
    posts_at: Option<Instant>,
    /// Refusals in a row that named no time.
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

    /// How long an attempt may go without an answer. With one kind only, or once all were silent
    /// twice, the machine's own deadlines decide.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let rounds = self.silences / self.kinds.len();
        let patience = PATIENCE * 2u32.pow(rounds.min(2) as u32);
        (self.kinds.len() > 1 && patience <= LONGEST_PATIENCE).then_some(patience)
    }

    /// When the next connection may be opened, if not at once.
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

    /// An attempt with this kind was not answered.
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
        // What worked before may do so again.
        if self.failures > usize::from(self.kinds[self.at].is_proven) {
            self.failures = 0;
            self.at = (self.at + 1) % self.kinds.len();
        }
    }

    /// Obeys the server, or what stands before it, when it wants to be left alone.
    fn hold(&mut self, status: u16, retry_after: Option<Duration>, now: Instant) {
        let is_limit = matches!(status, 413 | 429);
        let wait = retry_after.or_else(|| {
            self.refusals += u32::from(is_limit);
            is_limit.then(|| FIRST_WAIT * 2u32.pow((self.refusals - 1).min(6)))
        });
        self.posts_at = wait.map(|wait| now + wait.min(LONGEST_WAIT)).or(self.posts_at);
    }
}

/// How long an attempt may take, doubled once every kind was silent for so long.
const PATIENCE: Duration = Duration::from_secs(4);

const LONGEST_PATIENCE: Duration = Duration::from_secs(8);

/// The wait after a refusal that names no time, doubled with each in a row.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// A server is obeyed for at most this long.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<Duration>) -> ConnectionError {
        ConnectionError::Status { status, retry_after }
    }

    #[test]
    fn what_is_not_answered_gives_way_to_the_next_kind_and_what_was_proven_gets_a_second_attempt() {
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
    fn an_attempt_gets_more_time_when_all_were_silent_and_a_single_kind_has_the_machines() {
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
