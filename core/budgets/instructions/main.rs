//! Counts the instructions of each load with valgrind, which do not depend on how busy the machine
//! is. Fails if a load costs over 3 % more than `recorded.json` says, or a sweep over 10 %. Fails
//! also if JSON costs over 1.3 times as much with `stillhere-app` as by hand, or a room over 1.05
//! times as much as a broadcast of bytes.
//!
//!     cargo bench -p stillhere-budgets              # compares
//!     cargo bench -p stillhere-budgets -- record    # records what it costs now
//!
//! With `STILLHERE_LONG` set, it also counts a room of 5,000 pages against a broadcast to as many,
//! and compares their processor time, which instructions do not show.
//!
//! Another compiler emits other instructions, so counts are compared only with those of the same
//! one. After a change of the compiler, record again.

mod end;
mod json;
mod load;
mod page;
mod processor;
mod valgrind;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use load::{LARGE_LOADS, LOADS};
use serde_json::{Value, json};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions/recorded.json");

/// Most that a load may cost, relative to what is recorded.
const BUDGET: f64 = 1.03;

/// The same for a sweep. Its tables grow and shrink by random ids, so that its counts differ by
/// about 10 %.
const BUDGET_OF_SWEEP: f64 = 1.1;

/// Most that a load may cost, relative to another one.
const RATIOS: [(&str, &str, f64); 3] = [
    (json::WITH_APP, json::BY_HAND, 1.3),
    (load::ROOM, load::BROADCAST, 1.05),
    (load::LARGE_ROOM, load::LARGE_BROADCAST, 1.05),
];

fn main() -> ExitCode {
    if let Some((load, rounds)) = valgrind::assignment() {
        load::run(&load, rounds);
    }
    let compiler = compiler();
    let is_long = std::env::var_os("STILLHERE_LONG").is_some();
    let loads = LOADS.iter().chain(LARGE_LOADS.iter().filter(|_| is_long));
    let counts: BTreeMap<_, _> = loads.map(|load| (load.name, valgrind::count(load))).collect();
    if is_long {
        print_times();
    }
    let recorded = std::fs::read_to_string(Path::new(RECORDED)).expect("counts are recorded");
    let mut recorded: Value = serde_json::from_str(&recorded).expect("what is recorded is JSON");
    if std::env::args().any(|argument| argument == "record") {
        recorded["compiler"] = compiler.into();
        // What was not counted now stays.
        for (name, count) in &counts {
            recorded["instructions"][name] = json!(count);
        }
        std::fs::write(RECORDED, format!("{recorded:#}\n")).expect("the package's folder can be written to");
        println!("recorded {counts:?}");
        return ExitCode::SUCCESS;
    }
    compare(&counts, &recorded["instructions"]);
    if recorded["compiler"] != compiler.as_str() {
        println!(
            "not compared: recorded with {}, and this is {compiler}",
            recorded["compiler"]
        );
        return ExitCode::SUCCESS;
    }
    let recorded = &recorded["instructions"];
    let is_within = counts
        .iter()
        .all(|(name, count)| is_within(name, *count, &recorded[name]));
    if are_ratios_within(&counts) && is_within {
        return ExitCode::SUCCESS;
    }
    println!("Over budget. If the change is worth it: cargo bench -p stillhere-budgets -- record");
    ExitCode::FAILURE
}

/// Prints the processor time of an event of a large room for each page, and of a broadcast.
fn print_times() {
    let [room, broadcast] = processor::times([load::LARGE_ROOM, load::LARGE_BROADCAST], load::MANY_PAGES);
    let ratio = room.as_secs_f64() / broadcast.as_secs_f64();
    println!("processor time for each page: {room:?} in a room, {broadcast:?} in a broadcast: {ratio:.3} times");
}

fn is_within(name: &str, count: u64, recorded: &Value) -> bool {
    let budget = if name.starts_with("sweep") {
        BUDGET_OF_SWEEP
    } else {
        BUDGET
    };
    recorded
        .as_f64()
        .is_some_and(|recorded| count as f64 <= recorded * budget)
}

fn are_ratios_within(counts: &BTreeMap<&str, u64>) -> bool {
    let counted = RATIOS.iter().filter(|(name, ..)| counts.contains_key(name));
    counted.fold(true, |is_within, (name, other, most)| {
        let ratio = counts[name] as f64 / counts[other] as f64;
        println!("{name}: {ratio:.3} times as much as {other}, of at most {most}");
        is_within && ratio <= *most
    })
}

fn compare(counts: &BTreeMap<&str, u64>, recorded: &Value) {
    println!("instructions for each message or session:\n");
    for (name, count) in counts {
        let before = recorded[name].as_f64().unwrap_or(f64::NAN);
        let change = (*count as f64 / before - 1.0) * 100.0;
        println!("{name:40} {count:>8}   recorded {before:>8}   {change:+.1} %");
    }
    println!();
}

/// Returns the compiler's version and the processor that it compiles for.
fn compiler() -> String {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc is installed");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let field = |name| {
        version
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
    };
    format!(
        "{}for {}",
        field("release:").trim_start().to_owned() + " ",
        field("host:").trim_start()
    )
}
