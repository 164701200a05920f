//! Hubs that limit together how many sessions a user has, with a paused clock.

mod support;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use stillhere::cluster::{BoxConnection, Cluster, ClusterFuture, PostOutcome, UserSession, Visitor, WeakHub};
use stillhere::{
    CleanupPolicy, DefaultCleanupPolicy, Hub, PrincipalCap, Session, SessionHandle, SessionId, SessionSnapshot,
    SessionState,
};
use support::browser::Browser;
use support::{milliseconds, seconds, settled};

/// Tells hubs of one process of each other's sessions.
#[derive(Clone, Default)]
struct Together(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    hubs: Vec<WeakHub>,
    /// What was said while nobody could hear it.
    withheld: Option<Vec<UserSession>>,
    /// How often anything was said.
    said: usize,
}

impl Together {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("no test panics while it holds this")
    }

    fn cut(&self) {
        self.lock().withheld = Some(Vec::new());
    }

    fn heal(&self) {
        let withheld = self.lock().withheld.take().expect("it was cut");
        withheld.iter().for_each(|session| self.user_session_changed(session));
    }
}

impl Cluster for Together {
    fn start(&self, hub: WeakHub) {
        self.lock().hubs.push(hub);
    }

    fn entered(&self, _session: &SessionId) {}

    fn left(&self, _session: &SessionId, _is_ended: bool) {}

    fn connect(&self, _visitor: Visitor) -> ClusterFuture<'_, Option<BoxConnection>> {
        Box::pin(async { Ok(None) })
    }

    fn exchange_opened(&self, _session: &SessionId) {}

    fn exchange_closed(&self, _session: &SessionId) {}

    fn pass_post(&self, _session: SessionId, _body: Bytes) -> ClusterFuture<'_, Option<PostOutcome>> {
        Box::pin(async { Ok(None) })
    }

    fn user_session_changed(&self, session: &UserSession) {
        let hubs = {
            let mut shared = self.lock();
            shared.said += 1;
            if let Some(withheld) = &mut shared.withheld {
                return withheld.push(session.clone());
            }
            shared.hubs.clone()
        };
        // The hub of the session itself knows better.
        let hubs = hubs.iter().filter_map(WeakHub::upgrade);
        hubs.for_each(|hub| hub.observe_elsewhere(session));
    }

    fn stop(&self) {}
}

fn hub(together: &Together, policy: impl CleanupPolicy) -> Hub {
    Hub::builder()
        .heartbeat(Duration::MAX)
        .principal(|_| Some("ada".into()))
        .cluster(together.clone())
        .cleanup_policy(policy)
        .build()
}

fn two_hubs(policy: impl Fn() -> PrincipalCap) -> (Together, [Hub; 2]) {
    let together = Together::default();
    let hubs = [(); 2].map(|()| hub(&together, policy().or(DefaultCleanupPolicy::default())));
    (together, hubs)
}

async fn idle(session: Session) {
    session.ended().await;
}

/// Opens a page of the user, a millisecond after the previous event.
async fn open(hub: &Hub) -> (SessionHandle, Browser) {
    tokio::time::sleep(milliseconds(1)).await;
    let session = hub.open_for("ada", idle);
    let page = Browser::connected(hub, &session).await;
    settled().await;
    (session, page)
}

/// Returns the numbers of the sessions that have ended.
fn over(sessions: &[(SessionHandle, Browser)]) -> Vec<usize> {
    let is_over = |number: &usize| sessions[*number].0.state() == SessionState::Closed;
    (0..sessions.len()).filter(is_over).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_too_many_ends_the_one_that_was_opened_first_wherever_it_is() {
    let (_together, [here, there]) = two_hubs(|| PrincipalCap::new(2).close_open_ones());
    let mut sessions = vec![open(&here).await, open(&there).await];
    assert_eq!(over(&sessions), [] as [usize; 0]);
    sessions.push(open(&there).await);
    assert_eq!(over(&sessions), [0]);
    sessions.push(open(&here).await);
    assert_eq!(over(&sessions), [0, 1]);
    sessions[2].0.abort("");
    settled().await;
    sessions.push(open(&there).await);
    assert_eq!(over(&sessions), [0, 1, 2], "an ended one makes room");
}

#[tokio::test(start_paused = true)]
async fn open_sessions_stay_until_one_of_them_waits_for_its_page() {
    let (_together, [here, there]) = two_hubs(|| PrincipalCap::new(2));
    let sessions = [open(&here).await, open(&there).await, open(&here).await];
    assert_eq!(over(&sessions), [] as [usize; 0]);
    sessions[1].1.set_online(false);
    settled().await;
    assert_eq!(over(&sessions), [1]);
}

#[tokio::test(start_paused = true)]
async fn hubs_that_could_not_hear_each_other_end_as_many_as_are_too_many_and_agree_which() {
    let (together, [here, there]) = two_hubs(|| PrincipalCap::new(3).close_open_ones());
    together.cut();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(open(&here).await);
        sessions.push(open(&there).await);
    }
    assert_eq!(over(&sessions), [] as [usize; 0], "each keeps its own limit");
    together.heal();
    settled().await;
    assert_eq!(over(&sessions), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_knows_the_sessions_on_other_hubs() {
    let (_together, [here, there]) = two_hubs(|| PrincipalCap::new(10));
    let sessions = [open(&there).await, open(&there).await, open(&here).await];
    here.set_cleanup_policy(PrincipalCap::new(2).close_open_ones());
    settled().await;
    assert_eq!(over(&sessions), [] as [usize; 0], "those to end first are not here");
    sessions[0].0.abort("");
    sessions[1].0.abort("");
    let later = [open(&here).await, open(&here).await];
    assert_eq!((over(&sessions), over(&later).len()), (vec![0, 1, 2], 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_moved_here_counts_although_the_other_server_is_lost() {
    let (_together, [here, _there]) = two_hubs(|| PrincipalCap::new(1).close_open_ones());
    let sessions = [open(&here).await];
    let id = *sessions[0].0.id();
    for state in [SessionState::Open, SessionState::Closed] {
        here.observe_elsewhere(&UserSession::new(id, "ada", state, UNIX_EPOCH));
    }
    let _later = open(&here).await;
    assert_eq!(over(&sessions), [0]);
}

/// Counts what it is told of sessions on other servers.
#[derive(Default)]
struct Watching {
    spans: bool,
    told: Arc<Mutex<Vec<SessionState>>>,
}

impl CleanupPolicy for Watching {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: Instant) -> bool {
        false
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        if session.is_elsewhere {
            self.told.lock().expect("nobody panics").push(session.state);
        }
        Vec::new()
    }

    fn spans_servers(&self) -> bool {
        self.spans
    }
}

#[tokio::test(start_paused = true)]
async fn only_policies_that_span_servers_are_told_of_other_servers() {
    let together = Together::default();
    let [deaf, keen] = [false, true].map(|spans| Watching {
        spans,
        ..Watching::default()
    });
    let told = [Arc::clone(&deaf.told), Arc::clone(&keen.told)];
    let _here = hub(&together, deaf.and(keen));
    let there = hub(&together, PrincipalCap::new(10));
    let (session, page) = open(&there).await;
    page.set_online(false);
    settled().await;
    session.abort("");
    settled().await;
    let told = told.map(|told| {
        let mut told = told.lock().expect("nobody panics").clone();
        told.dedup();
        told
    });
    let expected = [
        SessionState::Closed,
        SessionState::Open,
        SessionState::SoftClosed,
        SessionState::Closed,
    ];
    assert_eq!(told, [vec![], expected.to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn hubs_without_a_limit_for_each_user_say_nothing_before_a_session_ends() {
    let together = Together::default();
    let here = hub(&together, DefaultCleanupPolicy::default());
    let (session, _page) = open(&here).await;
    tokio::time::sleep(seconds(60)).await;
    let before = together.lock().said;
    session.abort("");
    settled().await;
    assert_eq!((before, together.lock().said), (0, 1));
}
