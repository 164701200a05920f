//! The body of an answer that carries what a connection has to say.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use crate::exchange::Down;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct DownStream {
    down: Arc<Down>,
    mode: Mode,
    /// When something is sent for want of anything to say.
    quiet: Pin<Box<Sleep>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Carries all there is until the connection is over; its end is the connection's.
    Streamed,
    /// Carries what there is, or becomes, within a while.
    Polled { is_done: bool },
}

impl DownStream {
    /// Streams, or waits for something to say once, for so long.
    pub(crate) fn new(down: Arc<Down>, wait: Option<Duration>) -> Self {
        let mode = wait.map_or(Mode::Streamed, |_| Mode::Polled { is_done: false });
        // A streamed answer begins at once: some proxies hold the head back until there is a body.
        let quiet = tokio::time::sleep(wait.unwrap_or_default());
        Self {
            down,
            mode,
            quiet: Box::pin(quiet),
        }
    }
}

impl Stream for DownStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.mode == (Mode::Polled { is_done: true }) {
            return Poll::Ready(None);
        }
        let chunk = match self.down.poll_chunk(context) {
            Poll::Ready(chunk) => chunk,
            Poll::Pending if self.quiet.as_mut().poll(context).is_pending() => return Poll::Pending,
            Poll::Pending if self.mode == Mode::Streamed => Some(Bytes::from_static(&[0; 4])),
            Poll::Pending => None,
        };
        match self.mode {
            Mode::Streamed => self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE),
            Mode::Polled { .. } => self.mode = Mode::Polled { is_done: true },
        }
        Poll::Ready(chunk)
    }
}

impl Drop for DownStream {
    fn drop(&mut self) {
        if self.mode == Mode::Streamed {
            self.down.close();
        }
    }
}

/// A quarter of the 60 s after which nginx cuts a quiet answer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
