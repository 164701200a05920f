//! The browser's half of the protocol exists in Rust and in TypeScript. These tests check that both
//! have tests of the same names, and that both agree with the code tables of PROTOCOL.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Names of tests that exist only in Rust, and why.
const RUST_ONLY: &[(&str, &str)] = &[
    (
        "a_server_may_send_times_of_any_length",
        "Instant overflows and panics; a JavaScript number does not",
    ),
    (
        "a_lane_holds_at_most_its_window_and_one_message",
        "the memory bound of a server's inbox, which runs the same code",
    ),
    (
        "the_timer_does_not_wait_for_a_blocked_transport",
        "a browser's transport takes every frame but bulk, so an acknowledgement never waits for it",
    ),
];

/// Names of tests that exist only in TypeScript, and why.
const TYPESCRIPT_ONLY: &[(&str, &str)] = &[
    (
        "an_offer_of_a_session_that_another_document_had_is_declined_if_this_page_must_not_take_it_over",
        "only a page can decline an offer, to ask for a session of its own",
    ),
    (
        "another_ticket_cannot_be_presented_after_the_welcome",
        "only a page replaces its ticket before the welcome",
    ),
    (
        "another_ticket_can_be_presented_before_the_welcome",
        "only a page replaces its ticket before the welcome",
    ),
    (
        "another_ticket_replaces_a_connection_that_was_not_welcomed",
        "only a page replaces its ticket before the welcome",
    ),
    (
        "messages_queued_for_a_ticket_with_other_limits_are_fragmented_again_at_fragment",
        "only a page replaces its ticket before the welcome",
    ),
    (
        "the_application_may_change_its_buffer_after_send",
        "in Rust a message owns its bytes",
    ),
    (
        "the_transport_may_ask_for_a_wait_that_waking_does_not_shorten",
        "only the browser's fallback transport has to wait",
    ),
    (
        "whatever_the_network_loses_every_message_arrives_once_and_in_order",
        "the Rust twin is the simulation in core/proto/tests/simulation",
    ),
];

/// Files of the Rust tests that concern documents. The others concern the server's half.
const RUST_FILES: [&str; 4] = [
    "document/connecting.rs",
    "document/time.rs",
    "document/end.rs",
    "data.rs",
];

fn core(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(core(path)).unwrap_or_else(|error| panic!("cannot read core/{path}: {error}"))
}

/// Returns the names of the functions that directly follow `#[test]`.
fn rust_sentences() -> BTreeSet<String> {
    let mut sentences = BTreeSet::new();
    for file in RUST_FILES {
        for test in read(&format!("proto/src/machine/tests/{file}"))
            .split("#[test]")
            .skip(1)
        {
            let (_, name) = test.split_once("fn ").expect("a function follows #[test]");
            let (name, _) = name.split_once('(').expect("a function has parentheses");
            sentences.insert(name.to_owned());
        }
    }
    sentences
}

/// Returns the names given to `test('...')`, spelled as Rust names.
fn typescript_sentences() -> BTreeSet<String> {
    let mut sentences = BTreeSet::new();
    for entry in fs::read_dir(core("client/test")).expect("the client has tests") {
        let file = entry.expect("the folder can be read").file_name();
        let file = file.to_str().expect("the name is UTF-8");
        if !file.starts_with("machine_") || !file.ends_with(".test.ts") {
            continue;
        }
        for line in read(&format!("client/test/{file}")).lines() {
            let Some(call) = line.trim_start().strip_prefix("test(") else {
                continue;
            };
            let quote = call.chars().next().expect("a test has a name on its first line");
            let name = call.split(quote).nth(1).expect("the name ends on its line");
            sentences.insert(as_rust_name(name));
        }
    }
    sentences
}

fn as_rust_name(sentence: &str) -> String {
    let words = sentence.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").to_lowercase()
}

/// Returns one complaint for each sentence of `mine` that `theirs` lacks without being listed, and
/// for each listed sentence that is no longer true.
fn complaints(side: &str, mine: &BTreeSet<String>, theirs: &BTreeSet<String>, listed: &[(&str, &str)]) -> Vec<String> {
    let is_listed = |name: &str| listed.iter().any(|(sentence, _)| *sentence == name);
    let missing = mine.difference(theirs).filter(|name| !is_listed(name));
    let missing = missing.map(|name| format!("only {side} tests: {name}"));
    let stale = listed.iter().filter_map(|(name, _)| {
        let is_true = mine.contains(*name) && !theirs.contains(*name);
        (!is_true).then(|| format!("listed as {side} only, but is not: {name}"))
    });
    missing.chain(stale).collect()
}

#[test]
fn the_document_machine_has_the_same_tests_in_rust_and_typescript() {
    let (rust, typescript) = (rust_sentences(), typescript_sentences());
    let shared = rust.intersection(&typescript).count();
    assert!(shared > 100, "only {shared} sentences were found on both sides");
    let mut complaints = complaints("Rust", &rust, &typescript, RUST_ONLY);
    complaints.extend(self::complaints("TypeScript", &typescript, &rust, TYPESCRIPT_ONLY));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

type Table = BTreeMap<String, u64>;

/// Returns the lines from the one that contains `start` to the next that is `end`.
fn section<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    assert!(text.contains(start), "`{start}` is missing");
    let lines = text.lines().skip_while(move |line| !line.contains(start)).skip(1);
    lines.take_while(move |line| line.trim() != end).collect()
}

/// Reads lines of the form `Name <separator> number,`. A line without a number counts on from the
/// line before, as in TypeScript.
fn variants(lines: &[&str], separator: &str) -> Table {
    let mut table = Table::new();
    let mut next = 0;
    for line in lines {
        let line = line.trim();
        let Some(line) = line.strip_suffix(',').filter(|_| !line.starts_with("//")) else {
            continue;
        };
        let (name, number) = line.split_once(separator).unwrap_or((line, ""));
        let number = number.trim().parse().unwrap_or(next);
        let name = name.trim().trim_start_matches("Self::").trim_end_matches("(_)");
        table.insert(name.to_owned(), number);
        next = number + 1;
    }
    table
}

/// Reads the first two columns of a Markdown table: number and name.
fn rows(text: &str, heading: &str) -> Table {
    let mut table = Table::new();
    for line in &section(text, heading, "")[1..] {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        let (number, name) = (cells.next(), cells.next());
        let number = number
            .and_then(|number| number.parse().ok())
            .expect("a number comes first");
        table.insert(name.expect("a name comes second").to_owned(), number);
    }
    table
}

#[test]
fn the_close_codes_of_rust_typescript_and_the_protocol_are_the_same() {
    let rust = variants(&section(&read("proto/src/code.rs"), "pub enum Code {", "}"), "=");
    let typescript = variants(&section(&read("client/src/codes.ts"), "export enum Code {", "}"), "=");
    let protocol = rows(&read("PROTOCOL.md"), "| code | name |");
    assert!(rust.len() > 10, "{rust:?}");
    assert_eq!(
        rust, typescript,
        "core/proto/src/code.rs and core/client/src/codes.ts differ"
    );
    assert_eq!(rust, protocol, "core/proto/src/code.rs and core/PROTOCOL.md differ");
}

#[test]
fn the_end_reasons_of_rust_typescript_and_the_protocol_are_the_same() {
    let code = read("proto/src/code.rs");
    let number = section(&code, "pub const fn number(&self)", "}");
    let rust = variants(&number[1..], "=>");
    let mut typescript = variants(&section(&read("client/src/codes.ts"), "export enum Reason {", "}"), "=");
    let mut protocol = rows(&read("PROTOCOL.md"), "| reason | name |");
    // Zero stands for no reason, which Rust has no variant for.
    assert_eq!(
        (typescript.remove("None"), protocol.remove("(none)")),
        (Some(0), Some(0))
    );
    assert!(rust.len() > 10, "{rust:?}");
    assert_eq!(
        rust, typescript,
        "core/proto/src/code.rs and core/client/src/codes.ts differ"
    );
    assert_eq!(rust, protocol, "core/proto/src/code.rs and core/PROTOCOL.md differ");
}
