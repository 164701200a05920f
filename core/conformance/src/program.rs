//! Runs an example program as a process of its own.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use crate::patience::within;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub struct Program {
    /// The address on which the program listens, read from its output.
    pub address: SocketAddr,
    child: Child,
}

impl Program {
    /// Starts a program on a free loopback port, with these additional arguments, and waits until
    /// it listens.
    pub async fn start(path: &str, arguments: &[&str]) -> Self {
        let arguments = [&["--addr", "127.0.0.1:0"], arguments].concat();
        Self::run(path, &arguments).await.expect("the program listens")
    }

    /// Starts a program that takes its address as its first argument. Returns `None` if it exits
    /// before it listens, which means that the port is taken.
    pub async fn start_at(path: &str, address: &str, arguments: &[&str]) -> Option<Self> {
        Self::run(path, &[&[address], arguments].concat()).await
    }

    async fn run(path: &str, arguments: &[&str]) -> Option<Self> {
        // Raises the limit of open files to its maximum. A usual limit is 1024, but 500 clients and
        // the demo's proxy need more.
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -S -n "$(ulimit -H -n)"; exec "$0" "$@""#, path]);
        command.args(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = within("the program listens", lines.next_line()).await;
        let line = line.expect("it can be read")?;
        let (_, address) = line.split_once("http://").expect("it is an address of HTTP");
        Some(Self {
            address: address.parse().expect("it is a host and a port"),
            child,
        })
    }

    /// Starts a program that prints nothing, and waits until it listens at this address.
    pub async fn start_silently(path: &str, address: SocketAddr) -> Self {
        let is_taken = TcpStream::connect(address).await.is_ok();
        assert!(
            !is_taken,
            "something else listens at {address}: stop it and run the test again"
        );
        let child = Command::new(path)
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        within("the program listens", async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        Self { address, child }
    }

    /// Sends SIGTERM, as a deployment does.
    pub async fn terminate(&self) {
        let id = self.child.id().expect("the program runs");
        let killed = Command::new("sh")
            .args(["-c", &format!("kill -TERM {id}")])
            .status()
            .await;
        assert!(killed.expect("the shell starts").success(), "the program runs");
    }

    /// Waits until the process has exited.
    pub async fn exit(&mut self) -> ExitStatus {
        let status = within("the program ends", self.child.wait()).await;
        status.expect("it can be waited for")
    }
}
