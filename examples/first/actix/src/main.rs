//! A complete counter on actix-web, shown in the README.

use std::time::Duration;

use actix_web::{App, HttpServer, get, web};
use stillhere_actix::{Hub, Page, Session, stop_signal};

#[get("/")]
async fn page(hub: web::Data<Hub>) -> Page<String> {
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

#[tokio::main] // or actix_web::main: sessions over WebSockets run on actix's workers anyway
async fn main() -> std::io::Result<()> {
    // Create the hub once, outside the closure. Allow every host name that browsers use.
    let hub = Hub::builder().allow_host("localhost").build();
    let hub_of_app = hub.clone();
    let app = move || {
        let data = web::Data::new(hub_of_app.clone());
        App::new()
            .app_data(data)
            .service(page)
            .configure(stillhere_actix::routes(&hub_of_app))
    };
    let drain = async move {
        stop_signal().await; // Ctrl-C or SIGTERM
        hub.shutdown(Duration::from_secs(10)).await;
    };
    let server = HttpServer::new(app)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .client_disconnect_timeout(Duration::ZERO);
    let server = server.shutdown_signal(drain).shutdown_timeout(5); // seconds for pending requests
    server.bind("127.0.0.1:3000")?.run().await
}

const PAGE_JS: &str = "
    const button = document.getElementById('b');
    stillhere.session.onmessage = (data) => { button.textContent = new TextDecoder().decode(data); };
    button.onclick = () => stillhere.session.send(new Uint8Array([1]));
";
