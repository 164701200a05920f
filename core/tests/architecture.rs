//! What the documents point to is there.

use std::fs;
use std::path::Path;

/// Text and target of every link to a file of the repository; in code, links lead to items.
fn links(document: &str) -> impl Iterator<Item = (&str, &str)> {
    document
        .split("](")
        .zip(document.split("](").skip(1))
        .filter_map(|(before, after)| {
            let text = before.rsplit('[').next()?;
            let target = after.split([')', '#']).next()?;
            (!target.is_empty() && !target.contains("::") && !target.contains("://")).then_some((text, target))
        })
}

/// How many tests the document names, all of which are there.
fn check(name: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = root.join(name);
    let folder = document.parent().expect("it is in a folder");
    let document = fs::read_to_string(&document).expect("the document is there");
    let mut named = 0;
    for (text, target) in links(&document) {
        let path = folder.join(target);
        assert!(path.exists(), "{text} leads to {target}, which is not there");
        let name = text.trim_matches('`');
        // A sentence is the name of a test.
        if name.matches('_').count() > 2 {
            let file = fs::read_to_string(path).expect("it is a file");
            let is_there = ['(', '<'].iter().any(|next| file.contains(&format!("fn {name}{next}")));
            assert!(is_there, "{name} is not in {target}");
            named += 1;
        }
    }
    named
}

#[test]
fn every_link_leads_to_a_file_and_every_test_that_is_named_stands_in_it() {
    for document in ["ARCHITECTURE.md", "SECURITY.md"] {
        let named = check(document);
        assert!(named > 10, "{document} names {named} tests");
    }
    check("core/WRITING-AN-ADAPTER.md");
}
