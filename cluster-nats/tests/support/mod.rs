//! A NATS server for each test: a process of its own, on a port of its own.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A NATS server with JetStream that ends with this value.
pub(crate) struct NatsServer {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl NatsServer {
    /// Starts a server. `STILLHERE_NATS_SERVER` names the program; by default it is `nats-server`.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with this in its configuration.
    pub(crate) fn start_with(configuration: &str) -> Self {
        let port = free_port();
        let directory = env::temp_dir().join(format!("stillhere-nats-{}-{port}", std::process::id()));
        fs::create_dir_all(&directory).expect("there is room for a folder");
        fs::write(directory.join(CONFIGURATION), configuration).expect("there is room for a file");
        let process = spawn(port, &directory);
        let server = Self {
            process,
            port,
            directory,
        };
        server.wait_until_ready();
        server
    }

    /// Returns the address to connect to.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the server, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server is our child");
    }

    /// Starts the server again after [`NatsServer::kill`], with what it had stored.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(self.port, &self.directory);
        self.wait_until_ready();
    }

    /// Stops the server's processor time (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn pause(&self, is_paused: bool) {
        pause_process(self.process.id(), is_paused);
    }

    fn wait_until_ready(&self) {
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "nats-server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Stops a process (SIGSTOP), or lets it go on (SIGCONT).
pub(crate) fn pause_process(id: u32, is_paused: bool) {
    let signal = if is_paused { "-STOP" } else { "-CONT" };
    let status = Command::new("kill").args([signal, &id.to_string()]).status();
    assert!(status.expect("kill is installed").success());
    // The signal reaches the threads of the process one after another.
    while is_paused && !is_process_paused(id) {
        thread::yield_now();
    }
}

fn is_process_paused(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("the process runs, on Linux");
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    states.all(|state| state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}

fn spawn(port: u16, directory: &Path) -> Child {
    let program = env::var("STILLHERE_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    Command::new(&program)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(directory)
        .arg("-c")
        .arg(directory.join(CONFIGURATION))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start ({error}): apt-get install nats-server"))
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

const CONFIGURATION: &str = "server.conf";
