//! Serves the recipes of the README on axum, each on its own path.

mod broadcast;
mod chat;
mod json;
mod keep_over_f5;
mod processes;
mod single_page;
mod typed;

use std::env;

use axum::Router;
use axum::routing::{get, post};
use stillhere_axum::{Hub, routes};
use tokio::net::TcpListener;

/// Usage: `recipes [ADDRESS [PROCESS]]`. The process number gives the hub a mount of its own.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let process = arguments.next().and_then(|process| process.parse().ok());
    let hub = process.map_or_else(Hub::new, processes::hub);
    let app = Router::new()
        .route("/f5", get(keep_over_f5::page))
        .route("/json", get(json::page))
        .route("/broadcast", get(broadcast::page))
        .route("/chat", get(chat::page))
        .route("/ticket", post(single_page::ticket))
        .route("/typed/ticket", post(typed::ticket))
        .fallback_service(single_page::files())
        .merge(routes(&hub))
        .with_state(hub.clone());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
