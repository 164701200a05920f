//! Measures what durability costs: the server's CPU time for each message and each connection, and
//! its memory for each page, on each framework, compared with the framework's own WebSockets and
//! with socketioxide.
//!
//!     cargo bench -p stillhere-benches                  # everything, about ten minutes
//!     cargo bench -p stillhere-benches -- --quick       # fewer messages and pages, one repeat
//!     cargo bench -p stillhere-benches -- axum          # servers that have this in their names
//!     cargo bench -p stillhere-benches -- messages      # without the memory
//!     cargo bench -p stillhere-benches -- memory        # without the messages
//!     cargo bench -p stillhere-benches -- set-up        # rows that have this in their names
//!     cargo bench -p stillhere-benches -- chart FROM.json TO.svg
//!     cargo bench -p stillhere-benches -- million       # or resume, stalled, transfer: see `scale`
//!
//! A run prints a table, and writes `target/figures.json` and the chart `target/figures.svg`.
//! `chart` draws the chart again from such a file.
//!
//! Each server is a process of its own on core 0, and the load runs on core 1 (if `taskset` is
//! installed). Each server has one thread that serves, and actix-web a second one, the runtime of
//! the hub. CPU time is the server's user and system time from `/proc`, and memory its resident
//! set. The servers take turns, and a figure is the median of its repeats. The load checks all that
//! it receives: each byte, and with sessions each sequence and each credit.
//!
//! Compare only figures of one run, on a machine that does nothing else.

mod chart;
mod client;
mod load;
mod process;
mod report;
mod scale;
mod servers;

use std::path::{Path, PathBuf};

use load::Load;
use report::{Report, Row};

/// The servers; the first is the one that others are compared with. `4 KiB` is a read buffer of
/// that size, as ours has, and `batch` a loop by hand that reads and writes all that is ready
/// before it flushes.
const SERVERS: [&str; 9] = [
    "axum",
    "axum 4 KiB",
    "axum 4 KiB + batch",
    "actix-ws",
    "warp",
    "socketioxide",
    "stillhere axum",
    "stillhere actix",
    "stillhere warp",
];

const REPEATS: usize = 3;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if let [Ok(kind), Ok(role)] = process::SERVER.map(std::env::var) {
        let role = role.parse().expect("a role");
        return runtime.block_on(servers::serve(&kind, role));
    }
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let ["chart", from, to] = arguments[..] {
        let report = std::fs::read_to_string(in_workspace(from)).expect("the file can be read");
        let report = serde_json::from_str(&report).expect("the file is one that a run has written");
        return write(to, &chart::draw(&report));
    }
    let scale = if arguments.contains(&"--quick") { 10 } else { 1 };
    if let [name, ..] = arguments[..]
        && runtime.block_on(scale::measure(name, scale))
    {
        return;
    }
    let report = runtime.block_on(measure(&arguments, scale));
    println!("{}", report.table());
    let report = report.json();
    write("target/figures.json", &format!("{report:#}\n"));
    write("target/figures.svg", &chart::draw(&report));
}

async fn measure(arguments: &[&str], scale: usize) -> Report {
    let has = |argument| arguments.contains(&argument);
    let is_named = |name: &str, names: &[&str]| names.is_empty() || names.iter().any(|part| name.contains(part));
    let (of_servers, others): (Vec<_>, Vec<_>) = arguments
        .iter()
        .partition(|argument| SERVERS.iter().any(|kind| kind.contains(*argument)));
    let mut servers: Vec<_> = SERVERS.into_iter().filter(|kind| is_named(kind, &of_servers)).collect();
    if servers[0] != SERVERS[0] {
        servers.insert(0, SERVERS[0]);
    }
    let repeats = if has("--quick") { 1 } else { REPEATS };
    let mut rows = others;
    rows.retain(|argument| !["--quick", "messages", "memory"].contains(argument));
    let loads = Load::all(scale).into_iter();
    let loads = loads.filter(|load| {
        let is_left_out = has(if load.is_memory() { "messages" } else { "memory" });
        !is_left_out && is_named(&load.name(), &rows)
    });
    let mut report = Report::new(&servers, repeats);
    for load in loads {
        eprintln!("{}", load.name());
        report.rows.push(measure_row(load, &servers, repeats).await);
    }
    report
}

/// Measures a load on each server, one after another, and then all of them again. The memory for a
/// page is the same each time, so once is enough.
async fn measure_row(load: Load, servers: &[&str], repeats: usize) -> Row {
    let repeats = if load.is_memory() { 1 } else { repeats };
    let mut figures = vec![Vec::new(); servers.len()];
    for _ in 0..repeats {
        for (kind, figures) in servers.iter().zip(&mut figures) {
            if load.suits(kind) {
                figures.push(load.measure(kind).await);
            }
        }
    }
    Row {
        name: load.name(),
        is_memory: load.is_memory(),
        figures,
    }
}

/// Returns the path, which is relative to the workspace: cargo runs benches in their package.
fn in_workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn write(to: &str, text: &str) {
    let path = in_workspace(to);
    std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder can be created");
    std::fs::write(path, text).expect("the file can be written");
    eprintln!("wrote {to}");
}
