//! axum's graceful shutdown and the hub's, composed as in the crate's documentation.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use stillhere_axum::machine::Outcome;
use stillhere_axum::{Code, DrainReport, Hub, routes};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::fault_proxy::FaultProxy;
use stillhere_conformance::patience::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    report: oneshot::Receiver<DrainReport>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn start(hub: &Hub, deadline: Duration) -> Running {
    let app = routes::<()>(hub);
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let (reporting, report) = oneshot::channel();
    let hub = hub.clone();
    let drain = async move {
        stopped.await.expect("the test stops the server");
        let report = hub.shutdown(deadline).await;
        reporting.send(report).expect("the test listens");
    };
    let serving = tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(drain).await });
    Running {
        address,
        stop,
        report,
        serving,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_browser_is_told_and_the_server_returns() {
    let hub = Hub::new();
    let running = start(&hub, Duration::from_secs(10)).await;
    let browsers: Vec<_> = stream::iter(0..300)
        .map(|_| async {
            let browser = Browser::connect(running.address, &hub.open(echo).ticket_json());
            browser.wait_for_outcome(Outcome::Opened).await;
            browser
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let mut others = Others::connect(&hub, running.address).await;

    running.stop.send(()).expect("the server runs");
    let report = within("the drain's report", running.report)
        .await
        .expect("the server reports");
    assert_eq!((report.sessions, report.cut_off, report.connections_left), (301, 0, 0));
    within("the server's end", running.serving)
        .await
        .expect("the server does not panic")
        .expect("the server ends well");
    for browser in &browsers {
        assert_eq!(browser.session_end().await.code, Code::Draining as u64);
    }
    others.assert_closed().await;
    assert!(
        TcpStream::connect(running.address).await.is_err(),
        "nobody listens any more"
    );
}

/// Connections that must not keep the server: one that says nothing, one kept alive after a request, one that is half-open.
struct Others {
    silent: TcpStream,
    kept_alive: TcpStream,
    _half_open: (FaultProxy, Browser),
}

impl Others {
    async fn connect(hub: &Hub, address: SocketAddr) -> Self {
        let silent = TcpStream::connect(address).await.expect("the server listens");
        let mut kept_alive = TcpStream::connect(address).await.expect("the server listens");
        kept_alive
            .write_all(b"GET /nothing HTTP/1.1\r\nhost: here\r\n\r\n")
            .await
            .expect("the connection holds");
        let mut answer = [0; 12];
        kept_alive.read_exact(&mut answer).await.expect("the server answers");
        assert_eq!(&answer, b"HTTP/1.1 404");

        let proxy = FaultProxy::start(([127, 0, 0, 1], 0).into(), address)
            .await
            .expect("loopback has a free port");
        let browser = Browser::connect(proxy.address(), &hub.open(echo).ticket_json());
        browser.wait_for_outcome(Outcome::Opened).await;
        proxy.wait_for_connections(1).await[0].silence();
        Self {
            silent,
            kept_alive,
            _half_open: (proxy, browser),
        }
    }

    async fn assert_closed(&mut self) {
        for stream in [&mut self.silent, &mut self.kept_alive] {
            let mut rest = Vec::new();
            let closed = within("the connection's end", stream.read_to_end(&mut rest)).await;
            closed.expect("it is closed in order");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_takes_nothing_delays_the_end_to_the_deadline_only() {
    let hub = Hub::new();
    let deadline = Duration::from_millis(300);
    let running = start(&hub, deadline).await;
    let proxy = FaultProxy::start(([127, 0, 0, 1], 0).into(), running.address)
        .await
        .expect("loopback has a free port");
    let session = hub.open(echo);
    let browser = Browser::connect(proxy.address(), &session.ticket_json());
    browser.wait_for_outcome(Outcome::Opened).await;
    proxy.wait_for_connections(1).await[0].silence();
    session.send("never arrives").await.expect("the session is open");

    running.stop.send(()).expect("the server runs");
    let report = within("the drain's report", running.report)
        .await
        .expect("the server reports");
    assert_eq!(report.unacknowledged, [(*session.id(), 1)]);
    within("the server's end", running.serving)
        .await
        .expect("the server does not panic")
        .expect("the server ends well");
}
