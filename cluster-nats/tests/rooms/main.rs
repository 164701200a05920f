//! Rooms over several servers and a real NATS.

#[path = "../hops/balancer.rs"]
mod balancer;
mod convergence;
mod node;
mod outages;
#[path = "../support/mod.rs"]
mod support;

use stillhere_app::{Departure, HubExt as _, JoinError, PublishError, RoomEvent, RoomOptions, SendError};
use stillhere_nats::NatsRoomsOptions;

use node::{Guest, Node, soon};
use support::NatsServer;

#[tokio::test]
async fn members_of_all_servers_see_each_other_and_get_the_same_events_in_the_same_order() {
    let nats = NatsServer::start();
    let nodes = Node::start_three(&nats).await;
    let mut guests = Vec::new();
    for (node, name) in nodes.iter().zip(["Ada", "Ben", "Cy"]) {
        guests.push(Guest::join(node, name).await);
    }
    for (guest, node) in guests.iter().zip(&nodes) {
        soon(
            "all are there",
            guest.page.wait_for_members("board", |all| all.len() == 3),
        )
        .await;
        let names: Vec<_> = node.members().into_iter().map(|member| member.state).collect();
        assert_eq!(names, ["Ada", "Ben", "Cy"]);
    }
    for value in 0..100u64 {
        for node in &nodes {
            node.room.emit("draw", &value).expect("it is small");
        }
    }
    let mut seen = Vec::new();
    for guest in &guests {
        let mut events = Vec::new();
        for _ in 0..300 {
            events.push(soon("an event", guest.page.room_event::<u64>("board", "draw")).await.1);
        }
        seen.push(events);
    }
    assert!(
        seen[0].chunk_by(|a, b| a <= b).count() > 1,
        "three servers publish at once"
    );
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

#[tokio::test]
async fn pages_send_to_all_but_themselves_and_are_away_and_back_on_every_server() {
    let nats = NatsServer::start();
    let (here, there) = (Node::start(&nats).await, Node::start(&nats).await);
    let (ada, ben) = (Guest::join(&here, "Ada").await, Guest::join(&there, "Ben").await);
    for guest in [&ada, &ben] {
        soon(
            "both are there",
            guest.page.wait_for_members("board", |all| all.len() == 2),
        )
        .await;
    }
    let mut events = there.room.events();
    ada.page.emit_in("board", "draw", &1).await;
    assert_eq!(
        soon("hers", ben.page.room_event::<u64>("board", "draw")).await,
        (ada.id(), 1)
    );
    here.room.emit("draw", &2).expect("it is small");
    assert_eq!(
        soon("the server's", ben.page.room_event::<u64>("board", "draw")).await,
        (0, 2)
    );
    assert_eq!(
        soon("the server's", ada.page.room_event::<u64>("board", "draw")).await,
        (0, 2),
        "no echo"
    );
    ada.page.set_room_state("board", &"Augusta").await;
    let is_augusta = |all: &[stillhere_app::Member]| all.iter().any(|member| member.state == "Augusta");
    soon("her name changes", ben.page.wait_for_members("board", is_augusta)).await;
    ada.page.go_away();
    soon(
        "she is away",
        ben.page
            .wait_for_members("board", |all| all.iter().any(|member| member.is_away)),
    )
    .await;
    ada.page.come_back();
    soon(
        "she is back",
        ben.page
            .wait_for_members("board", |all| all.iter().all(|member| !member.is_away)),
    )
    .await;
    ada.page.leave("board").await;
    soon("she leaves", ben.page.wait_for_members("board", |all| all.len() == 1)).await;
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(RoomEvent::Left(..))) {
        seen.push(soon("an event", events.next()).await);
    }
    let kinds: Vec<_> = seen.iter().map(std::mem::discriminant).collect();
    let member = ben.member();
    let expected = [
        RoomEvent::Joined(member.clone()),
        RoomEvent::Joined(member.clone()),
        RoomEvent::Away(member.clone()),
        RoomEvent::Back(member.clone()),
        RoomEvent::Left(member, Departure::Left),
    ];
    assert_eq!(kinds, expected.each_ref().map(std::mem::discriminant));
    assert!(matches!(seen.last(), Some(RoomEvent::Left(member, Departure::Left)) if member.id == ada.id()));
}

#[tokio::test]
async fn a_session_may_leave_and_join_at_once_and_its_page_is_told_in_order() {
    let nats = NatsServer::start();
    let (here, there) = (Node::start(&nats).await, Node::start(&nats).await);
    let mut ada = Guest::join(&here, "0").await;
    let watcher = Guest::join(&there, "watcher").await;
    for number in 1..=5 {
        ada.rejoin(&here, &number.to_string());
    }
    assert!(matches!(here.room.join(&ada.handle, &"6"), Err(JoinError::Already)));
    let is_last = |all: &[stillhere_app::Member]| all.len() == 2 && all[1].state == "5";
    for page in [&watcher.page, &ada.page] {
        let members = soon("she is there again", page.wait_for_members("board", is_last)).await;
        assert_eq!(members[1].id, ada.id(), "she has joined last");
    }
    here.room.emit("draw", &7).expect("it is small");
    soon("she gets events", ada.page.room_event::<u64>("board", "draw")).await;
}

#[tokio::test]
async fn a_server_that_begins_to_use_a_room_learns_who_is_there_and_what_they_are() {
    let nats = NatsServer::start();
    let (here, there) = (Node::start(&nats).await, Node::start(&nats).await);
    let mut guests = Vec::new();
    for number in 0..20 {
        let node = if number % 2 == 0 { &here } else { &there };
        guests.push(Guest::join(node, &number.to_string()).await);
    }
    guests[3].page.go_away();
    let is_complete = |all: &[stillhere_app::Member]| all.len() == 20 && all.iter().any(|member| member.is_away);
    let before = soon("all are there", here.room.present().wait_for(is_complete)).await;
    let late = Node::start(&nats).await;
    let after = soon("it knows all", late.room.present().wait_for(is_complete)).await;
    assert_eq!(before, after);
    let mut events = late.room.events();
    let mut order = Vec::new();
    for _ in 0..20 {
        let RoomEvent::Joined(member) = soon("an event", events.next()).await else {
            panic!("they are there already");
        };
        order.push(member);
    }
    assert_eq!(order, *before);
}

#[tokio::test]
async fn what_nats_cannot_carry_is_refused_and_nothing_else_suffers() {
    let nats = NatsServer::start();
    let (here, there) = (Node::start(&nats).await, Node::start(&nats).await);
    let (ada, ben) = (Guest::join(&here, "Ada").await, Guest::join(&there, "Ben").await);
    soon(
        "both are there",
        ben.page.wait_for_members("board", |all| all.len() == 2),
    )
    .await;
    let large = "x".repeat(1_100_000);
    let refused = here.room.emit("draw", &large).expect_err("NATS takes 1 MiB");
    assert!(
        matches!(refused, SendError::Room(PublishError::TooLarge { size, max }) if size > 1_100_000 && max < 1 << 20),
        "{refused}"
    );
    let largest = "x".repeat(1_040_000);
    here.room.emit("draw", &largest).expect("just below 1 MiB");
    let (_, text) = soon("it arrives", ben.page.room_event::<String>("board", "draw")).await;
    assert_eq!(text.len(), largest.len());
    drop(ada);
}

#[tokio::test]
async fn a_room_that_no_server_uses_is_forgotten_and_begins_empty() {
    let nats = NatsServer::start();
    let here = Node::start(&nats).await;
    let hub = here.hub.clone();
    let ada = Guest::join_room(&here, "other", "Ada").await;
    soon("she is in", ada.page.wait_for_members("other", |all| all.len() == 1)).await;
    drop(ada);
    // Her leaving keeps the room until NATS has it.
    let room = hub.room("other").expect("there are few");
    soon("it is empty", room.present().wait_for(<[_]>::is_empty)).await;
    let there = Node::start(&nats).await;
    let ben = Guest::join_room(&there, "other", "Ben").await;
    let members = soon("he is in", ben.page.wait_for_members("other", |all| !all.is_empty())).await;
    assert_eq!(members.len(), 1);
}

#[tokio::test]
async fn options_bound_what_waits_while_nats_is_away() {
    let mut nats = NatsServer::start();
    let mut options = NatsRoomsOptions::default();
    options.waiting = 100;
    let node = Node::start_with(&nats, options, RoomOptions::default()).await;
    let ada = Guest::join(&node, "Ada").await;
    soon("she is in", ada.page.wait_for_members("board", |all| all.len() == 1)).await;
    let ben = Guest::open(&node).await;
    nats.kill();
    // Nothing is sent meanwhile, because nothing here waits.
    let accepted = (0..1000u64)
        .take_while(|value| node.room.emit("draw", value).is_ok())
        .count();
    assert_eq!(accepted, 100);
    let refused = node.room.emit("draw", &0).expect_err("too much waits");
    assert!(matches!(refused, SendError::Room(PublishError::Busy)), "{refused}");
    assert!(matches!(
        node.room.join(&ben.handle, &"Ben"),
        Err(JoinError::Refused(PublishError::Busy))
    ));
    nats.restart();
    for value in 0..accepted as u64 {
        let (_, event) = soon("it arrives", ada.page.room_event::<u64>("board", "draw")).await;
        assert_eq!(event, value);
    }
    let joined = node.room.join(&ben.handle, &"Ben").expect("nothing waits any more");
    soon("he is in", ada.page.wait_for_members("board", |all| all.len() == 2)).await;
    drop(joined);
    soon("he leaves", ada.page.wait_for_members("board", |all| all.len() == 1)).await;
}
