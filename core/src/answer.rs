//! What is answered to a request under the mount that is no WebSocket's.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

/// An answer for the adapter to send.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers to send.
    pub headers: Vec<(&'static str, String)>,
    /// What follows them.
    pub body: AnswerBody,
}

/// The body of an [`Answer`]. With the feature `upgrade` it is an `http_body::Body`, which frameworks on hyper take as it is.
#[derive(Debug)]
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// What comes as it comes: each chunk is to be sent at once. When the browser is gone, drop it.
    Stream(Chunks),
}

/// Chunks of a body, until it ends.
pub struct Chunks(pub(crate) Pin<Box<dyn Stream<Item = Bytes> + Send + Sync>>);

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context).map(|chunk| chunk.map(Ok))
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").finish_non_exhaustive()
    }
}

#[cfg(feature = "upgrade")]
impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(http_body::Frame::data(std::mem::take(bytes))))),
            Self::Stream(chunks) => {
                let chunk = Pin::new(chunks).poll_next(context);
                chunk.map(|chunk| chunk.map(|bytes| bytes.map(http_body::Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => http_body::SizeHint::default(),
        }
    }
}

impl Answer {
    pub(crate) fn not_found() -> Self {
        Self::text(404, "nothing here: a session is reached by a WebSocket or by POSTs")
    }

    pub(crate) fn text(status: u16, text: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
            body: AnswerBody::Whole(text.into()),
        }
    }
}
