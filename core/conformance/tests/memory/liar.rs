//! A bridge that loses, doubles and swaps what it carries.

use std::sync::atomic::{AtomicUsize, Ordering};

use stillhere::Packet;
use stillhere_conformance::random::Random;

/// Does it to one direction of one connection, if it is to lie at all.
#[derive(Debug)]
pub(crate) struct Liar {
    random: Option<Random>,
    held_back: Option<Packet>,
}

impl Liar {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self {
            random: seed.map(Random::new),
            held_back: None,
        }
    }

    /// What arrives instead of this packet, in order.
    pub(crate) fn distort(&mut self, packet: Packet) -> Vec<Packet> {
        let Some(random) = &mut self.random else {
            return vec![packet];
        };
        // Only data, whose loss nothing else would show.
        if !matches!(&packet, Packet::Binary(bytes) if bytes.first().is_some_and(|kind| (0x40..0x48).contains(kind))) {
            return vec![packet];
        }
        if let Some(held_back) = self.held_back.take() {
            return vec![packet, held_back];
        }
        let lie = random.within(0..LIES);
        // What nothing follows would not be missed.
        if lie < 3 && TOLD.fetch_add(1, Ordering::Relaxed) >= ENOUGH {
            return vec![packet];
        }
        match lie {
            0 => vec![],
            1 => vec![packet.clone(), packet],
            2 => {
                self.held_back = Some(packet);
                vec![]
            }
            _ => vec![packet],
        }
    }
}

/// One packet in so many is lost, one doubled, one held back behind the next.
const LIES: u64 = 60;

/// After so many the connections are honest.
const ENOUGH: usize = 40;

static TOLD: AtomicUsize = AtomicUsize::new(0);
