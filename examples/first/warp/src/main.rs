//! A complete counter on warp, shown in the README.

use std::time::Duration;

use stillhere_warp::{Hub, Page, Session, stop_signal};
use warp::Filter;

fn page(hub: &Hub) -> Page<String> {
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
    let hub_of_page = hub.clone();
    let index = warp::path::end().map(move || page(&hub_of_page));
    let app = stillhere_warp::routes(&hub).or(index); // other requests go to the next filter
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = warp::serve(app)
        .incoming(listener)
        .graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.run());
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
