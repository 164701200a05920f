//! A complete counter on axum, shown in the README.

use std::net::SocketAddr;
use std::time::Duration;

use axum::{Router, extract::State, routing::get};
use stillhere_axum::{Hub, Page, Session, stop_signal};

async fn page(State(hub): State<Hub>) -> Page<String> {
    let session = hub.open(counter); // costs little until a browser connects
    let tag = session.script_tag(); // the client, with a ticket for this session
    Page(format!("<button id=b>0</button>{tag}<script>{PAGE_JS}</script>"))
}

/// Runs once per session. It outlives connections, so its local variables are the durable state.
async fn counter(mut session: Session) {
    let mut clicks = 0u64;
    while let Some(_click) = session.recv().await {
        clicks += 1;
        // The session keeps the message until the browser has acknowledged it.
        if session.send(clicks.to_string()).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let hub = Hub::builder().allow_host("localhost").build(); // and every other host name that browsers use
    let app = Router::new()
        .route("/", get(page))
        .merge(stillhere_axum::routes(&hub)) // works with any router state
        .with_state(hub.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>(); // needed for the limits per address
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());
    stop_signal().await; // Ctrl-C or SIGTERM
    hub.shutdown(Duration::from_secs(10)).await; // tells every browser
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(5), serving).await; // waits for pending requests, but not for incomplete ones
    Ok(())
}

const PAGE_JS: &str = "
    const button = document.getElementById('b');
    stillhere.session.onmessage = (data) => { button.textContent = new TextDecoder().decode(data); };
    button.onclick = () => stillhere.session.send(new Uint8Array([1]));
";
