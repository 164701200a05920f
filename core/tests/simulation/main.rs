//! Random schedules without a network, in virtual time.

mod browser;
mod ending;
mod faults;
mod ledger;
mod network;
mod page;
mod pipe;
mod plan;
mod random;
mod world;

use std::ops::Range;

use browser::{Browser, RustBrowser};
use world::{Coverage, World};

#[test]
fn schedules_0_to_2500_lose_nothing() {
    simulate(0..2500);
}

#[test]
fn schedules_2500_to_5000_lose_nothing() {
    simulate(2500..5000);
}

#[test]
fn schedules_5000_to_7500_lose_nothing() {
    simulate(5000..7500);
}

#[test]
fn schedules_7500_to_10000_lose_nothing() {
    simulate(7500..10_000);
}

fn simulate(seeds: Range<u64>) {
    let coverage = run_all(seeds, |ticket, base| Box::new(RustBrowser::new(ticket, base)));
    coverage.check();
}

/// Runs the schedules of many seeds, or of the one in `STILLHERE_SEED`.
fn run_all(
    seeds: Range<u64>,
    mut open: impl FnMut(browser::Ticket, std::time::Instant) -> Box<dyn Browser>,
) -> Coverage {
    let replayed = std::env::var("STILLHERE_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let seeds = replayed.map_or(seeds, |seed| seed..seed + 1);
    let mut all = Coverage::default();
    for seed in seeds {
        let _reproduce = Reproduce(seed);
        let mut world = World::new(seed, replayed.is_some(), &mut open);
        world.open_page();
        world.run_trouble();
        world.run_calm();
        world.run_end();
        all.add(&world.coverage);
    }
    all
}

/// Says how to see a failure again.
struct Reproduce(u64);

impl Drop for Reproduce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: STILLHERE_SEED={} cargo test -p stillhere --test simulation schedules_0", self.0);
        }
    }
}
