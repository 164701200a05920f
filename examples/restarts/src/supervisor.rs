//! Starts the server, and starts it again when it was killed.

use std::env;
use std::io;
use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::thread;

use stillhere_axum::stop_signal;
use tokio::process::{Child, Command};

const CHILD: &str = "RESTARTS_CHILD";

/// Returns true in the process that serves. It ends with its supervisor.
pub(crate) fn is_child() -> bool {
    let is_child = env::var_os(CHILD).is_some();
    if is_child {
        thread::spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(1);
        });
    }
    is_child
}

/// Returns true in the first process that serves.
pub(crate) fn is_first() -> bool {
    env::var(CHILD).is_ok_and(|number| number == "1")
}

/// Runs servers one after another, until one stops by itself or this process is told to stop.
pub(crate) async fn run(address: &str, file: &str) -> io::Result<()> {
    // All servers have the same port, also if the system is to choose one.
    let address = TcpListener::bind(address)?.local_addr()?.to_string();
    let mut stop = Box::pin(stop_signal());
    for number in 1u64.. {
        let mut server = Command::new(env::current_exe()?)
            .args([&address, file])
            .env(CHILD, number.to_string())
            .stdin(Stdio::piped()) // which closes if this process is gone
            .kill_on_drop(true)
            .spawn()?;
        // Waiting would close it.
        let _open_while_this_lives = server.stdin.take();
        let status = tokio::select! {
            status = server.wait() => status?,
            () = &mut stop => return terminate(server).await.map(drop),
        };
        if status.code().is_some() {
            return Err(io::Error::other(format!("the server stopped by itself: {status}")));
        }
        eprintln!("the server was killed; starting another");
    }
    Ok(())
}

async fn terminate(mut server: Child) -> io::Result<ExitStatus> {
    if let Some(id) = server.id() {
        signal("TERM", id).await;
    }
    server.wait().await
}

/// Sends a signal to a process, if it is still there.
pub(crate) async fn signal(name: &str, id: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {id}")])
        .status()
        .await;
    if let Err(error) = sent {
        eprintln!("cannot send {name} to {id}: {error}");
    }
}
