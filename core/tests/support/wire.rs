//! A browser that sends raw frames, valid or not.

use bytes::Bytes;
use stillhere::connection::Packet;
use stillhere::wire::{Counts, Data, End, Frame, Hello, Sender, Welcome};
use stillhere::{DocumentId, FRAME_CHARGE, Hub, Lane, Limits, PerLane, SessionHandle};
use tokio::task::JoinHandle;

use super::pipe::BrowserEnd;
use super::{Access, access, connect, new_document, soon};

/// One connection of a page.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) end: BrowserEnd,
    pub(crate) carrier: JoinHandle<()>,
}

/// A page load that says hello over one connection after another.
#[derive(Debug, Clone)]
pub(crate) struct RawDocument {
    pub(crate) access: Access,
    pub(crate) document: DocumentId,
    pub(crate) incarnation: u64,
    pub(crate) attempt: u64,
    pub(crate) counts: Counts,
}

/// Returns the counts of a document that has received nothing.
pub(crate) fn fresh_counts() -> Counts {
    let limits = Limits::default();
    Counts {
        received: PerLane::default(),
        credit: PerLane::new(limits.window, limits.bulk_window),
    }
}

impl RawDocument {
    pub(crate) fn new(session: &SessionHandle) -> Self {
        Self {
            access: access(session),
            document: new_document(),
            incarnation: 0,
            attempt: 0,
            counts: fresh_counts(),
        }
    }

    /// Returns the next hello.
    pub(crate) fn hello(&mut self) -> Hello {
        self.attempt += 1;
        Hello {
            secret: self.access.secret.clone(),
            document: self.document,
            incarnation: self.incarnation,
            attempt: self.attempt,
            counts: self.counts,
        }
    }

    /// Connects and says hello.
    pub(crate) fn connect(&mut self, hub: &Hub) -> Wire {
        let wire = Wire::connect(hub, &self.access.id);
        wire.send(Frame::Hello(self.hello()));
        wire
    }

    /// Connects and waits for the welcome, confirming an offer if there is one.
    pub(crate) async fn welcomed(&mut self, hub: &Hub) -> (Wire, Welcome) {
        let wire = self.connect(hub);
        let welcome = match wire.frame().await {
            Frame::Offer => {
                wire.send(Frame::Confirm);
                wire.welcome().await
            }
            Frame::Welcome(welcome) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        };
        self.incarnation = welcome.incarnation;
        (wire, welcome)
    }
}

impl Wire {
    pub(crate) fn connect(hub: &Hub, id: &str) -> Self {
        let (end, carrier) = connect(hub, id);
        Self { end, carrier }
    }

    pub(crate) fn send(&self, frame: Frame) {
        self.end.send(Packet::Binary(frame.to_bytes()));
    }

    /// Sends a whole small message.
    pub(crate) fn send_data(&self, lane: Lane, sequence: u64, payload: impl Into<Bytes>) {
        self.send(Frame::Data(data(lane, sequence, payload)));
    }

    pub(crate) fn ack(&self, received: u64, received_bulk: u64) {
        self.send(ack(received, received_bulk));
    }

    /// Waits for the next packet. Returns `None` after the server has dropped the connection.
    pub(crate) async fn packet(&self) -> Option<Packet> {
        soon("a packet from the server", self.end.receive()).await
    }

    pub(crate) async fn frame(&self) -> Frame {
        match self.packet().await {
            Some(Packet::Binary(bytes)) => {
                Frame::decode(bytes, Sender::Server).expect("the server's frames are well-formed")
            }
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    pub(crate) async fn welcome(&self) -> Welcome {
        match self.frame().await {
            Frame::Welcome(welcome) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    /// Waits for the next data frame and skips other frames.
    pub(crate) async fn data(&self) -> Data {
        loop {
            match self.frame().await {
                Frame::Data(data) => return data,
                Frame::End(end) => panic!("expected data, got {end:?}"),
                _ => {}
            }
        }
    }

    /// Waits for the end, which must be followed by a close with the same code. Skips earlier
    /// frames.
    pub(crate) async fn end(&self) -> End {
        loop {
            if let Frame::End(end) = self.frame().await {
                let close = self.packet().await;
                assert_eq!(
                    close,
                    Some(Packet::Close(
                        u16::try_from(end.code).expect("the code fits a close frame")
                    ))
                );
                return end;
            }
        }
    }
}

/// Returns an acknowledgement that grants all the credit there could be.
pub(crate) fn ack(received: u64, received_bulk: u64) -> Frame {
    Frame::Ack(Counts {
        received: PerLane::new(received, received_bulk),
        credit: PerLane::new(1 << 40, 1 << 40),
    })
}

pub(crate) fn data(lane: Lane, sequence: u64, payload: impl Into<Bytes>) -> Data {
    Data {
        lane,
        sequence,
        more: false,
        compressed: false,
        payload: payload.into(),
    }
}

/// Returns the charge of a whole small message of this size.
pub(crate) fn charge(size: usize) -> u64 {
    size as u64 + FRAME_CHARGE
}
