//! Tests that each recipe does what it says, and that `recipes/README.md` shows each file as it is.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::http;
use stillhere_conformance::patience::within;
use stillhere_conformance::program::Program;

async fn recipes(arguments: &[&str]) -> Program {
    let program = Program::start_at(env!("CARGO_BIN_EXE_recipes"), "127.0.0.1:0", arguments).await;
    program.expect("a port is free")
}

/// Opens the page at this path.
async fn open(program: &Program, path: &str) -> Browser {
    let page = http::get(program.address, path, &[]).await;
    assert_eq!((page.status, page.header("cache-control")), (200, "private, no-cache"));
    let page = page.text();
    let (_, rest) = page.split_once("data-stillhere=\"").expect("the page has a session");
    let (ticket, _) = rest.split_once('"').expect("an attribute ends");
    let ticket = ticket.replace("&quot;", "\"").replace("&amp;", "&");
    let browser = Browser::connect(program.address, &ticket);
    browser.wait_for_outcome(Outcome::Opened).await;
    browser
}

async fn text(browser: &Browser) -> String {
    String::from_utf8(browser.recv().await.payload.to_vec()).expect("the recipes speak text")
}

fn send(browser: &Browser, message: impl Into<bytes::Bytes>) {
    browser.send(message).expect("the session is open");
}

#[tokio::test]
async fn a_counter_continues_after_a_reload() {
    let program = recipes(&[]).await;
    let page = open(&program, "/f5").await;
    send(&page, "click");
    send(&page, "click");
    assert_eq!([text(&page).await, text(&page).await], ["1", "2"]);
    let page = page.reload().await;
    page.wait_for_outcome(Outcome::Restored).await;
    assert_eq!(text(&page).await, "2", "a reloaded page is told the count");
    send(&page, "click");
    assert_eq!(text(&page).await, "3");
}

#[tokio::test]
async fn json_is_parsed_and_anything_else_is_an_error_for_its_page() {
    let program = recipes(&[]).await;
    let page = open(&program, "/json").await;
    let mut answers: Vec<Value> = Vec::new();
    for request in [
        r#"{"type":"add","text":"milk"}"#,
        r#"{"type":"remove","index":1}"#,
        "no JSON",
        r#"{"type":"remove","index":0}"#,
    ] {
        send(&page, request);
        answers.push(serde_json::from_str(&text(&page).await).expect("the recipe answers in JSON"));
    }
    assert_eq!(answers[0], json!({ "type": "items", "items": ["milk"] }));
    assert_eq!(answers[1], json!({ "type": "error", "text": "there is no item 1" }));
    assert_eq!(answers[2]["type"], "error");
    assert_eq!(answers[3], json!({ "type": "items", "items": [] }));
}

#[tokio::test]
async fn every_page_hears_what_one_says() {
    let program = recipes(&[]).await;
    let pages = [open(&program, "/broadcast").await, open(&program, "/broadcast").await];
    for (number, page) in pages.iter().enumerate() {
        let line = format!("{number} speaks");
        send(page, line.clone());
        for page in &pages {
            assert_eq!(text(page).await, line);
        }
    }
}

#[tokio::test]
async fn a_ticket_is_given_to_a_post() {
    let program = recipes(&[]).await;
    assert_eq!(http::get(program.address, "/ticket", &[]).await.status, 405);
    let ticket = http::post(program.address, "/ticket", &[], "").await.text();
    let page = Browser::connect(program.address, &ticket);
    page.wait_for_outcome(Outcome::Opened).await;
    send(&page, "hello");
    assert_eq!(text(&page).await, "hello");
}

/// The pages of two processes behind one nginx with the configuration of `processes.conf`, but on
/// free ports.
#[tokio::test]
async fn a_proxy_finds_the_process_of_each_session_by_its_path() {
    // Two consecutive ports whose last digit is the number of the process, as in the file.
    let (first, second) = loop {
        let probe = recipes(&["1"]).await;
        let decade = probe.address.port() / 10 * 10;
        drop(probe);
        let start = async |process: u16| {
            let address = format!("127.0.0.1:{}", decade + process);
            Program::start_at(env!("CARGO_BIN_EXE_recipes"), &address, &[&process.to_string()]).await
        };
        if let (Some(first), Some(second)) = (start(1).await, start(2).await) {
            break (first, second);
        }
    };
    let folder = std::env::temp_dir().join(format!("stillhere-recipes-{}", first.address.port()));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let front = socket.local_addr().expect("it is bound");
    drop(socket);
    let server = fs::read_to_string(recipe("processes.conf")).expect("the recipe is there");
    let decade = first.address.port() / 10;
    let server = server
        .replace("127.0.0.1:8080", &front.to_string())
        .replace("127.0.0.1:300", &format!("127.0.0.1:{decade}"));
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};"));
    let configuration = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}} http {{ access_log off; {} {server} }}",
        folders.join(" ")
    );
    fs::write(folder.join("nginx.conf"), configuration).expect("it can be written");
    let mut nginx = tokio::process::Command::new("/usr/sbin/nginx")
        .args(["-p", &folder.to_string_lossy(), "-c", "nginx.conf"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nginx is installed");
    within("nginx listens", async {
        while tokio::net::TcpStream::connect(front).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let mut paths = Vec::new();
    for _ in 0..4 {
        let ticket = http::get(front, "/f5", &[]).await.text();
        let (_, rest) = ticket.split_once("data-stillhere=\"").expect("the page has a session");
        let ticket = rest
            .split_once('"')
            .expect("an attribute ends")
            .0
            .replace("&quot;", "\"");
        let page = Browser::connect(front, &ticket);
        page.wait_for_outcome(Outcome::Opened).await;
        send(&page, "click");
        assert_eq!(text(&page).await, "1");
        let page = page.reload().await;
        page.wait_for_outcome(Outcome::Restored).await;
        paths.push(["/stillhere-1/", "/stillhere-2/"].map(|mount| ticket.contains(mount)));
    }
    assert!(
        paths.contains(&[true, false]) && paths.contains(&[false, true]),
        "both processes serve: {paths:?}"
    );
    nginx.kill().await.expect("nginx runs");
    drop(second);
    fs::remove_dir_all(&folder).expect("the folder is there");
}

fn recipe(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_page_shows_each_file_as_it_is() {
    let page = fs::read_to_string(recipe("README.md")).expect("the page is there");
    for (name, language) in [
        ("keep_over_f5.rs", "rust"),
        ("json.rs", "rust"),
        ("broadcast.rs", "rust"),
        ("chat.rs", "rust"),
        ("single_page.rs", "rust"),
        ("single-page/main.js", "js"),
        ("single-page/vite.config.js", "js"),
        ("typed.rs", "rust"),
        ("typed/types.ts", "ts"),
        ("typed/contract.ts", "ts"),
        ("typed/react-page.tsx", "tsx"),
        ("typed/List.svelte", "svelte"),
        ("processes.rs", "rust"),
        ("processes.conf", "nginx"),
    ] {
        let file = fs::read_to_string(recipe(name)).expect("each recipe is a file");
        assert!(
            page.contains(&format!("[`{name}`]({name})\n\n```{language}\n{file}```\n")),
            "README.md does not show {name} as it is"
        );
    }
}
