//! Servers that die or stop for a while, and NATS that does.

use std::env;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use stillhere_app::{Departure, Member, RoomEvent, RoomEvents, RoomOptions};
use stillhere_nats::{NatsRooms, NatsRoomsOptions, Servers, ServersOptions};
use tokio::runtime::{Builder, Runtime};

use crate::balancer::Balancer;
use crate::convergence::Party;
use crate::node::{Guest, Node, soon};
use crate::support::{NatsServer, free_port};

/// How long NATS is away, which is more than a server may be silent.
const OUTAGE: Duration = Duration::from_secs(5);

/// Starts a server with a guest on a thread of its own.
async fn apart(nats: &NatsServer, state: &'static str) -> (Runtime, Arc<Node>, Guest) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("there is a thread");
    let url = nats.url();
    let started = runtime.spawn(async move {
        let node = Arc::new(Node::connect(&url).await);
        let guest = Guest::join(&node, state).await;
        (node, guest)
    });
    let (node, guest) = started.await.expect("it starts");
    (runtime, node, guest)
}

/// Returns the members that leave until one comes or goes for whom `is_last`.
async fn until(events: &mut RoomEvents, is_last: impl Fn(&RoomEvent) -> bool) -> Vec<RoomEvent> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(&is_last) {
        seen.push(soon("a change", events.next()).await);
    }
    seen
}

fn has(state: &'static str) -> impl Fn(&[Member]) -> bool {
    move |all| all.iter().any(|member| member.state == state)
}

#[tokio::test]
async fn the_members_of_a_server_that_dies_leave_on_all_others() {
    let nats = NatsServer::start();
    let [here, there] = [Node::start(&nats).await, Node::start(&nats).await];
    let (ada, ben) = (Guest::join(&here, "Ada").await, Guest::join(&there, "Ben").await);
    let (runtime, _node, cy) = apart(&nats, "Cy").await;
    for node in [&here, &there] {
        soon("all are there", node.room.present().wait_for(|all| all.len() == 3)).await;
    }
    let mut listeners = [here.room.events(), there.room.events()];
    let killed = Instant::now();
    runtime.shutdown_background();
    for listener in &mut listeners {
        let seen = until(listener, |event| matches!(event, RoomEvent::Left(..))).await;
        let RoomEvent::Left(member, why) = &seen[seen.len() - 1] else {
            unreachable!("it was found a line above");
        };
        assert_eq!((&member.state, *why), (&"Cy".into(), Departure::Lost));
    }
    let elapsed = killed.elapsed();
    assert!(
        (Duration::from_millis(1500)..Duration::from_secs(10)).contains(&elapsed),
        "{elapsed:?}"
    );
    for page in [&ada.page, &ben.page] {
        soon(
            "the pages know it",
            page.wait_for_members("board", |all| all.len() == 2),
        )
        .await;
    }
    assert_eq!(here.members(), there.members());
    drop(cy);
}

#[tokio::test]
async fn a_server_that_was_paused_has_its_members_join_again_as_they_are() {
    let nats = NatsServer::start();
    let here = Node::start(&nats).await;
    let ada = Guest::join(&here, "Ada").await;
    let (runtime, node, cy) = apart(&nats, "Cy").await;
    soon("both are there", here.room.present().wait_for(|all| all.len() == 2)).await;
    let mut theirs = node.room.events();
    let (go_on, paused) = mpsc::channel::<()>();
    runtime.spawn(async move {
        let _ = paused.recv();
    });
    soon(
        "he is taken for lost",
        here.room.present().wait_for(|all| all.len() == 1),
    )
    .await;
    here.room.emit("draw", &1).expect("it is small");
    let membership = cy.membership.as_ref().expect("he has joined");
    membership.set_state(&"Cyrus").expect("it is short");
    drop(go_on);
    soon("he is back", here.room.present().wait_for(has("Cyrus"))).await;
    soon("he knows it", node.room.present().wait_for(has("Cyrus"))).await;
    soon(
        "the page sees both",
        cy.page
            .wait_for_members("board", |all| all.len() == 2 && has("Cyrus")(all)),
    )
    .await;
    assert_eq!(here.members(), node.members());
    let seen = until(&mut theirs, |event| matches!(event, RoomEvent::Left(..))).await;
    assert!(matches!(seen.last(), Some(RoomEvent::Left(member, Departure::Lost)) if member.id == cy.id()));
    here.room.emit("draw", &2).expect("it is small");
    soon("Ada gets both", ada.page.room_event::<u64>("board", "draw")).await;
    loop {
        // He may or may not get the first, which was sent while he was taken for lost.
        if soon("he gets events", cy.page.room_event::<u64>("board", "draw"))
            .await
            .1
            == 2
        {
            break;
        }
    }
    drop(cy);
    soon("he leaves", here.room.present().wait_for(|all| all.len() == 1)).await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn members_stay_while_nats_stands_still_and_nothing_that_was_sent_is_lost() {
    let nats = NatsServer::start();
    let mut party = Party::begin(&nats, 7).await;
    party.disturb(100).await;
    let before: Vec<_> = party.nodes.iter().map(|node| node.members().len()).collect();
    nats.pause(true);
    party.disturb(100).await;
    tokio::time::sleep(OUTAGE).await;
    for (node, before) in party.nodes.iter().zip(before) {
        assert!(node.members().len() >= before, "nobody is lost");
    }
    nats.pause(false);
    party.disturb(100).await;
    party.converge().await;
    party.check_events().await;
    party.check_changes().await;
}

#[tokio::test]
async fn all_servers_converge_after_nats_was_killed_and_has_forgotten_everything() {
    let seeds = env::var("STILLHERE_SEED").map_or(9..=11, |seed| {
        let seed = seed.parse().expect("a seed is a number");
        seed..=seed
    });
    for seed in seeds {
        let mut nats = NatsServer::start();
        let mut party = Party::begin(&nats, seed).await;
        party.disturb(100).await;
        nats.kill();
        party.disturb(100).await;
        nats.restart();
        party.disturb(100).await;
        party.converge().await;
    }
}

#[tokio::test]
async fn a_server_that_missed_more_than_nats_has_kept_is_told_by_another() {
    let nats = NatsServer::start();
    let mut options = NatsRoomsOptions::default();
    options.kept_bytes = 64 * 1024;
    let address = nats
        .url()
        .trim_start_matches("nats://")
        .parse()
        .expect("it is an address");
    let wire = Balancer::start(&[address], 0).await;
    let here = Node::start_with(&nats, options.clone(), RoomOptions::default()).await;
    let far = Node::connect_with(&format!("nats://{}", wire.address), options, RoomOptions::default()).await;
    let (ada, ben) = (Guest::join(&here, "Ada").await, Guest::join(&far, "Ben").await);
    soon("both are there", here.room.present().wait_for(|all| all.len() == 2)).await;
    wire.lead_to(&[SocketAddr::from(([127, 0, 0, 1], free_port()))]);
    wire.cut();
    let cy = Guest::join(&here, "Cy").await;
    let membership = ada.membership.as_ref().expect("she has joined");
    membership.set_state(&"Augusta").expect("it is short");
    let padding = "x".repeat(10_000);
    for number in 0..30u64 {
        here.room.emit("draw", &(number, &padding)).expect("little waits");
        let event = ada.page.room_event::<(u64, String)>("board", "draw");
        assert_eq!(soon("it is in the stream", event).await.1.0, number);
    }
    wire.lead_to(&[address]);
    let knows_all = |all: &[Member]| all.len() == 3 && has("Augusta")(all);
    soon("the server knows all", far.room.present().wait_for(knows_all)).await;
    soon("the page knows all", ben.page.wait_for_members("board", knows_all)).await;
    here.room.emit("draw", &(30u64, "")).expect("little waits");
    let event = ben.page.room_event::<(u64, String)>("board", "draw");
    assert_eq!(soon("the next event", event).await.1.0, 30);
    assert_eq!(ben.page.missed("board"), 30);
    assert_eq!(here.members(), far.members());
    drop(cy);
}

#[tokio::test]
async fn a_server_that_did_not_answer_a_newcomer_tells_it_later_who_is_there() {
    let nats = NatsServer::start();
    let (runtime, node, cy) = apart(&nats, "Cy").await;
    let (go_on, paused) = mpsc::channel::<()>();
    runtime.spawn(async move {
        let _ = paused.recv();
    });
    let here = Node::start(&nats).await;
    // It has asked in vain when it knows its own member.
    let ada = Guest::join(&here, "Ada").await;
    assert_eq!(here.members().len(), 1);
    drop(go_on);
    soon("he is known", here.room.present().wait_for(has("Cy"))).await;
    soon("she is known", node.room.present().wait_for(has("Ada"))).await;
    assert_eq!(here.members(), node.members());
    drop((ada, cy));
    runtime.shutdown_background();
}

/// Starts three servers as one cluster of NATS.
fn start_cluster() -> [NatsServer; 3] {
    let ports = [free_port(), free_port(), free_port()];
    let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
    ports.map(|port| {
        let cluster = format!("name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}]");
        NatsServer::start_with(&format!("server_name: n{port}\ncluster {{ {cluster} }}\n"))
    })
}

/// Waits until the servers of NATS have found each other, and creates the stream on all three.
async fn create_stream(nats: &NatsServer, options: &NatsRoomsOptions) {
    let began = Instant::now();
    loop {
        let client = async_nats::connect(nats.url()).await.expect("NATS runs");
        let servers = Servers::join(client, ServersOptions::default()).await;
        match NatsRooms::start(&servers.expect("it is open"), options.clone()).await {
            Ok(_) => return,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}

/// Waits until all three servers of NATS have the stream again: two of them must, at any time.
async fn has_three_replicas(nats: &NatsServer, options: &NatsRoomsOptions) {
    let client = async_nats::connect(nats.url()).await.expect("NATS runs");
    let jetstream = async_nats::jetstream::new(client);
    let name = options.prefix.replace('.', "_");
    let began = Instant::now();
    loop {
        let stream = jetstream.get_stream(&name).await;
        let cluster = stream.ok().and_then(|stream| stream.cached_info().cluster.clone());
        let is_whole = cluster.is_some_and(|cluster| {
            let replicas = &cluster.replicas;
            cluster.leader.is_some() && replicas.len() == 2 && replicas.iter().all(|one| one.current && !one.offline)
        });
        if is_whole {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the stream is not whole");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Each of the three dies once, so the leader of the stream is among them.
#[tokio::test]
async fn nothing_is_lost_while_one_server_of_a_nats_cluster_after_the_other_dies() {
    if env::var_os("STILLHERE_LONG").is_none() {
        return eprintln!("runs with --long");
    }
    let mut nats = start_cluster();
    let mut options = NatsRoomsOptions::default();
    options.replicas = 3;
    create_stream(&nats[0], &options).await;
    let mut nodes = Vec::new();
    for server in &nats {
        nodes.push(Node::connect_with(&server.url(), options.clone(), RoomOptions::default()).await);
    }
    let nodes = nodes.try_into().ok().expect("there are three");
    let mut party = Party::on(nodes, 11).await;
    for server in &mut nats {
        party.disturb(60).await;
        server.kill();
        let killed = Instant::now();
        party.disturb(60).await;
        party.is_through().await;
        println!("rooms went on {:?} after the end of a server", killed.elapsed());
        server.restart();
        has_three_replicas(server, &options).await;
    }
    party.converge().await;
    party.check_events().await;
    party.check_changes().await;
}
