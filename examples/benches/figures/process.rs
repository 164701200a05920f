//! A server in a process of its own, and the resources that it uses.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stillhere_client::Ticket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::servers::Role;

/// Name and role of the server that a process shall be.
pub(crate) const SERVER: [&str; 2] = ["FIGURES_SERVER", "FIGURES_ROLE"];

pub(crate) struct Server {
    kind: String,
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the server on core 0, and moves this process to core 1.
    pub(crate) fn start(kind: &str, role: Role) -> Self {
        pin(std::process::id(), 1);
        let binary = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(binary)
            .envs(SERVER.into_iter().zip([kind, role.name()]))
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
            kind: kind.to_owned(),
            process,
            address: line.trim().parse().expect("an address"),
        }
    }

    pub(crate) fn speaks_socket_io(&self) -> bool {
        self.kind == "socketioxide"
    }

    /// Returns true if a page and the server exchange something before the first message.
    pub(crate) fn has_hello(&self) -> bool {
        is_ours(&self.kind) || self.speaks_socket_io()
    }

    /// Opens sessions, if the server has any. Returns a ticket for each page.
    pub(crate) async fn tickets(&self, pages: usize) -> Vec<Option<Ticket>> {
        if !is_ours(&self.kind) {
            return vec![None; pages];
        }
        let tickets = self.get(&format!("/tickets/{pages}")).await;
        let tickets = tickets.lines().map(|ticket| Ticket::parse(ticket).expect("a ticket"));
        tickets.map(Some).collect()
    }

    /// Returns the user and system time of all its threads, from the scheduler.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("the server runs");
        let nanoseconds = tasks.map(|task| {
            let path = task.expect("the server runs").path().join("schedstat");
            let text = std::fs::read_to_string(path).expect("the server runs");
            text.split_whitespace()
                .next()
                .and_then(|field| field.parse::<u64>().ok())
                .expect("nanoseconds")
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Returns the bytes of its resident memory.
    pub(crate) fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).expect("the server runs");
        let pages = statm
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse::<u64>().ok());
        pages.expect("pages") * 4096
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
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

pub(crate) fn is_ours(kind: &str) -> bool {
    kind.starts_with("stillhere")
}

/// Returns how many connections a process may have, with some descriptors left for other things.
pub(crate) fn most_connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.and_then(|files| files.split_whitespace().next()?.parse::<usize>().ok());
    soft.unwrap_or(1024).saturating_sub(64)
}

fn pin(process: u32, core: u32) {
    let _ = Command::new("taskset")
        .args(["-p", "-c", &core.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
