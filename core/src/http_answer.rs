//! HTTP answers to requests under the mount that do not open a WebSocket.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

/// An HTTP response for the adapter to send.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// Names, in lower case, and values of the headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for answers such as 304.
    pub body: AnswerBody,
}

/// The body of an [`Answer`]. With the feature `upgrade` it implements `http_body::Body`, so that
/// frameworks based on hyper can send it directly.
#[derive(Debug)]
pub enum AnswerBody {
    /// The whole body.
    Whole(Bytes),
    /// A body that is produced over time. Send each chunk as soon as it is available. Drop the
    /// stream when the browser disconnects.
    Stream(Chunks),
}

/// Stream of the chunks of a body. It never yields an error.
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
        Self::text(
            404,
            "not found: use a WebSocket or POST requests to connect to a session",
        )
    }

    pub(crate) fn text(status: u16, text: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
            body: AnswerBody::Whole(text.into()),
        }
    }
}
