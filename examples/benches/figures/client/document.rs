//! The browser's half of stillhere's protocol, as far as a load on the interactive lane needs it.
//! It checks each sequence and each count that the server sends.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stillhere::wire::{Counts, Frame, Hello, Sender, Welcome};
use stillhere::{DocumentId, FRAME_CHARGE, Limits, PerLane};
use stillhere_client::Ticket;

use super::socket::{BINARY, Output};

/// When counts are reported on their own (PROTOCOL.md, section 8.5).
const ACK_AFTER: Duration = Duration::from_millis(200);

/// Type of a frame with a whole message on the interactive lane.
const DATA: u8 = 0x40;

pub(crate) struct Document {
    limits: Limits,
    /// Sequence, and charge, of what was sent.
    sent: u64,
    sent_charge: u64,
    /// The newest counts of the server.
    theirs: Counts,
    received: u64,
    /// Charge of what was received. All of it is taken at once.
    received_charge: u64,
    /// What the server was last told.
    told: Counts,
    unreported_since: Option<Instant>,
    frame: BytesMut,
}

impl Document {
    /// Returns a new document, and its hello.
    pub(crate) fn new(ticket: &Ticket) -> (Self, Frame) {
        let told = Counts {
            received: PerLane::default(),
            credit: PerLane::new(ticket.limits.window, ticket.limits.bulk_window),
        };
        let hello = Frame::Hello(Hello {
            secret: ticket.secret.clone(),
            document: DocumentId(*ticket.secret.expose().first_chunk().expect("a secret has 32 bytes")),
            incarnation: 0,
            attempt: 1,
            counts: told,
        });
        let document = Self {
            limits: ticket.limits,
            sent: 0,
            sent_charge: 0,
            theirs: Counts::default(),
            received: 0,
            received_charge: 0,
            told,
            unreported_since: None,
            frame: BytesMut::new(),
        };
        (document, hello)
    }

    pub(crate) fn handle_welcome(&mut self, bytes: &[u8]) {
        let frame = Frame::decode(Bytes::copy_from_slice(bytes), Sender::Server);
        let Ok(Frame::Welcome(Welcome { counts, .. })) = frame else {
            panic!("expected a welcome, got {frame:?}");
        };
        self.theirs = counts;
    }

    /// Queues a message, and what is unreported before it.
    pub(crate) fn send(&mut self, payload: &[u8], output: &mut Output) {
        self.acknowledge(output);
        self.sent += 1;
        self.sent_charge += payload.len() as u64 + FRAME_CHARGE;
        assert!(
            self.sent_charge <= self.theirs.credit.interactive,
            "the load fits in the window"
        );
        let mut header = [DATA; 10];
        let length = put_number(self.sent, &mut header[1..]);
        output.queue(BINARY, &[&header[..=length], payload]);
    }

    /// Handles a frame, and passes a message to `on_message`.
    pub(crate) fn handle_frame(&mut self, bytes: &[u8], output: &mut Output, on_message: &mut impl FnMut(&[u8])) {
        if bytes.first() != Some(&DATA) {
            return self.handle_control(bytes, output);
        }
        let (sequence, payload) = number(&bytes[1..]);
        self.received += 1;
        assert_eq!(sequence, self.received, "messages arrive once and in order");
        self.received_charge += payload.len() as u64 + FRAME_CHARGE;
        assert!(
            self.received_charge <= self.told.credit.interactive,
            "the server stays within its credit"
        );
        on_message(payload);
        let unreported = self.limits.window + self.received_charge - self.told.credit.interactive;
        if unreported >= self.limits.window / 4 {
            self.unreported_since.get_or_insert_with(Instant::now);
            self.acknowledge(output);
        } else if self.unreported_since.is_none() {
            self.unreported_since = Some(Instant::now());
        }
    }

    fn handle_control(&mut self, bytes: &[u8], output: &mut Output) {
        match Frame::decode(Bytes::copy_from_slice(bytes), Sender::Server) {
            Ok(Frame::Ack(counts)) => self.handle_counts(counts),
            Ok(Frame::Ping { nonce, counts }) => {
                self.handle_counts(counts);
                let counts = self.counts();
                self.queue(&Frame::Pong { nonce, counts }, output);
            }
            other => panic!("expected data, counts or a ping, got {other:?}"),
        }
    }

    fn handle_counts(&mut self, counts: Counts) {
        let (received, credit) = (counts.received.interactive, counts.credit.interactive);
        assert!(
            (self.theirs.received.interactive..=self.sent).contains(&received),
            "the server received {received} of {}",
            self.sent
        );
        assert!(
            (self.theirs.credit.interactive..=self.limits.window + self.sent_charge).contains(&credit),
            "the server grants {credit}"
        );
        self.theirs = counts;
    }

    /// Returns when to call [`Document::acknowledge`].
    pub(crate) fn ack_due(&self) -> Option<Instant> {
        self.unreported_since.map(|since| since + ACK_AFTER)
    }

    /// Queues the counts, if they are unreported.
    pub(crate) fn acknowledge(&mut self, output: &mut Output) {
        if self.unreported_since.is_some() {
            let counts = self.counts();
            self.queue(&Frame::Ack(counts), output);
        }
    }

    /// Returns the counts, which are about to be written.
    fn counts(&mut self) -> Counts {
        self.unreported_since = None;
        self.told.received.interactive = self.received;
        self.told.credit.interactive = self.limits.window + self.received_charge;
        self.told
    }

    fn queue(&mut self, frame: &Frame, output: &mut Output) {
        self.frame.clear();
        frame.encode(&mut self.frame);
        output.queue(BINARY, &[&self.frame]);
    }
}

/// Writes a number (PROTOCOL.md, section 3), and returns its length.
fn put_number(mut value: u64, out: &mut [u8]) -> usize {
    let mut length = 0;
    while value >= 0x80 {
        out[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    out[length] = value as u8;
    length + 1
}

/// Returns the number at the beginning, and what follows it.
fn number(bytes: &[u8]) -> (u64, &[u8]) {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value, &bytes[index + 1..]);
        }
    }
    panic!("the sequence is a number");
}
