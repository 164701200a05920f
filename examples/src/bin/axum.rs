//! The demo on axum.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use stillhere_axum::Page;
use stillhere_examples::Demo;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let demo = Demo::start(listener.local_addr()?).await?;
    let app = Router::new()
        .route("/", get(page))
        .route("/other", get(other_page))
        .route("/layer", get(layer_page))
        .merge(stillhere_axum::routes(demo.hub()))
        .fallback(answer)
        .with_state(demo.clone());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, app).with_graceful_shutdown(demo.clone().drained());
    demo.run(server).await.unwrap_or(Ok(()))
}

async fn page(State(demo): State<Demo>) -> Page<String> {
    Page(demo.page())
}

async fn other_page(State(demo): State<Demo>) -> Page<String> {
    Page(demo.other_page())
}

async fn layer_page(State(demo): State<Demo>) -> Page<String> {
    Page(demo.layer_page())
}

async fn answer(State(demo): State<Demo>, method: Method, uri: Uri) -> impl IntoResponse {
    let answer = demo.answer(method.as_str(), uri.path());
    let status = StatusCode::from_u16(answer.status).expect("the demo's statuses are valid HTTP");
    let headers = [
        (header::CONTENT_TYPE, answer.content_type),
        (header::CACHE_CONTROL, answer.cache_control),
    ];
    (status, headers, answer.body)
}
