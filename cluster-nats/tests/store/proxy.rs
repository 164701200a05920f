//! A proxy between a store and the server of NATS, which holds answers back or cuts connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::NatsServer;

/// What the client sends when it publishes a message of a session, and when it looks one up.
const PUBLISH: &[u8] = b"HPUB stillhere.sessions.";
const LOOK_UP: &[u8] = b"STREAM.MSG.GET";

/// What happens to a message that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is stored, and no answer arrives before the client looks it up.
    HoldAnswer,
    /// It is stored, and the connection is gone.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    next: Arc<NextFault>,
}

/// The fault that is to happen, after so many messages without one.
#[derive(Default)]
struct NextFault(Mutex<Option<(Fault, u32)>>);

/// What becomes of the answers on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Pass,
    Held,
    Cut,
}

impl Proxy {
    pub(crate) async fn start(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let next = Arc::new(NextFault::default());
        let (of_task, url) = (Arc::clone(&next), server.url());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(url.trim_start_matches("nats://")).await;
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.expect("the server is there").into_split();
                let (answers, of_down) = watch::channel(Answers::Pass);
                tokio::spawn(down(from_server, to_client, of_down));
                tokio::spawn(up(from_client, to_server, Arc::clone(&of_task), answers));
            }
        });
        Self { address, next }
    }

    /// Lets a fault happen to the next message that is published, after so many others.
    pub(crate) fn fail(&self, fault: Fault, after: u32) {
        *self.next.0.lock().expect("no test panics here") = Some((fault, after));
    }

    /// Returns true if the fault has happened.
    pub(crate) fn has_failed(&self) -> bool {
        self.next.0.lock().expect("no test panics here").is_none()
    }
}

impl NextFault {
    /// Returns the fault of a message that is being published.
    fn take(&self) -> Option<Fault> {
        let mut next = self.0.lock().expect("no test panics here");
        match &mut *next {
            Some((fault, 0)) => {
                let fault = *fault;
                *next = None;
                Some(fault)
            }
            Some((_, after)) => {
                *after -= 1;
                None
            }
            None => None,
        }
    }
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, next: Arc<NextFault>, answers: watch::Sender<Answers>) {
    let (mut buffer, mut seen) = (vec![0; 1 << 16], Vec::new());
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // What was looked for may come in two pieces.
        let old = seen.len();
        seen.extend_from_slice(&buffer[..length]);
        let fault = if contains(&seen, PUBLISH, old) {
            next.take()
        } else {
            None
        };
        if fault.is_some() {
            answers.send_replace(Answers::Held);
        } else if contains(&seen, LOOK_UP, old) {
            answers.send_replace(Answers::Pass);
        }
        seen.drain(..seen.len().saturating_sub(PUBLISH.len()));
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        if fault == Some(Fault::Cut) {
            // The rest of the message, which ends with a line, is in the pieces that come.
            let mut last = buffer[..length].to_vec();
            while !last.ends_with(b"\r\n") {
                let Ok(length @ 1..) = from.read(&mut buffer).await else {
                    return;
                };
                last = buffer[..length].to_vec();
                if to.write_all(&last).await.is_err() {
                    return;
                }
            }
            answers.send_replace(Answers::Cut);
            return;
        }
    }
}

/// Returns true if `bytes` contain this, and it ends after `old`.
fn contains(bytes: &[u8], wanted: &[u8], old: usize) -> bool {
    let mut windows = bytes.windows(wanted.len()).enumerate();
    windows.any(|(at, window)| window == wanted && at + wanted.len() > old)
}

async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut answers: watch::Receiver<Answers>) {
    let mut of_reader = answers.clone();
    let passing = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let passes = of_reader.wait_for(|answers| *answers == Answers::Pass).await.is_ok();
            if !passes || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        Ok(_) = answers.wait_for(|answers| *answers == Answers::Cut) => {}
        () = passing => {}
    }
}
