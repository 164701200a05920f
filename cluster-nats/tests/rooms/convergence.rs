//! Random joins, leaves, states and cuts on three servers, after which all know the same.

use std::collections::VecDeque;

use stillhere_app::{Departure, Member, RoomEvent, RoomEvents};
use tokio::time::timeout;

use crate::node::{Guest, Node, PATIENCE, soon};
use crate::support::NatsServer;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Three servers with guests. The first guest of each only watches.
pub(crate) struct Party {
    pub(crate) nodes: [Node; 3],
    guests: Vec<(usize, Guest)>,
    listeners: Vec<RoomEvents>,
    /// Events that were accepted.
    pub(crate) sent: u64,
    random: Random,
}

impl Party {
    pub(crate) async fn begin(nats: &NatsServer, seed: u64) -> Self {
        Self::on(Node::start_three(nats).await, seed).await
    }

    pub(crate) async fn on(nodes: [Node; 3], seed: u64) -> Self {
        let mut guests = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            guests.push((index, Guest::join(node, "watcher").await));
        }
        for (_, guest) in &guests {
            soon("all watch", guest.page.wait_for_members("board", |all| all.len() == 3)).await;
        }
        let listeners = nodes.iter().map(|node| node.room.events()).collect();
        Self {
            nodes,
            guests,
            listeners,
            sent: 0,
            random: Random::new(seed),
        }
    }

    /// Does so many random things.
    pub(crate) async fn disturb(&mut self, steps: u64) {
        for step in 0..steps {
            let chosen = self.random.below(self.guests.len() as u64) as usize;
            match self.random.below(16) {
                0 | 1 if self.guests.len() < 15 => {
                    let index = self.random.below(3) as usize;
                    let mut guest = Guest::open(&self.nodes[index]).await;
                    guest.rejoin(&self.nodes[index], &step.to_string());
                    self.guests.push((index, guest));
                }
                2 if chosen >= 3 => drop(self.guests.remove(chosen)),
                3 if chosen >= 3 => {
                    let (index, guest) = &mut self.guests[chosen];
                    guest.rejoin(&self.nodes[*index], &format!("again {step}"));
                }
                4 if chosen >= 3 => self.guests[chosen].1.page.go_away(),
                5 => self.guests[chosen].1.page.cut(),
                6 | 7 => self.guests[chosen].1.page.come_back(),
                8 | 9 => {
                    let membership = self.guests[chosen].1.membership.as_ref().expect("it has joined");
                    membership.set_state(&step).expect("it is short");
                }
                10 => self.guests[chosen].1.page.set_room_state("board", &step).await,
                11 if chosen >= 3 => {
                    let guest = &self.guests[chosen].1;
                    guest.handle.core().abort("enough");
                    drop(self.guests.remove(chosen));
                }
                12 => tokio::task::yield_now().await,
                _ => {
                    let index = self.random.below(3) as usize;
                    self.nodes[index].room.emit("draw", &self.sent).expect("little waits");
                    self.sent += 1;
                }
            }
        }
    }

    /// Waits until whatever was sent before has arrived on all servers.
    pub(crate) async fn is_through(&self) {
        for from in &self.nodes {
            let guest = Guest::join(from, "a messenger").await;
            for node in &self.nodes {
                let is_in = |all: &[Member]| all.iter().any(|member| member.id == guest.id());
                soon("the messenger arrives", node.room.present().wait_for(is_in)).await;
            }
        }
    }

    /// Brings all pages back, waits until a last guest is seen by all, and checks that all know the
    /// same.
    pub(crate) async fn converge(&mut self) {
        for (_, guest) in &self.guests {
            guest.page.come_back();
        }
        let last = Guest::join(&self.nodes[0], "the last").await;
        let has_settled = |all: &[Member]| all.iter().all(|member| !member.is_away) && has_last(all);
        let mut known = Vec::new();
        for node in &self.nodes {
            known.push(soon("all are back", node.room.present().wait_for(has_settled)).await);
        }
        // What is on its way still changes states.
        let is_known = |all: &[Member]| all.len() == self.guests.len() + 1;
        for node in &self.nodes {
            soon("the number is right", node.room.present().wait_for(is_known)).await;
        }
        drop(last);
        for node in &self.nodes {
            soon("the last leaves", node.room.present().wait_for(|all| !has_last(all))).await;
        }
        // A page may still send a state after it is back: it has when it agrees with its server.
        for (index, guest) in &self.guests {
            let node = &self.nodes[*index];
            let agrees = |all: &[Member]| by_id(all) == by_id(&node.members());
            let waiting = timeout(PATIENCE, guest.page.wait_for_members("board", agrees)).await;
            let (page, server) = (guest.page.members("board"), node.members());
            assert!(
                waiting.is_ok(),
                "member {} knows {page:#?}, and its server {server:#?}",
                guest.id()
            );
        }
        self.agreed_members().await;
    }

    /// Waits until all servers list the same members in the same order.
    async fn agreed_members(&self) -> Vec<Member> {
        let first = self.nodes[0].members();
        for node in &self.nodes[1..] {
            let mut present = node.room.present();
            soon(
                "all servers agree",
                present.wait_for(|all| *all == self.nodes[0].members()),
            )
            .await;
        }
        if self.nodes.iter().all(|node| node.members() == first) {
            return first;
        }
        Box::pin(self.agreed_members()).await
    }

    /// Checks that the watchers got all events in the same order.
    pub(crate) async fn check_events(&self) {
        let mut orders = Vec::new();
        for (_, watcher) in &self.guests[..3] {
            let mut order = Vec::new();
            while (order.len() as u64) < self.sent {
                let event = watcher.page.room_event::<u64>("board", "draw");
                order.push(soon("an event", event).await.1);
            }
            assert_eq!(watcher.page.missed("board"), 0);
            orders.push(order);
        }
        assert_eq!(orders[0], orders[1]);
        assert_eq!(orders[0], orders[2]);
        let mut sorted = orders.swap_remove(0);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..self.sent), "each event once");
    }

    /// Checks that all servers saw the same joins, absences and departures, in the same order.
    pub(crate) async fn check_changes(&mut self) {
        let mut seen = Vec::new();
        for listener in &mut self.listeners {
            let mut changes = VecDeque::new();
            loop {
                let change = soon("a change", listener.next()).await;
                let is_last = matches!(&change, RoomEvent::Left(member, Departure::Left) if member.state == "the last");
                changes.push_back(change);
                if is_last {
                    break;
                }
            }
            seen.push(changes);
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
    }
}

fn has_last(all: &[Member]) -> bool {
    all.iter().any(|member| member.state == "the last")
}

fn by_id(members: &[Member]) -> Vec<Member> {
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.id);
    members
}

#[tokio::test]
async fn three_servers_converge_whatever_their_members_do() {
    for seed in 1..=6 {
        let nats = NatsServer::start();
        let mut party = Party::begin(&nats, seed).await;
        for _ in 0..10 {
            party.disturb(40).await;
        }
        party.converge().await;
        party.check_events().await;
        party.check_changes().await;
    }
}
