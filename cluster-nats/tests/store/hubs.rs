//! Hubs that share a store: a session goes on in another process.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use stillhere::durable::{Durability, DurableKind, State};
use stillhere::{Hub, Session};
use stillhere_axum::routes;
use stillhere_client::{Client, Ticket};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::open;
use crate::support::NatsServer;

#[derive(Serialize, Deserialize)]
struct Count {
    count: u64,
}

/// Answers each message with its number.
async fn count(mut session: Session, state: State<Count>) {
    while let Some(message) = session.recv().await {
        let number = state.update(|state| {
            state.count += 1;
            state.count
        });
        let text = format!("{number} {}", String::from_utf8_lossy(&message));
        if session.send(text).await.is_err() {
            return;
        }
    }
}

/// A server with a runtime of its own, so that it can end as a process does that is killed.
struct Server {
    runtime: Runtime,
    hub: Hub,
    kind: DurableKind<Count>,
}

impl Server {
    fn start(nats: &NatsServer, address: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (hub, kind) = runtime.block_on(async {
            let hub = Hub::builder().store(open(nats).await).build();
            let kind = hub.durable("count", Durability::Crash, count);
            let listener = TcpListener::bind(address).await.expect("the address is free");
            tokio::spawn(axum::serve(listener, Router::new().merge(routes(&hub))).into_future());
            (hub, kind)
        });
        Self { runtime, hub, kind }
    }

    /// Ends without any shutdown.
    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(10));
    }
}

async fn answer(client: &Client) -> String {
    let message = timeout(Duration::from_secs(30), client.recv()).await;
    let message = message.expect("it answers in time").expect("the session goes on");
    String::from_utf8_lossy(&message).into_owned()
}

#[test]
fn a_session_goes_on_at_another_hub_after_a_crash() {
    let nats = NatsServer::start();
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        free.local_addr().expect("it is bound")
    };
    let browser = Runtime::new().expect("a runtime");
    let server = Server::start(&nats, address);
    let session = server.kind.open(Count { count: 0 });
    let ticket = Ticket::find_in(&session.script_tag()).expect("there is a ticket");
    let client = browser.block_on(async {
        let page = format!("http://{address}/");
        let builder = Client::builder().page(&page).expect("it is a URL");
        let client = builder.connect_with(ticket).expect("it connects");
        client.send("a").await.expect("the session is open");
        assert_eq!(answer(&client).await, "1 a");
        client
    });
    let id = *session.id();
    let mut number = 1;
    let mut server = server;
    for round in 0..3 {
        server.kill();
        // Sent while nobody is there.
        let meanwhile = format!("meanwhile {round}");
        browser
            .block_on(async { client.send(meanwhile.clone()).await })
            .expect("it is queued");
        server = Server::start(&nats, address);
        assert!(server.hub.session(&id).is_none(), "it is opened once its page comes");
        browser.block_on(async {
            number += 1;
            assert_eq!(answer(&client).await, format!("{number} {meanwhile}"));
            client.send("more").await.expect("the session is open");
            number += 1;
            assert_eq!(answer(&client).await, format!("{number} more"));
        });
    }
    server.kill();
}
