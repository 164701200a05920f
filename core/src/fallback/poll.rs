//! The body of an answer to one poll.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;

use crate::exchange::Down;

/// Returns the packets that are ready or become ready within `wait`. Empty if there are none.
pub(crate) async fn next_chunk(down: &Down, wait: Duration) -> Bytes {
    let waiting = Waiting(Some(down));
    let chunk = tokio::time::timeout(wait, poll_fn(|context| down.poll_chunk(context))).await;
    waiting.end();
    chunk.ok().flatten().unwrap_or_default()
}

/// Ends the connection if it is dropped while it waits: servers drop a request when its client
/// disconnects.
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
