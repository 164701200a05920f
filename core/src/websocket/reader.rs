//! Reads what the client of a WebSocket sends: frames (RFC 6455, section 5), joined to messages.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::connection::ConnectionError;

/// What the client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Binary(Bytes),
    Text(Bytes),
    Ping(Bytes),
    Pong,
    /// The code is `None` if the frame has none.
    Close(Option<u16>),
}

/// Bytes that have been read, up to the next whole message.
#[derive(Debug)]
pub(super) struct Reader {
    /// Most bytes in a message.
    limit: usize,
    /// Bytes that were read and not yet parsed.
    buffer: BytesMut,
    /// A message of which more frames follow. Boxed, because browsers hardly ever send one.
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
}

/// How a client broke RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("the WebSocket frame is malformed: {0}")]
    Malformed(&'static str),
    #[error("a text message is not UTF-8")]
    NotUtf8,
}

impl Violation {
    /// Returns the close code for it (RFC 6455, section 7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Malformed(_) => 1002,
            Self::NotUtf8 => 1007,
        }
    }
}

impl From<Violation> for ConnectionError {
    fn from(violation: Violation) -> Self {
        Self::Failed(violation.into())
    }
}

/// Why a message cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Violation(Violation),
    TooLarge,
    Io(io::Error),
}

impl From<Violation> for ReadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Reader {
    /// `already_read` is the beginning of the stream.
    pub(super) fn new(already_read: Vec<u8>, limit: usize) -> Self {
        Self {
            limit,
            buffer: Bytes::from(already_read).into(),
            partial: None,
        }
    }

    /// Returns the next message or control frame, or `None` at the end of the stream.
    #[inline]
    pub(super) fn poll_next(
        &mut self,
        mut io: Pin<&mut (impl AsyncRead + Unpin)>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Incoming, ReadError>>> {
        loop {
            match self.next_in_buffer() {
                Ok(Some(incoming)) => return Poll::Ready(Some(Ok(incoming))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.poll_fill(io.as_mut(), context)) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(ReadError::Io(error)))),
            }
        }
    }

    #[inline]
    fn next_in_buffer(&mut self) -> Result<Option<Incoming>, ReadError> {
        while let Some(header) = Header::parse(&self.buffer)? {
            self.check(&header)?;
            let Some(payload) = self.take_payload(&header) else {
                break;
            };
            if let Some(incoming) = self.accept(&header, payload)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    /// Reads more bytes of the stream. Returns their number.
    ///
    /// Short frames are read into the stack, so that an idle connection needs no buffer. Of a long
    /// one the rest is read to where it stays.
    #[inline(never)] // Or else its 20 KiB of stack would be reserved for each message.
    fn poll_fill(
        &mut self,
        mut io: Pin<&mut (impl AsyncRead + Unpin)>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Some(missing) = self.missing() {
            let room = missing.min(self.buffer.len().max(GROWTH));
            self.buffer.reserve(room);
            let mut buffer = (&mut self.buffer).limit(room);
            return pin!(io.read_buf(&mut buffer)).poll(context);
        }
        let mut scratch = [MaybeUninit::uninit(); SCRATCH];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        match io.poll_read(context, &mut scratch) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                // The rest of a short frame should not keep the block that it was read into.
                self.buffer = BytesMut::from(&self.buffer[..]);
                return Poll::Pending;
            }
        }
        self.buffer.extend_from_slice(scratch.filled());
        Poll::Ready(Ok(scratch.filled().len()))
    }

    /// Returns how many bytes of a long frame have not arrived, if one has begun.
    fn missing(&self) -> Option<usize> {
        let header = Header::parse(&self.buffer).ok()??;
        let missing = header.length.saturating_add(header.size) - self.buffer.len();
        (header.length > LONG).then_some(missing)
    }

    fn check(&self, header: &Header) -> Result<(), ReadError> {
        let is_control = header.opcode & CONTROL != 0;
        let is_continuation = header.opcode == CONTINUATION;
        let before = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
        let problem = match header.opcode {
            _ if header.mask.is_none() => "it is not masked",
            _ if header.is_reserved => "a reserved bit is set",
            CLOSE | PING | PONG if !header.is_final => "a control frame is fragmented",
            CLOSE | PING | PONG if header.length > CONTROL_MAX => "a control frame is too large",
            CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG => "",
            _ => "its opcode is unknown",
        };
        if !problem.is_empty() {
            return Err(Violation::Malformed(problem).into());
        }
        if !is_control && is_continuation != self.partial.is_some() {
            return Err(Violation::Malformed("a fragment is out of order").into());
        }
        if !is_control && header.length > self.limit.saturating_sub(before) {
            return Err(ReadError::TooLarge);
        }
        Ok(())
    }

    /// Returns the payload of the next frame, without its mask, if all of it has arrived. It stays
    /// where it was read.
    fn take_payload(&mut self, header: &Header) -> Option<Bytes> {
        let end = header.size.saturating_add(header.length);
        if self.buffer.len() < end {
            return None;
        }
        unmask(&mut self.buffer[header.size..end], header.mask.unwrap_or_default());
        // The last frame takes the block along, so that nothing of it stays allocated here.
        let mut frame = if end == self.buffer.len() {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(end)
        };
        frame.advance(header.size);
        Some(frame.freeze())
    }

    /// Returns what a frame completes.
    #[inline]
    fn accept(&mut self, header: &Header, payload: Bytes) -> Result<Option<Incoming>, ReadError> {
        match header.opcode {
            PING => return Ok(Some(Incoming::Ping(payload))),
            PONG => return Ok(Some(Incoming::Pong)),
            CLOSE => return Ok(Some(close(&payload)?)),
            _ => {}
        }
        let (is_text, message) = match self.partial.take() {
            None if header.is_final => (header.opcode == TEXT, payload),
            partial => {
                let mut partial = partial.unwrap_or_else(|| {
                    Box::new(Partial {
                        is_text: header.opcode == TEXT,
                        bytes: Vec::new(),
                    })
                });
                partial.bytes.extend_from_slice(&payload);
                if !header.is_final {
                    self.partial = Some(partial);
                    return Ok(None);
                }
                (partial.is_text, Bytes::from(partial.bytes))
            }
        };
        match is_text {
            true if std::str::from_utf8(&message).is_err() => Err(Violation::NotUtf8.into()),
            true => Ok(Some(Incoming::Text(message))),
            false => Ok(Some(Incoming::Binary(message))),
        }
    }
}

/// Reads a close frame. Its text is for people and is ignored.
fn close(payload: &[u8]) -> Result<Incoming, Violation> {
    match payload {
        [] => Ok(Incoming::Close(None)),
        [_] => Err(Violation::Malformed("a close code has one byte")),
        [high, low, text @ ..] if std::str::from_utf8(text).is_ok() => {
            Ok(Incoming::Close(Some(u16::from_be_bytes([*high, *low]))))
        }
        _ => Err(Violation::NotUtf8),
    }
}

/// The header of a frame (RFC 6455, section 5.2).
struct Header {
    opcode: u8,
    is_final: bool,
    /// True if a bit is set that only extensions use.
    is_reserved: bool,
    mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    length: usize,
    /// Bytes of the header.
    size: usize,
}

impl Header {
    /// Returns `None` if the header is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ReadError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let parsed = match second & 0x7f {
            126 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest)),
            127 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u64::from_be_bytes(*length), rest)),
            length => Some((length.into(), rest)),
        };
        let Some((length, rest)) = parsed else {
            return Ok(None);
        };
        let (mask, rest) = match (second & 0x80 != 0, rest.split_first_chunk()) {
            (true, Some((mask, rest))) => (Some(*mask), rest),
            (true, None) => return Ok(None),
            (false, _) => (None, rest),
        };
        Ok(Some(Self {
            opcode: first & 0x0f,
            is_final: first & 0x80 != 0,
            is_reserved: first & 0x70 != 0,
            mask,
            // What does not fit is above the limit of any message.
            length: usize::try_from(length).map_err(|_| ReadError::TooLarge)?,
            size: bytes.len() - rest.len(),
        }))
    }
}

/// Removes the mask of a payload (RFC 6455, section 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let whole = u32::from_ne_bytes(mask);
    let (chunks, rest) = payload.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u32::from_ne_bytes(*chunk) ^ whole).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// The bit that tells the opcodes of control frames from those of messages.
const CONTROL: u8 = 0x8;

/// Most bytes in a control frame (RFC 6455, section 5.5).
const CONTROL_MAX: usize = 125;

/// Bytes that one read takes: a message of 16 KiB with its headers, and more of the next ones.
const SCRATCH: usize = 20 * 1024;

/// Bytes of a payload from which the missing ones are read to where it stays.
const LONG: usize = SCRATCH / 4;

/// Bytes of a frame for which room is made before half of it has arrived.
const GROWTH: usize = 128 * 1024;
