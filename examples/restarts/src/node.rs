//! A server that is one of several.

use std::error::Error;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use futures_util::StreamExt as _;
use stillhere_axum::Hub;
use stillhere_nats::{NatsCluster, NatsClusterOptions, NatsStore, NatsStoreOptions};

use crate::supervisor::kill_this_process;

/// Where nodes are told to kill that which has a session.
const KILL: &str = "restarts.kill";

/// Serves as the node with this number, with the sessions in NATS. Any node takes any page.
pub(crate) async fn serve(address: &str, number: u64, nats: &str) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(nats).await?;
    let cluster = NatsCluster::new(client.clone(), NatsClusterOptions::default()).await?;
    let store = NatsStore::new(client.clone(), NatsStoreOptions::default()).await?;
    let hub = Hub::builder()
        .allow_host("localhost")
        .cluster(cluster.clone())
        .store(store)
        .build();
    tokio::spawn(kill_on_request(hub.clone(), client.subscribe(KILL).await?));
    let app = stillhere_axum::routes(&hub)
        .layer(from_fn_with_state(number, name_node))
        .merge(Router::new().route("/kill/{session}", post(kill)).with_state(client));
    // Until then it would send pages away that have their session in another node.
    while !cluster.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    crate::serve(address, &hub, app, number).await
}

/// Tells a page which node its connection has reached: in a cookie, because a script sees nothing
/// else of the answer to a WebSocket's request.
async fn name_node(State(number): State<u64>, request: Request, next: Next) -> Response {
    let session = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let mut response = next.run(request).await;
    let cookie = format!("node-{session}={number}; Path=/; Max-Age=60; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Kills the node that has this session, which may be another one.
async fn kill(State(client): State<Client>, Path(session): Path<String>) -> StatusCode {
    let told = client.publish(KILL, session.into()).await;
    match told.is_ok() && client.flush().await.is_ok() {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn kill_on_request(hub: Hub, mut requests: Subscriber) {
    while let Some(request) = requests.next().await {
        let session = std::str::from_utf8(&request.payload)
            .ok()
            .and_then(|id| id.parse().ok());
        if session.is_some_and(|session| hub.session(&session).is_some()) {
            kill_this_process().await;
        }
    }
}
