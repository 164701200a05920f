//! Moves frames between a document's machine and its connections.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use stillhere_proto::machine::{Action, DocumentPhase};
use tokio::time::{Sleep, timeout};

use crate::connection::{Connection, ConnectionError, Connector, Opening, Packet};
use crate::shared::{Shared, now};

/// The task of one client. It completes when the session has ended, or the client is closed or
/// dropped.
#[must_use = "a client does nothing until its driver is polled"]
pub struct Driver {
    shared: Arc<Shared>,
    connector: Box<dyn Connector>,
    link: Link,
    /// Connections that the machine no longer uses, until they are closed.
    closing: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Why the last attempt failed, for the status.
    hindrance: String,
    timer: Pin<Box<Sleep>>,
    /// When `timer` fires.
    timer_at: Option<Instant>,
}

/// The connection of the newest attempt.
enum Link {
    Down,
    Opening(u64, Opening),
    Up {
        attempt: u64,
        connection: Box<dyn Connection>,
        unflushed: bool,
    },
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, connector: Box<dyn Connector>) -> Self {
        Self {
            shared,
            connector,
            link: Link::Down,
            closing: FuturesUnordered::new(),
            hindrance: String::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: None,
        }
    }

    /// Carries out the actions that the machine requests.
    fn act(&mut self) -> bool {
        let action = self.shared.lock().machine.poll_action();
        match action {
            Some(Action::Connect(attempt)) => {
                self.hang_up(None);
                self.link = Link::Opening(attempt, self.connector.connect());
            }
            Some(Action::Close(attempt, code)) if self.link.attempt() == Some(attempt) => {
                self.hang_up(Some(u16::try_from(code).unwrap_or(NORMAL)));
            }
            Some(Action::Close(..)) => {}
            None => return false,
        }
        true
    }

    /// Ends the current connection. `code` is the close code if the client closes it.
    fn hang_up(&mut self, code: Option<u16>) {
        if let Link::Up { connection, .. } = mem::replace(&mut self.link, Link::Down) {
            self.closing.push(Box::pin(close(connection, code)));
        }
    }

    fn poll_opening(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Opening(attempt, opening) = &mut self.link else {
            return false;
        };
        let attempt = *attempt;
        let Poll::Ready(opened) = opening.as_mut().poll(context) else {
            return false;
        };
        match opened {
            Ok(connection) => {
                self.link = Link::Up {
                    attempt,
                    connection,
                    unflushed: false,
                };
                self.shared.lock().machine.handle_open(attempt, now());
            }
            Err(error) => self.lose(attempt, LOST, Some(&error)),
        }
        true
    }

    fn lose(&mut self, attempt: u64, code: u16, error: Option<&ConnectionError>) {
        self.hang_up(None);
        self.hindrance = error.map_or_else(String::new, ToString::to_string);
        self.shared.lock().machine.handle_close(attempt, code.into(), now());
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Up {
            attempt, connection, ..
        } = &mut self.link
        else {
            return false;
        };
        let attempt = *attempt;
        let Poll::Ready(packet) = Pin::new(connection).poll_next(context) else {
            return false;
        };
        match packet {
            Some(Ok(Packet::Frame(bytes))) => self.shared.lock().machine.handle_frame(attempt, bytes, now()),
            Some(Ok(Packet::Close(code))) => self.lose(attempt, code, None),
            Some(Err(ConnectionError::TooLarge)) if self.is_connected() => {
                // The machine needs the connection to send `leave` before it closes.
                self.shared.lock().machine.handle_bad_payload(true);
            }
            Some(Err(error)) => self.lose(attempt, LOST, Some(&error)),
            None => self.lose(attempt, LOST, None),
        }
        true
    }

    fn is_connected(&self) -> bool {
        self.shared.lock().machine.phase() == DocumentPhase::Connected
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.shared.lock().machine.poll_timeout();
        let Some(deadline) = deadline else { return false };
        if self.timer_at != Some(deadline) {
            self.timer_at = Some(deadline);
            self.timer.as_mut().reset(deadline.into());
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return false;
        }
        self.timer_at = None;
        self.shared.lock().machine.handle_timeout(now());
        true
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Up {
            attempt,
            connection,
            unflushed,
        } = &mut self.link
        else {
            return false;
        };
        let mut connection = Pin::new(connection);
        let mut progress = false;
        // Reading reports why a connection failed, so write errors are ignored.
        while let Poll::Ready(Ok(())) = connection.as_mut().poll_ready(context) {
            let frame = self.shared.lock().machine.poll_transmit(*attempt, true, now());
            let Some(frame) = frame else { break };
            let _ = connection.as_mut().start_send(Packet::Frame(frame.to_bytes()));
            *unflushed = true;
            progress = true;
        }
        if *unflushed && connection.as_mut().poll_flush(context).is_ready() {
            *unflushed = false;
        }
        progress
    }

    /// Passes the machine's events to the connector and updates the status.
    fn publish(&mut self) -> bool {
        let mut progress = false;
        loop {
            let event = self.shared.lock().machine.poll_event();
            let Some(event) = event else { return progress };
            self.connector.observe(&event);
            let kind = match &self.link {
                Link::Up { connection, .. } => connection.kind(),
                Link::Down | Link::Opening(..) => "",
            };
            self.shared.status.send_if_modified(|status| {
                let after = status.after(&event, kind, &self.hindrance);
                after.map(|after| *status = after).is_some()
            });
            progress = true;
        }
    }

    fn is_done(&self) -> bool {
        let state = self.shared.lock();
        let is_over = state.is_closed || state.machine.phase() == DocumentPhase::Over;
        is_over && matches!(self.link, Link::Down) && self.closing.is_empty()
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        driver.shared.driver.register(context.waker());
        for _ in 0..TURNS {
            if driver.shared.lock().is_dropped {
                return Poll::Ready(());
            }
            let progress = [
                driver.act(),
                driver.poll_opening(context),
                driver.poll_read(context),
                driver.poll_timer(context),
                driver.poll_write(context),
                driver.publish(),
                matches!(driver.closing.poll_next_unpin(context), Poll::Ready(Some(()))),
            ];
            if progress.contains(&true) {
                driver.shared.changed.send_replace(());
            } else if driver.is_done() {
                driver.shared.lock().is_done = true;
                driver.shared.changed.send_replace(());
                return Poll::Ready(());
            } else {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Link {
    fn attempt(&self) -> Option<u64> {
        match self {
            Self::Down => None,
            Self::Opening(attempt, _) | Self::Up { attempt, .. } => Some(*attempt),
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("attempt", &self.link.attempt())
            .finish_non_exhaustive()
    }
}

/// Closes a connection with this code, or answers the other side's close. Then reads to the end.
async fn close(mut connection: Box<dyn Connection>, code: Option<u16>) {
    let closing = async {
        let closed = match code {
            Some(code) => connection.send(Packet::Close(code)).await,
            None => connection.close().await,
        };
        if closed.is_ok() {
            while let Some(Ok(_)) = connection.next().await {}
        }
    };
    let _ = timeout(CLOSE_DEADLINE, closing).await;
}

/// Number of turns that the driver takes before it yields to other tasks.
const TURNS: usize = 64;

/// How long a connection may take to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The code of a connection that ended without a close.
const LOST: u16 = 1006;

/// The close code of an end without an error.
const NORMAL: u16 = 1000;
