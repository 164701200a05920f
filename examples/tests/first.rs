//! The programs that the READMEs show: each is shown as it is, runs, counts and stops when asked.

mod program;

use std::fs;
use std::path::Path;

use stillhere::Code;
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::http;

use program::Program;

/// One after another, because all listen on the port that the READMEs print.
#[tokio::test]
async fn each_program_counts_and_tells_its_pages_when_it_stops() {
    for path in [
        env!("CARGO_BIN_EXE_first-axum"),
        env!("CARGO_BIN_EXE_first-actix"),
        env!("CARGO_BIN_EXE_first-warp"),
    ] {
        let address = "127.0.0.1:3000".parse().expect("it is an address");
        let mut program = Program::start_silently(path, address).await;
        let page = http::get(address, "/", &[]).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "private, no-cache"));
        let page = page.text();
        let (_, rest) = page.split_once("data-stillhere=\"").expect("the page has a session");
        let ticket = rest
            .split_once('"')
            .expect("an attribute ends")
            .0
            .replace("&quot;", "\"");
        let script = http::get(address, http::script_of(&page), &[]).await;
        assert_eq!(script.status, 200, "the client is served");
        let browser = Browser::connect(address, &ticket);
        browser.wait_for_outcome(Outcome::Opened).await;
        for click in ["1", "2"] {
            browser.send("click").expect("the session is open");
            assert_eq!(browser.recv().await.payload, click, "{path}");
        }
        program.terminate().await;
        assert_eq!(browser.session_end().await.code, Code::Draining as u64, "{path}");
        assert!(program.exit().await.success(), "{path}");
    }
}

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
        let program = read(&format!("examples/first/{program}.rs"));
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
