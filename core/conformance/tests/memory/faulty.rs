//! A stream that distorts the server's WebSocket frames on purpose.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::server::Fault;

#[derive(Debug)]
pub(crate) struct Faulty<S> {
    stream: S,
    fault: Option<Fault>,
    /// Bytes that are still to be written.
    pending: Vec<u8>,
}

impl<S> Faulty<S> {
    pub(crate) fn new(stream: S, fault: Option<Fault>) -> Self {
        Self {
            stream,
            fault,
            pending: Vec::new(),
        }
    }

    /// Returns the frames of `bytes`, distorted. They are whole, because tungstenite starts each
    /// write with a frame and the messages here are small.
    fn distort(&mut self, mut bytes: &[u8]) {
        while let [first, second, ..] = *bytes {
            let header = match second {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            let length = match second {
                126 | 127 => bytes[2..header]
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                small => usize::from(small),
            };
            let (frame, rest) = bytes.split_at((header + length).min(bytes.len()));
            bytes = rest;
            match (self.fault, first & 0x0f) {
                (Some(Fault::NoPong), 0xa) => {}
                (Some(Fault::LostCloseCode), 0x8) => self.pending.extend([0x88, 0]),
                _ => self.pending.extend(frame),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Faulty<S> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.pending))?;
            self.pending.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faulty<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Faulty<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !matches!(self.fault, Some(Fault::NoPong | Fault::LostCloseCode)) {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        ready!(self.poll_drain(context))?;
        self.distort(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
