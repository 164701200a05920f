//! A page, or a plain WebSocket, that sends messages and waits for their echoes.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use stillhere::machine::{Action, DocumentMachine, DocumentOptions};
use stillhere::{DocumentId, Lane, Limits};
use stillhere_conformance::credentials::Credentials;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::process::Server;

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// `None` for a server without sessions.
    document: Option<DocumentMachine>,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let ticket = server.get("/ticket").await;
        let ticket = ticket.starts_with('{').then_some(ticket);
        let credentials = ticket.map(|ticket| Credentials::parse(&ticket).expect("the hub has room"));
        let path = credentials.as_ref().map_or("/ws", Credentials::path);
        let mut request = format!("ws://{}{path}", server.address)
            .into_client_request()
            .expect("the URL is valid");
        if credentials.is_some() {
            request.headers_mut().insert(
                "sec-websocket-protocol",
                "stillhere.v1".parse().expect("the header is valid"),
            );
        }
        let stream = TcpStream::connect(server.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("the socket is connected");
        let config = tokio_tungstenite::tungstenite::protocol::WebSocketConfig::default().read_buffer_size(4096);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .expect("the server upgrades the request");
        let mut client = Self {
            socket,
            document: credentials.map(document),
        };
        client.say_hello().await;
        client
    }

    async fn say_hello(&mut self) {
        let Some(document) = &mut self.document else { return };
        document.start(Instant::now());
        assert_eq!(document.poll_action(), Some(Action::Connect(1)));
        document.handle_open(1, Instant::now());
        self.flush().await;
        while self
            .document
            .as_ref()
            .is_some_and(|document| document.incarnation() == 0)
        {
            self.read().await;
        }
    }

    /// Sends `count` messages, `in_flight` at a time, and waits for their echoes.
    pub(crate) async fn echo(&mut self, in_flight: usize, count: usize) {
        let payload = Bytes::from_static(&[7; 64]);
        let (mut sent, mut echoed) = (0, 0);
        while echoed < count {
            while sent < count && sent - echoed < in_flight {
                match &mut self.document {
                    Some(document) => document
                        .send(Lane::Interactive, payload.clone())
                        .expect("there is room"),
                    None => self
                        .socket
                        .feed(Message::Binary(payload.clone()))
                        .await
                        .expect("the server reads"),
                }
                sent += 1;
            }
            self.flush().await;
            echoed += self.read().await;
        }
    }

    /// Closes as a browser does.
    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.expect("the server is there");
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    async fn flush(&mut self) {
        if let Some(document) = &mut self.document {
            while let Some(frame) = document.poll_transmit(1, true, Instant::now()) {
                self.socket
                    .feed(Message::Binary(frame.to_bytes()))
                    .await
                    .expect("the server reads");
            }
        }
        self.socket.flush().await.expect("the server reads");
    }

    /// Waits for input and reads all of it. Returns the number of messages.
    async fn read(&mut self) -> usize {
        let mut messages = 0;
        let mut next = Some(self.socket.next().await);
        while let Some(packet) = next {
            let bytes = packet
                .expect("the server is there")
                .expect("the connection holds")
                .into_data();
            match &mut self.document {
                None => messages += 1,
                Some(document) => {
                    document.handle_frame(1, bytes, Instant::now());
                    while document.take(Lane::Interactive).is_some() {
                        document.release(Lane::Interactive, Instant::now());
                        messages += 1;
                    }
                }
            }
            next = self.socket.next().now_or_never();
        }
        messages
    }
}

fn document(Credentials { secret, .. }: Credentials) -> DocumentMachine {
    let document = DocumentId(*secret.expose().first_chunk().expect("the secret has 32 bytes"));
    DocumentMachine::new(
        DocumentOptions {
            secret,
            document,
            limits: Limits::default(),
            seed: 1,
        },
        Instant::now(),
    )
}
