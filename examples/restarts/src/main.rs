//! A page with two numbered streams, whose server can be killed. The README says what to try.

mod arguments;
mod balancer;
mod nats;
mod node;
mod nodes;
mod streams;
mod supervisor;

use std::env;
use std::error::Error;
use std::process;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use stillhere_axum::durable::{Durability, DurableKind, FileStore};
use stillhere_axum::{Hub, Page, stop_signal};
use tokio::net::TcpListener;

use crate::arguments::{Task, USAGE};
use crate::streams::{Streams, run};

async fn page(State(kind): State<DurableKind<Streams>>) -> Page<String> {
    let session = kind.open(Streams::default());
    Page(include_str!("../page.html").replace("{{session}}", &session.script_tag()))
}

async fn kill() -> StatusCode {
    supervisor::kill_this_process().await; // its supervisor starts another
    StatusCode::NO_CONTENT
}

/// Serves with the sessions in a file.
async fn serve_file(address: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let store = FileStore::open(file).await?;
    let hub = Hub::builder().allow_host("localhost").store(store).build();
    let app = stillhere_axum::routes(&hub).route("/kill/{session}", post(kill));
    serve(address, &hub, app, 0).await
}

/// Serves the page and the routes of this server until it is told to stop. `node` is its number, or
/// 0 if it is the only one.
async fn serve(address: &str, hub: &Hub, routes: Router, node: u64) -> Result<(), Box<dyn Error>> {
    let kind = hub.durable("streams", Durability::Crash, move |session, state| {
        run(session, state, node)
    });
    let app = Router::new().route("/", get(page)).with_state(kind).merge(routes);
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());
    stop_signal().await; // the next process goes on with the sessions
    hub.shutdown(Duration::from_secs(5)).await;
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok(())
}

async fn carry_out(task: Task) -> Result<(), Box<dyn Error>> {
    match task {
        Task::Supervise { address, file } => supervisor::run(&address, &file).await?,
        Task::SuperviseNodes { address, count } => nodes::run(&address, count).await?,
        Task::ServeFile { address, file } => serve_file(&address, &file).await?,
        Task::ServeNode { address, number, nats } => node::serve(&address, number, &nats).await?,
        Task::KeepNats => nats::keep().await?,
    }
    Ok(())
}

#[tokio::main]
async fn main() {
    let Some((task, is_child)) = arguments::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        process::exit(2);
    };
    if is_child && task != Task::KeepNats {
        supervisor::end_with_supervisor();
    }
    if let Err(error) = carry_out(task).await {
        eprintln!("{error}");
        process::exit(1);
    }
}
