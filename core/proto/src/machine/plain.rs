//! The browser's half of a plain session, which the server plays itself: the client at its other end knows nothing of frames.
//!
//! Simpler than a [`DocumentMachine`](crate::machine::DocumentMachine): within one process nothing is lost but by the end of a connection, and
//! it is the client that comes back, so there is nothing to suspect, to wait for or to try again.

use std::time::Instant;

use bytes::Bytes;

use crate::id::{DocumentId, Secret};
use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::inbox::Received;
use crate::machine::lanes::Lanes;
use crate::message::{Lane, Message};
use crate::wire::{Frame, Hello, Welcome};

/// The one document of a plain session. It outlives its clients' connections, of which the last is the current one.
#[derive(Debug)]
pub struct PlainDocument {
    secret: Secret,
    lanes: Lanes,
    incarnation: u64,
    /// Numbers hellos and connections alike.
    attempt: u64,
    is_welcomed: bool,
    /// The session is over: what its clients say is for nobody.
    is_over: bool,
    /// What [`PlainDocument::recount`] last told.
    counted: u64,
    pong_due: Option<u64>,
}

impl PlainDocument {
    /// The document of the session with this secret and these limits, before its first client.
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

    /// A client has come: its connection is the current one from now on, and this is what is to be said on it first.
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

    /// Whether no client has come since this one.
    pub fn is_current(&self, connection: u64) -> bool {
        self.attempt == connection
    }

    /// What the session says; a whole message is for the client. Frames of an older connection are dropped.
    pub fn handle_frame(&mut self, connection: u64, frame: Frame, now: Instant) -> Result<Option<Received>, Violation> {
        if !self.is_current(connection) {
            return Ok(None);
        }
        match frame {
            Frame::Data(data) => {
                let lane = data.lane;
                self.lanes.handle_data(data, now)?;
                return Ok(self.lanes.take(lane, now));
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

    /// What the client says. A client that has been displaced is not listened to.
    pub fn send(&mut self, connection: u64, message: Bytes) {
        if self.is_current(connection) && !self.is_over {
            self.lanes.push(Lane::Interactive, Message::new(message));
        }
    }

    /// The session is over.
    pub fn close(&mut self) {
        self.is_over = true;
        self.lanes.clear_outgoing();
    }

    /// What it holds that the session has not taken: before and now, if that has changed by much, or to nothing.
    pub fn recount(&mut self) -> Option<(u64, u64)> {
        let size = self.lanes.owned();
        let is_news = size.abs_diff(self.counted) >= COUNTED_FROM || size == 0 && self.counted > 0;
        is_news.then(|| (std::mem::replace(&mut self.counted, size), size))
    }

    /// Whether the session takes no more at present. Nothing should be read from the client meanwhile.
    pub fn is_held_back(&self, connection: u64) -> bool {
        self.is_current(connection) && (!self.is_welcomed || self.lanes.has_unsent())
    }

    /// The next frame for the session. What was received is acknowledged at once: it is not far.
    pub fn poll_transmit(&mut self, connection: u64) -> Option<Frame> {
        if !self.is_current(connection) || !self.is_welcomed {
            return None;
        }
        if let Some(nonce) = self.pong_due.take() {
            let counts = self.lanes.report();
            return Some(Frame::Pong { nonce, counts });
        }
        let data = self.lanes.poll_data(true).map(Frame::Data);
        data.or_else(|| self.lanes.poll_last_ack())
    }
}

/// A change by less is not worth the session's lock.
const COUNTED_FROM: u64 = 8 * 1024;

/// A plain session has no other.
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
