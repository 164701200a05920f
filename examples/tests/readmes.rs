//! Checks that the READMEs show each program as it is. `first/` has the programs and the tests that
//! run them.

use std::fs;
use std::path::Path;

#[test]
fn the_readmes_show_each_program_as_it_is() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it is in the workspace");
    let read = |path: &str| fs::read_to_string(workspace.join(path)).expect("the file is there");
    for (readme, program) in [
        ("README.md", "axum"),
        ("adapter-axum/README.md", "axum"),
        ("adapter-actix/README.md", "actix"),
        ("adapter-warp/README.md", "warp"),
    ] {
        let program = read(&format!("examples/first/{program}/src/main.rs"));
        let (_, code) = program
            .split_once("\n\n")
            .expect("it begins with a line of documentation");
        let shown = format!("```rust,no_run\n{code}```\n");
        assert!(
            read(readme).contains(&shown),
            "{readme} does not show the program as it is"
        );
    }
}
