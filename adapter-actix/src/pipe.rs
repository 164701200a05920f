//! A pipe from a WebSocket's writes to the body of the response that was upgraded. Both ends stay
//! on the worker's thread.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::web::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::AsyncWrite;

/// Number of bytes in the pipe from which the writer waits.
const ROOM: usize = 16 * 1024;

/// Returns both ends of a pipe.
pub(crate) fn pipe() -> (Writer, Body) {
    let state = Rc::<RefCell<State>>::default();
    (Writer(Rc::clone(&state)), Body(state))
}

#[derive(Default)]
struct State {
    /// Bytes for the body. Holds no memory while it is empty.
    written: BytesMut,
    is_finished: bool,
    is_gone: bool,
    writer: Option<Waker>,
    body: Option<Waker>,
}

/// The writing end. Written bytes appear in the body at the next flush. Dropping it ends the body.
pub(crate) struct Writer(Rc<RefCell<State>>);

impl Writer {
    fn wake_body(&self) {
        let waker = self.0.borrow_mut().body.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        {
            let mut state = self.0.borrow_mut();
            if state.is_gone {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if state.written.len() < ROOM {
                // Takes all bytes at once, so that they are one chunk and cost one system call.
                let length = slices.iter().map(|slice| slice.len()).sum();
                state.written.reserve(length);
                slices.iter().for_each(|slice| state.written.extend_from_slice(slice));
                return Poll::Ready(Ok(length));
            }
            state.writer = Some(context.waker().clone());
        }
        self.wake_body();
        Poll::Pending
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wake_body();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().is_finished = true;
        self.wake_body();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.borrow_mut().is_finished = true;
        self.wake_body();
    }
}

/// The body of the response. Dropping it fails the next write.
pub(crate) struct Body(Rc<RefCell<State>>);

impl Stream for Body {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.borrow_mut();
        if state.written.is_empty() {
            if state.is_finished {
                return Poll::Ready(None);
            }
            state.body = Some(context.waker().clone());
            return Poll::Pending;
        }
        let chunk = std::mem::take(&mut state.written).freeze();
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.is_gone = true;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, StreamExt as _};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn flushed_bytes_are_one_chunk() {
        let (mut writer, mut body) = pipe();
        writer.write_all(b"a frame, ").await.expect("the body is there");
        writer.write_all(&[b'x'; 3 * ROOM]).await.expect("the body is there");
        writer.flush().await.expect("the body is there");
        let chunk = body
            .next()
            .await
            .expect("the writer is there")
            .expect("reading cannot fail");
        assert_eq!(chunk.len(), 9 + 3 * ROOM);
        assert_eq!(body.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_full_pipe_makes_its_writer_wait_until_the_body_has_taken_all() {
        let (mut writer, mut body) = pipe();
        writer.write_all(&[1; ROOM]).await.expect("the body is there");
        let (written, chunk) = tokio::join!(writer.write_all(b"more"), async {
            tokio::task::yield_now().await;
            body.next().await
        });
        written.expect("the body is there");
        assert_eq!(chunk, Some(Ok(vec![1; ROOM].into())));
        drop(writer);
        assert_eq!(body.next().await, Some(Ok("more".into())));
        assert_eq!(body.next().await, None);
    }

    #[tokio::test]
    async fn a_waiting_end_learns_that_the_other_one_was_dropped() {
        let (mut writer, body) = pipe();
        writer.write_all(&[1; ROOM]).await.expect("the body is there");
        let mut waiting = pin!(writer.write_all(b"more"));
        assert!(waiting.as_mut().now_or_never().is_none());
        let (written, ()) = tokio::join!(waiting, async { drop(body) });
        assert_eq!(written.expect_err("the body is gone").kind(), io::ErrorKind::BrokenPipe);

        let (writer, mut body) = pipe();
        let (chunk, ()) = tokio::join!(body.next(), async { drop(writer) });
        assert_eq!(chunk, None);
    }
}
