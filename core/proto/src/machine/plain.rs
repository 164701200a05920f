//! The browser's half of a plain session. The server runs it itself, because a plain client does
//! not know the protocol's frames.
//!
//! It is simpler than a [`DocumentMachine`](crate::machine::DocumentMachine). Within one process,
//! frames are lost only when a connection ends, and the client is the one that reconnects. So there
//! are no suspicions, back-offs or retries.

use std::time::Instant;

use bytes::Bytes;

use crate::id::{DocumentId, Secret};
use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::inbox::Received;
use crate::machine::lanes::Lanes;
use crate::message::{Lane, Message};
use crate::wire::{DataRef, Frame, Hello, Welcome};

/// The only document of a plain session. It outlives the connections of its clients; the newest
/// connection is the current one.
#[derive(Debug)]
pub struct PlainDocument {
    secret: Secret,
    lanes: Lanes,
    incarnation: u64,
    /// Number of the current connection, which is also the attempt in its hello.
    attempt: u64,
    is_welcomed: bool,
    /// Whether the session has ended, so that messages from its clients are dropped.
    is_over: bool,
    /// The value that [`PlainDocument::recount`] reported last, in bytes.
    counted: u64,
    pong_due: Option<u64>,
}

impl PlainDocument {
    /// Creates the document of the session with this secret and these limits, before its first
    /// client.
    pub fn new(secret: Secret, limits: Limits) -> Self {
        Self {
            secret,
            lanes: Lanes::new(limits),
            incarnation: 0,
            attempt: 0,
            is_welcomed: false,
            is_over: false,
            counted: 0,
            pong_due: None,
        }
    }

    /// Makes a new client's connection the current one. Returns the connection's number and the
    /// first frame to send on it.
    pub fn connect(&mut self) -> (u64, Frame) {
        self.attempt += 1;
        self.is_welcomed = false;
        let hello = Hello {
            secret: self.secret.clone(),
            document: THE_DOCUMENT,
            incarnation: self.incarnation,
            attempt: self.attempt,
            counts: self.lanes.report(),
        };
        (self.attempt, Frame::Hello(hello))
    }

    /// Returns true if no newer client has connected.
    pub fn is_current(&self, connection: u64) -> bool {
        self.attempt == connection
    }

    /// Handles a frame from the session, and returns a whole message for the client, if the frame
    /// completes one. Drops frames for an older connection.
    pub fn handle_frame(&mut self, connection: u64, frame: Frame, now: Instant) -> Result<Option<Received>, Violation> {
        if !self.is_current(connection) {
            return Ok(None);
        }
        match frame {
            Frame::Data(data) => {
                let lane = data.lane;
                self.lanes.handle_data(data, now)?;
                return Ok(self.lanes.take(lane, || now));
            }
            Frame::Welcome(welcome) => self.handle_welcome(&welcome)?,
            Frame::Ack(counts) | Frame::Pong { counts, .. } => self.lanes.handle_counts(&counts)?,
            Frame::Ping { nonce, counts } => {
                self.pong_due = Some(nonce);
                self.lanes.handle_counts(&counts)?;
            }
            _ => return Err(Violation::Malformed),
        }
        Ok(None)
    }

    fn handle_welcome(&mut self, welcome: &Welcome) -> Result<(), Violation> {
        self.lanes.handle_counts(&welcome.counts)?;
        self.lanes.rewind();
        self.incarnation = welcome.incarnation;
        self.is_welcomed = true;
        Ok(())
    }

    /// Queues a message from the client. Ignores clients that have been superseded.
    pub fn send(&mut self, connection: u64, message: Bytes) {
        if self.is_current(connection) && !self.is_over {
            self.lanes.push(Lane::Interactive, Message::new(message));
        }
    }

    /// Marks the session as ended.
    pub fn close(&mut self) {
        self.is_over = true;
        self.lanes.clear_outgoing();
    }

    /// Returns the previous and the present number of bytes that the session has not yet taken, if
    /// the number changed by much or fell to 0.
    pub fn recount(&mut self) -> Option<(u64, u64)> {
        let size = self.lanes.owned();
        let is_news = size.abs_diff(self.counted) >= COUNTED_FROM || size == 0 && self.counted > 0;
        is_news.then(|| (std::mem::replace(&mut self.counted, size), size))
    }

    /// Returns true if the session accepts no more data at present. The caller should then read
    /// nothing from the client.
    pub fn is_held_back(&self, connection: u64) -> bool {
        self.is_current(connection) && (!self.is_welcomed || self.lanes.has_unsent())
    }

    /// Returns the next frame for the session. Received frames are acknowledged at once, because
    /// the session is in the same process.
    pub fn poll_transmit(&mut self, connection: u64) -> Option<Frame> {
        if !self.is_current(connection) || !self.is_welcomed {
            return None;
        }
        if let Some(nonce) = self.pong_due.take() {
            let counts = self.lanes.report();
            return Some(Frame::Pong { nonce, counts });
        }
        let data = self.lanes.poll_data(true).map(DataRef::to_data);
        data.map(Frame::Data).or_else(|| self.lanes.poll_last_ack())
    }
}

/// Smallest change, in bytes, that is worth locking the session for.
const COUNTED_FROM: u64 = 8 * 1024;

/// The id of the only document in a plain session.
const THE_DOCUMENT: DocumentId = DocumentId([0; 16]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::PerLane;
    use crate::wire::{Counts, Data};

    fn limits() -> Limits {
        Limits::default().normalised()
    }

    fn counts(received: u64) -> Counts {
        Counts {
            received: PerLane::new(received, 0),
            credit: PerLane::new(limits().window, limits().bulk_window),
        }
    }

    fn welcome(received: u64) -> Frame {
        Frame::Welcome(Welcome {
            incarnation: 1,
            epoch: 1,
            counts: counts(received),
            heartbeat: 1,
            keep: 1,
            limits: limits(),
        })
    }

    fn data(sequence: u64, payload: &'static str) -> Frame {
        Frame::Data(Data {
            lane: Lane::Interactive,
            sequence,
            more: false,
            compressed: false,
            payload: payload.into(),
        })
    }

    fn welcomed(document: &mut PlainDocument, received: u64) -> u64 {
        let (connection, _) = document.connect();
        let nothing = document.handle_frame(connection, welcome(received), Instant::now());
        assert!(matches!(nothing, Ok(None)));
        connection
    }

    #[test]
    fn nothing_is_said_between_hello_and_welcome() {
        let mut document = PlainDocument::new(Secret::from_bytes([1; 32]), limits());
        let (connection, hello) = document.connect();
        assert!(matches!(hello, Frame::Hello(hello) if hello.attempt == 1 && hello.incarnation == 0));
        document.send(connection, "early".into());
        assert_eq!(document.poll_transmit(connection), None);
        assert!(document.is_held_back(connection), "nothing more is read meanwhile");

        let connection = welcomed(&mut document, 0);
        assert_eq!(document.poll_transmit(connection), Some(data(1, "early")));
        document.send(connection, "late".into());
        let (connection, hello) = document.connect();
        assert!(matches!(hello, Frame::Hello(hello) if hello.attempt == 3 && hello.incarnation == 1));
        assert_eq!(document.poll_transmit(connection), None);
    }

    #[test]
    fn what_the_session_did_not_receive_is_said_again_and_what_it_did_is_not() {
        let mut document = PlainDocument::new(Secret::from_bytes([1; 32]), limits());
        let connection = welcomed(&mut document, 0);
        for message in ["one", "two"] {
            document.send(connection, message.into());
        }
        assert_eq!(document.poll_transmit(connection), Some(data(1, "one")));
        assert_eq!(document.poll_transmit(connection), Some(data(2, "two")));
        let connection = welcomed(&mut document, 1);
        assert_eq!(document.poll_transmit(connection), Some(data(2, "two")));
        assert_eq!(document.poll_transmit(connection), None);
    }

    #[test]
    fn an_older_connection_is_not_listened_to_from_either_side() {
        let mut document = PlainDocument::new(Secret::from_bytes([1; 32]), limits());
        let older = welcomed(&mut document, 0);
        let (newer, _) = document.connect();
        let now = Instant::now();
        assert!(matches!(document.handle_frame(older, welcome(0), now), Ok(None)));
        assert!(matches!(document.handle_frame(older, data(1, "late"), now), Ok(None)));
        assert!(matches!(document.handle_frame(older, data(9, "a gap"), now), Ok(None)));
        document.send(older, "late".into());
        assert_eq!(
            (document.poll_transmit(older), document.is_held_back(older)),
            (None, false)
        );

        assert!(document.handle_frame(newer, welcome(0), now).is_ok());
        assert_eq!(document.poll_transmit(newer), None, "there was nothing to acknowledge");
        let message = document.handle_frame(newer, data(1, "again"), now);
        let message = message.expect("it is in order").expect("it is whole");
        assert_eq!(message.into_bytes(), "again");
        assert!(matches!(document.poll_transmit(newer), Some(Frame::Ack(counts)) if counts.received.interactive == 1));
        assert_eq!(document.poll_transmit(newer), None);
    }
}
