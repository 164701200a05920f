//! The body of a streamed answer, which carries all packets of a connection to the client.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use crate::exchange::Down;

/// The body of a streamed answer. The connection ends when the body ends or is dropped.
#[derive(Debug)]
pub(crate) struct DownStream {
    down: Arc<Down>,
    /// When to send a keep-alive.
    quiet: Pin<Box<Sleep>>,
}

impl DownStream {
    /// Starts with a keep-alive, because some proxies hold back the head until the body starts.
    pub(crate) fn new(down: Arc<Down>) -> Self {
        Self {
            down,
            quiet: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl Stream for DownStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let chunk = match self.down.poll_chunk(context) {
            Poll::Ready(chunk) => chunk,
            Poll::Pending => {
                ready!(self.quiet.as_mut().poll(context));
                Some(Bytes::from_static(&[0; 4]))
            }
        };
        self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(chunk)
    }
}

impl Drop for DownStream {
    fn drop(&mut self) {
        self.down.close();
    }
}

/// A quarter of the 60 s after which nginx cuts a silent answer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
