//! Checks that the configuration in `drop-in/nginx.conf` works on each framework, and that the
//! guide shows it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::fallback_bridge;
use stillhere_conformance::http;
use stillhere_conformance::patience::within;
use stillhere_conformance::program::Program;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const SHIPPED: &str = include_str!("../nginx.conf");

/// Returns the directives within a block that begins with `opening`.
fn block(text: &str, opening: &str) -> Vec<String> {
    let from = text
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with(opening));
    let directives = from.map(|line| line.split('#').next().unwrap_or_default().trim_end());
    let mut lines: Vec<_> = directives.take_while(|line| *line != "}").map(str::to_owned).collect();
    // Leaves out comments, and a directive that shows that cut connections lose nothing.
    lines.retain(|line| !line.is_empty() && !line.starts_with("proxy_read_timeout"));
    assert!(lines.len() > 2, "there is a block {opening:?}");
    lines
}

#[test]
fn the_guide_shows_the_configuration_that_is_tested() {
    let guide = include_str!("../../../docs/deploying.md");
    for opening in ["map ", "location "] {
        assert_eq!(block(guide, opening), block(SHIPPED, opening));
    }
}

/// A running nginx, which is killed when this is dropped.
struct Nginx {
    address: SocketAddr,
    folder: PathBuf,
    _child: Child,
}

impl Nginx {
    async fn start(configuration: &str, upstream: SocketAddr) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = free.local_addr().expect("the listener is bound");
        drop(free);
        let folder = std::env::temp_dir().join(format!("stillhere-nginx-{}", address.port()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let configuration = configuration
            .replace("127.0.0.1:8080", &address.to_string())
            .replace("127.0.0.1:3000", &upstream.to_string());
        std::fs::write(folder.join("nginx.conf"), configuration).expect("a file can be written");
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-e", "stderr", "-c", "nginx.conf", "-g", "master_process off;", "-p"]);
        let child = command
            .arg(&folder)
            .kill_on_drop(true)
            .spawn()
            .expect("nginx is installed");
        let listening = async { while TcpStream::connect(address).await.is_err() {} };
        within("nginx listens", listening).await;
        Self {
            address,
            folder,
            _child: child,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs with the configuration as shipped, and with a common variant that adds `Connection:
/// upgrade` to every request.
async fn sessions_are_carried(program: &str) {
    let program = Program::start(program, &["--under", "/app"]).await;
    for connection in ["$connection_upgrade", "\"upgrade\""] {
        let shipped = SHIPPED.replace("Connection $connection_upgrade", &format!("Connection {connection}"));
        let nginx = Nginx::start(&shipped, program.address).await;
        for script in ["client.js", "client.mjs"] {
            let file = http::get(nginx.address, &format!("/app/stillhere/{script}"), &[]).await;
            assert_eq!(file.status, 200, "{connection} {script}");
        }
        let answer = http::post(nginx.address, "/app/login", &[], "name=ada").await;
        let (cookie, _) = answer
            .header("set-cookie")
            .split_once(';')
            .expect("the cookie has attributes");
        let streamed = fallback_bridge::start(nginx.address, None).await;
        let polled = fallback_bridge::start(nginx.address, Some(Duration::from_millis(200))).await;
        for address in [nginx.address, streamed, polled] {
            let page = http::get(nginx.address, "/app/", &[("cookie", cookie)]).await;
            let page = page.text();
            let (_, ticket) = page.split_once("data-stillhere=\"").expect("the page has a session");
            let (ticket, _) = ticket.split_once('"').expect("the attribute ends");
            let browser = Browser::connect_with_cookie(cookie, address, &ticket.replace("&quot;", "\""));
            browser.wait_for_outcome(Outcome::Opened).await;
            assert_eq!(browser.recv().await.payload, r#"{"draft":""}"#);
        }
    }
}

#[tokio::test]
async fn sessions_are_carried_on_axum() {
    sessions_are_carried(env!("CARGO_BIN_EXE_drop-in-axum")).await;
}

#[tokio::test]
async fn sessions_are_carried_on_actix() {
    sessions_are_carried(env!("CARGO_BIN_EXE_drop-in-actix")).await;
}

#[tokio::test]
async fn sessions_are_carried_on_warp() {
    sessions_are_carried(env!("CARGO_BIN_EXE_drop-in-warp")).await;
}
