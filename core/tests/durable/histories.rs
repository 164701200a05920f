//! Random histories: whatever happens, both sides see each message once and in order.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillhere::durable::{Durability, MemoryStore, State};
use stillhere::{Hub, Session, SessionHandle};

use crate::server::{Address, Process, SlowStore, TestStore as _};
use crate::support::{access, settled, soon};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Streams {
    /// The last number from the page, and the last to it.
    received: u64,
    sent: u64,
    /// Numbers that did not come in order.
    errors: Vec<(u64, u64)>,
}

/// Answers with up to two numbers each, and now and then sends one on its own.
async fn run(mut session: Session, state: State<Streams>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(70));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let count = tokio::select! {
            biased;
            message = session.recv() => {
                let Some(message) = message else { return };
                let number = u64::from_le_bytes(message[..8].try_into().expect("eight bytes"));
                state.update(|streams| {
                    if number != streams.received + 1 {
                        streams.errors.push((streams.received, number));
                    }
                    streams.received = number;
                });
                number % 3
            }
            _ = ticks.tick() => 1,
        };
        for _ in 0..count {
            let number = state.update(|streams| {
                streams.sent += 1;
                streams.sent
            });
            let mut message = number.to_le_bytes().to_vec();
            message.resize(8 + (number % 5) as usize * 300, 7);
            if session.send(message).await.is_err() {
                return;
            }
            if number.is_multiple_of(4) {
                tokio::time::sleep(Duration::from_millis(number % 30)).await;
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn start(store: &SlowStore, durability: Durability, address: &Address) -> Process<Streams> {
    let hub = store.builder().build();
    let kind = hub.durable("streams", durability, run);
    address.set(Some(&hub));
    Process { hub, kind }
}

async fn history(seed: u64, durability: Durability) -> Result<u64, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let memory = MemoryStore::new();
    let store = SlowStore::new(memory.clone(), seed, random.below(30));
    let address = Address::default();
    let mut process = start(&store, durability, &address);
    let session: SessionHandle = process.kind.open(Streams::default());
    let page = address.page(access(&session));
    page.outcome().await;
    settled().await;
    if durability == Durability::Crash {
        // Once its first document counts, the session survives everything.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut stops = 0;
    let mut check = |messages: Vec<(stillhere::Lane, Vec<u8>)>| {
        for (_, message) in messages {
            let number = u64::from_le_bytes(message[..8].try_into().expect("eight bytes"));
            if number != received + 1 {
                return Err(format!("the page has received {number} after {received}"));
            }
            received = number;
        }
        Ok(())
    };
    for _ in 0..150 {
        match random.below(12) {
            0..5 => {
                for _ in 0..random.below(6) {
                    sent += 1;
                    let mut message = sent.to_le_bytes().to_vec();
                    message.resize(8 + random.below(2000) as usize, 3);
                    page.send(message);
                }
            }
            5 => page.cut(),
            6 => {
                page.set_online(false);
                tokio::time::sleep(Duration::from_millis(random.below(300))).await;
                page.set_online(true);
            }
            7 if durability == Durability::Crash => {
                process.kill(&address).await;
                tokio::time::sleep(Duration::from_millis(random.below(200))).await;
                process = start(&store, durability, &address);
                stops += 1;
            }
            8 => {
                let report = process.stop(&address).await;
                if report.aborted > 0 {
                    return Err(format!("{report:?}"));
                }
                tokio::time::sleep(Duration::from_millis(random.below(200))).await;
                process = start(&store, durability, &address);
                stops += 1;
            }
            9 => {
                memory.fail(Some(stillhere::durable::StoreError::Full));
                tokio::time::sleep(Duration::from_millis(random.below(300))).await;
                memory.fail(None);
            }
            _ => tokio::time::sleep(Duration::from_millis(random.below(400))).await,
        }
        check(page.inbox())?;
    }
    // Everything arrives in the end.
    sent += 1;
    page.send(sent.to_le_bytes());
    let all = async {
        loop {
            let state = page.outgoing(stillhere::Lane::Interactive);
            if state == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(&format!("the page's messages are acknowledged, seed {seed}"), all).await;
    check(page.inbox())?;
    let report = process.stop(&address).await;
    if report.handed_over != 1 {
        return Err(format!("{report:?}"));
    }
    // The state is what it would be without all this.
    let hub: Hub = store.builder().build();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let _kind = hub.durable("streams", durability, move |session: Session, state: State<Streams>| {
        let tell = tell.lock().expect("unpoisoned").take();
        async move {
            if let Some(tell) = tell {
                let _ = tell.send(state.get());
            }
            session.ended().await;
        }
    });
    address.set(Some(&hub));
    let state = soon("the state", told)
        .await
        .map_err(|_| "the function did not start".to_owned())?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    check(page.inbox())?;
    if !state.errors.is_empty() || state.received != sent || state.sent != received {
        return Err(format!(
            "{state:?}, and the page has sent {sent} and received {received}"
        ));
    }
    Ok(stops)
}

fn histories(durability: Durability, count: u64) {
    let mut stops = 0;
    let first: u64 = std::env::var("STILLHERE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    for seed in first..first + count {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime starts");
        match runtime.block_on(history(seed, durability)) {
            Ok(count) => stops += count,
            Err(error) => panic!("{durability:?}, STILLHERE_SEED={seed}: {error}"),
        }
    }
    println!("{durability:?}: {count} histories from seed {first}, {stops} stops");
    assert!(count == 1 || stops > 3 * count);
}

#[test]
fn no_history_with_crashes_loses_or_doubles_anything() {
    histories(Durability::Crash, 40);
}

#[test]
fn no_history_with_restarts_loses_or_doubles_anything() {
    histories(Durability::Restart, 40);
}
