//! Rooms of many members, whose pages are told of several changes at once.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use stillhere::{Hub, SessionHandle};
use stillhere_app::{HubExt as _, Membership, PageRights, Room, RoomEvent, Session, app};
use stillhere_client::Lane;
use support::room::View;
use support::{Page, soon};
use tokio::sync::oneshot;

/// A session with its page, and what the page knows of the room.
struct Visitor {
    session: SessionHandle,
    handle: stillhere_app::SessionHandle,
    page: Page,
    view: View,
    membership: Option<Membership>,
    /// Units that the page got.
    units: usize,
}

impl Visitor {
    async fn open(hub: &Hub) -> Self {
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
        Self {
            session,
            handle,
            page,
            view: View::default(),
            membership: None,
            units: 0,
        }
    }

    fn join(&mut self, room: &Room, state: impl Into<Value>) {
        let rights = PageRights::default().event("draw").state();
        let joined = room.join_with(&self.handle, &state.into(), rights);
        self.membership = Some(joined.expect("there is room"));
    }

    fn id(&self) -> u64 {
        self.membership.as_ref().expect("it has joined").id()
    }

    fn take(&mut self) {
        while let Some(unit) = self.page.client.try_recv(Lane::Interactive) {
            self.view.receive(&unit);
            self.units += 1;
        }
    }

    fn check(&self, room: &Room, seed: u64) {
        let (known, members) = (&self.view.members, room.members());
        let (id, list) = (self.id(), self.view.version());
        for member in &*members {
            let Some((version, is_away, state)) = known.get(&member.id) else {
                panic!("seed {seed}: {id} does not know {}, with a list of {list}", member.id);
            };
            let is_right = (*is_away, state) == (member.is_away, &member.state);
            assert!(
                is_right,
                "seed {seed}: {id} knows {} as of {version}: {state}",
                member.id
            );
        }
        assert_eq!(known.len(), members.len(), "seed {seed}: {id} knows some who have left");
        assert_eq!(self.view.you, id, "seed {seed}");
    }
}

async fn open(hub: &Hub, count: usize) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    for _ in 0..count {
        visitors.push(Visitor::open(hub).await);
    }
    visitors
}

fn room(hub: &Hub) -> Room {
    hub.room("board").expect("there is room")
}

async fn quiet() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

async fn settle(visitors: &mut [Visitor]) {
    let units = |visitors: &[Visitor]| visitors.iter().map(|visitor| visitor.units).sum::<usize>();
    loop {
        let before = units(visitors);
        quiet().await;
        visitors.iter_mut().for_each(Visitor::take);
        // A page that has not read everything is sent no more.
        if units(visitors) == before {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_large_room_are_told_of_many_changes_at_once() {
    let hub = Hub::new();
    let room = room(&hub);
    let mut visitors = open(&hub, 120).await;
    let (first, others) = visitors.split_at_mut(60);
    first.iter_mut().for_each(|visitor| visitor.join(&room, 1));
    settle(first).await;
    let mut events = room.events();
    first.iter_mut().for_each(|visitor| visitor.units = 0);
    others.iter_mut().for_each(|visitor| visitor.join(&room, 2));
    settle(&mut visitors).await;
    for visitor in &visitors {
        visitor.check(&room, 0);
    }
    // The first change at once, then the others; a list in two units.
    assert_eq!(visitors[0].units, 2);
    assert_eq!(visitors[100].units, 2);
    for _ in 0..120 {
        assert!(matches!(events.next().await, RoomEvent::Joined(_)), "one by one");
    }
    visitors[..60]
        .iter_mut()
        .for_each(|visitor| drop(visitor.membership.take()));
    let left = &mut visitors[60..];
    settle(left).await;
    for visitor in left {
        visitor.check(&room, 0);
        assert!(visitor.units <= 4, "{} units", visitor.units);
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_an_event_knows_its_sender_and_all_before_it() {
    let hub = Hub::new();
    let room = room(&hub);
    let mut visitors = open(&hub, 80).await;
    visitors.iter_mut().for_each(|visitor| visitor.join(&room, 0));
    for (number, visitor) in visitors.iter().enumerate() {
        let membership = visitor.membership.as_ref().expect("it has joined");
        membership.set_state(&number).expect("a number");
        membership.emit("draw", &number).expect("a number");
    }
    quiet().await;
    let (watcher, others) = visitors.split_first_mut().expect("there are many");
    for (number, other) in others.iter().enumerate() {
        while watcher.view.events.len() <= number {
            let unit = watcher.page.recv_for("the event").await;
            watcher.view.receive(&unit);
        }
        let (from, _, value) = &watcher.view.events[number];
        assert_eq!((*from, value), (other.id(), &json!(number + 1)));
        assert!(watcher.view.members.contains_key(from));
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_away_while_many_change_their_states_gets_the_newest_once() {
    let hub = Hub::new();
    let room = room(&hub);
    let mut visitors = open(&hub, 60).await;
    visitors.iter_mut().for_each(|visitor| visitor.join(&room, "first"));
    settle(&mut visitors).await;
    visitors[0].page.go_away();
    quiet().await;
    for round in 0..20 {
        for visitor in &visitors[1..] {
            let membership = visitor.membership.as_ref().expect("it has joined");
            membership.set_state(&round).expect("a number");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    visitors[0].units = 0;
    visitors[0].page.come_back();
    settle(&mut visitors).await;
    for visitor in &visitors {
        visitor.check(&room, 0);
    }
    // The first state of each round is sent at once, and replaces the one before.
    let units = visitors[0].units;
    assert!(units <= 4, "{units} units");
}

#[tokio::test(start_paused = true)]
async fn a_page_gets_no_echo_of_its_state_among_many_and_those_of_the_server() {
    let hub = Hub::new();
    let room = room(&hub);
    let mut visitors = open(&hub, 60).await;
    visitors.iter_mut().for_each(|visitor| visitor.join(&room, "first"));
    settle(&mut visitors).await;
    for visitor in &mut visitors {
        visitor.view.changes.clear();
        let state = visitor.view.set_state(json!(visitor.id()));
        visitor.page.send(state).await;
    }
    settle(&mut visitors).await;
    for visitor in &visitors {
        visitor.check(&room, 0);
        let own = format!("state {}", visitor.id());
        assert!(!visitor.view.changes.contains(&own), "an echo");
        assert_eq!(visitor.view.changes.len(), 59);
    }
    for visitor in &visitors {
        let membership = visitor.membership.as_ref().expect("it has joined");
        membership.set_state(&"by the server").expect("a text");
    }
    settle(&mut visitors).await;
    for visitor in &visitors {
        visitor.check(&room, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_of_a_large_room_comes_in_units_that_fit() {
    let hub = Hub::new();
    let room = room(&hub);
    let mut visitors = open(&hub, 250).await;
    let state = "x".repeat(4000);
    visitors
        .iter_mut()
        .for_each(|visitor| visitor.join(&room, state.as_str()));
    settle(&mut visitors[..2]).await;
    visitors[1].check(&room, 0);
    settle(&mut visitors[248..]).await;
    visitors[249].check(&room, 0);
    let mut last = Visitor::open(&hub).await;
    last.join(&room, state.as_str());
    settle(std::slice::from_mut(&mut last)).await;
    last.check(&room, 0);
    // Each has 400 KiB at most.
    assert_eq!(last.units, 3);
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

/// Does one random thing with a visitor.
async fn disturb(hub: &Hub, room: &Room, visitor: &mut Visitor, random: &mut Random, step: u64) {
    match (random.below(14), &visitor.membership) {
        (0..=2, Some(_)) => drop(visitor.membership.take()),
        (_, None) => visitor.join(room, step),
        (3, _) => room.emit("draw", &step).expect("a number"),
        (4, Some(membership)) => membership.emit("draw", &step).expect("a number"),
        (5 | 6, Some(membership)) => membership.set_state(&step).expect("a number"),
        (7 | 8, _) => {
            visitor.take();
            if visitor.view.out.is_none() && visitor.view.you != 0 {
                let state = visitor.view.set_state(json!(step));
                visitor.page.send(state).await;
            }
        }
        (9, _) => visitor.page.cut(),
        (10, _) => visitor.page.go_away(),
        (11 | 12, _) => visitor.page.come_back(),
        _ if random.below(3) == 0 => {
            visitor.page = Page::open(hub, &visitor.session);
            visitor.view = View::default();
        }
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_a_large_room_converge() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let outbox = if seed % 2 == 0 { 4 * 1024 * 1024 } else { 20_000 };
        let hub = Hub::builder().outbox_limit(outbox).build();
        let room = room(&hub);
        let mut visitors = open(&hub, 60).await;
        visitors.iter_mut().for_each(|visitor| visitor.join(&room, 0));
        for step in 0..1000 {
            let chosen = random.below(60) as usize;
            disturb(&hub, &room, &mut visitors[chosen], &mut random, step).await;
            if random.below(20) == 0 {
                tokio::time::sleep(Duration::from_millis(random.below(30))).await;
            }
        }
        for visitor in &mut visitors {
            visitor.page.come_back();
            if visitor.membership.is_none() {
                visitor.join(&room, "back");
            }
        }
        settle(&mut visitors).await;
        for visitor in &visitors {
            visitor.check(&room, seed);
        }
    }
}
