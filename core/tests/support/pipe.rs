//! A pair of connected ends that carry packets, and that a test can block.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_util::{Sink, Stream};
use stillhere::ConnectionError;
use stillhere::connection::Packet;

pub(crate) fn pipe() -> (ServerEnd, BrowserEnd) {
    let state = Arc::new(Mutex::new(State::default()));
    (
        ServerEnd {
            state: Arc::clone(&state),
            limit: usize::MAX,
        },
        BrowserEnd { state },
    )
}

#[derive(Debug, Default)]
struct State {
    to_server: VecDeque<Result<Packet, ConnectionError>>,
    /// Written but not flushed, so not yet delivered.
    written: VecDeque<Packet>,
    to_browser: VecDeque<Packet>,
    browser_gone: bool,
    server_gone: bool,
    /// Whether the server's writes find no room.
    blocked: bool,
    /// How often the server asked for input. A loop that spins asks very often.
    polls: usize,
    server: Option<Waker>,
    writer: Option<Waker>,
    browser: Option<Waker>,
}

/// The end for `run_connection_loop`.
#[derive(Debug)]
pub(crate) struct ServerEnd {
    state: Arc<Mutex<State>>,
    /// The largest packet that it takes, in bytes.
    limit: usize,
}

/// The other end. Dropping it cuts the connection.
#[derive(Debug)]
pub(crate) struct BrowserEnd {
    state: Arc<Mutex<State>>,
}

impl ServerEnd {
    /// Refuses larger packets, as the transport of an adapter does.
    pub(crate) fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut state = self.state();
        if state.browser_gone {
            return Poll::Ready(Err(ConnectionError::Failed("the browser is gone".into())));
        }
        if state.blocked {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for ServerEnd {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.state();
        state.polls += 1;
        if let Some(packet) = state.to_server.pop_front() {
            let is_too_large = matches!(&packet, Ok(Packet::Binary(bytes)) if bytes.len() > self.limit);
            return Poll::Ready(Some(if is_too_large {
                Err(ConnectionError::TooLarge)
            } else {
                packet
            }));
        }
        if state.browser_gone {
            return Poll::Ready(None);
        }
        state.server = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Sink<Packet> for ServerEnd {
    type Error = ConnectionError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.poll_writable(context)
    }

    fn start_send(self: Pin<&mut Self>, packet: Packet) -> Result<(), ConnectionError> {
        self.state().written.push_back(packet);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let writable = self.poll_writable(context);
        if matches!(writable, Poll::Ready(Ok(()))) {
            let mut state = self.state();
            let written = std::mem::take(&mut state.written);
            state.to_browser.extend(written);
            wake(&mut state.browser);
        }
        writable
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.poll_flush(context)
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut state = self.state();
        state.server_gone = true;
        wake(&mut state.browser);
    }
}

impl BrowserEnd {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    pub(crate) fn send(&self, packet: Packet) {
        self.give(Ok(packet));
    }

    /// Makes the server's next read fail with this error.
    pub(crate) fn fail(&self, error: ConnectionError) {
        self.give(Err(error));
    }

    fn give(&self, packet: Result<Packet, ConnectionError>) {
        let mut state = self.state();
        state.to_server.push_back(packet);
        wake(&mut state.server);
    }

    /// Waits for the next packet. Returns `None` after the server has dropped the connection.
    pub(crate) async fn receive(&self) -> Option<Packet> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    pub(crate) fn poll_receive(&self, context: &mut Context<'_>) -> Poll<Option<Packet>> {
        let mut state = self.state();
        if let Some(packet) = state.to_browser.pop_front() {
            return Poll::Ready(Some(packet));
        }
        if state.server_gone {
            return Poll::Ready(None);
        }
        state.browser = Some(context.waker().clone());
        Poll::Pending
    }

    /// Sets whether the server's writes find no room from now on.
    pub(crate) fn block(&self, blocked: bool) {
        let mut state = self.state();
        state.blocked = blocked;
        if !blocked {
            wake(&mut state.writer);
        }
    }

    /// Returns how many packets the server has not read.
    pub(crate) fn unread(&self) -> usize {
        self.state().to_server.len()
    }

    /// Returns how often the server has asked for input.
    pub(crate) fn polls(&self) -> usize {
        self.state().polls
    }

    pub(crate) fn is_server_gone(&self) -> bool {
        self.state().server_gone
    }
}

impl Drop for BrowserEnd {
    fn drop(&mut self) {
        let mut state = self.state();
        state.browser_gone = true;
        wake(&mut state.server);
        wake(&mut state.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
