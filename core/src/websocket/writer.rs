//! Writes frames of a WebSocket server (RFC 6455, section 5).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

/// Frames that have not been written yet. Short payloads are copied together, and long ones stay
/// where they are, so that one system call writes all of it and no long payload is copied.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Headers and short payloads.
    short: Vec<u8>,
    /// Bytes of `short` that have been written.
    written: usize,
    /// What is left of each long payload, with its position in `short`.
    long: VecDeque<(usize, Bytes)>,
    /// Bytes queued since the queue was last empty.
    queued: usize,
}

impl Writer {
    /// Queues a frame.
    pub(super) fn push(&mut self, opcode: u8, payload: Bytes) {
        const FINAL: u8 = 0x80;
        self.short.push(FINAL | opcode);
        match payload.len() {
            length @ ..126 => self.short.push(length as u8),
            length @ ..65_536 => {
                self.short.push(126);
                self.short.extend((length as u16).to_be_bytes());
            }
            length => {
                self.short.push(127);
                self.short.extend((length as u64).to_be_bytes());
            }
        }
        self.queued += HEADER_MAX + payload.len();
        if payload.len() < LONG {
            self.short.extend_from_slice(&payload);
        } else {
            self.long.push_back((self.short.len(), payload));
        }
    }

    /// Returns true if enough is queued to be written first.
    pub(super) fn is_full(&self) -> bool {
        self.queued >= FULL
    }

    /// Writes everything that is queued.
    pub(super) fn poll_write(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.short.len() || !self.long.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.slices(&mut slices);
            let written = match &slices[..count] {
                [one] => ready!(io.as_mut().poll_write(context, one))?,
                several => ready!(io.as_mut().poll_write_vectored(context, several))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    /// Fills in what comes next. Returns the number of slices.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        let mut from = self.written;
        let ends = self.long.iter().map(|(position, payload)| (*position, &payload[..]));
        for (position, payload) in ends.chain([(self.short.len(), &[][..])]) {
            for part in [&self.short[from..position], payload] {
                if !part.is_empty() && count < SLICES {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
            from = position;
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let position = self.long.front().map_or(self.short.len(), |(position, _)| *position);
            let short = written.min(position - self.written);
            self.written += short;
            written -= short;
            let Some((_, payload)) = self.long.front_mut().filter(|_| written > 0) else {
                continue;
            };
            let long = written.min(payload.len());
            payload.advance(long);
            written -= long;
            if payload.is_empty() {
                self.long.pop_front();
            }
        }
    }

    fn clear(&mut self) {
        self.queued = 0;
        self.written = 0;
        self.short.clear();
        self.short.shrink_to(IDLE_CAPACITY);
        self.long.shrink_to(0);
    }
}

/// Bytes of a payload from which it is not copied.
const LONG: usize = 4 * 1024;

/// Bytes after which nothing is queued until all have been written.
const FULL: usize = 64 * 1024;

/// Most slices that one system call writes.
const SLICES: usize = 32;

/// Most bytes in the header of a frame without a mask.
const HEADER_MAX: usize = 10;

/// Room that an empty queue keeps, in bytes.
const IDLE_CAPACITY: usize = 1024;
