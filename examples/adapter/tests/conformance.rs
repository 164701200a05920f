//! Runs the conformance suite on this adapter.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use stillhere_conformance::shutdown::Drain;
use stillhere_hyper::{AnswerBody, Hub, answer, is_route};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

async fn start(hub: Hub) -> SocketAddr {
    let (address, _serving) = serve(hub, Box::pin(pending())).await;
    address
}

/// Serves the routes until the hub has been drained, and then gives pending requests 5 s.
async fn serve(hub: Hub, mut drain: Drain) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let serving = async move {
        let connections = GracefulShutdown::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted.expect("the listener listens"),
                () = &mut drain => break,
            };
            // The kernel would otherwise delay small answers by about 40 ms.
            stream.set_nodelay(true).expect("the connection is new");
            let hub = hub.clone();
            let answering = service_fn(move |request| respond(hub.clone(), peer, request));
            let server = Builder::new(TokioExecutor::new());
            let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), answering);
            tokio::spawn(connections.watch(connection.into_owned()));
        }
        drop(listener);
        let _ = timeout(Duration::from_secs(5), connections.shutdown()).await;
    };
    (address, tokio::spawn(serving))
}

async fn respond(hub: Hub, peer: SocketAddr, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
    if is_route(&hub, request.uri().path()) {
        return Ok(answer(&hub, peer, request).await);
    }
    let mut response = Response::new(AnswerBody::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    Ok(response)
}

mod web_socket {
    use super::start;

    stillhere_conformance::suite!(start);
}

stillhere_conformance::fallback_suite!(start, polled_suite);

mod shutdown {
    use super::serve;

    stillhere_conformance::shutdown_suite!(serve);
}
