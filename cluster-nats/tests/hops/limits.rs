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

#[tokio::test]
async fn sessions_that_were_opened_while_nats_was_away_count_afterwards() {
    let mut nats = NatsServer::start();
    let (here, there) = (Limited::start(&nats, 2).await, Limited::start(&nats, 2).await);
    let mut pages = vec![here.open().await];
    // NATS takes what is said of them with it.
    nats.pause(true);
    pages.push(there.open().await);
    pages.push(there.open().await);
    pages.push(here.open().await);
    assert!(!pages.iter().any(Page::is_over));
    nats.kill();
    nats.restart();
    for page in &pages[..2] {
        page.ended().await;
    }
    assert!(!pages[2..].iter().any(Page::is_over));
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
