//! Rooms: members see each other and get the same events, over gaps, restores and full outboxes.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use stillhere::{Hub, SessionHandle};
use stillhere_app::{
    Departure, HubBuilderExt as _, HubExt as _, JoinError, Lag, Membership, PageRights, Room, RoomError, RoomEvent,
    RoomOptions, Session, app,
};
use support::room::{View, ask};
use support::{Page, soon};
use tokio::sync::oneshot;

/// A session that has joined the room, its page, and what the page knows.
struct Joined {
    session: SessionHandle,
    handle: stillhere_app::SessionHandle,
    page: Page,
    view: View,
    membership: Option<Membership>,
    /// The events that it should have got.
    expected: Vec<u64>,
    is_reloaded: bool,
}

impl Joined {
    async fn new(hub: &Hub, room: &Room, state: Value) -> Self {
        let (session, page, handle) = open(hub).await;
        let membership = room.join_with(&handle, &state, rights()).expect("there is room");
        Self {
            session,
            handle,
            page,
            view: View::default(),
            membership: Some(membership),
            expected: Vec::new(),
            is_reloaded: false,
        }
    }

    fn id(&self) -> u64 {
        self.membership.as_ref().expect("it has joined").id()
    }

    /// Waits until the page knows of a room in which `is_right`.
    async fn until(&mut self, what: &str, is_right: impl Fn(&View) -> bool) {
        self.view.take(&self.page);
        while !is_right(&self.view) {
            let unit = self.page.recv_for(what).await;
            self.view.receive(&unit);
        }
    }
}

fn rights() -> PageRights {
    PageRights::default().event("draw").state()
}

/// Opens a session that does nothing, with its page.
async fn open(hub: &Hub) -> (SessionHandle, Page, stillhere_app::SessionHandle) {
    let (sender, handle) = oneshot::channel();
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let session = hub.open_with(
        options,
        app(async move |session: Session| {
            assert!(sender.send(session.to_handle()).is_ok(), "the test waits");
            session.ended().await;
        }),
    );
    let page = Page::open(hub, &session);
    let handle = soon("the function starts", handle).await.expect("it runs");
    (session, page, handle)
}

async fn quiet() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn members_see_who_joins_goes_away_comes_back_and_leaves_in_order() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut watch = room.present();
    let mut ada = Joined::new(&hub, &room, json!("Ada")).await;
    let ben = Joined::new(&hub, &room, json!("Ben")).await;
    let id = ben.id();
    ada.until("Ben joins", |view| view.members.len() == 2).await;
    ben.page.go_away();
    ada.until("Ben is away", |view| view.members[&id].1).await;
    ben.page.come_back();
    ada.until("Ben is back", |view| !view.members[&id].1).await;
    ben.membership
        .as_ref()
        .expect("joined")
        .set_state(&"Benjamin")
        .expect("it is short");
    ada.until("Ben has another name", |view| view.members[&id].2 == "Benjamin")
        .await;
    drop(ben.membership);
    ada.until("Ben leaves", |view| view.members.len() == 1).await;
    let changes = ["joined", "away", "back", "state", "left"].map(|change| format!("{change} {id}"));
    assert_eq!(ada.view.changes, changes);
    assert_eq!(watch.borrow_and_update().len(), 1);
    ada.session.abort("enough");
    soon("the room is empty", watch.wait_for(<[_]>::is_empty)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_has_one_room_of_each_name() {
    let (hub, other) = (Hub::new(), Hub::new());
    let (_session, _page, ada) = open(&hub).await;
    let room = ada.room("board").expect("there is room");
    let _membership = room.join(&ada, "Ada").expect("there is room");
    drop(room);
    let members = |hub: &Hub, name| hub.room(name).expect("there is room").members().len();
    assert_eq!(members(&hub, "board"), 1);
    assert_eq!(members(&hub.clone(), "board"), 1);
    assert_eq!((members(&hub, "lobby"), members(&other, "board")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn events_go_to_all_or_to_all_but_one_and_pages_send_only_what_they_may() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut ada = Joined::new(&hub, &room, json!(0)).await;
    let mut ben = Joined::new(&hub, &room, json!(0)).await;
    ada.until("she knows herself", |view| view.you != 0).await;
    ben.until("he knows himself", |view| view.you != 0).await;
    room.emit("all", &1).expect("a number");
    room.emit_except(ada.id(), "others", &2).expect("a number");
    ada.membership
        .as_ref()
        .expect("joined")
        .emit("from", &3)
        .expect("a number");
    ada.page.send(ada.view.event("draw", &json!([4]))).await;
    ada.page.send(ada.view.event("erase", &json!(5))).await;
    let as_ben = ben.view.event("draw", &json!(6));
    ada.page.send(as_ben).await;
    let state = ada.view.set_state(json!("state"));
    ada.page.send(state).await;
    quiet().await;
    ada.view.take(&ada.page);
    ben.view.take(&ben.page);
    assert_eq!(ada.view.events, [(0, "all".into(), json!(1))]);
    let (id, of) = (ada.id(), |from, name: &str, value| (from, name.to_owned(), value));
    let events = [
        of(0, "all", json!(1)),
        of(0, "others", json!(2)),
        of(id, "from", json!(3)),
        of(id, "draw", json!([4])),
    ];
    assert_eq!(ben.view.events, events);
    assert_eq!(ben.view.members[&id].2, "state");
    assert_eq!(ada.view.changes, [format!("joined {}", ben.id())], "no echo");
}

#[tokio::test(start_paused = true)]
async fn pages_join_and_leave_by_themselves_where_they_may() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let (_session, page, handle) = open(&hub).await;
    let mut view = View::default();
    page.send(ask(5, &json!("too early"))).await;
    view.receive(&page.recv().await);
    assert_eq!(view.out.as_deref(), Some("refused"));
    handle.on_join(|name| (name == "board").then(rights));
    page.send(ask(5, &json!("x".repeat(5000)))).await;
    view.receive(&page.recv().await);
    assert!(room.members().is_empty(), "the state is too large");
    page.send(ask(5, &json!("Ada"))).await;
    view.receive(&page.recv().await);
    assert_eq!(
        (view.out.as_deref(), view.members[&view.you].2.as_str()),
        (None, Some("Ada"))
    );
    page.send(ask(5, &json!("again"))).await;
    view.receive(&page.recv().await);
    assert_eq!(room.members()[0].state::<String>().expect("a text"), "Ada");
    page.send(ask(7, &json!(null))).await;
    view.receive(&page.recv().await);
    assert_eq!((view.out.as_deref(), room.members().len()), (Some("left"), 0));
}

#[tokio::test(start_paused = true)]
async fn names_rooms_members_and_states_are_bounded() {
    let mut options = RoomOptions::default();
    (options.rooms, options.members, options.state) = (2, 1, 10);
    let hub = Hub::builder().room_options(options).build();
    assert_eq!(hub.room("").expect_err("it is empty"), RoomError::Name);
    assert_eq!(hub.room(&"x".repeat(256)).expect_err("it is too long"), RoomError::Name);
    let room = hub.room("board").expect("the first");
    let other = hub.room("other").expect("the second");
    assert_eq!(hub.room("third").expect_err("too many"), RoomError::TooMany);
    drop(other);
    hub.room("third").expect("a room that nobody keeps is gone");
    let (_session, _page, ada) = open(&hub).await;
    let (_session, _page, ben) = open(&hub).await;
    let refused = |session, state: &str| room.join(session, state).expect_err("it is refused");
    assert!(matches!(refused(&ada, "123456789"), JoinError::State));
    let membership = room.join(&ada, "12345678").expect("it has 10 bytes");
    assert!(matches!(refused(&ada, ""), JoinError::Already));
    assert!(matches!(refused(&ben, ""), JoinError::Full));
    assert!(matches!(membership.set_state("123456789"), Err(JoinError::State)));
    drop(membership);
    let _membership = room.join(&ben, "").expect("there is room again");
    ada.core().abort("enough");
    soon("she leaves", ada.ended()).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_keep_up_leaves_if_so_chosen_and_delays_nobody() {
    let mut options = RoomOptions::default();
    options.lag = Lag::End;
    let hub = Hub::builder().outbox_limit(2000).room_options(options).build();
    let room = hub.room("board").expect("there is room");
    let mut slow = Joined::new(&hub, &room, json!(null)).await;
    let mut other = Joined::new(&hub, &room, json!(null)).await;
    slow.until("it is in", |view| view.members.len() == 2).await;
    slow.page.go_away();
    for value in 0..100 {
        room.emit("draw", &value).expect("a number");
        other.until("it arrives", |view| view.events.len() == value + 1).await;
        soon("it is acknowledged", other.session.drained()).await;
    }
    slow.page.come_back();
    slow.until("it is told", |view| view.out.is_some()).await;
    assert_eq!(slow.view.out.as_deref(), Some("lagged"));
    assert_eq!(room.members().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_keep_up_gets_the_newest_events_and_knows_what_it_missed() {
    let hub = Hub::builder().outbox_limit(2000).build();
    let room = hub.room("board").expect("there is room");
    let mut slow = Joined::new(&hub, &room, json!(null)).await;
    slow.until("it is in", |view| view.members.len() == 1).await;
    soon("it is acknowledged", slow.session.drained()).await;
    slow.page.go_away();
    (0..500).for_each(|value| room.emit("draw", &value).expect("a number"));
    let _other = Joined::new(&hub, &room, json!(null)).await;
    slow.page.come_back();
    slow.until("the last arrives", |view| {
        view.events.last().is_some_and(|last| last.2 == 499)
    })
    .await;
    let View { events, missed, .. } = &slow.view;
    let fitted = events.len() - 64;
    assert!(fitted > 5, "{fitted} fitted the outbox");
    assert_eq!(*missed as usize, 500 - 64 - fitted);
    let values: Vec<_> = events.iter().filter_map(|(_, _, value)| value.as_u64()).collect();
    let expected: Vec<_> = (0..fitted as u64).chain(436..500).collect();
    assert_eq!(values, expected);
}

#[tokio::test(start_paused = true)]
async fn a_state_of_the_document_before_reaches_the_document_that_was_restored_meanwhile() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let (reads, joins) = (go.clone(), room.clone());
    let session = hub.open_with(
        options,
        app(async move |session: Session| {
            let _membership = joins.join_with(&session, &0, rights()).expect("there is room");
            reads.notified().await;
            let handle = session.to_handle();
            drop(session);
            handle.ended().await;
        }),
    );
    let page = Page::open(&hub, &session);
    let mut view = View::default();
    view.receive(&page.recv().await);
    // Nothing is read after these, because nobody reads them.
    for _ in 0..21 {
        page.send(vec![0; 50_000]).await;
    }
    page.send(view.set_state(json!(7))).await;
    soon("the server has it", page.client.flush()).await;
    drop(page);
    let (reloaded, mut view) = (Page::open(&hub, &session), View::default());
    view.receive(&reloaded.recv().await);
    assert_eq!(view.members[&view.you].2, 0);
    go.notify_one();
    while view.members[&view.you].2 != 7 {
        view.receive(&reloaded.recv_for("the state").await);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Does one random thing with a member. `event` is the number of the next event.
async fn disturb(hub: &Hub, room: &Room, member: &mut Joined, random: &mut Random, event: u64) -> Option<Option<u64>> {
    let value = json!(event);
    let membership = member.membership.as_ref().expect("it has joined");
    match random.below(12) {
        0 => room.emit("draw", &event).map(|()| None).ok(),
        1 => membership.emit("draw", &event).map(|()| Some(member.id())).ok(),
        2 => {
            let state = member.view.set_state(value);
            member.page.send(state).await;
            None
        }
        3 => {
            membership.set_state(&event).expect("it is short");
            None
        }
        4 => {
            member.page.cut();
            None
        }
        5 => {
            member.page.go_away();
            None
        }
        6 | 7 => {
            member.page.come_back();
            None
        }
        8 if random.below(4) == 0 => {
            member.page = Page::open(hub, &member.session);
            (member.view, member.is_reloaded) = (View::default(), true);
            None
        }
        _ => {
            tokio::time::sleep(Duration::from_millis(random.below(300))).await;
            None
        }
    }
}

/// Checks that a page knows the same as the server, and which events it got.
fn check(member: &Joined, room: &Room, lag: Lag, seed: u64) {
    let state = |member: &stillhere_app::Member| (member.id, (member.is_away, member.state.clone()));
    let truth: std::collections::BTreeMap<_, _> = room.members().iter().map(state).collect();
    let view = member.view.members.iter();
    let view = view
        .map(|(id, (_, is_away, state))| (*id, (*is_away, state.clone())))
        .collect();
    assert_eq!(truth, view, "seed {seed}");
    let events: Vec<_> = member
        .view
        .events
        .iter()
        .filter_map(|(_, _, value)| value.as_u64())
        .collect();
    assert!(events.is_sorted_by(|a, b| a < b), "seed {seed}: {events:?}");
    let own = |event: &u64| !member.expected.contains(event);
    assert!(!events.iter().any(own), "seed {seed}: an echo or a stranger");
    if !member.is_reloaded {
        let count = events.len() as u64 + member.view.missed;
        assert_eq!(count, member.expected.len() as u64, "seed {seed} with {lag:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_members_converge_and_know_how_many_events_they_missed() {
    let mut missed = 0;
    for seed in 1..=24 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut options = RoomOptions::default();
        options.lag = if seed % 2 == 0 { Lag::Newest } else { Lag::Skip };
        let lag = options.lag;
        let outbox = if seed % 3 == 0 { 4 * 1024 * 1024 } else { 3000 };
        let hub = Hub::builder().outbox_limit(outbox).room_options(options).build();
        let room = hub.room("board").expect("there is room");
        let mut members = Vec::new();
        for number in 0..5 {
            members.push(Joined::new(&hub, &room, json!(number)).await);
        }
        for event in 0..600 {
            let chosen = random.below(5) as usize;
            if let Some(except) = disturb(&hub, &room, &mut members[chosen], &mut random, event).await {
                let got = members.iter_mut().filter(|member| Some(member.id()) != except);
                got.for_each(|member| member.expected.push(event));
            }
            for member in &mut members {
                member.view.take(&member.page);
            }
        }
        for member in &members {
            member.page.come_back();
        }
        quiet().await;
        for member in &mut members {
            member.view.take(&member.page);
            check(member, &room, lag, seed);
            missed += member.view.missed;
        }
    }
    assert!(missed > 0, "no outbox was ever full");
}

#[tokio::test(start_paused = true)]
async fn a_membership_that_has_ended_does_not_end_the_next_one() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut ada = Joined::new(&hub, &room, json!("first")).await;
    ada.until("she is in", |view| view.members.len() == 1).await;
    ada.page.send(ask(7, &json!(null))).await;
    ada.until("she is out", |view| view.out.is_some()).await;
    let again = room.join(&ada.handle, &"again").expect("she has left");
    drop(ada.membership.replace(again));
    quiet().await;
    assert_eq!(room.members().len(), 1);
    ada.view.take(&ada.page);
    assert_eq!(ada.view.out, None);
    drop(ada.membership);
    assert!(room.members().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_whose_outbox_was_full_is_told_that_it_is_no_member_any_more() {
    let hub = Hub::builder().outbox_limit(2000).build();
    let room = hub.room("board").expect("there is room");
    let mut ada = Joined::new(&hub, &room, json!(null)).await;
    ada.until("she is in", |view| view.members.len() == 1).await;
    ada.page.go_away();
    (0..500).for_each(|value| room.emit("draw", &value).expect("a number"));
    drop(ada.membership.take());
    ada.page.come_back();
    ada.until("she is told", |view| view.out.as_deref() == Some("left"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_is_missed_and_ends_no_membership() {
    for lag in [Lag::Newest, Lag::Skip, Lag::End] {
        let mut options = RoomOptions::default();
        options.lag = lag;
        let hub = Hub::builder().outbox_limit(2000).room_options(options).build();
        let room = hub.room("board").expect("there is room");
        let mut ada = Joined::new(&hub, &room, json!(null)).await;
        ada.until("she is in", |view| view.members.len() == 1).await;
        let large: Vec<u64> = (0..600_000).map(|number| number * number).collect();
        room.emit("draw", &large).expect("numbers");
        ada.until("she is told", |view| view.missed == 1).await;
        quiet().await;
        if lag == Lag::Newest {
            ada.page.go_away();
            (0..100).for_each(|value| room.emit("draw", &value).expect("a number"));
            room.emit("draw", &large).expect("numbers");
            room.emit("draw", &100).expect("a number");
            ada.page.come_back();
        } else {
            room.emit("draw", &100).expect("a number");
        }
        ada.until("the last arrives", |view| {
            view.events.last().is_some_and(|event| event.2 == 100)
        })
        .await;
        assert_eq!(room.members().len(), 1, "{lag:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_cannot_nest_its_state_so_deeply_that_the_others_cannot_read_it() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut ada = Joined::new(&hub, &room, json!(0)).await;
    ada.until("she is in", |view| view.members.len() == 1).await;
    let deep = (0..126).fold(json!(1), |value, _| json!([value]));
    let set = ada.view.set_state(deep);
    ada.page.send(set).await;
    ada.until("she is told", |view| view.members[&view.you].2 == 0).await;
    assert_eq!(room.members()[0].state, 0);
}

#[tokio::test(start_paused = true)]
async fn the_server_learns_in_order_who_joins_goes_away_comes_back_and_leaves() {
    let mut options = RoomOptions::default();
    options.lag = Lag::End;
    let hub = Hub::builder().outbox_limit(2000).room_options(options).build();
    let room = hub.room("board").expect("there is room");
    let ada = Joined::new(&hub, &room, json!("Ada")).await;
    let mut events = room.events();
    let ben = Joined::new(&hub, &room, json!("Ben")).await;
    // A room may have sessions of several hubs, here of one with more room.
    let cy = Joined::new(&Hub::new(), &room, json!("Cy")).await;
    cy.page.go_away();
    quiet().await;
    cy.page.come_back();
    ben.page.go_away();
    quiet().await;
    (0..200).for_each(|value| room.emit_except(ada.id(), "draw", &value).expect("a number"));
    let why = soon("Ben is out", ben.membership.as_ref().expect("he joined").ended());
    ben.page.come_back();
    assert_eq!(why.await, Departure::Lagged);
    drop(ada.membership);
    cy.session.abort("enough");
    let mut seen = Vec::new();
    while seen.iter().filter(|event: &&String| event.contains("left")).count() < 3 {
        seen.push(match soon("an event", events.next()).await {
            RoomEvent::Joined(member) => format!("{} joined", member.state),
            RoomEvent::Away(member) => format!("{} away", member.state),
            RoomEvent::Back(member) => format!("{} back", member.state),
            RoomEvent::Left(member, why) => format!("{} left: {why:?}", member.state),
            other => panic!("{other:?}"),
        });
    }
    let of = |name: &str| -> Vec<String> {
        let own = seen
            .iter()
            .filter_map(|event| event.strip_prefix(&format!("\"{name}\" ")));
        own.map(str::to_owned).collect()
    };
    assert_eq!(of("Ada"), ["joined", "left: Left"]);
    // Whether Ben is back before he is out is a race.
    let ben: Vec<_> = of("Ben").into_iter().filter(|event| event != "back").collect();
    assert_eq!(ben, ["joined", "away", "left: Lagged"]);
    assert_eq!(of("Cy"), ["joined", "away", "back", "left: Ended"]);
    assert_eq!(seen[..3], ["\"Ada\" joined", "\"Ben\" joined", "\"Cy\" joined"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_the_server_does_not_read_are_counted() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut events = room.events();
    let (_session, _page, handle) = open(&hub).await;
    for _ in 0..600 {
        drop(room.join(&handle, &1).expect("it is not a member"));
    }
    assert_eq!(events.next().await, RoomEvent::Missed(1200 - 1024));
    for _ in 0..512 {
        assert!(matches!(events.next().await, RoomEvent::Joined(_)));
        assert!(matches!(events.next().await, RoomEvent::Left(_, Departure::Left)));
    }
}

#[tokio::test(start_paused = true)]
async fn members_are_listed_in_the_order_of_joining() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let mut joined = Vec::new();
    for number in 0..20 {
        joined.push(Joined::new(&hub, &room, json!(number)).await);
    }
    drop(joined[3].membership.take());
    joined[3].membership = Some(room.join(&joined[3].handle, &20).expect("it has left"));
    let states = |members: &[stillhere_app::Member]| -> Vec<_> {
        members
            .iter()
            .map(|member| member.state.as_u64().expect("a number"))
            .collect()
    };
    let expected: Vec<u64> = (0..21).filter(|number| *number != 3).collect();
    assert_eq!(states(&room.members()), expected);
    assert_eq!(states(&room.present().borrow_and_update()), expected);
}

#[tokio::test(start_paused = true)]
async fn the_newest_events_are_kept_within_their_bounds() {
    for (events, bytes, kept) in [(10, 1 << 20, 10), (1 << 20, 1000, 55), (0, 0, 1)] {
        let mut options = RoomOptions::default();
        (options.kept_events, options.kept_bytes) = (events, bytes);
        let hub = Hub::builder().outbox_limit(2000).room_options(options).build();
        let room = hub.room("board").expect("there is room");
        let mut ada = Joined::new(&hub, &room, json!(0)).await;
        ada.until("she is in", |view| view.members.len() == 1).await;
        ada.page.go_away();
        quiet().await;
        // Each has 18 bytes.
        (1000..2000).for_each(|value| room.emit("draw", &value).expect("a number"));
        ada.page.come_back();
        ada.until("the last arrives", |view| {
            view.events.last().is_some_and(|event| event.2 == 1999)
        })
        .await;
        let values: Vec<_> = ada.view.events.iter().filter_map(|event| event.2.as_u64()).collect();
        let sent = values
            .iter()
            .zip(1000..)
            .take_while(|(value, number)| **value == *number)
            .count();
        assert_eq!(values.len() - sent, kept, "{events} events, {bytes} bytes");
        assert_eq!(ada.view.missed, 1000 - values.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_full_learns_that_it_left_before_it_learns_that_it_joined_again() {
    let hub = Hub::builder().outbox_limit(2000).build();
    let room = hub.room("board").expect("there is room");
    let mut ada = Joined::new(&hub, &room, json!("first")).await;
    ada.until("she is in", |view| view.members.len() == 1).await;
    ada.page.go_away();
    quiet().await;
    (0..500).for_each(|value| room.emit("draw", &value).expect("a number"));
    for _ in 0..3 {
        drop(ada.membership.take());
        ada.membership = Some(room.join(&ada.handle, &"again").expect("she has left"));
    }
    ada.page.come_back();
    let mut outs = 0;
    while outs < 3 || ada.view.out.is_some() {
        let unit = ada.page.recv_for("she is told").await;
        outs += u32::from(unit.starts_with(b"\x0c\x05board\x04"));
        assert!(
            outs == 3 || !unit.ends_with(b"]}") || ada.view.version() > 0,
            "a list came first"
        );
        ada.view.receive(&unit);
    }
    quiet().await;
    ada.view.take(&ada.page);
    assert_eq!((outs, ada.view.out), (3, None));
    assert_eq!(ada.view.members[&ada.view.you].2, "again");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_asks_or_joins_without_pause_costs_few_lists() {
    let hub = Hub::new();
    let room = hub.room("board").expect("there is room");
    let (_session, page, handle) = open(&hub).await;
    handle.on_join(|_| Some(PageRights::default()));
    let lists = async |page: &Page| {
        quiet().await;
        let mut counts = [0; 2];
        while let Some(unit) = page.client.try_recv(stillhere_client::Lane::Interactive) {
            match unit.to_vec()[7] {
                0 => counts[0] += 1,
                4 if String::from_utf8_lossy(&unit).contains("too often") => counts[1] += 1,
                _ => {}
            }
        }
        counts
    };
    for _ in 0..1000 {
        page.send(ask(5, &json!(0))).await;
    }
    // The one of joining, and then one in 200 ms.
    let [asked, refused] = lists(&page).await;
    assert!(
        (2..10).contains(&asked) && refused == 0,
        "{asked} lists, {refused} refused"
    );
    for _ in 0..1000 {
        page.send(ask(7, &json!(null))).await;
        page.send(ask(5, &json!(0))).await;
    }
    let [joined, refused] = lists(&page).await;
    assert_eq!(joined + refused, 1000);
    assert!((100..150).contains(&joined), "{joined} joins");
    page.send(ask(5, &json!(0))).await;
    assert_eq!(lists(&page).await, [1, 0], "after a minute it may join again");
    assert_eq!(room.members().len(), 1);
}
