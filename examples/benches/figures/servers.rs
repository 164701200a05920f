//! An echo on each framework, over its own WebSockets and over sessions.

use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::{Hub, Session};
use tokio::net::TcpListener;
use warp::Filter as _;

use crate::ALLOCATOR;

/// Prints the address, and serves until the process is killed.
pub(crate) async fn serve(kind: &str) {
    let hub = Hub::builder()
        .max_unconnected(1_000_000)
        .max_sessions(1_000_000)
        .build();
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("the socket has an address"));
    match kind.split_once(' ').expect("the argument names a framework and a kind") {
        ("axum", kind) => serve_axum(kind, hub, listener).await,
        ("actix", kind) => serve_actix(kind, hub, listener).await,
        (_, kind) => serve_warp(kind, hub, listener).await,
    }
}

fn ticket(hub: &Hub) -> String {
    hub.open(echo).ticket_json()
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

/// Returns the bytes that are allocated and not freed.
fn live() -> String {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated as i64 - stats.bytes_deallocated as i64).to_string()
}

async fn serve_axum(kind: &str, hub: Hub, listener: TcpListener) {
    let app = match kind {
        "stillhere" => Router::new()
            .route("/ticket", get(async |State(hub): State<Hub>| ticket(&hub)))
            .merge(stillhere_axum::routes(&hub)),
        "bare-4k" => Router::new().route(
            "/ws",
            get(|upgrade: WebSocketUpgrade| bare_axum(upgrade.read_buffer_size(4096))),
        ),
        _ => Router::new().route("/ws", get(bare_axum)),
    };
    let app = app.route("/live", get(async || live())).with_state(hub);
    axum::serve(listener, app).await.expect("the server keeps running");
}

async fn bare_axum(upgrade: WebSocketUpgrade) -> impl IntoResponse {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, axum::extract::ws::Message::Binary(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn serve_actix(kind: &str, hub: Hub, listener: TcpListener) {
    let is_bare = kind == "bare";
    let app = move || {
        let app = App::new().app_data(web::Data::new(hub.clone()));
        let app = app.route("/live", web::get().to(async || live()));
        if is_bare {
            app.route("/ws", web::get().to(bare_actix))
        } else {
            app.route("/ticket", web::get().to(async |hub: web::Data<Hub>| ticket(&hub)))
                .configure(stillhere_actix::routes(&hub))
        }
    };
    let listener = listener.into_std().expect("the listener is usable");
    let server = HttpServer::new(app)
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .client_disconnect_timeout(Duration::ZERO)
        .listen(listener);
    server
        .expect("the listener is usable")
        .run()
        .await
        .expect("the server keeps running");
}

async fn bare_actix(request: HttpRequest, payload: web::Payload) -> actix_web::Result<HttpResponse> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, payload)?;
    actix_web::rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            if let actix_ws::Message::Binary(bytes) = message
                && session.binary(bytes).await.is_err()
            {
                return;
            }
        }
    });
    Ok(response)
}

async fn serve_warp(kind: &str, hub: Hub, listener: TcpListener) {
    let live = warp::path!("live").map(live);
    if kind == "bare" {
        let ws = warp::path!("ws").and(warp::ws()).map(|upgrade: warp::ws::Ws| {
            upgrade.on_upgrade(async |mut socket| {
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
        });
        warp::serve(live.or(ws)).incoming(listener).run().await;
    } else {
        let routes = stillhere_warp::routes(&hub);
        let ticket = warp::path!("ticket").map(move || ticket(&hub));
        warp::serve(live.or(ticket).or(routes)).incoming(listener).run().await;
    }
}
