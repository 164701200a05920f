//! The classics on axum.

use axum::{Router, routing::get};
use stillhere_axum::{Hub, Page, routes};
use stillhere_example_classics::todos::Todos;
use stillhere_example_classics::{chat, ticker, todos};
use tokio::net::TcpListener;

/// Usage: `classics-axum [ADDRESS]`, by default 127.0.0.1:3000.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let (hub, list, seconds) = (Hub::new(), Todos::new("todos", Vec::new()), ticker::start());
    let [for_chat, for_todos, for_ticker] = [(); 3].map(|()| hub.clone());
    let app = Router::new()
        .route("/chat", get(async move || Page(chat::page(&for_chat))))
        .route("/todos", get(async move || Page(todos::page(&for_todos, &list))))
        .route("/ticker", get(async move || Page(ticker::page(&for_ticker, &seconds))))
        .merge(routes(&hub));
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
