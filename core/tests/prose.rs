//! Checks that prose wraps at 100 columns, in Markdown and in comments.

use std::path::{Path, PathBuf};
use std::process::Command;

const COLUMNS: usize = 100;

fn workspace() -> &'static Path {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    core.parent().expect("the crate is in the workspace")
}

/// Returns the files that git tracks. In a packaged crate there are none, and nothing to check.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .arg("ls-files")
        .current_dir(workspace())
        .output()
        .expect("git is installed");
    let paths = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let paths = paths.lines().filter(|path| !path.contains("/dist/"));
    paths
        .map(|path| workspace().join(path))
        .filter(|path| path.is_file())
        .collect()
}

/// Returns true for text that cannot be wrapped: table rows, headings, text in columns, types, and
/// long words such as links.
fn may_be_long(text: &str) -> bool {
    text.is_empty()
        || text.starts_with('|')
        || text.trim_start().contains("   ")
        || text.starts_with('#')
        || text.starts_with("@param")
        || text.split(' ').any(|word| word.len() > COLUMNS / 2)
}

fn is_too_long(line: &str, text: &str) -> bool {
    line.chars().count() > COLUMNS && !may_be_long(text)
}

/// Returns the numbers of the lines of prose that are too long, outside code blocks.
fn long_lines(source: &str, prose: impl Fn(&str) -> Option<&str>) -> Vec<usize> {
    let mut is_code = false;
    let mut long = Vec::new();
    for (line, number) in source.lines().zip(1..) {
        let Some(text) = prose(line) else {
            is_code = false;
            continue;
        };
        if text.starts_with("```") {
            is_code = !is_code;
        } else if !is_code && is_too_long(line, text) {
            long.push(number);
        }
    }
    long
}

/// Returns the text of a comment line.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("//").or_else(|| line.strip_prefix("* "))?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

/// Returns the text of a line of Markdown, or an empty text for a line that is indented as code.
fn prose(line: &str) -> Option<&str> {
    Some(if line.starts_with("    ") {
        ""
    } else {
        line.trim_start()
    })
}

#[test]
fn lines_of_prose_are_at_most_100_columns_wide() {
    let mut long = Vec::new();
    for path in files() {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let of_file = |source: &str| match extension {
            Some("md") => long_lines(source, prose),
            Some("rs" | "ts" | "mjs") => long_lines(source, comment),
            _ => Vec::new(),
        };
        let source = std::fs::read_to_string(&path).unwrap_or_default();
        long.extend(of_file(&source).iter().map(|line| format!("{}:{line}", path.display())));
    }
    assert!(long.is_empty(), "wrap these lines at 100 columns:\n{}", long.join("\n"));
}

#[test]
fn code_tables_and_links_may_be_wider() {
    let wide = "word ".repeat(30);
    let in_code = format!("```\n{wide}\n```\n| {wide}\n# {wide}\n{}\n", "x".repeat(120));
    assert_eq!(long_lines(&in_code, prose), []);
    assert_eq!(long_lines(&format!("    {wide}\nshort\n{wide}\n"), prose), [3]);
    let code = format!("/// short\nlet text = \"{wide}\";\n    // {wide}\n * {wide}\n");
    assert_eq!(long_lines(&code, comment), [3, 4]);
}
