//! What is counted: each load, in rounds.

use std::time::Duration;

use futures_util::future::join_all;
use stillhere::{Hub, Session, SessionHandle};
use stillhere_app::{HubExt as _, Room, app};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::end::Kind;
use crate::json;
use crate::page::Page;
use crate::processor;

/// How many messages a burst has.
const BURST: usize = 16;

/// How many pages receive a broadcast.
const PAGES: usize = 100;

pub(crate) const BROADCAST: &str = "broadcast to 100 pages";

/// The same message, as an event of a room.
pub(crate) const ROOM: &str = "room of 100 pages";

/// How many pages receive it in a large room.
pub(crate) const MANY_PAGES: usize = 5000;

pub(crate) const LARGE_BROADCAST: &str = "broadcast to 5,000 pages";

pub(crate) const LARGE_ROOM: &str = "room of 5,000 pages";

/// Members who leave a large room and join it again, of whom each other page is told.
const JOINS: usize = 100;

/// Pages that follow one watch.
const WATCHING_PAGES: usize = 1000;

/// Its value is a list of 100 numbers: 900 bytes of JSON.
const WATCH: &str = "watch that 1,000 pages follow";

const LARGE_JOINS: &str = "joins, 100 in a room of 5,000 pages, each page that is told";

/// End of the name of a load whose pages have WebSockets. The others exchange packets within the
/// process, so that what is counted does not depend on a kind of connection.
const WEB_SOCKET: &str = "over a WebSocket";

/// Rounds of [`sweep`].
const SWEPT: usize = 1000;

pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// How many rounds are counted.
    pub(crate) rounds: usize,
    /// How many messages a round has.
    pub(crate) messages: usize,
}

pub(crate) const LOADS: [Load; 11] = [
    load("echo, 1 in flight", 1000, 1),
    load("echo, 16 in flight", 100, BURST),
    load("stream, 16 at once", 100, BURST),
    load("echo, 1 in flight over a WebSocket", 1000, 1),
    load("echo, 16 in flight over a WebSocket", 100, BURST),
    load("stream, 16 at once over a WebSocket", 100, BURST),
    load(BROADCAST, 20, PAGES),
    load("sweep, each session that expires", SWEPT, 1),
    load(ROOM, 20, PAGES),
    load(json::BY_HAND, 1000, 1),
    load(json::WITH_APP, 1000, 1),
];

/// Loads that take too long to be counted each time.
pub(crate) const LARGE_LOADS: [Load; 4] = [
    load(WATCH, 10, WATCHING_PAGES),
    load(LARGE_BROADCAST, 2, MANY_PAGES),
    load(LARGE_ROOM, 2, MANY_PAGES),
    load(LARGE_JOINS, 1, MANY_PAGES),
];

const fn load(name: &'static str, rounds: usize, messages: usize) -> Load {
    Load { name, rounds, messages }
}

/// Runs the load with this name, and ends the process without freeing what it holds.
pub(crate) fn run(name: &str, rounds: usize) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let in_flight = if name.contains("16") { BURST } else { 1 };
        let kind = if name.ends_with(WEB_SOCKET) {
            Kind::WebSocket
        } else {
            Kind::Packets
        };
        match name.split_once(", ").map_or(name, |(kind, _)| kind) {
            "echo" => echo(kind, rounds, in_flight).await,
            "stream" => stream(kind, rounds).await,
            "sweep" => sweep(rounds).await,
            "JSON echo" => json::echo(name, rounds).await,
            ROOM => room(PAGES, rounds).await,
            LARGE_ROOM => room(MANY_PAGES, rounds).await,
            LARGE_BROADCAST => broadcast(MANY_PAGES, rounds).await,
            WATCH => watched(rounds).await,
            "joins" => joins(rounds).await,
            _ => broadcast(PAGES, rounds).await,
        }
        println!("{}", processor::ticks());
        std::process::exit(0)
    })
}

async fn echoing(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

async fn open(hub: &Hub, kind: Kind) -> (SessionHandle, Page) {
    let session = hub.open(echoing);
    let page = Page::connect(hub, &session, kind).await;
    (session, page)
}

async fn echo(kind: Kind, rounds: usize, in_flight: usize) {
    let hub = Hub::new();
    let (_, mut page) = open(&hub, kind).await;
    for _ in 0..rounds {
        page.send(in_flight).await;
        page.receive(in_flight).await;
    }
}

async fn stream(kind: Kind, rounds: usize) {
    let hub = Hub::new();
    let (session, mut page) = open(&hub, kind).await;
    let message = hub.share([7; 64].to_vec());
    for _ in 0..rounds {
        for _ in 0..BURST {
            session.try_send(message.clone()).expect("there is room");
        }
        page.receive(BURST).await;
        page.send(0).await;
    }
}

async fn broadcast(page_count: usize, rounds: usize) {
    let hub = Hub::new();
    let mut pages = Vec::new();
    for _ in 0..page_count {
        pages.push(open(&hub, Kind::Packets).await.1);
    }
    for _ in 0..rounds {
        let message = hub.share([7; 64].to_vec());
        for session in hub.sessions() {
            session.try_send(message.clone()).expect("there is room");
        }
        for page in &mut pages {
            page.receive(1).await;
            page.send(0).await;
        }
    }
}

/// Opens the sessions of a room, and their pages.
async fn members(hub: &Hub, room: &Room, count: usize) -> Vec<Page> {
    let mut pages = Vec::new();
    for _ in 0..count {
        let room = room.clone();
        let session = hub.open(app(async move |session: stillhere_app::Session| {
            let _member = room.join(&session, &()).expect("there is room");
            session.ended().await;
        }));
        pages.push(Page::connect(hub, &session, Kind::Packets).await);
    }
    for page in &mut pages {
        page.settle().await;
    }
    pages
}

async fn room(page_count: usize, rounds: usize) {
    let hub = Hub::new();
    let room = hub.room("room").expect("the name is short");
    let mut pages = members(&hub, &room, page_count).await;
    let text = "x".repeat(64 - "  room  event  ".len());
    for _ in 0..rounds {
        room.emit("event", &text).expect("text is JSON");
        for page in &mut pages {
            page.receive(1).await;
            page.send(0).await;
        }
    }
}

async fn watched(rounds: usize) {
    let hub = Hub::new();
    let (sender, receiver) = watch::channel(vec![10_000_000_u32; 100]);
    let mut pages = Vec::new();
    for _ in 0..WATCHING_PAGES {
        let receiver = receiver.clone();
        let session = hub.open(app(async move |session: stillhere_app::Session| {
            session.follow("list", receiver);
            session.ended().await;
        }));
        pages.push(Page::connect(&hub, &session, Kind::Packets).await);
    }
    for page in &mut pages {
        page.settle().await;
    }
    for _ in 0..rounds {
        sender.send_modify(|list| list[0] += 1);
        for page in &mut pages {
            page.receive(1).await;
            page.send(0).await;
        }
    }
}

async fn joins(rounds: usize) {
    let hub = Hub::new();
    let room = hub.room("room").expect("the name is short");
    let mut pages = members(&hub, &room, MANY_PAGES).await;
    let mut others = Vec::new();
    for _ in 0..JOINS {
        let (sender, handle) = oneshot::channel();
        let session = hub.open(app(async move |session: stillhere_app::Session| {
            let _ = sender.send(session.to_handle());
            session.ended().await;
        }));
        let page = Page::connect(&hub, &session, Kind::Packets).await;
        others.push((handle.await.expect("the function starts"), page));
    }
    for _ in 0..rounds {
        let joined: Vec<_> = others.iter().map(|(handle, _)| room.join(handle, &())).collect();
        settle(&mut pages).await;
        drop(joined);
        settle(&mut pages).await;
        for (_, page) in &mut others {
            page.settle().await;
        }
    }
}

/// Has each page receive what it is told of the room.
async fn settle(pages: &mut [Page]) {
    // A large room tells its pages at the latest after this time.
    tokio::time::sleep(Duration::from_millis(250)).await;
    for page in pages {
        page.receive(1).await;
        page.send(0).await;
    }
}

/// Soft-closes two groups of sessions, the second a minute after the first. `rounds` is how many of
/// them expire before the end: one group, or both.
async fn sweep(rounds: usize) {
    const MINUTE: Duration = Duration::from_secs(60);
    let hub = Hub::builder().max_unconnected(2 * SWEPT).build();
    let start = Instant::now();
    for group in 0..2 {
        sleep_until(start + group * MINUTE).await;
        let pages = (0..SWEPT).map(|_| open(&hub, Kind::Packets));
        drop(join_all(pages).await);
    }
    // The default policy keeps them for two minutes.
    let groups = (rounds / SWEPT) as u32;
    sleep_until(start + MINUTE + groups * MINUTE + MINUTE / 2).await;
    assert_eq!(hub.sessions().len(), 2 * SWEPT - rounds, "{rounds} have expired");
}
