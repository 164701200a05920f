//! A bridge that loses, duplicates and reorders packets.

use std::sync::atomic::{AtomicBool, Ordering};

use stillhere::Packet;
use stillhere_conformance::random::Random;

/// Distorts one direction of one connection.
#[derive(Debug)]
pub(crate) enum Liar {
    Honest,
    /// Distorts packets at random.
    Random {
        random: Random,
        held_back: Option<Packet>,
    },
    /// Loses the first data frame that reaches any owner of this flag, and nothing afterwards.
    Swallowing(&'static AtomicBool),
}

impl Liar {
    pub(crate) fn random(seed: u64) -> Self {
        Self::Random {
            random: Random::new(seed),
            held_back: None,
        }
    }

    /// Returns what arrives instead of this packet, in order.
    pub(crate) fn distort(&mut self, packet: Packet) -> Vec<Packet> {
        let kind = match &packet {
            Packet::Binary(bytes) => bytes.first().copied().unwrap_or_default(),
            _ => return vec![packet],
        };
        let is_data = (0x40..0x48).contains(&kind);
        match self {
            Self::Honest => vec![packet],
            Self::Swallowing(has_swallowed) if is_data && !has_swallowed.swap(true, Ordering::Relaxed) => vec![],
            Self::Swallowing(_) => vec![packet],
            Self::Random { random, held_back } => {
                if is_data && let Some(held_back) = held_back.take() {
                    return vec![packet, held_back];
                }
                match random.within(0..LIES) {
                    0 if is_data || COUNTS.contains(&kind) => vec![],
                    1 if is_data => vec![packet.clone(), packet],
                    2 if is_data => {
                        *held_back = Some(packet);
                        vec![]
                    }
                    _ => vec![packet],
                }
            }
        }
    }
}

/// One packet in this many is lost, one is duplicated, and one is held back behind the next. This
/// must be rare, because three gaps in a row without progress would end the session.
const LIES: u64 = 200;

/// The frame types of ack, ping and pong.
const COUNTS: [u8; 3] = [0x20, 0x21, 0x22];
