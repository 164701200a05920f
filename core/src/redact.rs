//! Keeps the secret in a hello from the WebSocket layer, which logs every frame at the level TRACE
//! (feature `websocket`).
//!
//! The bytes that hold the secret in a hello are removed from the first message before that layer
//! reads it, and restored in the message that the layer returns. The mask of a frame hides nothing,
//! because it is sent in the same frame.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream from a WebSocket client that holds back 32 bytes of the first binary message.
#[derive(Debug)]
pub(crate) struct Redacted<S> {
    io: S,
    redaction: Redaction,
}

impl<S> Redacted<S> {
    /// Wraps `io`. Also holds back the secret's bytes in `already_read`.
    pub(crate) fn new(io: S, already_read: &mut [u8]) -> Self {
        let mut redaction = Redaction::default();
        redaction.redact(already_read);
        Self { io, redaction }
    }

    pub(crate) fn io(&mut self) -> &mut S {
        &mut self.io
    }

    /// Returns the binary message as its sender wrote it.
    pub(crate) fn restore(&mut self, message: Bytes) -> Bytes {
        let held_back = std::mem::take(&mut self.redaction.held_back);
        if held_back.is_empty() {
            return message;
        }
        let mut message = BytesMut::from(message);
        message[SECRET.start..][..held_back.len()].copy_from_slice(&held_back);
        message.freeze()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Redacted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.redaction.redact(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Redacted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Parses WebSocket frames (RFC 6455, section 5.2) up to the end of the bytes that are held back.
#[derive(Debug, Default)]
struct Redaction {
    reading: Reading,
    /// How many bytes of the first message have passed.
    position: usize,
    held_back: Vec<u8>,
}

#[derive(Debug)]
enum Reading {
    /// The part of a frame's header that has arrived.
    Header(Vec<u8>),
    Payload(Frame),
    /// Everything that could be a secret has passed.
    Done,
}

impl Default for Reading {
    fn default() -> Self {
        Self::Header(Vec::new())
    }
}

/// A frame whose header has arrived.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    is_final: bool,
    mask: [u8; 4],
    length: u64,
    /// How many bytes of the payload have passed.
    passed: u64,
}

impl Redaction {
    /// Blanks those of the next bytes of the stream that must be held back.
    fn redact(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.reading {
                Reading::Done => return,
                Reading::Header(header) => {
                    header.push(bytes[0]);
                    if let Some(frame) = Frame::parse(header) {
                        self.reading = Reading::Payload(frame);
                        self.end_frame();
                    }
                    1
                }
                Reading::Payload(_) => self.redact_payload(bytes),
            };
            bytes = &mut bytes[taken..];
        }
    }

    fn redact_payload(&mut self, bytes: &mut [u8]) -> usize {
        let Reading::Payload(frame) = &mut self.reading else {
            return bytes.len();
        };
        let left = usize::try_from(frame.length - frame.passed).unwrap_or(usize::MAX);
        let taken = left.min(bytes.len());
        for byte in &mut bytes[..taken] {
            let mask = frame.mask[(frame.passed % 4) as usize];
            frame.passed += 1;
            if frame.is_data() {
                if SECRET.contains(&self.position) {
                    self.held_back.push(*byte ^ mask);
                    // The layer reads 0 here.
                    *byte = mask;
                }
                self.position = self.position.saturating_add(1);
            }
        }
        self.end_frame();
        taken
    }

    /// Continues with the next frame if this one is complete, or stops if no secret can follow.
    fn end_frame(&mut self) {
        let Reading::Payload(frame) = &self.reading else { return };
        let is_over = frame.passed == frame.length;
        // Text is not a hello, and must stay UTF-8.
        if frame.opcode == TEXT || self.position >= SECRET.end || (frame.is_data() && frame.is_final && is_over) {
            self.reading = Reading::Done;
        } else if is_over {
            self.reading = Reading::default();
        }
    }
}

impl Frame {
    /// Returns `None` if the header is not complete.
    fn parse(header: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = header else {
            return None;
        };
        let (length, rest) = match second & 0x7f {
            126 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?,
            127 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
            length => (length.into(), rest),
        };
        let is_masked = second & 0x80 != 0;
        let mask = if is_masked { *rest.first_chunk()? } else { [0; 4] };
        Some(Self {
            opcode: first & 0x0f,
            is_final: first & 0x80 != 0,
            mask,
            length,
            passed: 0,
        })
    }

    /// Returns true for part of a message, and false for control frames.
    fn is_data(&self) -> bool {
        self.opcode & 0x08 == 0
    }
}

/// Position of the secret in a hello (PROTOCOL.md, section 4).
const SECRET: Range<usize> = 1..33;

const TEXT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x5a, 0, 0xff, 0x13];
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn hello() -> Vec<u8> {
        let secret = 101..=132;
        [1].into_iter().chain(secret).chain([7; 40]).collect()
    }

    fn without_secret() -> Vec<u8> {
        [1].into_iter().chain([0; 32]).chain([7; 40]).collect()
    }

    /// Returns the bytes that the layer reads if they arrive in pieces of this size, and the
    /// restored `message`.
    fn redacted(stream: &[u8], piece: usize, message: &[u8]) -> (Vec<u8>, Bytes) {
        let mut stream = stream.to_vec();
        let early = piece.min(stream.len());
        let (early, late) = stream.split_at_mut(early);
        let mut redacted = Redacted::new((), early);
        late.chunks_mut(piece)
            .for_each(|bytes| redacted.redaction.redact(bytes));
        (stream, redacted.restore(Bytes::copy_from_slice(message)))
    }

    #[test]
    fn the_secret_is_held_back_and_restored_however_the_bytes_arrive() {
        let after = [frame(0x82, &[2; 50]), frame(0x82, &hello())].concat();
        let (ping, whole) = (frame(0x89, b"is anybody there"), hello());
        let whole_frame = [ping.clone(), frame(0x82, &whole), after.clone()].concat();
        let its_reading = [ping.clone(), frame(0x82, &without_secret()), after.clone()].concat();
        let (parts, blank) = (whole.split_at(20), without_secret());
        let blank = blank.split_at(20);
        let empty = frame(0x02, b"");
        let in_frames = [&empty, &frame(0x00, parts.0), &ping, &frame(0x80, parts.1), &after]
            .map(|part| &part[..])
            .concat();
        let their_reading = [&empty, &frame(0x00, blank.0), &ping, &frame(0x80, blank.1), &after]
            .map(|part| &part[..])
            .concat();
        for piece in 1..200 {
            for (stream, reading) in [(&whole_frame, &its_reading), (&in_frames, &their_reading)] {
                let (read, restored) = redacted(stream, piece, &without_secret());
                assert_eq!((&read, &restored[..]), (reading, &whole[..]), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn every_other_first_message_comes_through_as_it_was_sent() {
        let large = vec![3; 300];
        for message in [&b""[..], b"\x03", b"\x01short", &[9; 33], &large] {
            let stream = frame(0x82, message);
            let (read, _) = redacted(&stream, 1, message);
            let header = stream.len() - message.len();
            let mask: [u8; 4] = *stream[..header].last_chunk().expect("the header ends with a mask");
            let blanked: Vec<u8> = read[header..]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            let (_, restored) = redacted(&stream, 1, &blanked);
            assert_eq!(&restored[..], message);
        }
    }

    #[test]
    fn text_is_not_redacted() {
        let text = "äöü, of which one would be cut in two by what is held back: äöü".as_bytes();
        let stream = frame(0x81, text);
        assert_eq!(redacted(&stream, 5, text).0, stream);
    }
}
