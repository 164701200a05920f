//! Examples can be copied out: their manifests name versions, which are the workspace's, and with
//! `--long` each is copied out of the repository and compiled there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PACKAGES: [&str; 11] = [
    "classics",
    "drawing-board",
    "drop-in",
    "first/actix",
    "first/axum",
    "first/warp",
    "job-runner",
    "live-plot",
    "own-server",
    "recipes",
    "restarts",
];

fn workspace() -> &'static Path {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    examples.parent().expect("the examples are in the workspace")
}

fn manifest(package: &str) -> String {
    let path = workspace().join("examples").join(package).join("Cargo.toml");
    fs::read_to_string(path).expect("the example is a package")
}

/// Returns the name and the version of each dependency in a manifest.
fn versions(manifest: &str) -> Vec<(&str, &str)> {
    let versions = manifest.lines().filter_map(|line| {
        let (name, value) = line.split_once(" = ")?;
        let (_, version) = value.split_once('"')?;
        let is_version = value.starts_with('"') || value.starts_with("{ version");
        is_version.then_some((name, version.split_once('"')?.0))
    });
    versions.collect()
}

#[test]
fn the_versions_in_each_manifest_are_those_of_the_workspace() {
    let all = fs::read_to_string(workspace().join("Cargo.toml")).expect("the workspace has a manifest");
    let known: Vec<_> = [("edition", "2024")].into_iter().chain(versions(&all)).collect();
    for package in PACKAGES {
        let manifest = manifest(package);
        let (_, dependencies) = manifest.split_once("[dependencies]").expect("it has dependencies");
        let versions = versions(dependencies);
        assert!(versions.len() > 2, "{package}: no versions were found");
        for (name, version) in versions {
            let is_own = name.starts_with("stillhere") && version == env!("CARGO_PKG_VERSION");
            assert!(
                is_own || known.contains(&(name, version)),
                "examples/{package}/Cargo.toml: {name} {version} is not the workspace's version"
            );
        }
    }
}

/// Applies the instructions in the manifest's comment. The paths stay, because the crates are not
/// published, but become absolute.
fn copied_out(manifest: &str, from: &Path) -> String {
    let is_kept = |section: &&str| !section.starts_with("dev-dependencies]") && !section.starts_with("lints]");
    let kept: Vec<_> = manifest.split("\n[").filter(is_kept).collect();
    let kept = kept.join("\n[");
    let lines = kept.lines().map(|line| match line.split_once("path = \"..") {
        Some((before, path)) => format!("{before}path = \"{}/..{path}\n", from.display()),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().expect("entries have names");
        match name.to_str() {
            Some("tests" | "node_modules") => {}
            _ if path.is_dir() => copy(&path, &to.join(name)),
            _ => drop(fs::copy(&path, to.join(name)).expect("a file can be copied")),
        }
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_example_compiles_outside_the_repository() {
    if env::var_os("STILLHERE_LONG").is_none() {
        eprintln!("runs with --long");
        return;
    }
    let outside = Folder(env::temp_dir().join(format!("stillhere-packages-{}", std::process::id())));
    for package in PACKAGES {
        let from = workspace().join("examples").join(package);
        let to = outside.0.join(package);
        copy(&from, &to);
        fs::copy(workspace().join("Cargo.lock"), to.join("Cargo.lock")).expect("a file can be copied");
        fs::write(to.join("Cargo.toml"), copied_out(&manifest(package), &from)).expect("a file can be written");
        let checked = Command::new(env!("CARGO"))
            .args(["check", "--quiet", "--bins"])
            .current_dir(&to)
            .env("CARGO_TARGET_DIR", outside.0.join("target"))
            .status();
        assert!(checked.expect("cargo starts").success(), "{package} does not compile");
    }
}
