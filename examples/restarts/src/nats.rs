//! A NATS server for the nodes, with its files in a temporary folder.
//!
//! `nats-server` does not notice when the program that has started it is gone. So a process of its
//! own keeps it: that ends when its input closes, and takes the server and the folder with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use crate::arguments::KEEP_NATS;
use crate::supervisor;

const PROGRAM: &str = "nats-server";
const LOG: &str = "nats-server.log";

/// A running NATS server, which ends soon after this value.
pub(crate) struct NatsServer {
    pub(crate) url: String,
    keeper: Child,
    _open_while_this_lives: Option<ChildStdin>,
}

impl NatsServer {
    /// Starts a server on a free port, and waits until it takes connections.
    pub(crate) async fn start() -> io::Result<Self> {
        let mut command = supervisor::child(&[KEEP_NATS])?;
        // Ctrl-C reaches the group of this process, and the nodes need NATS until they have ended.
        // Killing the keeper would leave NATS alone.
        let mut keeper = command.process_group(0).kill_on_drop(false).spawn()?;
        let stdin = keeper.stdin.take();
        let mut output = BufReader::new(keeper.stdout.take().expect("it is piped")).lines();
        let Some(url) = output.next_line().await? else {
            return Err(io::Error::other("without NATS there are no nodes")); // the keeper said why
        };
        Ok(Self {
            url,
            keeper,
            _open_while_this_lives: stdin,
        })
    }

    /// Waits until the server has ended by itself.
    pub(crate) async fn ended(&mut self) -> io::Error {
        let status = self.keeper.wait().await;
        status.map_or_else(
            |error| error,
            |status| io::Error::other(format!("{PROGRAM} stopped by itself: {status}")),
        )
    }
}

/// Runs a server until the input of this process closes. Prints its URL.
pub(crate) async fn keep() -> io::Result<()> {
    let folder = Folder(env::temp_dir().join(format!("stillhere-restarts-{}", std::process::id())));
    fs::create_dir(&folder.0)?;
    let address = free_address()?;
    let mut server = spawn(address, &folder.0)?;
    let (close, closed) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = close.send(());
    });
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("nats://{address}");
        let _ = closed.await;
    };
    tokio::select! {
        () = listening => server.kill().await,
        status = server.wait() => Err(failure(status?, &folder.0)),
    }
}

fn spawn(address: SocketAddr, folder: &Path) -> io::Result<Child> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = Command::new(PROGRAM);
    command.args(["-a", &host, "-p", &port, "-js", "-sd"]).arg(folder);
    command.arg("-l").arg(folder.join(LOG));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => {
                "; several nodes need it in PATH: apt-get install nats-server, or \
                 https://nats.io/download"
            }
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot start {PROGRAM}: {error}{advice}"))
    })
}

fn failure(status: ExitStatus, folder: &Path) -> io::Error {
    let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    io::Error::other(format!("{PROGRAM} stopped by itself: {status}\n{log}"))
}

/// Returns an address that was free a moment ago.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
