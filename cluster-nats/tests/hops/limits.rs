//! A limit of sessions for each user that holds on all servers together.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use stillhere::{
    CleanupPolicy, DefaultCleanupPolicy, PrincipalCap, SessionHandle, SessionId, SessionSnapshot, SessionState,
};
use stillhere_client::{Client, Route, Status};

use crate::balancer::Balancer;
use crate::node::{Node, echo, until};
use crate::support::NatsServer;
use crate::{connect, until_status};

/// The sessions on other servers, as the policy of this server knows them.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<HashSet<SessionId>>>);

impl Elsewhere {
    fn count(&self) -> usize {
        self.0.lock().expect("nobody panics").len()
    }
}

impl CleanupPolicy for Elsewhere {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: Instant) -> bool {
        false
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, _session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        None
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        let mut known = self.0.lock().expect("nobody panics");
        match session.state {
            SessionState::Closed => known.remove(&session.id),
            _ if session.is_elsewhere => known.insert(session.id),
            _ => false,
        };
        Vec::new()
    }

    fn spans_servers(&self) -> bool {
        true
    }
}

/// A server on which a user may have so many sessions, on all servers together.
struct Limited {
    node: Node,
    elsewhere: Elsewhere,
    balancer: Balancer,
}

/// A page of the user.
struct Page {
    session: SessionHandle,
    client: Client,
}

impl Limited {
    async fn start(nats: &NatsServer, limit: usize) -> Self {
        let elsewhere = Elsewhere::default();
        let policy = PrincipalCap::new(limit)
            .close_open_ones()
            .or(DefaultCleanupPolicy::default())
            .or(elsewhere.clone());
        let configure = |hub: stillhere::HubBuilder| {
            hub.principal(|request| Some(request.cookie("user").unwrap_or("ada").to_owned()))
                .cleanup_policy(policy)
        };
        let node = Node::start(nats, configure).await;
        let balancer = Balancer::start(&[node.address], 0).await;
        Self {
            node,
            elsewhere,
            balancer,
        }
    }

    async fn open(&self) -> Page {
        let session = self.node.hub.open_for("ada", echo);
        let client = connect(&session, &self.balancer, Route::WebSocket);
        let is_connected = |status: &Status| matches!(status, Status::Connected { .. });
        until_status(&client, is_connected).await;
        Page { session, client }
    }
}

impl Page {
    /// Waits until the session has ended, and its page knows that.
    async fn ended(&self) {
        until_status(&self.client, |status| matches!(status, Status::Ended { .. })).await;
    }

    fn is_over(&self) -> bool {
        self.session.state() == SessionState::Closed
    }
}

#[tokio::test]
async fn a_session_too_many_on_three_servers_ends_the_first() {
    let nats = NatsServer::start();
    let servers = [
        Limited::start(&nats, 3).await,
        Limited::start(&nats, 3).await,
        Limited::start(&nats, 3).await,
    ];
    let mut pages = Vec::new();
    for server in &servers {
        pages.push(server.open().await);
    }
    let knows_two = |server: &Limited| server.elsewhere.count() == 2;
    until("all know all", || servers.iter().all(knows_two)).await;
    for (number, server) in [&servers[2], &servers[2], &servers[0]].into_iter().enumerate() {
        pages.push(server.open().await);
        pages[number].ended().await;
    }
    assert!(!pages[3..].iter().any(Page::is_over));
    // A server on which the user has no session needs to know of none.
    let known = || servers.each_ref().map(|server| server.elsewhere.count());
    until("the second has forgotten all", || known() == [2, 0, 1]).await;
}

#[tokio::test]
async fn the_sessions_of_a_lost_server_count_no_more_until_it_returns() {
    let nats = NatsServer::start();
    let (here, there) = (Limited::start(&nats, 2).await, Limited::start(&nats, 2).await);
    let pages = [here.open().await, there.open().await];
    until("it is known", || here.elsewhere.count() == 1).await;
    let thaw = there.node.freeze().await;
    until("it is lost", || here.elsewhere.count() == 0).await;
    let later = here.open().await;
    assert!(!pages[0].is_over());
    drop(thaw);
    pages[0].ended().await;
    until("it is known again", || here.elsewhere.count() == 1).await;
    assert!(!pages[1].is_over() && !later.is_over());
}

/// Opens sessions while NATS is stopped or dead. With `others` so many other sessions open at first
/// on both servers.
async fn open_while_nats_is_away(is_dead: bool, others: usize) {
    let mut nats = NatsServer::start();
    let (here, there) = (Limited::start(&nats, 2).await, Limited::start(&nats, 2).await);
    let mut pages = vec![here.open().await];
    if is_dead {
        nats.kill();
    } else {
        nats.pause(true);
    }
    let open = |server: &Limited| server.node.hub.open(echo);
    let others: Vec<_> = (0..others).map(|_| (open(&here), open(&there))).collect();
    pages.push(there.open().await);
    pages.push(there.open().await);
    pages.push(here.open().await);
    assert!(!pages.iter().any(Page::is_over));
    if is_dead {
        // Until the servers no longer wait for their clients of NATS, which nothing shows.
        tokio::time::sleep(Duration::from_millis(2500)).await;
    } else {
        // It takes with it what it has not read.
        nats.kill();
    }
    nats.restart();
    for page in &pages[..2] {
        page.ended().await;
    }
    assert!(!pages[2..].iter().any(Page::is_over));
    // They can be reached now.
    for (on_here, on_there) in others.iter().take(1).chain(others.last()) {
        for (session, balancer) in [(on_here, &there.balancer), (on_there, &here.balancer)] {
            let client = connect(session, balancer, Route::WebSocket);
            assert_eq!(&*crate::echo(&client, "x").await, b"x");
        }
    }
}

#[tokio::test]
async fn sessions_that_were_opened_while_nats_was_away_count_afterwards() {
    open_while_nats_is_away(false, 0).await;
}

#[tokio::test]
async fn nothing_is_forgotten_that_the_client_of_nats_had_no_room_for() {
    open_while_nats_is_away(true, 5_000).await;
}

/// It was cut off by a fault between servers of NATS, which it need not have noticed.
#[tokio::test]
async fn a_server_that_is_heard_again_is_asked_what_it_has() {
    let nats = NatsServer::start();
    let here = Limited::start(&nats, 3).await;
    let _page = here.open().await;
    let other = async_nats::connect(nats.url()).await.expect("NATS runs");
    let mut news = other.subscribe("stillhere.user.*").await.expect("it is open");
    let beat = async || {
        let id = 7u64.to_le_bytes().to_vec();
        other.publish("stillhere.servers", id.into()).await.expect("it is open");
    };
    let is_known = || here.node.cluster.servers().others() == [7];
    while !is_known() {
        beat().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("it is lost", || !is_known()).await;
    beat().await;
    let asked = tokio::time::timeout(Duration::from_secs(30), news.next()).await;
    let asked = asked.expect("it is asked").expect("NATS runs");
    let question: serde_json::Value = serde_json::from_slice(&asked.payload).expect("it is JSON");
    assert_eq!((&question["asks"], &question["is_all"]), (&true.into(), &true.into()));
}

/// Other servers that this test plays: 7, which is soon lost, and 8.
struct Others {
    client: async_nats::Client,
    /// The subject of the user.
    subject: async_nats::Subject,
    /// The heartbeats of 8.
    heart: tokio::task::AbortHandle,
}

impl Drop for Others {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

impl Others {
    /// Learns the subject of the user from the first thing that `here` says of the user's sessions.
    async fn join(nats: &NatsServer, here: &Limited) -> (Self, Page) {
        let client = async_nats::connect(nats.url()).await.expect("NATS runs");
        let mut news = client.subscribe("stillhere.user.*").await.expect("it is open");
        client.flush().await.expect("NATS runs");
        let page = here.open().await;
        let subject = news.next().await.expect("NATS runs").subject;
        let heart = tokio::spawn(beat(client.clone(), 8)).abort_handle();
        let others = Self { client, subject, heart };
        (others, page)
    }

    /// Says that a server has a session now, or no more.
    async fn say(&self, server: u64, session: &SessionId, has_it: bool) {
        let known = has_it.then(|| serde_json::json!({"is_open": true, "opened": 1, "since": 1}));
        let news = serde_json::json!({
            "server": server,
            "is_all": false,
            "asks": false,
            "sessions": [(session.to_string(), known)],
        });
        let publishing = self.client.publish(self.subject.clone(), news.to_string().into());
        publishing.await.expect("it is open");
    }
}

/// Sends the heartbeats of a server.
async fn beat(client: async_nats::Client, server: u64) {
    loop {
        let id = server.to_le_bytes().to_vec();
        let publishing = client.publish("stillhere.servers", id.into());
        publishing.await.expect("it is open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn new_id() -> SessionId {
    *stillhere::Hub::new().open(echo).id()
}

#[tokio::test]
async fn a_session_that_moves_between_other_servers_keeps_counting() {
    let nats = NatsServer::start();
    let here = Limited::start(&nats, 10).await;
    let (others, _page) = Others::join(&nats, &here).await;
    let (moved, next) = (new_id(), new_id());
    others.say(7, &moved, true).await;
    others.say(8, &moved, true).await;
    // The former server learns that it has lost the session.
    others.say(7, &moved, false).await;
    others.say(8, &next, true).await;
    until("both count", || here.elsewhere.count() == 2).await;
    others.say(8, &moved, false).await;
    until("it has ended", || here.elsewhere.count() == 1).await;
}

#[tokio::test]
async fn a_session_that_was_taken_over_from_a_lost_server_keeps_counting() {
    let nats = NatsServer::start();
    let here = Limited::start(&nats, 10).await;
    let (others, _page) = Others::join(&nats, &here).await;
    let (moved, lost, next) = (new_id(), new_id(), new_id());
    others.say(7, &moved, true).await;
    others.say(7, &lost, true).await;
    others.say(8, &moved, true).await;
    until("both count", || here.elsewhere.count() == 2).await;
    until("a server is lost", || here.node.cluster.servers().others() == [8]).await;
    until("its session counts no more", || here.elsewhere.count() < 2).await;
    others.say(8, &next, true).await;
    until("the other counts", || here.elsewhere.count() == 2).await;
}

#[tokio::test]
async fn a_session_that_leaves_for_another_server_keeps_counting() {
    let nats = NatsServer::start();
    let here = Limited::start(&nats, 10).await;
    let (others, page) = Others::join(&nats, &here).await;
    let _other = here.open().await;
    let next = new_id();
    // This server does not know yet that the session has been taken over.
    others.say(8, page.session.id(), true).await;
    others.say(8, &next, true).await;
    until("the next counts", || here.elsewhere.count() == 1).await;
    page.session.abort("it was taken over");
    until("both count", || here.elsewhere.count() == 2).await;
}
