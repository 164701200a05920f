//! A server on each framework that is killed, or told to stop, again and again while two numbered
//! streams run: no number is lost, doubled or swapped, and the state is right.

use std::env;
use std::future::ready;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use axum::Router;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use stillhere::durable::{Durability, DurableKind, FileStore, State};
use stillhere::{Hub, Session, stop_signal};
use stillhere_client::Client;
use tokio::sync::watch;
use warp::Filter as _;

/// The variables of the program that is killed.
const FRAMEWORK: &str = "STILLHERE_KILLED_FRAMEWORK";
const ADDRESS: &str = "STILLHERE_KILLED_ADDRESS";
const FILE: &str = "STILLHERE_KILLED_FILE";
const DURABILITY: &str = "STILLHERE_KILLED_DURABILITY";
/// Milliseconds between two numbers of the server in each session.
const TICK: &str = "STILLHERE_KILLED_TICK";

/// Numbers in each direction between two ends of the server.
const NUMBERS: u64 = 60;

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
        let numbers = [self.sent, self.received, self.errors];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }
}

async fn run(mut session: Session, state: State<Streams>, tick: Duration) {
    let mut ticks = tokio::time::interval(tick);
    loop {
        let number = tokio::select! {
            message = session.recv() => {
                let Some(message) = message else { return };
                Some(u64::from_le_bytes(message[..].try_into().expect("a number has 8 bytes")))
            }
            _ = ticks.tick() => None,
        };
        let report = state.update(|streams| streams.next(number));
        if session.send(report).await.is_err() {
            return;
        }
    }
}

/// Serves until it is killed or told to stop.
#[test]
fn serve_until_killed() {
    let Ok(framework) = env::var(FRAMEWORK) else { return };
    let variable = |name| env::var(name).expect("the test sets all variables");
    let durability = match variable(DURABILITY).as_str() {
        "crash" => Durability::Crash,
        _ => Durability::Restart,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = FileStore::open(variable(FILE)).await.expect("the store opens");
        let hub = Hub::builder().store(store).build();
        let tick = Duration::from_millis(variable(TICK).parse().expect("a number"));
        let kind = hub.durable("streams", durability, move |session, state| run(session, state, tick));
        let listener = TcpListener::bind(variable(ADDRESS)).expect("the address is free");
        listener.set_nonblocking(true).expect("it can be set");
        let mut stop = pin!(stop_signal());
        // Polled once, so that the signal is handled from now on.
        tokio::select! {
            biased;
            () = &mut stop => return,
            () = ready(()) => println!("serves"),
        }
        let serving = tokio::spawn(serve(framework, hub.clone(), kind, listener));
        tokio::select! {
            () = &mut stop => {
                let report = hub.shutdown(Duration::from_secs(10)).await;
                assert_eq!((report.handed_over, report.aborted), (report.sessions, 0));
            }
            _ = serving => panic!("it serves until it is told to stop"),
        }
    });
    std::process::exit(0);
}

async fn serve(framework: String, hub: Hub, kind: DurableKind<Streams>, listener: TcpListener) {
    let ticket = move || kind.open(Streams::default()).ticket_json();
    let tokio_listener = |listener| tokio::net::TcpListener::from_std(listener).expect("it is not blocking");
    match framework.as_str() {
        "axum" => {
            let app = Router::new()
                .route("/ticket", axum::routing::get(async move || ticket()))
                .merge(stillhere_axum::routes(&hub));
            axum::serve(tokio_listener(listener), app).await.expect("it serves");
        }
        "actix" => {
            let app = move || {
                let ticket = ticket.clone();
                App::new()
                    .route("/ticket", web::get().to(move || ready(ticket())))
                    .configure(stillhere_actix::routes(&hub))
            };
            let server = HttpServer::new(app).workers(2).disable_signals();
            server
                .listen(listener)
                .expect("it listens")
                .run()
                .await
                .expect("it serves");
        }
        _ => {
            let app = stillhere_warp::routes(&hub).or(warp::path!("ticket").map(ticket));
            warp::serve(app).incoming(tokio_listener(listener)).run().await;
        }
    }
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
}

struct Server {
    framework: &'static str,
    address: SocketAddr,
    file: PathBuf,
    durability: &'static str,
    tick: u64,
    process: Child,
}

impl Server {
    /// Starts a server on a free port, with a store in this folder.
    fn start(framework: &'static str, folder: &Path, durability: &'static str, tick: u64) -> Self {
        let address = {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            free.local_addr().expect("it has an address")
        };
        let file = folder.join("sessions.db");
        let process = spawn(framework, address, &file, (durability, tick));
        Self {
            framework,
            address,
            file,
            durability,
            tick,
            process,
        }
    }

    fn restart(&mut self, end: End) {
        match end {
            End::Killed => self.process.kill().expect("it is killed"),
            End::Stopped => {
                let id = self.process.id().to_string();
                let told = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status();
                assert!(told.expect("it runs").success());
            }
        }
        let status = self.process.wait().expect("it ends");
        assert_eq!(status.success(), end == End::Stopped, "{status}");
        self.process = spawn(self.framework, self.address, &self.file, (self.durability, self.tick));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a server and waits until it serves.
fn spawn(framework: &str, address: SocketAddr, file: &Path, (durability, tick): (&str, u64)) -> Child {
    let mut process = Command::new(env::current_exe().expect("this program has a path"))
        .args(["--exact", "serve_until_killed", "--nocapture"])
        .env(FRAMEWORK, framework)
        .env(ADDRESS, address.to_string())
        .env(FILE, file)
        .env(DURABILITY, durability)
        .env(TICK, tick.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
    let serves = output
        .by_ref()
        .lines()
        .map_while(Result::ok)
        .any(|line| line.ends_with("serves"));
    // The test harness of the server prints a line after a minute, and ends if nobody takes it.
    process.stdout = Some(output.into_inner());
    assert!(serves, "the server ends before it serves");
    process
}

fn folder(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("stillhere-killed-{}-{name}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder for the test");
    folder
}

/// Runs both streams of one client over many ends of the server.
async fn keep_both_streams(framework: &'static str, end: End, durability: &'static str) {
    let folder = folder(&format!("{framework}-{end:?}-{durability}"));
    let mut server = Server::start(framework, &folder, durability, 5);
    let client = Client::connect(&format!("http://{}/ticket", server.address))
        .await
        .expect("it connects");
    let (mut sent, mut last) = (0u64, 0u64);
    let is_long = env::var_os("STILLHERE_LONG").is_some();
    let ends = match end {
        End::Killed if is_long => 100,
        End::Killed => 20,
        // Its page comes back after a second or more.
        End::Stopped if is_long => 50,
        End::Stopped => 3,
    };
    for _ in 0..ends {
        let until = last + NUMBERS;
        while last < until {
            sent += 1;
            client.send(sent.to_le_bytes()).await.expect("the session lives");
            last = take(&client, last, sent).await;
        }
        server.restart(end);
        client.wake();
    }
    loop {
        let message = client.recv().await.expect("the session lives");
        last = check(&message, last, sent);
        if u64::from_le_bytes(message[8..16].try_into().expect("8 bytes")) == sent {
            break;
        }
    }
    drop(server);
    std::fs::remove_dir_all(folder).expect("the folder is removed");
}

/// Takes one message, and checks that it is the next.
async fn take(client: &Client, last: u64, sent: u64) -> u64 {
    let message = client.recv().await.expect("the session lives");
    check(&message, last, sent)
}

fn check(message: &[u8], last: u64, sent: u64) -> u64 {
    let number = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("a number has 8 bytes"));
    let (serial, received, errors) = (number(0), number(8), number(16));
    assert_eq!(
        (serial, errors),
        (last + 1, 0),
        "of the server; errors in the client's stream"
    );
    assert!(received <= sent, "the server received {received} of {sent}");
    serial
}

/// One of many clients: sends a number now and then, and checks those of the server, until it is
/// told to stop. Then waits until the server has received all numbers.
async fn run_client(client: Client, tick: Duration, received: Arc<AtomicU64>, stop: watch::Receiver<bool>) {
    let (mut sent, mut last) = (0u64, 0u64);
    let mut ticks = tokio::time::interval(tick);
    loop {
        tokio::select! {
            message = client.recv() => {
                let message = message.expect("the session lives");
                last = check(&message, last, sent);
                received.store(last, Ordering::Relaxed);
                let has_all = u64::from_le_bytes(message[8..16].try_into().expect("8 bytes")) == sent;
                if has_all && *stop.borrow() {
                    return;
                }
            }
            _ = ticks.tick(), if !*stop.borrow() => {
                sent += 1;
                client.send(sent.to_le_bytes()).await.expect("the session lives");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_many_clients_go_on_while_the_server_is_deployed() {
    let (count, deploys) = match env::var_os("STILLHERE_LONG") {
        Some(_) => (1000, 50),
        None => (200, 2),
    };
    let folder = folder("many");
    let mut server = Server::start("axum", &folder, "restart", count);
    let (tell, stop) = watch::channel(false);
    let clients = (0..count).map(|_| async {
        let client = Client::connect(&format!("http://{}/ticket", server.address)).await;
        let received = Arc::new(AtomicU64::new(0));
        let tick = Duration::from_millis(count);
        let running = run_client(client.expect("it connects"), tick, Arc::clone(&received), stop.clone());
        (received, tokio::spawn(running))
    });
    let clients: Vec<_> = stream::iter(clients).buffer_unordered(32).collect().await;
    let progress = || clients.iter().map(|(received, _)| received.load(Ordering::Relaxed));
    for deploy in 0..deploys {
        let before: Vec<_> = progress().collect();
        // Every page is back, and has load.
        while progress().zip(&before).any(|(now, before)| now < before + 2) {
            assert!(
                !clients.iter().any(|(_, running)| running.is_finished()),
                "a client panicked"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!(
            "deploy {deploy}: {} numbers of the server so far",
            progress().sum::<u64>()
        );
        tokio::task::block_in_place(|| server.restart(End::Stopped));
    }
    tell.send(true).expect("clients run");
    for (_, running) in clients {
        running.await.expect("no number was lost, doubled or swapped");
    }
    drop(server);
    std::fs::remove_dir_all(folder).expect("the folder is removed");
}

macro_rules! on_each_framework {
    ($($name:ident: $framework:literal, $end:expr, $durability:literal;)*) => { $(
        #[tokio::test]
        async fn $name() {
            keep_both_streams($framework, $end, $durability).await;
        }
    )* };
}

on_each_framework! {
    both_streams_go_on_while_axum_is_killed: "axum", End::Killed, "crash";
    both_streams_go_on_while_actix_is_killed: "actix", End::Killed, "crash";
    both_streams_go_on_while_warp_is_killed: "warp", End::Killed, "crash";
    both_streams_go_on_while_axum_is_deployed: "axum", End::Stopped, "restart";
    both_streams_go_on_while_actix_is_deployed: "actix", End::Stopped, "restart";
    both_streams_go_on_while_warp_is_deployed: "warp", End::Stopped, "restart";
    both_streams_of_a_session_that_survives_crashes_go_on_while_axum_is_deployed: "axum", End::Stopped, "crash";
}
