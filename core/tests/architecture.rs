//! Checks that the links of all Markdown files lead somewhere, and that the tests that they name
//! exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Prefix of links in pages that are also shown outside the repository.
const ONLINE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

/// Returns the workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Adds the Markdown files in and below a folder that belong to the repository.
fn find_documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy();
        let is_foreign = name.starts_with('.') || ["target", "node_modules"].contains(&&*name);
        if path.is_dir() && !is_foreign {
            find_documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Returns the document without its fenced blocks of code.
fn prose(document: &str) -> String {
    let outside = document.split("```").step_by(2);
    outside.collect::<Vec<_>>().join("\n")
}

/// Returns text and target of each link to a file of the repository or to a section. A target with
/// `::` is a Rust item, which rustdoc checks.
fn links(document: &str) -> impl Iterator<Item = (&str, &str)> {
    let targets = document.split("](").skip(1);
    document.split("](").zip(targets).filter_map(|(before, after)| {
        let text = before.rsplit('[').next()?;
        let target = after.split(')').next()?;
        let is_ours = target.starts_with(ONLINE) || !target.contains("::") && !target.contains("://");
        is_ours.then_some((text, target))
    })
}

/// Returns the anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

fn has_section(document: &str, wanted: &str) -> bool {
    let headings = prose(document);
    let mut headings = headings.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == wanted)
}

/// Checks the links of a document, and returns how many tests it names.
fn check(document: &Path) -> usize {
    let folder = document.parent().expect("a file is in a folder");
    let name = document.display();
    let text = fs::read_to_string(document).expect("documents are text");
    let mut named = 0;
    for (label, target) in links(&prose(&text)) {
        let (path, section) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() {
            document.to_owned()
        } else {
            path.strip_prefix(ONLINE)
                .map_or_else(|| folder.join(path), |path| root().join(path))
        };
        assert!(path.exists(), "{name}: {label} leads to {target}, which does not exist");
        if !section.is_empty() {
            let linked = fs::read_to_string(&path).expect("only documents have sections");
            assert!(has_section(&linked, section), "{name}: there is no section {target}");
        }
        let label = label.trim_matches('`');
        // A label that is a sentence is the name of a test.
        if label.matches('_').count() > 2 {
            let source = fs::read_to_string(path).expect("a test is in a file");
            let is_there = ['(', '<']
                .iter()
                .any(|next| source.contains(&format!("fn {label}{next}")));
            assert!(is_there, "{name}: {label} is not in {target}");
            named += 1;
        }
    }
    named
}

#[test]
fn every_link_of_every_document_leads_somewhere_and_the_tests_it_names_exist() {
    let mut documents = Vec::new();
    find_documents(&root(), &mut documents);
    assert!(documents.len() > 20, "only {} documents were found", documents.len());
    for document in documents {
        check(&document);
    }
    for document in ["SECURITY.md", "docs/bonito.md"] {
        let named = check(&root().join(document));
        assert!(named > 10, "{document} names {named} tests");
    }
}

#[test]
fn the_guide_lists_every_page_of_its_folder() {
    let folder = root().join("docs");
    let guide = fs::read_to_string(folder.join("README.md")).expect("there is a guide");
    let mut pages = Vec::new();
    find_documents(&folder, &mut pages);
    for page in pages {
        let name = page.file_name().expect("a page has a name").to_string_lossy();
        let is_listed = name == "README.md" || guide.contains(&format!("]({name})"));
        assert!(is_listed, "docs/README.md does not list {name}");
    }
}
