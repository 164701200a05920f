//! Passes packets between one connection of this server and the other end of a hop.

use std::time::Duration;

use async_nats::{Client, Subject};
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::PairEnd;

use crate::links::Arrivals;
use crate::packets::{Carried, Decoder, Encoder, link_of};

/// The other end of a hop.
#[derive(Debug, Clone)]
pub(crate) struct FarEnd {
    /// The subject of its server.
    pub(crate) subject: Subject,
    /// Its number there.
    pub(crate) link: u64,
}

/// Passes packets on in both directions until either end closes or the hop is cut. The other side
/// of `near` sees either as the loss of its connection.
pub(crate) async fn run_hop(client: Client, far: FarEnd, mut arrivals: Arrivals, near: PairEnd) {
    let (mut to_near, from_near) = near.split();
    let number = arrivals.number;
    let out = async {
        let mut encoder = Encoder::new(far.link, number, client.max_payload().min(LARGEST));
        let mut packets = from_near.ready_chunks(AT_ONCE);
        let mut messages = Vec::new();
        while let Some(ready) = packets.next().await {
            for packet in ready.iter().flatten() {
                encoder.push(packet, |message| messages.push(message));
            }
            messages.extend(encoder.flush());
            for message in messages.drain(..) {
                if client.publish(far.subject.clone(), message).await.is_err() {
                    return;
                }
            }
        }
        let _ = client.publish(far.subject.clone(), encoder.finish()).await;
    };
    let arriving = async {
        let mut decoder = Decoder::default();
        while let Some(mut message) = arrivals.next().await {
            // Another server may have been asked too, and answered later.
            if link_of(&mut message) != Some(far.link) {
                continue;
            }
            let carried = match decoder.read(message) {
                Ok(carried) => carried,
                Err(error) => return tracing::debug!(%error, "cut a hop"),
            };
            for carried in carried {
                let Carried::Packet(packet) = carried else { return };
                if to_near.feed(packet).await.is_err() {
                    return;
                }
            }
            if to_near.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(out);
    let is_over = tokio::select! {
        () = &mut out => true,
        () = arriving => false,
    };
    drop(arrivals);
    if !is_over {
        // The other end may not know.
        let over = Encoder::new(far.link, number, LARGEST).finish();
        let _ = tokio::time::timeout(SAYING, client.publish(far.subject.clone(), over)).await;
    }
}

/// Most packets that go in one message.
const AT_ONCE: usize = 64;

/// Most bytes of a message, below the default limit of a NATS server (1 MiB).
const LARGEST: usize = 256 * 1024;

/// How long to wait for NATS to take the last message.
const SAYING: Duration = Duration::from_secs(1);
