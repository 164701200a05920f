//! Starts a server, and starts it again when it was killed.

use std::env;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use stillhere_axum::stop_signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::arguments::CHILD;

/// Runs servers on this file one after another, until one stops by itself or this process is told
/// to stop.
pub(crate) async fn run(address: &str, file: &str) -> io::Result<()> {
    // All servers have the same port, also if the system is to choose one.
    let address = TcpListener::bind(address)?.local_addr()?.to_string();
    let mut is_first = true;
    let serves = || {
        if std::mem::replace(&mut is_first, false) {
            println!("http://{address}");
        }
    };
    keep_running("the server", &[&address, file], Duration::ZERO, serves).await
}

/// Runs processes with these arguments one after another, with a pause between them, until one
/// stops by itself or this process is told to stop. Calls `serves` whenever one begins to serve.
pub(crate) async fn keep_running(
    name: &str,
    arguments: &[&str],
    pause: Duration,
    mut serves: impl FnMut(),
) -> io::Result<()> {
    let mut stop = pin!(stop_signal());
    loop {
        let mut server = child(arguments)?.spawn()?;
        // Waiting would close it.
        let _open_while_this_lives = server.stdin.take();
        let mut output = BufReader::new(server.stdout.take().expect("it is piped")).lines();
        let running = async {
            if output.next_line().await?.is_some() {
                serves();
            }
            server.wait().await
        };
        let status = tokio::select! {
            status = running => status?,
            () = &mut stop => return terminate(server).await.map(drop),
        };
        if status.code().is_some() {
            return Err(io::Error::other(format!("{name} stopped by itself: {status}")));
        }
        eprintln!("{name} was killed; starting another");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// Returns a command that runs this program as a child, which ends with this process and prints a
/// line when it serves.
pub(crate) fn child(arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(CHILD).args(arguments);
    command.stdin(Stdio::piped()); // which closes if this process is gone
    command.stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// Ends this process, a child, when its supervisor has ended.
pub(crate) fn end_with_supervisor() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    });
}

/// Ends this process as `kill -9` does: nothing is saved or said.
pub(crate) async fn kill_this_process() {
    signal("KILL", std::process::id()).await;
}

async fn terminate(mut server: Child) -> io::Result<ExitStatus> {
    if let Some(id) = server.id() {
        signal("TERM", id).await;
    }
    server.wait().await
}

/// Sends a signal to a process, if it is still there.
async fn signal(name: &str, id: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {id}")])
        .status()
        .await;
    if let Err(error) = sent {
        eprintln!("cannot send {name} to {id}: {error}");
    }
}
