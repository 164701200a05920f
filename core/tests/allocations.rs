//! Counts the allocations that a message costs, over a connection within the process. They do not
//! depend on the machine, so a change that makes messages dearer shows here.

mod support;

use std::alloc::System;

use bytes::Bytes;
use futures_util::FutureExt as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere::connection::Packet;
use stillhere::wire::Frame;
use stillhere::{Hub, Lane, Session, SessionHandle};

use support::settled;
use support::wire::{RawDocument, Wire, ack, data};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: u64 = 100;

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// A page that receives packets without looking into them, so that it costs nothing itself.
struct Page {
    session: SessionHandle,
    wire: Wire,
    sent: u64,
}

impl Page {
    async fn open(hub: &Hub) -> Self {
        let session = hub.open(echo);
        let (wire, _) = RawDocument::new(&session).welcomed(hub).await;
        Self { session, wire, sent: 0 }
    }

    /// Returns frames with the next messages, and an acknowledgement of everything before them.
    fn frames(&mut self, messages: u64) -> Vec<Packet> {
        let payload = Bytes::from_static(&[7; 64]);
        let ack = [ack(self.sent, 0)].into_iter();
        let data = (0..messages).map(|_| {
            self.sent += 1;
            Frame::Data(data(Lane::Interactive, self.sent, payload.clone()))
        });
        ack.chain(data).map(|frame| Packet::Binary(frame.to_bytes())).collect()
    }

    fn send(&self, frames: Vec<Packet>) {
        frames.into_iter().for_each(|packet| self.wire.end.send(packet));
    }

    /// Receives what the server writes until it pauses. Returns the number of packets.
    async fn receive(&self) -> u64 {
        settled().await;
        std::iter::from_fn(|| self.wire.end.receive().now_or_never()).count() as u64
    }
}

/// Returns the mean number of allocations of a round, after some rounds that are not counted.
async fn mean(mut round: impl AsyncFnMut() -> usize) -> f64 {
    for _ in 0..ROUNDS {
        round().await;
    }
    let mut counted = 0;
    for _ in 0..ROUNDS {
        counted += round().await;
    }
    counted as f64 / ROUNDS as f64
}

async fn echoes(in_flight: u64) -> f64 {
    let hub = Hub::new();
    let mut page = Page::open(&hub).await;
    let round = mean(async || {
        let frames = page.frames(in_flight);
        let before = allocations();
        page.send(frames);
        assert!(page.receive().await >= in_flight, "there is an echo of each");
        allocations() - before
    });
    round.await / in_flight as f64
}

async fn stream(burst: u64) -> f64 {
    let hub = Hub::new();
    let page = Page::open(&hub).await;
    let message = hub.share([7; 64].to_vec());
    let mut sent = 0;
    let round = mean(async || {
        let before = allocations();
        for _ in 0..burst {
            page.session.try_send(message.clone()).expect("there is room");
        }
        assert!(page.receive().await >= burst, "each arrives");
        let allocations = allocations() - before;
        sent += burst;
        page.wire.ack(sent, 0);
        settled().await;
        allocations
    });
    round.await / burst as f64
}

#[tokio::test(start_paused = true)]
async fn messages_cost_few_allocations() {
    let figures = [
        ("an echo, 1 in flight", echoes(1).await, 5.0),
        ("an echo, 16 in flight", echoes(16).await, 2.5),
        ("a message of a stream", stream(1).await, 2.0),
        ("a message of a stream, 16 at once", stream(16).await, 0.32),
    ];
    for (what, allocations, _) in figures {
        println!("{what}: {allocations:.2} allocations");
    }
    for (what, allocations, budget) in figures {
        assert!(
            allocations <= budget,
            "{what}: {allocations:.2} allocations, and {budget} are the budget"
        );
    }
}
