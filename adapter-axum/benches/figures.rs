//! What durability costs: the server's CPU time for each echoed message and its memory for each session, side by side with bare axum WebSockets.
//!
//!     cargo bench -p stillhere-axum --bench figures               # everything, about two minutes
//!     cargo bench -p stillhere-axum --bench figures -- --quick    # fewer messages and sessions
//!
//! Each server is a process of its own with one thread on core 0, the load on core 1 (where `taskset` is there). CPU time is the server's, user and
//! system, from `/proc`; memory is what its allocator has handed out and not got back, and the resident set. Compare columns of one run only.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere_axum::machine::{Action, DocumentMachine, DocumentOptions};
use stillhere_axum::{DocumentId, Hub, Lane, Limits, Secret, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const SERVERS: [&str; 3] = ["bare", "bare-4k", "stillhere"];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match std::env::var("FIGURES_SERVER") {
        Ok(kind) => runtime.block_on(serve(&kind)),
        Err(_) => runtime.block_on(measure(std::env::args().any(|argument| argument == "--quick"))),
    }
}

// ---- the servers

async fn serve(kind: &str) {
    let hub = Hub::builder()
        .max_never_connected(1_000_000)
        .max_sessions(1_000_000)
        .build();
    let app = match kind {
        "stillhere" => Router::new()
            .route("/ticket", get(ticket))
            .merge(stillhere_axum::routes(&hub)),
        "bare-4k" => Router::new().route(
            "/ws",
            get(|upgrade: WebSocketUpgrade| bare(upgrade.read_buffer_size(4096))),
        ),
        _ => Router::new().route("/ws", get(bare)),
    };
    let app = app.route("/live", get(live)).with_state(hub);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("a bound address"));
    axum::serve(listener, app).await.expect("serving goes on");
}

async fn ticket(State(hub): State<Hub>) -> String {
    hub.open(echo).ticket_json()
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

async fn bare(upgrade: WebSocketUpgrade) -> impl IntoResponse {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, axum::extract::ws::Message::Binary(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Bytes allocated and not freed.
async fn live() -> String {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated as i64 - stats.bytes_deallocated as i64).to_string()
}

// ---- the load

async fn measure(quick: bool) {
    println!(
        "CPU of the server for each 64 B echo, microseconds; x: relative to bare axum with its defaults; bare-4k: read_buffer_size(4096)\n"
    );
    println!("| connections | in flight each | {} |", SERVERS.join(" | "));
    println!("|---|---|---|---|---|");
    let scale = if quick { 10 } else { 1 };
    for (connections, in_flight, messages) in [(1, 1, 30_000), (100, 1, 400_000), (100, 16, 1_000_000)] {
        let mut cells = [const { Vec::new() }; SERVERS.len()];
        for _ in 0..3 {
            for (kind, cell) in SERVERS.iter().zip(&mut cells) {
                cell.push(echo_cost(kind, connections, in_flight, messages / scale).await);
            }
        }
        let medians = cells.map(|mut cell| {
            cell.sort_by(f64::total_cmp);
            cell[cell.len() / 2]
        });
        let columns = medians.map(|cost| format!("{cost:.2} (x{:.2})", cost / medians[0]));
        println!("| {connections} | {in_flight} | {} |", columns.join(" | "));
    }
    let count = 5_000 / scale;
    println!("\nMemory of the server for each of {count}, bytes: allocated (resident)\n");
    println!("| | {} |\n|---|---|---|---|", SERVERS.join(" | "));
    let mut idle = Vec::new();
    for kind in SERVERS {
        idle.push(idle_memory(kind, count).await);
    }
    println!("| idle, connected | {} |", idle.join(" | "));
    println!("| soft-closed | | | {} |", soft_closed_memory(count * 4).await);
}

async fn echo_cost(kind: &str, connections: usize, in_flight: usize, messages: usize) -> f64 {
    let server = Server::start(kind);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(&server).await);
    }
    let share = messages / connections;
    run_all(&mut clients, in_flight, share / 10).await;
    let before = server.cpu();
    run_all(&mut clients, in_flight, share).await;
    (server.cpu() - before).as_secs_f64() * 1e6 / (share * connections) as f64
}

async fn run_all(clients: &mut [Client], in_flight: usize, count: usize) {
    futures_util::future::join_all(clients.iter_mut().map(|client| client.echo(in_flight, count))).await;
}

async fn idle_memory(kind: &str, count: usize) -> String {
    let server = Server::start(kind);
    let mut clients = vec![Client::connect(&server).await];
    let before = server.memory().await;
    for _ in 0..count {
        clients.push(Client::connect(&server).await);
    }
    server.memory().await.since(&before, count)
}

/// Sessions whose connections came and went, a few at a time so that what connections need is reused.
async fn soft_closed_memory(count: usize) -> String {
    let server = Server::start("stillhere");
    drop(Client::connect(&server).await);
    let before = server.memory().await;
    for _ in 0..count / 20 {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = Client::connect(&server).await;
            client.echo(1, 1).await;
            clients.push(client);
        }
        for mut client in clients {
            client.socket.close(None).await.expect("the server is there");
            while let Some(Ok(_)) = client.socket.next().await {}
        }
    }
    server.memory().await.since(&before, count)
}

struct Server {
    process: Child,
    address: SocketAddr,
}

struct Memory {
    live: i64,
    resident: i64,
}

impl Memory {
    fn since(&self, before: &Self, count: usize) -> String {
        format!(
            "{} ({})",
            (self.live - before.live) / count as i64,
            (self.resident - before.resident) / count as i64
        )
    }
}

impl Server {
    fn start(kind: &str) -> Self {
        pin(std::process::id(), 1);
        let binary = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(binary)
            .env("FIGURES_SERVER", kind)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        pin(process.id(), 0);
        let mut line = String::new();
        let output = process.stdout.take().expect("its output is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("the server says where it listens");
        Self {
            process,
            address: line.trim().parse().expect("an address"),
        }
    }

    /// User and system time of its one thread, from the scheduler.
    fn cpu(&self) -> Duration {
        let path = format!("/proc/{0}/task/{0}/schedstat", self.process.id());
        let text = std::fs::read_to_string(path).expect("the server runs");
        Duration::from_nanos(
            text.split_whitespace()
                .next()
                .and_then(|field| field.parse().ok())
                .expect("nanoseconds"),
        )
    }

    async fn memory(&self) -> Memory {
        let live = self.get("/live").await.trim().parse().expect("a number");
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).expect("the server runs");
        let pages: i64 = statm
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .expect("pages");
        Memory {
            live,
            resident: pages * 4096,
        }
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("the server listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("the server answers");
        response.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }
}

fn pin(process: u32, core: u32) {
    let _ = Command::new("taskset")
        .args(["-p", "-c", &core.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    /// None for a bare server.
    document: Option<DocumentMachine>,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let ticket = server.get("/ticket").await;
        let ticket: Option<serde_json::Value> = serde_json::from_str(&ticket).ok();
        let path = ticket
            .as_ref()
            .map_or("/ws", |ticket| ticket["url"].as_str().expect("a url"));
        let mut request = format!("ws://{}{path}", server.address)
            .into_client_request()
            .expect("a url");
        if ticket.is_some() {
            request
                .headers_mut()
                .insert("sec-websocket-protocol", "stillhere.v1".parse().expect("a header"));
        }
        let stream = TcpStream::connect(server.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP stream");
        let config = tokio_tungstenite::tungstenite::protocol::WebSocketConfig::default().read_buffer_size(4096);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .expect("an upgrade");
        let mut client = Self {
            socket,
            document: ticket.as_ref().map(document),
        };
        client.say_hello().await;
        client
    }

    async fn say_hello(&mut self) {
        let Some(document) = &mut self.document else { return };
        document.start(Instant::now());
        assert_eq!(document.poll_action(), Some(Action::Connect(1)));
        document.handle_open(1, Instant::now());
        self.flush().await;
        while self
            .document
            .as_ref()
            .is_some_and(|document| document.incarnation() == 0)
        {
            self.read().await;
        }
    }

    /// Sends `count` messages, `in_flight` at a time, and awaits their echoes.
    async fn echo(&mut self, in_flight: usize, count: usize) {
        let payload = Bytes::from_static(&[7; 64]);
        let (mut sent, mut echoed) = (0, 0);
        while echoed < count {
            while sent < count && sent - echoed < in_flight {
                match &mut self.document {
                    Some(document) => document
                        .send(Lane::Interactive, payload.clone())
                        .expect("there is room"),
                    None => self
                        .socket
                        .feed(Message::Binary(payload.clone()))
                        .await
                        .expect("the server reads"),
                }
                sent += 1;
            }
            self.flush().await;
            echoed += self.read().await;
        }
    }

    async fn flush(&mut self) {
        if let Some(document) = &mut self.document {
            while let Some(frame) = document.poll_transmit(1, true, Instant::now()) {
                self.socket
                    .feed(Message::Binary(frame.to_bytes()))
                    .await
                    .expect("the server reads");
            }
        }
        self.socket.flush().await.expect("the server reads");
    }

    /// Reads what is there, waiting for the first. How many messages it had.
    async fn read(&mut self) -> usize {
        let mut messages = 0;
        let mut next = Some(self.socket.next().await);
        while let Some(packet) = next {
            let bytes = packet
                .expect("the server is there")
                .expect("the connection holds")
                .into_data();
            match &mut self.document {
                None => messages += 1,
                Some(document) => {
                    document.handle_frame(1, bytes, Instant::now());
                    while document.take(Lane::Interactive).is_some() {
                        document.release(Lane::Interactive, Instant::now());
                        messages += 1;
                    }
                }
            }
            next = self.socket.next().now_or_never();
        }
        messages
    }
}

fn document(ticket: &serde_json::Value) -> DocumentMachine {
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(ticket["secret"].as_str().expect("a secret"));
    let secret = Secret::from_bytes(secret.expect("base64url").try_into().expect("32 bytes"));
    let document = DocumentId(*secret.expose().first_chunk().expect("32 bytes"));
    DocumentMachine::new(
        DocumentOptions {
            secret,
            document,
            limits: Limits::default(),
            seed: 1,
        },
        Instant::now(),
    )
}
