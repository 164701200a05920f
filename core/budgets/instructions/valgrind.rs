//! Runs a load of this program under valgrind.

use std::process::Command;

use crate::load::Load;

/// Name of the load that a process shall run, and the number of its rounds.
pub(crate) const ASSIGNMENT: [&str; 2] = ["INSTRUCTIONS_LOAD", "INSTRUCTIONS_ROUNDS"];

/// Returns what this process shall run, if it was started to be counted.
pub(crate) fn assignment() -> Option<(String, usize)> {
    let [Ok(load), Ok(rounds)] = ASSIGNMENT.map(std::env::var) else {
        return None;
    };
    Some((load, rounds.parse().expect("a number of rounds")))
}

/// Returns how many instructions one message costs. What happens once, before and after the rounds,
/// costs the same in a run with twice as many rounds.
pub(crate) fn count(load: &Load) -> u64 {
    let of_rounds = |rounds| instructions(load.name, rounds);
    let more = of_rounds(2 * load.rounds) - of_rounds(load.rounds);
    more / (load.rounds * load.messages) as u64
}

fn instructions(load: &str, rounds: usize) -> u64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .envs(ASSIGNMENT.into_iter().zip([load, &rounds.to_string()]))
        .output()
        .expect("valgrind is installed");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{load} failed:\n{report}");
    let line = report.lines().find(|line| line.contains("refs:"));
    let count = line.and_then(|line| line.split("refs:").nth(1));
    let count = count.map(|count| count.trim().replace(',', ""));
    count
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("valgrind counts no instructions:\n{report}"))
}
