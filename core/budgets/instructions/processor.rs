//! The processor time of a load, which depends on what is in the caches, as instructions do not.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::valgrind::ASSIGNMENT;

/// Rounds of which the time is taken.
const ROUNDS: usize = 100;

/// Runs of each load. The fastest counts.
const RUNS: usize = 3;

/// Returns the processor time of each of two loads, for one message of so many in a round. What
/// happens once, before and after the rounds, takes as long in a run with twice as many.
pub(crate) fn times(loads: [&str; 2], messages: usize) -> [Duration; 2] {
    let mut fastest = [[u32::MAX; 2]; 2];
    for _ in 0..RUNS {
        for (load, fastest) in loads.iter().zip(&mut fastest) {
            for (rounds, fastest) in [ROUNDS, 2 * ROUNDS].into_iter().zip(fastest) {
                *fastest = run(load, rounds).min(*fastest);
            }
        }
    }
    fastest.map(|[once, twice]| TICK * (twice - once) / (ROUNDS * messages) as u32)
}

/// Runs a load, and returns its processor time in ticks.
fn run(load: &str, rounds: usize) -> u32 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .envs(ASSIGNMENT.into_iter().zip([load, &rounds.to_string()]))
        .output()
        .expect("this program can be started");
    assert!(output.status.success(), "{load} failed");
    let ticks = String::from_utf8_lossy(&output.stdout).trim().parse();
    ticks.expect("a load prints its ticks")
}

/// Returns the processor time of this process so far.
pub(crate) fn ticks() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    // Fields 14 and 15 of proc_pid_stat(5): in user mode, and in the kernel.
    let times = fields.split(' ').skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u32>().ok()).sum()
}

/// Unit of the times in /proc, on every Linux that Rust supports.
const TICK: Duration = Duration::from_millis(10);
