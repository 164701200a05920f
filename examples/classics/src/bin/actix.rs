//! The classics on actix-web.

use actix_web::{App, HttpServer, web};
use stillhere_actix::{Hub, Page, routes};
use stillhere_example_classics::todos::Todos;
use stillhere_example_classics::{chat, ticker, todos};
use tokio::sync::watch;

/// What the handlers need.
type Common = web::Data<(Hub, Todos, watch::Receiver<u64>)>;

async fn chat_page(common: Common) -> Page<String> {
    Page(chat::page(&common.0))
}

async fn todos_page(common: Common) -> Page<String> {
    Page(todos::page(&common.0, &common.1))
}

async fn ticker_page(common: Common) -> Page<String> {
    Page(ticker::page(&common.0, &common.2))
}

/// Usage: `classics-actix [ADDRESS]`, by default 127.0.0.1:3000.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let common = web::Data::new((Hub::new(), Todos::new("todos", Vec::new()), ticker::start()));
    let app = move || {
        App::new()
            .app_data(common.clone())
            .route("/chat", web::get().to(chat_page))
            .route("/todos", web::get().to(todos_page))
            .route("/ticker", web::get().to(ticker_page))
            .configure(routes(&common.0))
    };
    let server = HttpServer::new(app).tcp_nodelay(true).bind(address)?;
    println!("http://{}", server.addrs()[0]);
    server.run().await
}
