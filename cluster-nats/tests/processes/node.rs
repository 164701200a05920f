//! A server of the cluster as a process of its own: this program, started again.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use stillhere::durable::{Durability, State};
use stillhere::{Hub, Message, Session};
use stillhere_client::Ticket;
use stillhere_nats::{NatsCluster, NatsClusterOptions, NatsStore, NatsStoreOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{NatsServer, pause_process};

/// The variables of the process.
const NATS: &str = "STILLHERE_PROCESSES_NATS";
/// Milliseconds between two numbers that a durable session sends by itself, or 0 for none.
const TICK: &str = "STILLHERE_PROCESSES_TICK";

/// A running server. Dropping it kills the process.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    process: Child,
}

/// What a server says about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) sessions: usize,
    pub(crate) is_ready: bool,
    pub(crate) servers: usize,
}

impl Node {
    /// Starts a server, and waits until it serves. Its durable sessions send a number by themselves
    /// whenever `tick` is over.
    pub(crate) fn start(nats: &NatsServer, tick: Option<Duration>) -> Self {
        let mut process = Command::new(env::current_exe().expect("this program has a path"))
            .args(["--exact", "node::serve_until_killed", "--nocapture"])
            .env(NATS, nats.url())
            .env(TICK, tick.map_or(0, |tick| tick.as_millis()).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let address = output.by_ref().lines().map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("serves at ")?;
            address.parse().ok()
        });
        // The test harness of the server prints a line after a minute, and ends if nobody takes it.
        process.stdout = Some(output.into_inner());
        let Some(address) = address else {
            let _ = process.kill();
            panic!("the server ends before it serves: {:?}", process.wait());
        };
        Self { address, process }
    }

    /// Opens a session on this server: `durable` or `plain`.
    pub(crate) async fn open(&self, kind: &str) -> Ticket {
        let ticket = self.get(&format!("/ticket/{kind}")).await;
        Ticket::parse(&ticket).expect("the ticket is right")
    }

    pub(crate) async fn stats(&self) -> Stats {
        let stats = self.get("/stats").await;
        serde_json::from_str(&stats).expect("it is JSON")
    }

    async fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.address).await.expect("the server listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        connection
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        let mut answer = String::new();
        connection
            .read_to_string(&mut answer)
            .await
            .expect("the server answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
        body.to_owned()
    }

    /// Ends the process as a crash does (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it is our child");
    }

    /// Stops the process (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn pause(&self, is_paused: bool) {
        pause_process(self.process.id(), is_paused);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a session remembers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Streams {
    sent: u64,
    received: u64,
    /// Numbers of the client that were not the next.
    errors: u64,
}

impl Streams {
    /// Handles a number of the client. Returns what it is told.
    fn next(&mut self, number: Option<u64>) -> Vec<u8> {
        if let Some(number) = number {
            self.errors += u64::from(number != self.received + 1);
            self.received = number;
        }
        self.sent += 1;
        [self.sent, self.received, self.errors].map(u64::to_le_bytes).concat()
    }
}

fn number(message: &Message) -> u64 {
    u64::from_le_bytes(message[..].try_into().expect("a number has 8 bytes"))
}

async fn run_durable(mut session: Session, state: State<Streams>, tick: Option<Duration>) {
    loop {
        let ticked = async {
            match tick {
                Some(tick) => tokio::time::sleep(tick).await,
                None => std::future::pending().await,
            }
        };
        let number = tokio::select! {
            message = session.recv() => match message {
                Some(message) => Some(number(&message)),
                None => return,
            },
            () = ticked => None,
        };
        let answer = state.update(|streams| streams.next(number));
        if session.send(answer).await.is_err() {
            return;
        }
    }
}

async fn run_plain(mut session: Session) {
    let mut streams = Streams::default();
    while let Some(message) = session.recv().await {
        let answer = streams.next(Some(number(&message)));
        if session.send(answer).await.is_err() {
            return;
        }
    }
}

/// Serves until the process is killed.
#[test]
fn serve_until_killed() {
    let Ok(nats) = env::var(NATS) else { return };
    let tick = env::var(TICK).expect("the test sets both variables");
    let tick = tick.parse().map(Duration::from_millis).expect("it is a number");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(&nats, Some(tick).filter(|tick| !tick.is_zero())));
}

async fn serve(nats: &str, tick: Option<Duration>) {
    let client = async_nats::connect(nats).await.expect("NATS runs");
    let cluster = NatsCluster::new(client.clone(), NatsClusterOptions::default()).await;
    let cluster = cluster.expect("it joins");
    let store = NatsStore::new(client, NatsStoreOptions::default()).await;
    let store = store.expect("the store opens");
    let hub = Hub::builder().cluster(cluster.clone()).store(store).build();
    let kind = hub.durable("streams", Durability::Crash, move |session, state| {
        run_durable(session, state, tick)
    });
    let plain = {
        let hub = hub.clone();
        async move || hub.open(run_plain).ticket_json()
    };
    let stats = {
        let (hub, cluster) = (hub.clone(), cluster.clone());
        async move || {
            axum::Json(Stats {
                sessions: hub.stats().sessions,
                is_ready: cluster.is_ready(),
                servers: cluster.servers().count(),
            })
        }
    };
    let app = Router::new()
        .route(
            "/ticket/durable",
            get(async move || kind.open(Streams::default()).ticket_json()),
        )
        .route("/ticket/plain", get(plain))
        .route("/stats", get(stats))
        .merge(stillhere_axum::routes(&hub));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    println!("serves at {}", listener.local_addr().expect("it is bound"));
    axum::serve(listener, app).await.expect("it serves");
}
