//! The layers of DESIGN section 3: each file names only what lies above it. `crate::` is the dependency graph.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// From the first, which knows nobody, to the last. Files of one layer may know each other.
const LAYERS: [&[&str]; 11] = [
    &["answer", "base_url", "clock", "code", "id", "seldom", "stop"],
    &["limits", "message", "origin", "peer", "request"],
    &["wire"],
    &["machine"],
    &[
        "asks",
        "cleanup",
        "client",
        "compression",
        "guard",
        "memory",
        "options",
        "ticket",
    ],
    &["gate", "script_tag"],
    &["kind", "session"],
    &["arrival", "drain", "exchange", "hub", "sweeper"],
    &["connection", "plain"],
    &["fallback", "pair", "redact", "websocket"],
    &["upgrade"],
];

/// Values, bytes, decisions: without a runtime.
const PURE: [&str; 9] = [
    "code", "id", "limits", "message", "request", "wire", "machine", "cleanup", "gate",
];

struct Module {
    name: String,
    source: String,
}

/// All modules but the crate's root; a folder is one module.
fn modules() -> Vec<Module> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Vec::new();
    for entry in fs::read_dir(source).expect("the sources are here") {
        let path = entry.expect("the sources are here").path();
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("names are UTF-8")
            .to_owned();
        if name != "lib" {
            modules.push(Module {
                name,
                source: read(&path),
            });
        }
    }
    modules
}

/// What a file or a folder holds, without comments and tests.
fn read(path: &Path) -> String {
    if path.ends_with("tests") {
        return String::new();
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("the sources are here");
        return entries
            .map(|entry| read(&entry.expect("the sources are here").path()))
            .collect();
    }
    let text = fs::read_to_string(path).expect("the sources are text");
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The modules that `crate::` paths name.
fn named(source: &str) -> BTreeSet<&str> {
    let names = source.split("crate::").skip(1);
    names
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default()
        })
        .collect()
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} is in no layer: give it one"))
}

#[test]
fn every_module_names_only_modules_of_its_own_layer_and_above() {
    let modules = modules();
    assert!(modules.len() > 15, "the sources were not found");
    for Module { name, source } in &modules {
        for other in named(source) {
            assert!(
                !other.is_empty(),
                "{name}: import each module by a path of its own, not `crate::{{..}}`"
            );
            assert!(
                layer(other) <= layer(name),
                "{name} (layer {}) names {other} (layer {})",
                layer(name),
                layer(other)
            );
        }
    }
}

#[test]
fn every_layer_is_inhabited() {
    let modules = modules();
    for name in LAYERS.iter().flat_map(|layer| layer.iter()) {
        assert!(
            modules.iter().any(|module| module.name == *name),
            "{name} is gone: take it off the list"
        );
    }
}

#[test]
fn the_pure_layers_know_no_runtime_and_no_clock() {
    for Module { name, source } in modules() {
        if PURE.contains(&name.as_str()) {
            for word in [
                "tokio",
                "Instant::now",
                "SystemTime",
                "crate::clock",
                "thread::",
                "spawn",
            ] {
                assert!(!source.contains(word), "{name} names {word}");
            }
        }
    }
}

#[test]
fn nobody_below_the_connection_layer_knows_the_connection() {
    for Module { name, source } in modules() {
        assert!(
            ["connection", "fallback", "upgrade"].contains(&name.as_str()) || !source.contains("run_connection_loop("),
            "{name}"
        );
    }
}
