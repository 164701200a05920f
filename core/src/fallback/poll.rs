//! The body of an answer to one poll.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::exchange::Down;

/// What there is to say, or what comes first within `wait`.
pub(crate) async fn next_chunk(down: Arc<Down>, wait: Duration) -> Bytes {
    let waiting = Waiting(Some(&down));
    let chunk = tokio::time::timeout(wait, poll_fn(|context| down.poll_chunk(context))).await;
    waiting.end();
    chunk.ok().flatten().unwrap_or_default()
}

/// A request whose client is gone before the answer is dropped, and that is the end of the connection.
struct Waiting<'a>(Option<&'a Down>);

impl Waiting<'_> {
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(down) = self.0 {
            down.close();
        }
    }
}
