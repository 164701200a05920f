//! The browser's half of stillhere's protocol, as far as a load needs it: it sends on the
//! interactive lane, and receives on both. It checks each sequence and each count that the server
//! sends.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stillhere::wire::{Counts, Frame, Hello, Sender, Welcome};
use stillhere::{DocumentId, FRAME_CHARGE, Lane, Limits, PerLane, Secret};
use stillhere_client::Ticket;

use super::socket::{BINARY, Output};

/// When counts are reported on their own (PROTOCOL.md, section 8.5).
pub(super) const ACK_AFTER: Duration = Duration::from_millis(200);

/// Types of a frame with a whole message, for each lane.
const DATA: u8 = 0x40;
const DATA_BULK: u8 = 0x41;

pub(crate) struct Document {
    secret: Secret,
    incarnation: u64,
    attempt: u64,
    limits: Limits,
    /// Sequence, and charge, of what was sent.
    sent: u64,
    sent_charge: u64,
    /// The newest counts of the server.
    theirs: Counts,
    received: PerLane<u64>,
    /// Charge of what was received. All of it is taken at once.
    received_charge: PerLane<u64>,
    /// What the server was last told.
    told: Counts,
    unreported_since: Option<Instant>,
    frame: BytesMut,
}

impl Document {
    pub(crate) fn new(ticket: &Ticket) -> Self {
        Self {
            secret: ticket.secret.clone(),
            incarnation: 0,
            attempt: 0,
            limits: ticket.limits,
            sent: 0,
            sent_charge: 0,
            theirs: Counts::default(),
            received: PerLane::default(),
            received_charge: PerLane::default(),
            told: Counts::default(),
            unreported_since: None,
            frame: BytesMut::new(),
        }
    }

    /// Returns the hello of the next connection.
    pub(crate) fn hello(&mut self) -> Frame {
        self.attempt += 1;
        Frame::Hello(Hello {
            secret: self.secret.clone(),
            document: DocumentId(*self.secret.expose().first_chunk().expect("a secret has 32 bytes")),
            incarnation: self.incarnation,
            attempt: self.attempt,
            counts: self.counts(),
        })
    }

    /// Handles the answer to a hello. The session must be the one of the first welcome, and must
    /// have received all that was sent.
    pub(crate) fn handle_welcome(&mut self, bytes: &[u8]) {
        let frame = Frame::decode(Bytes::copy_from_slice(bytes), Sender::Server);
        let Ok(Frame::Welcome(welcome)) = frame else {
            panic!("expected a welcome, got {frame:?}");
        };
        let Welcome {
            incarnation, counts, ..
        } = welcome;
        assert!([0, incarnation].contains(&self.incarnation), "the session is the same");
        assert_eq!(
            counts.received.interactive, self.sent,
            "the server has received everything"
        );
        self.incarnation = incarnation;
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
        let lane = match bytes.first() {
            Some(&DATA) => Lane::Interactive,
            Some(&DATA_BULK) => Lane::Bulk,
            _ => return self.handle_control(bytes, output),
        };
        let (sequence, payload) = number(&bytes[1..]);
        self.received[lane] += 1;
        assert_eq!(sequence, self.received[lane], "messages arrive once and in order");
        self.received_charge[lane] += payload.len() as u64 + FRAME_CHARGE;
        assert!(
            self.received_charge[lane] <= self.told.credit[lane],
            "the server stays within its credit"
        );
        on_message(payload);
        let unreported = self.credit(lane) - self.told.credit[lane];
        if self.unreported_since.is_none() {
            self.unreported_since = Some(Instant::now());
        }
        if unreported >= self.window(lane) / 4 {
            self.acknowledge(output);
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
        self.told = Counts {
            received: self.received,
            credit: PerLane::each(|lane| self.credit(lane)),
        };
        self.told
    }

    fn credit(&self, lane: Lane) -> u64 {
        self.window(lane) + self.received_charge[lane]
    }

    fn window(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Interactive => self.limits.window,
            Lane::Bulk => self.limits.bulk_window,
        }
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
