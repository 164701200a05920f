//! The layers that ARCHITECTURE.md lists: each file imports only from the layers above it. The `crate::` paths are the
//! dependency graph.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the layers of a crate that ARCHITECTURE.md lists, from the first, which imports from no
/// other, to the last. Files of one layer may import each other.
fn layers(of: &str) -> Vec<Vec<String>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let document = fs::read_to_string(document).expect("the document is there");
    let (_, list) = document
        .split_once(&format!("\n    {of}:\n"))
        .expect("the document lists the crate's layers");
    let rows = list.lines().map_while(|line| line.strip_prefix("    "));
    // A row that is indented further continues a description.
    rows.filter(|row| !row.starts_with([' ', '(']))
        .map(|row| {
            let names = row.split("  ").next().unwrap_or_default();
            names
                .split(", ")
                .map(|name| name.trim_end_matches('/').to_owned())
                .collect()
        })
        .collect()
}

/// Values and decisions of the core: without a runtime.
const PURE: [&str; 3] = ["request", "cleanup", "gate"];

struct Module {
    name: String,
    source: String,
}

/// The modules of this crate.
fn modules() -> Vec<Module> {
    modules_of("src")
}

/// All modules in a folder but the crate's root; a folder is one module.
fn modules_of(folder: &str) -> Vec<Module> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
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

fn layer(layers: &[Vec<String>], module: &str) -> usize {
    layers
        .iter()
        .position(|layer| layer.iter().any(|name| name == module))
        .unwrap_or_else(|| panic!("{module} is in no layer of ARCHITECTURE.md: give it one"))
}

#[test]
fn every_module_names_only_modules_of_its_own_layer_and_above() {
    let modules = modules();
    assert!(modules.len() > 15, "the sources were not found");
    check(&layers("stillhere"), &modules);
    check(&layers("stillhere-proto"), &modules_of("proto/src"));
}

fn check(layers: &[Vec<String>], modules: &[Module]) {
    for Module { name, source } in modules {
        for other in named(source) {
            assert!(
                !other.is_empty(),
                "{name}: import each module by a path of its own, not `crate::{{..}}`"
            );
            assert!(
                layer(layers, other) <= layer(layers, name),
                "{name} (layer {}) names {other} (layer {})",
                layer(layers, name),
                layer(layers, other)
            );
        }
    }
}

#[test]
fn every_layer_is_inhabited() {
    let modules: Vec<Module> = modules().into_iter().chain(modules_of("proto/src")).collect();
    for name in layers("stillhere").iter().chain(&layers("stillhere-proto")).flatten() {
        assert!(
            modules.iter().any(|module| module.name == *name),
            "{name} is gone: take it off the list in ARCHITECTURE.md"
        );
    }
}

#[test]
fn the_pure_layers_know_no_runtime_and_no_clock() {
    let of_the_core = modules()
        .into_iter()
        .filter(|module| PURE.contains(&module.name.as_str()));
    for Module { name, source } in of_the_core.chain(modules_of("proto/src")) {
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

#[test]
fn nobody_below_the_connection_loop_runs_it() {
    for Module { name, source } in modules() {
        assert!(
            ["connection_loop", "fallback", "upgrade"].contains(&name.as_str())
                || !source.contains("run_connection_loop("),
            "{name}"
        );
    }
}
