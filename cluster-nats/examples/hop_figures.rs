//! What an echo costs whose page has reached another server than its session's, compared with one
//! whose page has reached its own. Starts `nats-server` and two servers.
//!
//! ```text
//! cargo run --release -p stillhere-nats --example hop_figures
//! ```

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use stillhere::{Hub, Session};
use stillhere_client::{Client, Ticket};
use stillhere_nats::{NatsCluster, NatsClusterOptions};

/// Ends the process with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

/// Serves until the process is killed.
async fn serve(nats: &str) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(nats).await?;
    let cluster = NatsCluster::new(client, NatsClusterOptions::default()).await?;
    let hub = Hub::builder().cluster(cluster.clone()).build();
    while !cluster.is_ready() || cluster.servers().count() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let opening = hub.clone();
    let app = Router::new()
        .route("/ticket", get(async move || opening.open(echo).ticket_json()))
        .merge(stillhere_axum::routes(&hub));
    axum::serve(listener, app).await?;
    Ok(())
}

fn start_server(nats: &str) -> Result<Process, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let child = Command::new(program).arg(nats).stdout(Stdio::piped()).spawn()?;
    Ok(Process(child))
}

/// Returns the address that a server prints when it serves.
fn address(server: &mut Process) -> Result<String, Box<dyn Error>> {
    let output = server.0.stdout.take().ok_or("it has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Opens a session at one server, for a client that connects to another.
async fn connect(owner: &str, entry: &str) -> Result<Client, Box<dyn Error>> {
    let page = http_get(owner, "/ticket").await?;
    let start = page.find('{').ok_or("there is no ticket")?;
    let ticket = Ticket::parse(&page[start..])?;
    let builder = Client::builder().page(&format!("http://{entry}/"))?;
    Ok(builder.connect_with(ticket)?)
}

async fn http_get(server: &str, path: &str) -> Result<String, Box<dyn Error>> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn echoes(client: Client, count: u32) -> Vec<Duration> {
    let mut latencies = Vec::new();
    for _ in 0..count {
        let sent = Instant::now();
        if client.send(vec![7; 64]).await.is_err() || client.recv().await.is_none() {
            break;
        }
        latencies.push(sent.elapsed());
    }
    latencies
}

/// Returns the processor time of a process so far, in steps of 10 ms.
fn processor_time(process: &Process) -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.0.id()))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(10 * ticks.sum::<Result<u64, _>>()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(nats) = std::env::args().nth(1) {
        return serve(&nats).await;
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let nats = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .stderr(Stdio::null())
        .spawn()?;
    let nats = Process(nats);
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let url = format!("nats://127.0.0.1:{port}");
    let (mut owner, mut other) = (start_server(&url)?, start_server(&url)?);
    let (owner_address, other_address) = (address(&mut owner)?, address(&mut other)?);
    for (name, entry) in [("own server", &owner_address), ("other server", &other_address)] {
        let client = connect(&owner_address, entry).await?;
        let mut latencies = echoes(client, 3000).await;
        latencies.sort_unstable();
        let at = |percent: usize| latencies[latencies.len() * percent / 100];
        println!("{name}: one page, p50 {:?}, p99 {:?}", at(50), at(99));
        for round in 1..=3 {
            let mut clients = Vec::new();
            for _ in 0..PAGES {
                clients.push(connect(&owner_address, entry).await?);
            }
            let processes = [&owner, &other, &nats];
            let before = processes.map(processor_time);
            let running = clients.into_iter().map(|client| tokio::spawn(echoes(client, ECHOES)));
            let mut count = 0;
            for page in running.collect::<Vec<_>>() {
                count += u32::try_from(page.await?.len())?;
            }
            let mut cost = [Duration::ZERO; 3];
            for (cost, (process, before)) in cost.iter_mut().zip(processes.into_iter().zip(before)) {
                *cost = (processor_time(process)? - before?) / count;
            }
            let [owner, other, nats] = cost;
            println!(
                "{name}: {PAGES} pages, round {round}: an echo {owner:?} there, {other:?} on the way, {nats:?} NATS"
            );
        }
    }
    Ok(())
}

const PAGES: usize = 50;
const ECHOES: u32 = 1000;
