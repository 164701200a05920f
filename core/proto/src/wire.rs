//! Encodes and decodes frames (PROTOCOL.md, sections 3 and 4).

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::code::{Code, EndReason};
use crate::id::{DocumentId, Secret};
use crate::limits::{FRAME_CHARGE, Limits};
use crate::message::{Lane, PerLane};

/// The WebSocket subprotocol of this protocol version.
pub const SUBPROTOCOL: &str = "stillhere.v1";

/// Numbers on the wire are below this limit, so that JavaScript represents them exactly.
pub const NUMBER_LIMIT: u64 = 1 << 53;

/// Converts a duration to milliseconds as the wire carries them, clamped below [`NUMBER_LIMIT`].
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(NUMBER_LIMIT - 1, |ms| ms.min(NUMBER_LIMIT - 1))
}

/// Most bytes that a data frame adds to its payload: one for the type and up to eight for the
/// sequence.
pub const DATA_HEADER_MAX: usize = 9;

const END_TEXT_MAX: usize = 512;

/// One protocol frame, which is one binary WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First frame from the client: presents the secret and asks for the session.
    Hello(Hello),
    /// The client's document accepts the offer and takes over the session.
    Confirm,
    /// The page is being closed or left.
    Leave,
    /// The server offers the session to a document that wants to take it over.
    Offer,
    /// The server accepts the connection, which carries the session from now on.
    Welcome(Welcome),
    /// The server ends the connection, and possibly the session.
    End(End),
    /// Reports the sender's counts and carries nothing else.
    Ack(Counts),
    /// Asks for a pong.
    Ping {
        /// Number that the pong repeats.
        nonce: u64,
        /// What the sender of the ping has received and grants.
        counts: Counts,
    },
    /// Answers a ping.
    Pong {
        /// The nonce of the ping.
        nonce: u64,
        /// What the sender of the pong has received and grants.
        counts: Counts,
    },
    /// A small message, or one fragment of a message.
    Data(Data),
}

/// Which side sends a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The browser.
    Client,
    /// The server.
    Server,
}

/// What a side has received on each lane, and how much it allows the peer to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Highest sequence number accepted so far; 0 before the first frame.
    pub received: PerLane<u64>,
    /// Total charge that the peer may send in this incarnation, counted from its beginning.
    pub credit: PerLane<u64>,
}

/// The client's first frame on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The secret from the ticket.
    pub secret: Secret,
    /// The page load that asks for the session.
    pub document: DocumentId,
    /// Incarnation in which the server last welcomed this document; 0 if it never did.
    pub incarnation: u64,
    /// Number of this connection attempt. Each hello of a document has a higher number than the one
    /// before.
    pub attempt: u64,
    /// What the client has received and grants at the time it writes the hello.
    pub counts: Counts,
}

/// The server's acceptance of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Number of this document in the session, from 1.
    pub incarnation: u64,
    /// Number of this connection in the session, from 1.
    pub epoch: u64,
    /// What the server has received and grants.
    pub counts: Counts,
    /// Heartbeat interval in milliseconds.
    pub heartbeat: u64,
    /// How long the session is kept without a connection, in milliseconds.
    pub keep: u64,
    /// Limits of the session. `outbox` is not sent, because only the server uses it; it decodes as
    /// 0.
    pub limits: Limits,
}

/// The last frame on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The close code; see [`Code`].
    pub code: u64,
    /// Number of the [`EndReason`], or 0 if only the connection ends.
    pub reason: u64,
    /// How long the client should wait before it tries again, in milliseconds.
    pub retry_after: u64,
    /// One line of text for people. Only the first 512 bytes are sent.
    pub text: String,
}

impl End {
    /// Creates the frame that reports the end of the session to a connection that did not cause
    /// it.
    pub fn of(reason: &EndReason) -> Self {
        let text = match reason {
            EndReason::Closed(text) | EndReason::Aborted(text) => text.to_string(),
            reason => reason.to_string(),
        };
        Self {
            code: reason.code_for_others() as u64,
            reason: reason.number(),
            retry_after: 0,
            text,
        }
    }

    /// Creates the frame that ends only the connection.
    pub fn connection(code: Code, text: impl Into<String>) -> Self {
        Self {
            code: code as u64,
            reason: 0,
            retry_after: 0,
            text: text.into(),
        }
    }

    /// Sets how many milliseconds the peer should wait before it tries again.
    #[must_use]
    pub fn retry_after(self, retry_after: u64) -> Self {
        Self { retry_after, ..self }
    }
}

/// A small message, or one fragment of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Lane on which the frame is numbered.
    pub lane: Lane,
    /// Number of the frame on its lane, from 1.
    pub sequence: u64,
    /// Whether more fragments of the same message follow.
    pub more: bool,
    /// Whether the message, with all its fragments, is a zlib stream.
    pub compressed: bool,
    /// The bytes of the message or fragment.
    pub payload: Bytes,
}

impl Data {
    /// Returns the charge of the frame: what it counts for in windows and outboxes.
    pub fn charge(&self) -> u64 {
        charge(&self.payload)
    }

    /// Returns the frame with its payload borrowed.
    pub fn as_data_ref(&self) -> DataRef<'_> {
        DataRef {
            lane: self.lane,
            sequence: self.sequence,
            more: self.more,
            compressed: self.compressed,
            payload: &self.payload,
        }
    }
}

/// A data frame whose payload stays where it is, in the outbox. The fields are those of [`Data`].
#[derive(Debug, Clone, Copy)]
pub struct DataRef<'a> {
    /// Lane on which the frame is numbered.
    pub lane: Lane,
    /// Number of the frame on its lane, from 1.
    pub sequence: u64,
    /// Whether more fragments of the same message follow.
    pub more: bool,
    /// Whether the message, with all its fragments, is a zlib stream.
    pub compressed: bool,
    /// The bytes of the message or fragment.
    pub payload: &'a Bytes,
}

impl DataRef<'_> {
    /// Returns the frame with a clone of its payload, which shares the bytes.
    pub fn to_data(self) -> Data {
        Data {
            lane: self.lane,
            sequence: self.sequence,
            more: self.more,
            compressed: self.compressed,
            payload: self.payload.clone(),
        }
    }

    /// Returns the charge of the frame, as [`Data::charge`] does.
    pub fn charge(self) -> u64 {
        charge(self.payload)
    }

    /// Appends the encoded frame to `out`, as [`Frame::encode`] does.
    pub fn encode(self, out: &mut BytesMut) {
        let bulk = if self.lane == Lane::Bulk { BULK } else { 0 };
        let more = if self.more { MORE } else { 0 };
        let compressed = if self.compressed { COMPRESSED } else { 0 };
        if out.capacity() - out.len() < DATA_HEADER_MAX + self.payload.len() {
            // The exact size avoids a second allocation, and another when the buffer becomes
            // `Bytes`.
            out.reserve(1 + number_len(self.sequence) + self.payload.len());
        }
        out.put_u8(kind::DATA | bulk | more | compressed);
        put_number(self.sequence, out);
        out.extend_from_slice(self.payload);
    }
}

/// Returns the charge of a data frame with this payload: what it counts for in windows and
/// outboxes.
pub fn charge(payload: &Bytes) -> u64 {
    payload.len() as u64 + FRAME_CHARGE
}

/// Why a frame cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame has no bytes.
    #[error("the frame is empty")]
    Empty,
    /// The type is unknown, or this side may not send it.
    #[error("frame type {0:#04x} is unknown or not for this direction")]
    Type(u8),
    /// The frame ends within a field.
    #[error("the frame ends within a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("bytes follow the last field")]
    Trailing,
    /// A number is 2^53 or more, or is not encoded in its shortest form.
    #[error("a number is too large or is not in its shortest encoding")]
    Number,
    /// A sequence or an attempt is 0.
    #[error("a sequence or an attempt is 0")]
    Zero,
    /// The text of an `end` frame is too long or is not UTF-8.
    #[error("the text is too long or is not UTF-8")]
    Text,
}

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const CONFIRM: u8 = 0x02;
    pub(super) const LEAVE: u8 = 0x03;
    pub(super) const OFFER: u8 = 0x10;
    pub(super) const WELCOME: u8 = 0x11;
    pub(super) const END: u8 = 0x12;
    pub(super) const ACK: u8 = 0x20;
    pub(super) const PING: u8 = 0x21;
    pub(super) const PONG: u8 = 0x22;
    pub(super) const DATA: u8 = 0x40;
    pub(super) const DATA_LAST: u8 = 0x47;
}

const BULK: u8 = 1;
const MORE: u8 = 2;
const COMPRESSED: u8 = 4;

impl Frame {
    /// Appends the encoded frame to `out`. Numbers must be below 2^53.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => encode_hello(hello, out),
            Self::Confirm => out.put_u8(kind::CONFIRM),
            Self::Leave => out.put_u8(kind::LEAVE),
            Self::Offer => out.put_u8(kind::OFFER),
            Self::Welcome(welcome) => encode_welcome(welcome, out),
            Self::End(end) => encode_end(end, out),
            Self::Ack(counts) => encode_counts(kind::ACK, None, counts, out),
            Self::Ping { nonce, counts } => encode_counts(kind::PING, Some(*nonce), counts, out),
            Self::Pong { nonce, counts } => encode_counts(kind::PONG, Some(*nonce), counts, out),
            Self::Data(data) => data.as_data_ref().encode(out),
        }
    }

    /// Encodes the frame into a new allocation.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Decodes one whole frame from `sender`. The payload of a data frame is a slice of `bytes`,
    /// not a copy.
    ///
    /// ```
    /// use stillhere_proto::wire::{Frame, Sender};
    ///
    /// let bytes = Frame::Leave.to_bytes();
    /// assert_eq!(Frame::decode(bytes, Sender::Client), Ok(Frame::Leave));
    /// ```
    ///
    /// # Errors
    /// Returns a [`DecodeError`] for everything that PROTOCOL.md calls malformed within a single
    /// frame.
    pub fn decode(mut bytes: Bytes, sender: Sender) -> Result<Self, DecodeError> {
        let Some((&kind, mut fields)) = bytes.split_first() else {
            return Err(DecodeError::Empty);
        };
        let fields = &mut fields;
        let frame = match (kind, sender) {
            (kind::DATA..=kind::DATA_LAST, _) => {
                let sequence = positive(fields)?;
                let header = bytes.len() - fields.len();
                bytes.advance(header);
                return Ok(Self::Data(data_of(kind, sequence, bytes)));
            }
            (kind::END, Sender::Server) => return decode_end(fields).map(Self::End),
            (kind::HELLO, Sender::Client) => Self::Hello(decode_hello(fields)?),
            (kind::CONFIRM, Sender::Client) => Self::Confirm,
            (kind::LEAVE, Sender::Client) => Self::Leave,
            (kind::OFFER, Sender::Server) => Self::Offer,
            (kind::WELCOME, Sender::Server) => Self::Welcome(decode_welcome(fields)?),
            (kind::ACK, _) => Self::Ack(decode_counts(fields)?),
            (kind::PING, _) => Self::Ping {
                nonce: number(fields)?,
                counts: decode_counts(fields)?,
            },
            (kind::PONG, _) => Self::Pong {
                nonce: number(fields)?,
                counts: decode_counts(fields)?,
            },
            _ => return Err(DecodeError::Type(kind)),
        };
        if fields.is_empty() {
            Ok(frame)
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

fn put_number(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn number_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Takes a number off the beginning of the fields.
fn number(fields: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let (&byte, rest) = fields.split_first().ok_or(DecodeError::Truncated)?;
        *fields = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return if shortest && value < NUMBER_LIMIT {
                Ok(value)
            } else {
                Err(DecodeError::Number)
            };
        }
    }
    Err(DecodeError::Number)
}

fn positive(fields: &mut &[u8]) -> Result<u64, DecodeError> {
    match number(fields)? {
        0 => Err(DecodeError::Zero),
        value => Ok(value),
    }
}

fn array<const N: usize>(fields: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (array, rest) = fields.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *fields = rest;
    Ok(*array)
}

fn put_counts(counts: &Counts, out: &mut BytesMut) {
    numbers_of(counts).into_iter().for_each(|value| put_number(value, out));
}

fn numbers_of(counts: &Counts) -> [u64; 4] {
    let Counts { received, credit } = counts;
    [received.interactive, received.bulk, credit.interactive, credit.bulk]
}

fn encode_counts(kind: u8, nonce: Option<u64>, counts: &Counts, out: &mut BytesMut) {
    let nonce_len = nonce.map_or(0, number_len);
    let counts_len: usize = numbers_of(counts).into_iter().map(number_len).sum();
    out.reserve(1 + nonce_len + counts_len);
    out.put_u8(kind);
    if let Some(nonce) = nonce {
        put_number(nonce, out);
    }
    put_counts(counts, out);
}

fn decode_counts(fields: &mut &[u8]) -> Result<Counts, DecodeError> {
    Ok(Counts {
        received: PerLane::new(number(fields)?, number(fields)?),
        credit: PerLane::new(number(fields)?, number(fields)?),
    })
}

fn encode_hello(hello: &Hello, out: &mut BytesMut) {
    out.put_u8(kind::HELLO);
    out.put_slice(hello.secret.expose());
    out.put_slice(&hello.document.0);
    put_number(hello.incarnation, out);
    put_number(hello.attempt, out);
    put_counts(&hello.counts, out);
}

fn decode_hello(fields: &mut &[u8]) -> Result<Hello, DecodeError> {
    Ok(Hello {
        secret: Secret::from_bytes(array(fields)?),
        document: DocumentId(array(fields)?),
        incarnation: number(fields)?,
        attempt: positive(fields)?,
        counts: decode_counts(fields)?,
    })
}

fn encode_welcome(welcome: &Welcome, out: &mut BytesMut) {
    let Limits {
        fragment,
        message,
        inflated,
        window,
        bulk_window,
        outbox: _,
    } = welcome.limits;
    let [received, bulk_received, credit, bulk_credit] = numbers_of(&welcome.counts);
    let fields = [
        welcome.incarnation,
        welcome.epoch,
        received,
        bulk_received,
        credit,
        bulk_credit,
        welcome.heartbeat,
        welcome.keep,
        fragment,
        message,
        inflated,
        window,
        bulk_window,
    ];
    out.reserve(1 + fields.into_iter().map(number_len).sum::<usize>());
    out.put_u8(kind::WELCOME);
    fields.into_iter().for_each(|value| put_number(value, out));
}

fn decode_welcome(fields: &mut &[u8]) -> Result<Welcome, DecodeError> {
    Ok(Welcome {
        incarnation: number(fields)?,
        epoch: number(fields)?,
        counts: decode_counts(fields)?,
        heartbeat: number(fields)?,
        keep: number(fields)?,
        limits: Limits {
            fragment: number(fields)?,
            message: number(fields)?,
            inflated: number(fields)?,
            window: number(fields)?,
            bulk_window: number(fields)?,
            outbox: 0,
        },
    })
}

fn encode_end(end: &End, out: &mut BytesMut) {
    out.put_u8(kind::END);
    put_number(end.code, out);
    put_number(end.reason, out);
    put_number(end.retry_after, out);
    out.put_slice(&end.text.as_bytes()[..end.text.floor_char_boundary(END_TEXT_MAX)]);
}

fn decode_end(fields: &mut &[u8]) -> Result<End, DecodeError> {
    let (code, reason, retry_after) = (number(fields)?, number(fields)?, number(fields)?);
    if fields.len() > END_TEXT_MAX {
        return Err(DecodeError::Text);
    }
    let text = std::str::from_utf8(fields).map_err(|_| DecodeError::Text)?.to_owned();
    Ok(End {
        code,
        reason,
        retry_after,
        text,
    })
}

/// Returns the data frame with this type.
fn data_of(kind: u8, sequence: u64, payload: Bytes) -> Data {
    Data {
        lane: if kind & BULK == 0 {
            Lane::Interactive
        } else {
            Lane::Bulk
        },
        more: kind & MORE != 0,
        compressed: kind & COMPRESSED != 0,
        sequence,
        payload,
    }
}
