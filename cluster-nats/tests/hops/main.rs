//! Pages that reach other servers than that of their session, over a real NATS server.

#[path = "../support/mod.rs"]
mod support;

mod balancer;
mod cable;
mod limits;
mod nats_servers;
mod node;
mod partition;

use std::env;
use std::time::{Duration, Instant};

use balancer::{Balancer, Random};
use node::{Count, Node, numbers, until};
use stillhere::code::Code;
use stillhere::{Message, SessionHandle};
use stillhere_client::{Client, Route, Status, Ticket};
use support::NatsServer;

async fn three_nodes(nats: &NatsServer) -> [Node; 3] {
    let nodes = [
        Node::start(nats, |hub| hub).await,
        Node::start(nats, |hub| hub).await,
        Node::start(nats, |hub| hub).await,
    ];
    until("all servers know all", || {
        nodes.iter().all(|node| node.cluster.servers().count() == nodes.len())
    })
    .await;
    nodes
}

/// Connects a client through the balancer.
fn connect(session: &SessionHandle, balancer: &Balancer, route: Route) -> Client {
    let ticket = Ticket::parse(&session.ticket_json()).expect("the ticket is right");
    let page = format!("http://{}/", balancer.address);
    let builder = Client::builder().page(&page).expect("the URL is right");
    builder.route(route).connect_with(ticket).expect("the ticket is right")
}

async fn echo(client: &Client, message: impl Into<Message>) -> Message {
    client.send(message).await.expect("the session lives");
    recv(client).await
}

async fn recv(client: &Client) -> Message {
    let message = tokio::time::timeout(Duration::from_secs(30), client.recv()).await;
    message.expect("a message comes").expect("the session lives")
}

/// Waits until the client's status is of this kind, and returns how long that took.
async fn until_status(client: &Client, is_right: impl Fn(&Status) -> bool) -> Duration {
    let began = Instant::now();
    let mut status = client.watch_status();
    let waiting = tokio::time::timeout(Duration::from_secs(30), status.wait_for(|status| is_right(status)));
    let waited = waiting.await.map(|_| ());
    assert!(waited.is_ok(), "{:?} for 30 s", client.status());
    began.elapsed()
}

#[tokio::test]
async fn a_page_reaches_its_session_through_another_server() {
    let nats = NatsServer::start();
    let [a, b, _c] = three_nodes(&nats).await;
    for route in [Route::WebSocket, Route::Streamed, Route::Polled] {
        let balancer = Balancer::start(&[b.address], 0).await;
        let session = a.hub.open(node::echo);
        let client = connect(&session, &balancer, route);
        for text in ["one", "two", "three"] {
            assert_eq!(&*echo(&client, text).await, text.as_bytes(), "{route:?}");
        }
        assert_eq!((a.cluster.hops(), b.cluster.hops()), (1, 1), "{route:?}");
        client.close().await;
        until("the hop is closed", || a.cluster.hops() + b.cluster.hops() == 0).await;
    }
    assert_eq!((a.hub.stats().sessions, b.hub.stats().sessions), (3, 0));
}

/// Numbered messages in both directions, over connections that are cut again and again and reach
/// servers by chance.
async fn keep_both_streams_over_cuts(route: Route) {
    let seed = env::var("STILLHERE_SEED").map_or(1, |seed| seed.parse().expect("a seed is a number"));
    println!("STILLHERE_SEED={seed}");
    let nats = NatsServer::start();
    let nodes = three_nodes(&nats).await;
    let balancer = Balancer::start(&nodes.each_ref().map(|node| node.address), seed).await;
    let session = nodes[0].hub.open(numbers);
    let client = connect(&session, &balancer, route);
    let mut random = Random(seed);
    let cuts = if env::var_os("STILLHERE_LONG").is_some() {
        200
    } else {
        30
    };
    let (mut sent, mut last) = (0u64, 0u64);
    for _ in 0..cuts {
        let until = last + 5 + random.next() % 20;
        while last < until {
            sent += 1;
            client.send(sent.to_le_bytes()).await.expect("the session lives");
            last = check(&recv(&client).await, last);
        }
        balancer.cut();
        client.wake();
    }
    while last < sent {
        last = check(&recv(&client).await, last);
    }
}

/// Checks that a message is the next of the server, and that the server has missed none.
fn check(message: &[u8], last: u64) -> u64 {
    let number = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("a number has 8 bytes"));
    assert_eq!(
        (number(0), number(8)),
        (last + 1, 0),
        "the number; errors in the client's stream"
    );
    number(0)
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_web_sockets_that_reach_servers_by_chance() {
    keep_both_streams_over_cuts(Route::WebSocket).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_streamed_answers_that_reach_servers_by_chance() {
    keep_both_streams_over_cuts(Route::Streamed).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_polls_that_reach_servers_by_chance() {
    keep_both_streams_over_cuts(Route::Polled).await;
}

/// Each POST reaches another server than the one that has the connection.
#[tokio::test]
async fn posts_find_the_connection_that_they_belong_to() {
    let nats = NatsServer::start();
    let [a, b, c] = three_nodes(&nats).await;
    for route in [Route::Streamed, Route::Polled] {
        let balancer = Balancer::start(&[b.address], 0).await;
        let client = connect(&a.hub.open(node::echo), &balancer, route);
        echo(&client, "first").await;
        balancer.lead_to(&[c.address]);
        let hops = a.cluster.hops();
        for size in [10, 5_000, 60_000, 200_000] {
            let message = vec![7; size];
            assert!(*echo(&client, message.clone()).await == message[..], "{route:?} {size}");
        }
        assert_eq!(
            (hops, a.cluster.hops(), b.cluster.hops()),
            (1, 1, 1),
            "{route:?}: over the same connection"
        );
        client.close().await;
        until("the hop is closed", || a.cluster.hops() + b.cluster.hops() == 0).await;
    }
}

#[tokio::test]
async fn the_pages_of_a_server_that_has_died_learn_it_within_a_second() {
    let nats = NatsServer::start();
    let [mut a, b, _c] = three_nodes(&nats).await;
    let direct = Balancer::start(&[a.address], 0).await;
    let through = Balancer::start(&[b.address], 0).await;
    let (first, second) = (a.hub.open(node::echo), a.hub.open(node::echo));
    let first = connect(&first, &direct, Route::WebSocket);
    let second = connect(&second, &through, Route::WebSocket);
    echo(&first, "x").await;
    echo(&second, "x").await;
    direct.lead_to(&[b.address]);
    a.kill();
    let is_unknown = |status: &Status| matches!(status, Status::Refused { code, .. } if *code == Code::Unknown as u64);
    // From when the page knows that its connection is lost: at once here.
    direct.cut();
    first.wake();
    let took = until_status(&first, is_unknown).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // It had a connection to a server that lives, which must find out first.
    until_status(&second, is_unknown).await;
}

#[tokio::test]
async fn an_ended_session_is_not_unknown_to_other_servers() {
    let nats = NatsServer::start();
    let [a, b, _c] = three_nodes(&nats).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let session = a.hub.open(node::echo);
    session.abort("enough");
    let client = connect(&session, &balancer, Route::WebSocket);
    until_status(&client, |status| {
        matches!(status, Status::Ended { code, text, .. } if *code == Code::Ended as u64 && text.contains("enough"))
    })
    .await;
}

#[tokio::test]
async fn a_session_of_nobody_is_unknown_within_a_second() {
    let nats = NatsServer::start();
    let [a, b, _c] = three_nodes(&nats).await;
    let elsewhere = stillhere::Hub::new();
    let session = elsewhere.open(node::echo);
    for node in [&a, &b] {
        let balancer = Balancer::start(&[node.address], 0).await;
        let client = connect(&session, &balancer, Route::WebSocket);
        let took = until_status(&client, |status| matches!(status, Status::Refused { .. })).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

/// It may be connecting to another server of NATS.
#[tokio::test]
async fn a_session_is_not_unknown_before_a_server_that_is_not_heard_had_time_to_come_back() {
    let nats = NatsServer::start();
    let node = Node::start(&nats, |hub| hub).await;
    let balancer = Balancer::start(&[node.address], 0).await;
    let other = async_nats::connect(nats.url()).await.expect("NATS runs");
    let id = 7u64.to_le_bytes().to_vec();
    other.publish("stillhere.servers", id.into()).await.expect("it is open");
    until("the other is known", || node.cluster.servers().count() == 2).await;
    let session = stillhere::Hub::new().open(node::echo);
    let is_refused = |status: &Status| matches!(status, Status::Refused { .. });
    let client = connect(&session, &balancer, Route::WebSocket);
    let took = until_status(&client, is_refused).await;
    let bounds = Duration::from_millis(600)..Duration::from_millis(1500);
    assert!(bounds.contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_users_session_accepts_only_its_user_through_another_server() {
    let nats = NatsServer::start();
    let by_cookie = |hub: stillhere::HubBuilder| hub.principal(|request| request.cookie("user").map(str::to_owned));
    let a = Node::start(&nats, by_cookie).await;
    let b = Node::start(&nats, by_cookie).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let session = a.hub.open_for("ada", node::echo);
    let connect_as = |user: &'static str| {
        let ticket = Ticket::parse(&session.ticket_json()).expect("the ticket is right");
        let builder = Client::builder().page(&format!("http://{}/", balancer.address));
        let cookie = format!("user={user}").parse().expect("it is a header");
        let name = "cookie".parse().expect("it is a name");
        let builder = builder.expect("the URL is right").header(name, cookie);
        builder.connect_with(ticket).expect("the ticket is right")
    };
    let is_forbidden =
        |status: &Status| matches!(status, Status::Refused { code, .. } if *code == Code::Forbidden as u64);
    until_status(&connect_as("bob"), is_forbidden).await;
    assert_eq!(&*echo(&connect_as("ada"), "mine").await, b"mine");
}

#[tokio::test]
async fn frames_above_the_limit_of_nats_pass_in_parts() {
    let nats = NatsServer::start();
    let large = |hub: stillhere::HubBuilder| {
        let mut options = stillhere::SessionOptions::default();
        options.limits.fragment = 3 << 20;
        options.limits.message = 8 << 20;
        options.limits.window = 16 << 20;
        options.limits.outbox = 16 << 20;
        hub.session_options(options)
    };
    let a = Node::start(&nats, large).await;
    let b = Node::start(&nats, large).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let client = connect(&a.hub.open(node::echo), &balancer, Route::WebSocket);
    for size in [1usize << 20, 3 << 20, 5 << 20] {
        let message: Vec<u8> = (0..size).map(|at| (at / 1000) as u8).collect();
        assert!(*echo(&client, message.clone()).await == message[..], "{size}");
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_sends_the_pages_that_it_passes_on_to_others() {
    let nats = NatsServer::start();
    let [a, b, c] = three_nodes(&nats).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let client = connect(&a.hub.open(node::echo), &balancer, Route::WebSocket);
    echo(&client, "before").await;
    balancer.lead_to(&[c.address]);
    let report = b.hub.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.sessions, report.connections_left), (0, 0));
    assert_eq!(&*echo(&client, "after").await, b"after");
    assert_eq!((b.cluster.hops(), c.cluster.hops()), (0, 1));
}

#[tokio::test]
async fn a_durable_session_of_a_server_that_has_died_goes_on_at_another_within_two_seconds() {
    let nats = NatsServer::start();
    let (mut a, b) = (Node::start_durable(&nats).await, Node::start_durable(&nats).await);
    let c = Node::start_durable(&nats).await;
    let (kind, _b, _c) = (a.counters(), b.counters(), c.counters());
    let (direct, through) = (
        Balancer::start(&[a.address], 0).await,
        Balancer::start(&[b.address], 0).await,
    );
    let (first, second) = (kind.open(Count { count: 0 }), kind.open(Count { count: 0 }));
    let first = connect(&first, &direct, Route::WebSocket);
    let second = connect(&second, &through, Route::WebSocket);
    for number in ["1", "2", "3"] {
        assert_eq!(&*echo(&first, "x").await, number.as_bytes());
        assert_eq!(&*echo(&second, "x").await, number.as_bytes());
    }
    direct.lead_to(&[b.address, c.address]);
    a.kill();
    direct.cut();
    let began = Instant::now();
    first.wake();
    assert_eq!(&*echo(&first, "x").await, b"4");
    assert_eq!(&*echo(&second, "x").await, b"4");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(b.hub.stats().sessions + c.hub.stats().sessions, 2);
}

#[tokio::test]
async fn a_server_that_was_frozen_gives_up_what_another_has_taken_over() {
    let nats = NatsServer::start();
    let (a, b) = (Node::start_durable(&nats).await, Node::start_durable(&nats).await);
    let (kind, _b) = (a.counters(), b.counters());
    let balancer = Balancer::start(&[a.address], 0).await;
    let client = connect(&kind.open(Count { count: 0 }), &balancer, Route::WebSocket);
    assert_eq!(&*echo(&client, "x").await, b"1");
    assert_eq!(&*echo(&client, "x").await, b"2");
    let thaw = a.freeze().await;
    balancer.lead_to(&[b.address]);
    balancer.cut();
    client.wake();
    assert_eq!(&*echo(&client, "x").await, b"3");
    assert_eq!(&*echo(&client, "x").await, b"4");
    drop(thaw);
    balancer.lead_to(&[a.address]);
    balancer.cut();
    client.wake();
    assert_eq!(&*echo(&client, "x").await, b"5");
    assert_eq!((a.hub.stats().sessions, b.hub.stats().sessions), (0, 1));
}

#[tokio::test]
async fn a_session_whose_server_is_slow_to_come_back_to_nats_is_not_unknown() {
    let mut nats = NatsServer::start();
    let [a, b, _c] = three_nodes(&nats).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let client = connect(&a.hub.open(node::echo), &balancer, Route::WebSocket);
    echo(&client, "before").await;
    let thaw = a.freeze().await;
    nats.kill();
    nats.restart();
    until("the other server is ready", || b.cluster.is_ready()).await;
    let mut status = client.watch_status();
    for _ in 0..4 {
        client.wake();
        status.changed().await.expect("the client lives");
    }
    assert!(
        matches!(client.status(), Status::Reconnecting(_)),
        "{:?}",
        client.status()
    );
    drop(thaw);
    assert_eq!(&*echo(&client, "after").await, b"after");
}

#[tokio::test]
async fn while_nats_is_away_pages_at_their_own_server_go_on_and_others_come_back_afterwards() {
    let mut nats = NatsServer::start();
    let [a, b, _c] = three_nodes(&nats).await;
    let (direct, through) = (
        Balancer::start(&[a.address], 0).await,
        Balancer::start(&[b.address], 0).await,
    );
    let (here, there) = (a.hub.open(node::echo), a.hub.open(node::echo));
    let here = connect(&here, &direct, Route::WebSocket);
    let there = connect(&there, &through, Route::WebSocket);
    echo(&here, "x").await;
    echo(&there, "x").await;
    for is_killed in [false, true] {
        if is_killed {
            nats.kill();
        } else {
            nats.pause(true);
        }
        until("the servers are not ready", || {
            !a.cluster.is_ready() && !b.cluster.is_ready()
        })
        .await;
        until("the hop is cut", || a.cluster.hops() + b.cluster.hops() == 0).await;
        there.send("during").await.expect("its session lives");
        assert_eq!(&*echo(&here, "here").await, b"here");
        let is_waiting = |status: &Status| matches!(status, Status::Reconnecting(attempt) if attempt.code == u64::from(Code::Busy as u16));
        until_status(&there, is_waiting).await;
        if is_killed {
            nats.restart();
        } else {
            nats.pause(false);
        }
        assert_eq!(&*recv(&there).await, b"during");
        until("the servers are ready", || a.cluster.is_ready() && b.cluster.is_ready()).await;
    }
}
