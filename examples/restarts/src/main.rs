//! A page with two numbered streams, whose server can be killed. The README says what to try.

mod streams;
mod supervisor;

use std::env;
use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use stillhere_axum::durable::{Durability, DurableKind, FileStore};
use stillhere_axum::{Hub, Page, stop_signal};
use tokio::net::TcpListener;

use crate::streams::{Streams, run};

async fn page(State(kind): State<DurableKind<Streams>>) -> Page<String> {
    let session = kind.open(Streams::default());
    Page(include_str!("../page.html").replace("{{session}}", &session.script_tag()))
}

/// Ends this process as `kill -9` does: nothing is saved or said. Its supervisor starts another.
async fn kill() -> StatusCode {
    supervisor::signal("KILL", std::process::id()).await;
    StatusCode::NO_CONTENT
}

async fn serve(address: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let store = FileStore::open(file).await?;
    let hub = Hub::builder().allow_host("localhost").store(store).build();
    let kind = hub.durable("streams", Durability::Crash, run);
    let app = Router::new()
        .route("/", get(page))
        .route("/kill", post(kill))
        .merge(stillhere_axum::routes(&hub))
        .with_state(kind);
    let listener = TcpListener::bind(address).await?;
    if supervisor::is_first() {
        println!("http://{address}");
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());
    stop_signal().await; // the next process goes on with the sessions
    hub.shutdown(Duration::from_secs(5)).await;
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok(())
}

/// Usage: `restarts [ADDRESS [FILE]]`, by default 127.0.0.1:3000 and `restarts.db`, which it
/// creates.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let file = arguments.next().unwrap_or_else(|| "restarts.db".to_owned());
    if supervisor::is_child() {
        serve(&address, &file).await
    } else {
        Ok(supervisor::run(&address, &file).await?)
    }
}
