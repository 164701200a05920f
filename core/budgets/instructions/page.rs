//! A page at the other end of a connection within the process. It looks at as little as it can, so
//! that nearly all instructions are the server's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::Value;
use stillhere::wire::{Counts, Data, Frame, Hello, SUBPROTOCOL};
use stillhere::{DocumentId, Hub, Lane, Limits, PerLane, Secret, SessionHandle, SessionRequest};

use crate::end::{End, Kind};

/// Type of a frame with a whole message.
const DATA: u8 = 0x40;

pub(crate) struct Page {
    end: End,
    sent: u64,
    received: u64,
}

impl Page {
    /// Connects and says hello.
    pub(crate) async fn connect(hub: &Hub, session: &SessionHandle, kind: Kind) -> Self {
        let id = session.id().to_string();
        let request = SessionRequest::new(&id, [("sec-websocket-protocol", SUBPROTOCOL.as_bytes())]);
        let accepted = hub.accept(&request).expect("the protocol is offered");
        let mut page = Self {
            end: End::connect(accepted, kind),
            sent: 0,
            received: 0,
        };
        let hello = Frame::Hello(Hello {
            secret: secret(session),
            document: DocumentId([1; 16]),
            incarnation: 0,
            attempt: 1,
            counts: page.counts(),
        });
        page.feed(&hello).await;
        page.end.flush().await;
        page.end.next().await;
        page
    }

    /// Acknowledges what was received, and sends messages of 64 bytes.
    pub(crate) async fn send(&mut self, messages: usize) {
        self.send_each(&Bytes::from_static(&[7; 64]), messages).await;
    }

    /// Acknowledges what was received, and sends a message several times.
    pub(crate) async fn send_each(&mut self, message: &Bytes, messages: usize) {
        self.feed(&Frame::Ack(self.counts())).await;
        for _ in 0..messages {
            self.sent += 1;
            self.feed(&Frame::Data(Data {
                lane: Lane::Interactive,
                sequence: self.sent,
                more: false,
                compressed: false,
                payload: message.clone(),
            }))
            .await;
        }
        self.end.flush().await;
    }

    /// Waits for messages, and for nothing else that comes between.
    pub(crate) async fn receive(&mut self, messages: usize) {
        let last = self.received + messages as u64;
        while self.received < last {
            let frame = self.end.next().await;
            self.received += u64::from(frame[0] == DATA);
        }
    }

    /// Receives and acknowledges until nothing more comes.
    pub(crate) async fn settle(&mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let before = self.received;
            while let Some(frame) = self.end.next().now_or_never() {
                self.received += u64::from(frame[0] == DATA);
            }
            if self.received == before {
                return;
            }
            self.send(0).await;
        }
    }

    async fn feed(&mut self, frame: &Frame) {
        self.end.feed(frame.to_bytes()).await;
    }

    /// Returns what was received, and credit for far more.
    fn counts(&self) -> Counts {
        let limits = Limits::default();
        Counts {
            received: PerLane::new(self.received, 0),
            credit: PerLane::new(limits.window + 1024 * self.received, limits.bulk_window),
        }
    }
}

fn secret(session: &SessionHandle) -> Secret {
    let ticket: Value = serde_json::from_str(&session.ticket_json()).expect("a ticket is JSON");
    let secret = URL_SAFE_NO_PAD.decode(ticket["secret"].as_str().expect("a ticket has a secret"));
    let secret = secret.expect("the secret is base64url").try_into();
    Secret::from_bytes(secret.expect("a secret has 32 bytes"))
}
