//! The session's function: two numbered streams and a number of clicks.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillhere_axum::Session;
use stillhere_axum::durable::State;
use tokio::time::{MissedTickBehavior, interval};

const PAUSE: Duration = Duration::from_millis(50);

/// What survives the process. Local variables do not.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Streams {
    /// How many messages were sent.
    sent: u64,
    /// The last number that came from the page.
    received: u64,
    /// Numbers of the page that did not come in order.
    errors: u64,
    clicks: u64,
}

/// Between two reads is a turn: all that it changes and sends counts together, or not at all. The
/// page is also told the number of the node that this runs in.
pub(crate) async fn run(mut session: Session, state: State<Streams>, node: u64) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let number = tokio::select! {
            message = session.recv() => {
                let Some(message) = message else { return };
                let Ok(number) = <[u8; 8]>::try_from(&message[..]) else { return };
                Some(u64::from_le_bytes(number))
            }
            _ = ticks.tick() => None,
        };
        let report = state.update(|streams| streams.next(number, node));
        if session.send(report).await.is_err() {
            return;
        }
    }
}

impl Streams {
    /// Handles a number of the page's stream, or a click, which is 0. Returns what the page is
    /// told.
    fn next(&mut self, number: Option<u64>, node: u64) -> Vec<u8> {
        match number {
            Some(0) => self.clicks += 1,
            Some(number) => {
                self.errors += u64::from(number != self.received + 1);
                self.received = number;
            }
            None => {}
        }
        self.sent += 1;
        let numbers = [self.sent, self.received, self.errors, self.clicks, node];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }
}
