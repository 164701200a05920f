//! A server of your own: a counter in the browser over hyper, without a framework and without an
//! adapter, for servers that have no adapter. It shows four steps:
//!
//! 1. Save a route for each session whose page is rendered: [`Routes::save`], called by the
//!    condition in [`hub`].
//! 2. Answer the routes: [`Server::web_socket`]. The core reads and writes, in
//!    [`run_connection_loop`].
//! 3. Decide what the end of a connection means: the cleanup policy in [`hub`].
//! 4. Remove the routes: a task for each session, in [`Routes::save`].
//!
//! ```sh
//! cargo run -p stillhere-example-own-server -- [--addr HOST:PORT] [--close]
//! ```
//!
//! With `--close` a session ends together with its connection. Without it, the session waits two
//! minutes for its browser to reconnect. (On hyper, [`stillhere::upgrade`], which the adapters use,
//! does all of step 2.)

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, io};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use stillhere::client::{self, PAGE_CACHE_CONTROL};
use stillhere::http_answer::Answer;
use stillhere::websocket::{accept_key, connection};
use stillhere::{
    Accepted, AnswerBody, Asks, ConnectionSetup, DefaultCleanupPolicy, Hub, Session, SessionHandle, SessionId,
    SessionRequest, run_connection_loop, stop_signal,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Path at which browsers find the sessions' routes, each at `/live/<session id>`. Behind a proxy
/// or on another host, use the external URL.
const LIVE: &str = "/live";

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let address = arguments.iter().skip_while(|argument| *argument != "--addr").nth(1);
    let closes = arguments.iter().any(|argument| argument == "--close");
    let listener = TcpListener::bind(address.map_or("127.0.0.1:3000", String::as_str)).await?;
    println!("a counter on http://{}", listener.local_addr()?);

    let routes = Routes::default();
    let is_local = listener.local_addr()?.ip().is_loopback();
    let hub = hub(&routes, closes, is_local);
    let server = Server {
        hub: hub.clone(),
        routes,
    };
    tokio::select! {
        () = server.accept_all(listener) => {}
        () = stop_signal() => {}
    }
    hub.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn hub(routes: &Routes, closes: bool, is_local: bool) -> Hub {
    let kept = DefaultCleanupPolicy::default();
    // The policy decides what the end of a connection means. A handler that closed the session when
    // its connection ends would also close sessions that a newer connection has taken over, because
    // browsers often notice a lost connection before the server does.
    let ended = DefaultCleanupPolicy {
        soft_closed: Duration::ZERO,
        ..kept
    };
    let mut hub = Hub::builder().cleanup_policy(if closes { ended } else { kept });
    if is_local {
        hub = hub.allow_host("localhost");
    }
    let hub = hub.build();
    let routes = routes.clone();
    hub.register_connection(move |session| {
        routes.save(session);
        Some(ConnectionSetup::web_socket().url(LIVE))
    });
    hub
}

/// The session's function: counts the clicks.
async fn count(mut session: Session) {
    let mut clicks = 0u64;
    while session.recv().await.is_some() {
        clicks += 1;
        if session.send(clicks.to_string()).await.is_err() {
            return;
        }
    }
}

/// The routing table: the session for each path.
#[derive(Clone, Default)]
struct Routes(Arc<Mutex<HashMap<String, SessionId>>>);

impl Routes {
    /// Saves the session's route until the session ends.
    fn save(&self, session: &SessionHandle) {
        let path = format!("{LIVE}/{}", session.id());
        if self.lock().insert(path.clone(), *session.id()).is_some() {
            return; // the page is rendered a second time
        }
        let (routes, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            session.ended().await;
            routes.lock().remove(&path);
        });
    }

    fn find(&self, path: &str) -> Option<SessionId> {
        self.lock().get(path).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, SessionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Server {
    hub: Hub,
    routes: Routes,
}

impl Server {
    async fn accept_all(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream))),
                // Most likely too many files are open.
                Err(error) => {
                    eprintln!("cannot accept a connection: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        // The kernel would otherwise delay small packets by about 40 ms. If the connection is
        // already lost, that is reported when it is used.
        let _ = stream.set_nodelay(true);
        let answer = service_fn(async |request| Ok::<_, Infallible>(self.answer(request)));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // The server need not know what a client does to its connection.
        let _ = connection.with_upgrades().await;
    }

    fn answer(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let on_upgrade = hyper::upgrade::on(&mut request);
        let path = request.uri().path();
        let route = self.routes.find(path);
        let Some((LIVE, name)) = path.rsplit_once('/') else {
            return if path == "/" {
                self.page()
            } else {
                text(StatusCode::NOT_FOUND, "nothing here")
            };
        };
        // If the route is gone, the hub still answers. It tells the browser, which cannot read an
        // HTTP status here, how the session ended.
        let name = route.map_or(name.to_owned(), |id| id.to_string());
        let headers = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let asked = SessionRequest::new(&name, headers);
        match asked.asks(request.method().as_str()) {
            Asks::WebSocket { key } => self.web_socket(&asked, &accept_key(key), on_upgrade),
            _ if route.is_some() => text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket"),
            _ => file(client::answer(&asked)),
        }
    }

    /// Returns the page with a new session.
    fn page(&self) -> Response<Full<Bytes>> {
        let session = self.hub.open(count);
        let page = include_str!("page.html").replace("{{session}}", &session.script_tag());
        let response = Response::builder()
            .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
            .header(header::CACHE_CONTROL, PAGE_CACHE_CONTROL);
        response.body(page.into()).expect("the headers are valid")
    }

    /// Upgrades the request even if the hub refuses it, because a browser reads the reason only
    /// over the WebSocket.
    fn web_socket(&self, asked: &SessionRequest<'_>, accept: &str, on_upgrade: OnUpgrade) -> Response<Full<Bytes>> {
        let accepted = match self.hub.accept(asked) {
            Ok(accepted) => accepted,
            Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = accepted.protocol() {
            response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        tokio::spawn(carry(on_upgrade, accepted));
        response
            .body(Full::default())
            .expect("the subprotocol came from a header")
    }
}

/// Carries the session until the connection ends. The session and its policy handle the loss.
async fn carry(on_upgrade: OnUpgrade, accepted: Accepted) {
    // The browser may have disconnected before the answer was sent.
    let Ok(upgraded) = on_upgrade.await else { return };
    let connection = connection(TokioIo::new(upgraded), Vec::new(), accepted.packet_limit());
    run_connection_loop(accepted, connection).await;
}

/// Returns one of the client's files, or a 404.
fn file(answer: Answer) -> Response<Full<Bytes>> {
    let AnswerBody::Whole(body) = answer.body else {
        unreachable!("files are whole")
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(body.into()).expect("the core's answers are valid HTTP")
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}
