//! The sessions of a user on several servers with a real NATS.

#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::future::pending;
use std::time::{Duration, Instant};

use stillhere::{EndReason, Hub, Session, SessionHandle};
use stillhere_nats::{NatsSessions, NatsSessionsOptions, Servers, ServersOptions};
use support::NatsServer;
use tokio::runtime::Builder;
use tokio::time::timeout;

struct Node {
    servers: Servers,
    hub: Hub,
    sessions: NatsSessions,
}

impl Node {
    async fn start(url: &str) -> Self {
        let client = async_nats::connect(url).await.expect("NATS runs");
        let joining = Servers::join(client, ServersOptions::default()).await;
        let (servers, hub) = (joining.expect("the client is open"), Hub::new());
        let sessions = NatsSessions::start(&servers, &hub, NatsSessionsOptions::default()).await;
        Self {
            sessions: sessions.expect("the client is open"),
            servers,
            hub,
        }
    }

    fn open(&self, principal: &str) -> SessionHandle {
        self.hub.open_for(principal, async |_: Session| pending::<()>().await)
    }

    /// Waits until this server knows so many others.
    async fn knows(&self, others: usize) {
        let known = async {
            while self.servers.others().len() != others {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), known)
            .await
            .expect("servers say that they are alive");
    }
}

#[tokio::test]
async fn the_sessions_of_a_user_are_found_and_ended_on_all_servers() {
    let nats = NatsServer::start();
    let url = nats.url();
    let nodes = [
        Node::start(&url).await,
        Node::start(&url).await,
        Node::start(&url).await,
    ];
    for node in &nodes {
        node.knows(2).await;
    }
    let opened: Vec<_> = nodes
        .iter()
        .flat_map(|node| [node.open("ada"), node.open("ada")])
        .collect();
    let ben = nodes[2].open("ben");
    let many: Vec<_> = (0..900).map(|_| nodes[1].open("cy")).collect();
    let ids: HashSet<_> = opened.iter().map(|session| *session.id()).collect();
    for node in &nodes {
        let reached = node.sessions.sessions_of("ada").await;
        assert_eq!((reached.found.len(), reached.silent), (6, 0));
        assert_eq!(reached.found.into_iter().collect::<HashSet<_>>(), ids);
    }
    assert_eq!(nodes[0].sessions.sessions_of("cy").await.found.len(), many.len());
    assert!(nodes[0].sessions.sessions_of("nobody").await.found.is_empty());
    let ended = nodes[0].sessions.abort_sessions_of("ada", "logged out").await;
    assert_eq!((ended.found, ended.silent), (6, 0));
    for session in &opened {
        let why = timeout(Duration::from_secs(30), session.ended()).await;
        let why = why.expect("it has ended");
        assert!(
            matches!(&why, EndReason::Aborted(text) if &**text == "logged out"),
            "{why:?}"
        );
    }
    assert_eq!(nodes[2].hub.sessions_of("ben").len(), 1, "{:?}", ben.state());
    assert_eq!(nodes[1].sessions.abort_sessions_of("ada", "again").await.found, 0);
}

#[tokio::test]
async fn servers_that_do_not_answer_are_counted_and_delay_nobody_for_long() {
    let nats = NatsServer::start();
    let url = nats.url();
    let here = Node::start(&url).await;
    let apart = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let apart = apart.expect("there is a thread");
    let there = apart
        .spawn(async move { Node::start(&url).await })
        .await
        .expect("it starts");
    here.knows(1).await;
    let own = here.open("ada");
    apart.shutdown_background();
    let asked = Instant::now();
    let reached = here.sessions.sessions_of("ada").await;
    let elapsed = asked.elapsed();
    assert_eq!((reached.found, reached.silent), (vec![*own.id()], 1));
    assert!(
        (Duration::from_millis(450)..Duration::from_secs(3)).contains(&elapsed),
        "{elapsed:?}"
    );
    here.knows(0).await;
    assert_eq!(here.sessions.sessions_of("ada").await.silent, 0, "it is lost");
    nats.pause(true);
    assert_eq!(
        here.sessions.abort_sessions_of("ada", "logged out").await.found,
        1,
        "its own need no NATS"
    );
    nats.pause(false);
    drop(there);
}
