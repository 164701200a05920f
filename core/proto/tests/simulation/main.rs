//! Random schedules without a network, in virtual time.
//!
//! A seed determines a schedule: one session, the pages that connect to it, connections as two byte
//! pipes each, and the faults that affect them ([`plan`], [`faults`]). While faults are injected,
//! [`world`] and [`ledger`] check that no message is lost, duplicated, reordered or delivered to
//! another document, that no buffer exceeds its limit, and that nobody relies on a silent
//! connection for longer than the silence limit. Then the faults stop and everything must arrive.
//! Finally the session ends and all counts must agree. `STILLHERE_SEED=n` shows one schedule.
//!
//! The table shows how sensitive the simulation is: how many of 2,000 seeds fail when one rule is
//! broken in the Rust machines.
//!
//! | broken rule | seeds |
//! |---|---|
//! | R3 the incomplete message does not survive a resume | 500 |
//! | R8 credit is returned twice / on receipt / for fragments only when taken | 76 / 438 / 1231 |
//! | R10 the outbox admits twice its limit | 1286 |
//! | R19 stale hellos are not detected | 102 |
//! | R20 frames of older connections are read by the server / by the page | 213 / 163 |
//! | R21 the page waits forever for its welcome | 374 |
//! | R24 the end of an older connection soft-closes its successor | 554 |
//! | R26 an older incarnation is a newcomer | 337 |
//! | R29 no probe / any frame answers it / newcomers keep a silent incumbent | 155 / 7 / 81 |
//! | R30 a newcomer is welcomed without its confirm | 389 |
//! | R31 a restore keeps the outbox / keeps the incomplete message / drops whole messages | 803 / 328 / 146 |
//! | R34 a close does not wait for acknowledgement | 222 |
//! | R35 an ending session resumes nobody | 528 |
//! | R36 no counts are sent before the end | 393 |
//! | R42 silence is not detected by the server / by the page | 872 / 304 |
//! | nothing is sent again after a resume, by the server / by the page | 867 / 787 |
//! | repeated frames are delivered | 440 |
//! | the end is reported twice | 73 |
//!
//! Violations that only a misbehaving peer can cause (gap, flood, false acknowledgement) are
//! covered by the machines' own tests.

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

/// Runs the machine that ships in the browser. Rust against Rust does not show that this pair
/// works.
fn simulate_with_typescript(seeds: Range<u64>) {
    let pool = NodePool::new();
    run("typescript", seeds, &mut |ticket, _| pool.open(ticket));
}

/// Runs the schedules of these seeds, or only the one in `STILLHERE_SEED`.
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

/// Prints how to reproduce a failure.
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
