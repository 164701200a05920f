//! The classics on warp.

use stillhere_example_classics::todos::Todos;
use stillhere_example_classics::{chat, ticker, todos};
use stillhere_warp::{Hub, Page, routes};
use tokio::net::TcpListener;
use warp::Filter;

/// Usage: `classics-warp [ADDRESS]`, by default 127.0.0.1:3000.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let (hub, list, seconds) = (Hub::new(), Todos::new("todos", Vec::new()), ticker::start());
    let [for_chat, for_todos, for_ticker] = [(); 3].map(|()| hub.clone());
    let app = routes(&hub)
        .or(warp::path!("chat").map(move || Page(chat::page(&for_chat))))
        .or(warp::path!("todos").map(move || Page(todos::page(&for_todos, &list))))
        .or(warp::path!("ticker").map(move || Page(ticker::page(&for_ticker, &seconds))));
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    warp::serve(app).incoming(listener).run().await;
    Ok(())
}
