//! A cleanup policy that depends on a session's memory use and on its user.

use std::time::{Duration, Instant};

use stillhere::{CleanupPolicy, Hub, Session, SessionSnapshot, SessionState};

/// Keeps a soft-closed session for one minute if it is heavy, for a day if it belongs to a user,
/// and for ten minutes otherwise.
pub(crate) struct ByWorth;

const HEAVY: u64 = 64 << 20;

impl ByWorth {
    fn deadline(&self, session: &SessionSnapshot) -> Option<Instant> {
        match session.state {
            SessionState::Unconnected => Some(session.since + Duration::from_secs(30)),
            state if state.is_soft_closed() => Some(session.since + self.keep(session)),
            _ => None,
        }
    }
}

impl CleanupPolicy for ByWorth {
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
        self.deadline(session).is_some_and(|deadline| deadline <= now)
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        self.deadline(session)
    }

    fn keep(&self, session: &SessionSnapshot) -> Duration {
        let minutes = match &session.principal {
            _ if session.weight > HEAVY => 1,
            Some(_user) => 24 * 60,
            None => 10,
        };
        Duration::from_secs(60 * minutes)
    }
}

/// Reports as its weight how many bytes it holds for its page.
async fn editor(mut session: Session) {
    let mut picture = Vec::new();
    while let Some(stroke) = session.recv().await {
        picture.extend_from_slice(&stroke);
        session.set_weight(picture.len() as u64);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let hub = Hub::builder().cleanup_policy(ByWorth).build();
    for session in [hub.open(editor), hub.open_for("ada", editor)] {
        println!(
            "{:?} is kept for {:?}",
            session.principal(),
            ByWorth.keep(&session.snapshot())
        );
    }
}
