//! A server in a process of its own, and the resources that it uses.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Memory {
    live: i64,
    resident: i64,
}

impl Memory {
    pub(crate) fn since(&self, before: &Self, count: usize) -> String {
        format!(
            "{} ({})",
            (self.live - before.live) / count as i64,
            (self.resident - before.resident) / count as i64
        )
    }
}

impl Server {
    pub(crate) fn start(kind: &str) -> Self {
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
            address: line.trim().parse().expect("the address is valid"),
        }
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
                .expect("the value is in nanoseconds")
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    pub(crate) async fn memory(&self) -> Memory {
        let live = self.get("/live").await.trim().parse().expect("the value is a number");
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).expect("the server runs");
        let pages: i64 = statm
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .expect("the value is a number of pages");
        Memory {
            live,
            resident: pages * 4096,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("the server listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("the server answers");
        response
            .split_once("\r\n\r\n")
            .expect("the response has a head and a body")
            .1
            .to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("the process is our child");
        self.process.wait().expect("the process is our child");
    }
}

fn pin(process: u32, core: u32) {
    let _ = Command::new("taskset")
        .args(["-p", "-c", &core.to_string(), &process.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
