//! The example of a client in Rust, against the demo on each framework.

use std::process::Stdio;

use stillhere_conformance::patience::within;
use stillhere_conformance::program::Program;
use tokio::process::Command;

#[tokio::test]
async fn messages_are_echoed() {
    for path in [
        env!("CARGO_BIN_EXE_axum"),
        env!("CARGO_BIN_EXE_actix"),
        env!("CARGO_BIN_EXE_warp"),
    ] {
        let demo = Program::start(path, &[]).await;
        let url = format!("http://{}/ticket/echo", demo.address);
        let client = Command::new(env!("CARGO_BIN_EXE_rust-client"))
            .args([&url, "hello", "again"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = within("the client ends", client).await.expect("it starts");
        let text = String::from_utf8(output.stdout).expect("it prints text");
        assert!(output.status.success(), "{text}");
        let connected = "Connected { outcome: Opened, kind: \"websocket\" }";
        assert_eq!(text.lines().collect::<Vec<_>>(), ["hello", "again", connected]);
    }
}
