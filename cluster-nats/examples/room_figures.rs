//! How long an event takes from a server to the page of a member on another one, and what it costs,
//! compared with a room within one process.
//!
//! ```text
//! nats-server -js &
//! cargo run --release -p stillhere-nats --example room_figures -- nats://127.0.0.1:4222
//! ```

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use stillhere::Hub;
use stillhere_app::testing::Page;
use stillhere_app::{HubBuilderExt as _, HubExt as _, Room, Session};
use stillhere_nats::{NatsRooms, NatsRoomsOptions, Servers, ServersOptions};

/// A server's room, and the page of a member on it.
struct Seat {
    room: Room,
    page: Page,
}

impl Seat {
    async fn take(hub: &Hub) -> Result<Self, Box<dyn Error>> {
        let room = hub.room("figures")?;
        let joins = room.clone();
        let page = Page::open(hub, async move |session: Session| {
            let _membership = joins.join(&session, &());
            session.ended().await;
        });
        page.wait_for_members("figures", |members| !members.is_empty()).await;
        Ok(Self { room, page })
    }
}

async fn over_nats(url: &str) -> Result<Hub, Box<dyn Error>> {
    let client = async_nats::connect(url).await?;
    let servers = Servers::join(client, ServersOptions::default()).await?;
    let engine = NatsRooms::start(&servers, NatsRoomsOptions::default()).await?;
    Ok(Hub::builder().room_engine(engine).build())
}

/// Sends one event after another, and returns how long each took.
async fn latencies(from: &Seat, to: &Seat) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut latencies = Vec::new();
    for number in 0..3000u64 {
        let sent = Instant::now();
        from.room.emit("event", &number)?;
        while to.page.room_event::<u64>("figures", "event").await.1 != number {}
        latencies.push(sent.elapsed());
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Sends many events, as fast as they are taken, and returns the time that passed and the
/// processor time of this process for each.
async fn costs(from: &Seat, to: &Seat) -> Result<[Duration; 2], Box<dyn Error>> {
    let (began, before) = (Instant::now(), processor_time()?);
    for first in (0..MANY).step_by(100) {
        for number in first..first + 100 {
            from.room.emit("many", &number)?;
        }
        while to.page.room_event::<u32>("figures", "many").await.1 != first + 99 {}
    }
    Ok([began.elapsed() / MANY, (processor_time()? - before) / MANY])
}

/// Returns the processor time of this process so far, in steps of 10 ms.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let alone = Hub::new();
    let pairs = [
        ("in one process", Seat::take(&alone).await?, Seat::take(&alone).await?),
        (
            "over NATS",
            Seat::take(&over_nats(&url).await?).await?,
            Seat::take(&over_nats(&url).await?).await?,
        ),
    ];
    for (name, from, to) in &pairs {
        from.page
            .wait_for_members("figures", |members| members.len() == 2)
            .await;
        let latencies = latencies(from, to).await?;
        let at = |percent: usize| latencies[latencies.len() * percent / 100];
        println!("{name}: p50 {:?}, p99 {:?} to a page", at(50), at(99));
        let [passed, processor] = costs(from, to).await?;
        println!("{name}: {passed:?} an event, {processor:?} of them on the processor");
    }
    Ok(())
}

const MANY: u32 = 100_000;
