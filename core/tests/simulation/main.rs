//! Random schedules without a network, in virtual time.

mod browser;
mod ending;
mod faults;
mod ledger;
mod network;
mod node;
mod page;
mod pipe;
mod plan;
mod random;
mod world;

use std::ops::Range;

use browser::RustBrowser;
use node::NodePool;
use world::{Coverage, OpenBrowser, World};

#[test]
fn rust_schedules_0_to_2500_lose_nothing() {
    simulate(0..2500);
}

#[test]
fn rust_schedules_2500_to_5000_lose_nothing() {
    simulate(2500..5000);
}

#[test]
fn rust_schedules_5000_to_7500_lose_nothing() {
    simulate(5000..7500);
}

#[test]
fn rust_schedules_7500_to_10000_lose_nothing() {
    simulate(7500..10_000);
}

#[test]
fn typescript_schedules_0_to_500_lose_nothing() {
    simulate_with_typescript(0..500);
}

#[test]
fn typescript_schedules_500_to_1000_lose_nothing() {
    simulate_with_typescript(500..1000);
}

fn simulate(seeds: Range<u64>) {
    run("rust", seeds, &mut |ticket, base| {
        Box::new(RustBrowser::new(ticket, base))
    });
}

/// The machine that ships in the browser: Rust against Rust does not show that the pair works.
fn simulate_with_typescript(seeds: Range<u64>) {
    let pool = NodePool::new();
    run("typescript", seeds, &mut |ticket, _| pool.open(ticket));
}

/// Runs the schedules of many seeds, or the one in `STILLHERE_SEED`.
fn run(browser: &str, seeds: Range<u64>, open: OpenBrowser<'_>) {
    let replayed = std::env::var("STILLHERE_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let mut coverage = Coverage::default();
    for seed in replayed.map_or(seeds, |seed| seed..seed + 1) {
        let _reproduce = Reproduce { browser, seed };
        coverage.add(&run_schedule(seed, replayed.is_some(), open));
    }
    println!("{coverage:#?}");
    if replayed.is_none() {
        coverage.check();
    }
}

fn run_schedule(seed: u64, is_traced: bool, open: OpenBrowser<'_>) -> Coverage {
    let mut world = World::new(seed, is_traced, open);
    world.open_page();
    world.run_trouble();
    world.run_calm();
    world.run_end();
    world.coverage
}

/// Says how to see a failure again.
struct Reproduce<'a> {
    browser: &'a str,
    seed: u64,
}

impl Drop for Reproduce<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { browser, seed } = self;
            eprintln!(
                "to see it again: STILLHERE_SEED={seed} cargo test -p stillhere --test simulation {browser}_schedules_0"
            );
        }
    }
}
