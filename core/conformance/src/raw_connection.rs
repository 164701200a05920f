//! A WebSocket on which a case sends exactly what it wants, valid or not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::wire::{Counts, Data, End, Frame, Hello, Sender, Welcome};
use stillhere::{DocumentId, Lane, PerLane};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as WsFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data as DataCode, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::credentials::Credentials;
use crate::patience::within;
use crate::socket::{Request, Socket};

/// One WebSocket, without a state machine. Dropping it closes the TCP connection without a close
/// frame.
#[derive(Debug)]
pub struct RawConnection {
    socket: Socket,
    /// The last sequences received.
    received: PerLane<u64>,
}

impl RawConnection {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// Returns the HTTP status of an answer that is not an upgrade.
    ///
    /// # Panics
    /// Panics if there is no HTTP answer, or if the upgrade is not what was asked for.
    pub async fn open(request: &Request) -> Result<Self, u16> {
        match within("an answer to the upgrade request", request.open()).await {
            Ok(socket) => Ok(Self {
                socket,
                received: PerLane::default(),
            }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }

    /// Writes a frame.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send(&mut self, frame: Frame) {
        self.send_bytes(frame.to_bytes()).await;
    }

    /// Writes a binary message.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.write(Message::Binary(bytes.into()))
            .await
            .expect("the connection accepts the packet");
    }

    /// Writes a text message.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send_text(&mut self, text: &'static str) {
        self.write(Message::text(text))
            .await
            .expect("the connection accepts the packet");
    }

    /// Writes a frame to a connection that may be gone.
    pub async fn try_send(&mut self, frame: Frame) {
        let _ = self.write(Message::Binary(frame.to_bytes())).await;
    }

    /// Answers a ping, which acknowledges everything received so far. The connection may be gone.
    pub async fn pong(&mut self, nonce: u64) {
        let counts = Counts {
            received: self.received,
            ..received(0)
        };
        self.try_send(Frame::Pong { nonce, counts }).await;
    }

    /// Writes raw bytes below the WebSocket layer.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send_octets(&mut self, octets: &[u8]) {
        self.socket
            .get_mut()
            .write_all(octets)
            .await
            .expect("the connection accepts the packet");
    }

    /// Writes a binary message in WebSocket frames of at most `size` bytes, with a ping after the
    /// first. If the connection is lost, drops the rest.
    pub async fn send_in_pieces(&mut self, bytes: &[u8], size: usize) {
        let last = bytes.len().div_ceil(size).saturating_sub(1);
        for (number, piece) in bytes.chunks(size).enumerate() {
            let code = if number == 0 {
                DataCode::Binary
            } else {
                DataCode::Continue
            };
            let frame = WsFrame::message(piece.to_vec(), OpCode::Data(code), number == last);
            if self.write(Message::Frame(frame)).await.is_err() {
                return;
            }
            if number == 0 {
                let _ = self.write(Message::Ping(Bytes::new())).await;
            }
        }
    }

    /// Sends a WebSocket ping, waits for the pong and returns its payload.
    ///
    /// # Panics
    /// Panics if the connection ends first.
    pub async fn ping(&mut self, payload: &'static str) -> Bytes {
        self.write(Message::Ping(payload.into()))
            .await
            .expect("the connection accepts a ping");
        loop {
            match within("a pong", self.socket.next()).await {
                Some(Ok(Message::Pong(payload))) => return payload,
                Some(Ok(Message::Binary(_))) => {}
                other => panic!("expected a pong, got {other:?}"),
            }
        }
    }

    /// Closes with this code, and waits for the answer.
    ///
    /// # Panics
    /// Panics if the connection ends without an answer.
    pub async fn close(mut self, code: u16) -> u64 {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.write(Message::Close(Some(frame)))
            .await
            .expect("the connection accepts the close");
        self.close_code().await
    }

    /// Closes, waits for the answer, and then for the server to end the TCP connection, which is
    /// the server's task (RFC 6455, section 7.1.1). Returns how long that takes.
    ///
    /// # Panics
    /// Panics if the connection ends earlier, or stays open.
    pub async fn outlives_close(mut self) -> Duration {
        self.write(Message::Close(None))
            .await
            .expect("the connection accepts the close");
        self.close_code().await;
        let answered = Instant::now();
        let mut rest = Vec::new();
        // A reset ends it too.
        let _ = within("the TCP connection's end", self.socket.get_mut().read_to_end(&mut rest)).await;
        answered.elapsed()
    }

    /// Says hello as this document, for the first time if `incarnation` is 0. It has received
    /// nothing and grants the windows of the ticket.
    pub async fn say_hello(&mut self, credentials: &Credentials, document: u8, incarnation: u64, attempt: u64) {
        self.send(Frame::Hello(hello(credentials, document, incarnation, attempt)))
            .await;
    }

    /// Reads a welcome.
    ///
    /// # Panics
    /// Panics if something else arrives.
    pub async fn welcome(&mut self) -> Welcome {
        match self.frame().await {
            Frame::Welcome(welcome) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    /// Reads frames up to the next data frame, and answers pings.
    ///
    /// # Panics
    /// Panics if an end arrives first.
    pub async fn data(&mut self) -> Data {
        loop {
            match self.frame().await {
                Frame::Data(data) => return data,
                Frame::Ping { nonce, counts: _ } => self.pong(nonce).await,
                Frame::Ack(_) | Frame::Pong { .. } => {}
                other => panic!("expected data, got {other:?}"),
            }
        }
    }

    /// Reads frames up to the next counts, in any kind of frame.
    ///
    /// # Panics
    /// Panics if an end arrives first.
    pub async fn counts(&mut self) -> Counts {
        loop {
            match self.frame().await {
                Frame::Ack(counts) | Frame::Ping { counts, .. } | Frame::Pong { counts, .. } => return counts,
                Frame::Data(_) => {}
                other => panic!("expected counts, got {other:?}"),
            }
        }
    }

    /// Reads the next frame.
    ///
    /// # Panics
    /// Panics if the connection ends instead.
    pub async fn frame(&mut self) -> Frame {
        match self.read().await {
            Ok(frame) => frame,
            Err(code) => panic!("closed with {code} instead of a frame"),
        }
    }

    /// Reads frames up to the end and the close, which must agree.
    ///
    /// # Panics
    /// Panics if there is no end, if it is not the last frame, or if the close has another code.
    pub async fn end(&mut self) -> End {
        loop {
            if let Frame::End(end) = self.frame().await {
                let close = self.read().await;
                assert_eq!(
                    close.err(),
                    Some(end.code),
                    "the WebSocket close has the code of the end: {end:?}"
                );
                return end;
            }
        }
    }

    /// Reads frames up to the close and returns its code: 1005 for a close without a code, and 1006
    /// for a connection that ends without a close.
    pub async fn close_code(&mut self) -> u64 {
        loop {
            if let Err(code) = self.read().await {
                return code;
            }
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        within("the connection accepts the packet", self.socket.send(message)).await
    }

    /// Returns the next frame, or the code of the close.
    async fn read(&mut self) -> Result<Frame, u64> {
        loop {
            return match within("the server says something", self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => {
                    let frame = Frame::decode(bytes, Sender::Server).expect("the server sends frames");
                    if let Frame::Data(data) = &frame {
                        self.received[data.lane] = self.received[data.lane].max(data.sequence);
                    }
                    Ok(frame)
                }
                Some(Ok(Message::Close(frame))) => Err(frame.map_or(1005, |frame| u16::from(frame.code).into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("the server sends binary messages only: {other:?}"),
                Some(Err(_)) | None => Err(1006),
            };
        }
    }
}

/// Returns the hello of a document that has received nothing.
pub fn hello(credentials: &Credentials, document: u8, incarnation: u64, attempt: u64) -> Hello {
    Hello {
        secret: credentials.secret.clone(),
        document: DocumentId([document; 16]),
        incarnation,
        attempt,
        counts: Counts {
            received: PerLane::default(),
            credit: PerLane::new(credentials.limits.window, credentials.limits.bulk_window),
        },
    }
}

/// Returns a data frame that is a whole message.
pub fn whole(lane: Lane, sequence: u64, payload: impl Into<Bytes>) -> Frame {
    Frame::Data(Data {
        lane,
        sequence,
        more: false,
        compressed: false,
        payload: payload.into(),
    })
}

/// Returns a data frame that is followed by more of its message.
pub fn fragment(lane: Lane, sequence: u64, payload: impl Into<Bytes>) -> Frame {
    Frame::Data(Data {
        lane,
        sequence,
        more: true,
        compressed: false,
        payload: payload.into(),
    })
}

/// Returns counts with this much received on the interactive lane and unlimited credit.
pub fn received(interactive: u64) -> Counts {
    Counts {
        received: PerLane::new(interactive, 0),
        credit: PerLane::new(1 << 40, 1 << 40),
    }
}
