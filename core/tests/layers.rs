//! Checks that each file imports only from the layers above its own, as ARCHITECTURE.md lists them.
//! The `crate::` paths are the dependency graph; `cargo run -p stillhere --example imports` prints
//! it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[path = "../examples/imports/graph.rs"]
mod graph;

use graph::{Graph, read_files};

/// Values and decisions of the core, which need no runtime and no clock.
const PURE: [&str; 3] = ["request", "cleanup", "gate"];

/// Returns the layers of a package that ARCHITECTURE.md lists. The first imports from no other.
fn layers(package: &str) -> Vec<Vec<String>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let document = fs::read_to_string(document).expect("the document is there");
    let (_, list) = document
        .split_once(&format!("\n    {package}:\n"))
        .unwrap_or_else(|| panic!("ARCHITECTURE.md lists no layers of {package}"));
    let rows = list.lines().map_while(|line| line.strip_prefix("    "));
    let mut layers: Vec<Vec<String>> = Vec::new();
    let mut goes_on = false;
    // A row that is indented further continues a description.
    for row in rows.filter(|row| !row.starts_with([' ', '('])) {
        let names = row.split("  ").next().unwrap_or_default();
        let parts = names.split(',').map(|name| name.trim().trim_end_matches('/'));
        let parts = parts.filter(|name| !name.is_empty()).map(str::to_owned);
        match layers.last_mut().filter(|_| goes_on) {
            Some(layer) => layer.extend(parts),
            None => layers.push(parts.collect()),
        }
        goes_on = names.ends_with(',');
    }
    layers
}

fn layer(layers: &[Vec<String>], module: &str) -> usize {
    layers
        .iter()
        .position(|layer| layer.iter().any(|name| name == module))
        .unwrap_or_else(|| panic!("{module} is in no layer of ARCHITECTURE.md: give it one"))
}

#[test]
fn every_module_imports_only_from_the_layers_above_its_own() {
    let crates = Graph::of_the_core();
    assert_eq!(crates.len(), 3, "the sources were not found");
    for graph in crates.iter().map(Graph::by_module) {
        let layers = layers(&graph.package);
        for (module, imported) in &graph.imports {
            for other in imported {
                let (own, others) = (layer(&layers, module), layer(&layers, other));
                assert!(
                    others < own,
                    "{}: {module} (layer {own}) imports {other} (layer {others})",
                    graph.package
                );
            }
        }
    }
}

#[test]
fn the_layers_list_every_module_once_and_no_other() {
    for graph in Graph::of_the_core().iter().map(Graph::by_module) {
        let mut listed: Vec<_> = layers(&graph.package).into_iter().flatten().collect();
        listed.sort();
        let modules: Vec<_> = graph.imports.into_keys().collect();
        assert_eq!(listed, modules, "{} in ARCHITECTURE.md, and its modules", graph.package);
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for graph in Graph::of_the_core().iter().map(Graph::by_file) {
        assert!(graph.levels().is_ok(), "{graph}");
    }
}

#[test]
fn a_circle_is_found_through_re_exports_and_lists() {
    let files = [
        (
            "a",
            "mod b;\nmod c;\n\npub(crate) use b::{Deep, Other};\n\nfn f() -> c::C {}\n",
        ),
        ("a/b", "use crate::d::{self, x::Y};\n"),
        ("a/c", "use crate::a::f;\n"),
        ("d", "use crate::e;\n"),
        ("e", "use crate::a::{Deep, f};\n"),
    ];
    let files: BTreeMap<_, _> = files.map(|(name, code)| (name.to_owned(), code.to_owned())).into();
    let graph = Graph::new("package", &files);
    assert_eq!(graph.levels(), Err(vec!["a/b", "d", "e"]));
    assert!(graph.to_string().contains("circle a/b -> d -> e ->"));
    let imports: Vec<_> = graph.imports["e"].iter().collect();
    assert_eq!(imports, ["a", "a/b"]);
    assert_eq!(graph.imports["a"].iter().collect::<Vec<_>>(), ["a/c"]);
}

#[test]
fn the_pure_layers_know_no_runtime_and_no_clock() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_pure = |file: &str| PURE.contains(&file.split('/').next().unwrap_or_default());
    let of_the_core = read_files(&core.join("src"));
    let of_the_core = of_the_core.into_iter().filter(|(name, _)| is_pure(name));
    for (name, code) in of_the_core.chain(read_files(&core.join("proto/src"))) {
        for word in [
            "tokio",
            "Instant::now",
            "SystemTime",
            "crate::clock",
            "thread::",
            "spawn",
        ] {
            assert!(!code.contains(word), "{name} names {word}");
        }
    }
}

#[test]
fn nobody_below_the_connection_loop_runs_it() {
    for (name, code) in read_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let may_run = ["connection_loop", "fallback", "upgrade"].contains(&&*name);
        assert!(may_run || !code.contains("run_connection_loop("), "{name}");
    }
}
