//! Checks that the page on writing adapters shows this adapter as it is.

#[test]
fn the_page_shows_the_adapter_and_its_tests_as_they_are() {
    let page = include_str!("../../../core/WRITING-AN-ADAPTER.md");
    for (name, file) in [
        ("src/lib.rs", include_str!("../src/lib.rs")),
        ("tests/conformance.rs", include_str!("conformance.rs")),
    ] {
        let (_, code) = file.split_once("\n\n").expect("it begins with a line of documentation");
        let shown = format!("`{name}`:\n\n```rust\n{code}```\n");
        assert!(page.contains(&shown), "the page does not show {name} as it is");
    }
}

#[test]
fn the_page_names_cases_of_the_suites() {
    let page = include_str!("../../../core/WRITING-AN-ADAPTER.md");
    let list = include_str!("../../../core/conformance/src/cases/list.rs");
    let (_, table) = page.split_once("| case | most likely |").expect("the table is there");
    let names: Vec<_> = table
        .lines()
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').filter(|name| name.contains("::")))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let (theme, case) = name.split_once("::").expect("the name contains ::");
        let is_module = case == "*" && ["web_socket", "streamed", "shutdown"].contains(&theme);
        let is_theme = list.contains(&format!(" {theme} {{\n"));
        let is_case = [",", " sample,"]
            .map(|end| list.contains(&format!(" {case}{end}\n")))
            .contains(&true);
        assert!(is_module || is_theme && (case == "*" || is_case), "{name}");
    }
}
