//! Servers as processes of their own, over a real NATS server: killed, stopped and woken.

#[path = "../hops/balancer.rs"]
mod balancer;
#[path = "../support/mod.rs"]
mod support;

mod node;

use std::env;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use balancer::Balancer;
use node::{Node, Stats};
use stillhere::code::Code;
use stillhere_client::{Client, Route, Status};
use support::NatsServer;

/// A client that counts its numbers, and those of its session.
struct Numbers {
    client: Client,
    sent: u64,
    last: u64,
    /// Numbers of the client that the session has received.
    received: u64,
}

impl Numbers {
    /// Opens a session on this server, and connects to it through the balancer.
    async fn open(node: &Node, kind: &str, balancer: &Balancer) -> Self {
        let page = format!("http://{}/", balancer.address);
        let builder = Client::builder().page(&page).expect("the URL is right");
        let ticket = node.open(kind).await;
        let client = builder.route(Route::WebSocket).connect_with(ticket);
        let mut numbers = Self {
            client: client.expect("the ticket is right"),
            sent: 0,
            last: 0,
            received: 0,
        };
        numbers.exchange().await;
        numbers
    }

    async fn send(&mut self) {
        self.sent += 1;
        self.client
            .send(self.sent.to_le_bytes())
            .await
            .expect("the session lives");
    }

    /// Takes a message of the session, which must be the next.
    async fn take(&mut self) {
        let message = tokio::time::timeout(PATIENCE, self.client.recv()).await;
        let message = message.expect("a message comes").expect("the session lives");
        let number = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("a number has 8 bytes"));
        let errors = number(16);
        assert_eq!(
            (number(0), errors),
            (self.last + 1, 0),
            "of the server; errors of the client's"
        );
        self.last = number(0);
        assert!((self.received..=self.sent).contains(&number(8)));
        self.received = number(8);
    }

    /// Sends numbers, and waits until the session has received all so far.
    async fn exchange(&mut self) {
        for _ in 0..5 {
            self.send().await;
        }
        while self.received < self.sent {
            self.take().await;
        }
    }

    /// Waits until the status is of this kind, and returns how long that took.
    async fn until_status(&self, is_right: impl Fn(&Status) -> bool) -> Duration {
        let began = Instant::now();
        let mut status = self.client.watch_status();
        let waiting = tokio::time::timeout(PATIENCE, status.wait_for(|status| is_right(status)));
        let is_reached = waiting.await.is_ok();
        assert!(is_reached, "{:?} for {PATIENCE:?}", self.client.status());
        began.elapsed()
    }
}

fn is_unknown(status: &Status) -> bool {
    matches!(status, Status::Refused { code, .. } if *code == Code::Unknown as u64)
}

fn is_told_to_wait(status: &Status) -> bool {
    matches!(status, Status::Reconnecting(attempt) if attempt.code == u64::from(Code::Busy as u16))
}

/// Waits until all these servers say so.
async fn until_all(nodes: &[&Node], is_true: impl Fn(&Stats) -> bool) {
    let began = Instant::now();
    for node in nodes {
        loop {
            let stats = node.stats().await;
            if is_true(&stats) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{stats:?} for {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn three_nodes(nats: &NatsServer, tick: Option<Duration>) -> [Node; 3] {
    let nodes = [
        Node::start(nats, tick),
        Node::start(nats, None),
        Node::start(nats, None),
    ];
    until_all(&nodes.each_ref(), |stats| stats.is_ready && stats.servers == 3).await;
    nodes
}

#[tokio::test]
async fn durable_sessions_of_a_killed_process_go_on_within_two_seconds_and_others_are_unknown_within_one() {
    let nats = NatsServer::start();
    let [mut a, b, c] = three_nodes(&nats, None).await;
    let direct = Balancer::start(&[a.address], 1).await;
    let through = Balancer::start(&[b.address], 1).await;
    let mut durable = Numbers::open(&a, "durable", &direct).await;
    let mut durable_through = Numbers::open(&a, "durable", &through).await;
    let plain = Numbers::open(&a, "plain", &direct).await;
    let plain_through = Numbers::open(&a, "plain", &through).await;
    direct.lead_to(&[b.address, c.address]);
    let began = Instant::now();
    a.kill();
    let took = plain.until_status(is_unknown).await;
    assert!(took < Duration::from_secs(1), "{took:?} until a page knows");
    for numbers in [&mut durable, &mut durable_through] {
        numbers.exchange().await;
        println!("a durable session went on {:?} after the kill", began.elapsed());
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Its server must first find out that the other is dead.
    plain_through.until_status(is_unknown).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    until_all(&[&b, &c], |stats| stats.servers == 2).await;
    assert_eq!(b.stats().await.sessions + c.stats().await.sessions, 2);
}

#[tokio::test]
async fn a_stopped_process_that_wakes_up_writes_nothing_and_gives_up_what_was_taken_over() {
    let nats = NatsServer::start();
    let tick = Some(Duration::from_millis(20));
    let [a, b, c] = three_nodes(&nats, tick).await;
    let (direct, other) = (
        Balancer::start(&[a.address], 1).await,
        Balancer::start(&[a.address], 1).await,
    );
    let mut durable = Numbers::open(&a, "durable", &direct).await;
    let mut plain = Numbers::open(&a, "plain", &other).await;
    a.pause(true);
    let began = Instant::now();
    for balancer in [&direct, &other] {
        balancer.lead_to(&[b.address]);
        balancer.cut();
    }
    durable.client.wake();
    plain.client.wake();
    durable.exchange().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    plain.until_status(is_told_to_wait).await;
    until_all(&[&b, &c], |stats| stats.servers == 2).await;
    if env::var_os("STILLHERE_LONG").is_some() {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    durable.exchange().await;
    let client = async_nats::connect(nats.url()).await.expect("NATS runs");
    let stream = jetstream::new(client).get_stream("stillhere_sessions").await;
    let mut stream = stream.expect("there is a stream");
    let mut last_sequence = async || stream.info().await.expect("NATS answers").state.last_sequence;
    let before = last_sequence().await;
    a.pause(false);
    // It has a number to send, and cannot write it.
    until_all(&[&a], |stats| stats.sessions == 1).await;
    assert_eq!(last_sequence().await, before, "nobody has written");
    plain.client.wake();
    plain.exchange().await;
    direct.lead_to(&[a.address, c.address]);
    for _ in 0..3 {
        direct.cut();
        durable.client.wake();
        durable.exchange().await;
    }
    assert_eq!((a.stats().await.sessions, b.stats().await.sessions), (1, 1));
}

#[tokio::test]
async fn while_nats_is_stopped_or_dead_nothing_is_lost_and_all_go_on_afterwards() {
    let mut nats = NatsServer::start();
    let [a, b, c] = three_nodes(&nats, None).await;
    let direct = Balancer::start(&[a.address], 1).await;
    let through = Balancer::start(&[b.address], 1).await;
    let mut durable = Numbers::open(&a, "durable", &direct).await;
    let mut plain = Numbers::open(&a, "plain", &direct).await;
    let mut plain_through = Numbers::open(&a, "plain", &through).await;
    for is_killed in [false, true] {
        match is_killed {
            true => nats.kill(),
            false => nats.pause(true),
        }
        durable.send().await;
        until_all(&[&a, &b, &c], |stats| !stats.is_ready).await;
        plain.exchange().await;
        plain_through.send().await;
        plain_through.until_status(is_told_to_wait).await;
        if env::var_os("STILLHERE_LONG").is_some() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(durable.received, durable.sent - 1, "nothing counts that is not written");
        match is_killed {
            true => nats.restart(),
            false => nats.pause(false),
        }
        for numbers in [&mut durable, &mut plain, &mut plain_through] {
            numbers.exchange().await;
        }
        until_all(&[&a, &b, &c], |stats| stats.is_ready && stats.servers == 3).await;
    }
}

/// The longest time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
