//! Combines the graceful shutdown of a framework with that of the hub:
//! [`shutdown_suite!`](crate::shutdown_suite) for an adapter's tests.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere::{DrainReport, Hub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::application::echo;
use crate::browser::Browser;
use crate::fallback_bridge;
use crate::fault_proxy::FaultProxy;
use crate::patience::within;

/// Completes when the hub has been drained. It is the framework's signal for its own graceful
/// shutdown.
pub type Drain = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Starts a server and returns its address and the task that ends with it.
pub trait Serving: Future<Output = (SocketAddr, JoinHandle<()>)> {}

impl<F: Future<Output = (SocketAddr, JoinHandle<()>)>> Serving for F {}

/// Creates one test for each case. `$serve` is an `async fn(Hub, Drain) -> (SocketAddr,
/// JoinHandle<()>)` in scope that starts a server.
#[macro_export]
macro_rules! shutdown_suite {
    ($serve:ident) => {
        $crate::shutdown_suite! { @cases $serve
            every_browser_is_told_and_the_server_returns,
            every_browser_of_the_fallback_is_told_and_the_server_returns,
            every_browser_that_polls_is_told_and_the_server_returns,
            a_browser_that_reads_nothing_delays_the_end_only_until_the_deadline,
            a_browser_of_the_fallback_that_reads_nothing_delays_the_end_only_until_the_deadline,
            half_sent_requests_do_not_delay_the_end,
        }
    };
    (@cases $serve:ident $($case:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::shutdown::$case($serve).await;
        }
    )* };
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    report: oneshot::Receiver<DrainReport>,
    serving: JoinHandle<()>,
}

async fn start<R: Serving>(hub: &Hub, deadline: Duration, serve: impl Fn(Hub, Drain) -> R) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let (reporting, report) = oneshot::channel();
    let draining = hub.clone();
    let drain = async move {
        stopped.await.expect("the test stops the server");
        let report = draining.shutdown(deadline).await;
        reporting.send(report).expect("the test listens");
    };
    let (address, serving) = serve(hub.clone(), Box::pin(drain)).await;
    Running {
        address,
        stop,
        report,
        serving,
    }
}

/// How browsers connect to the server.
#[derive(Debug, Clone, Copy)]
enum Way {
    WebSocket,
    /// Polls if there is a wait.
    Fallback {
        wait: Option<Duration>,
    },
}

impl Way {
    /// Returns the address at which browsers reach this server.
    async fn to(self, address: SocketAddr) -> SocketAddr {
        match self {
            Self::WebSocket => address,
            Self::Fallback { wait } => fallback_bridge::start(address, wait).await,
        }
    }
}

/// Checks that after a signal the server tells every browser and returns soon, even if other
/// connections are open.
///
/// # Panics
/// Panics if that does not hold.
pub async fn every_browser_is_told_and_the_server_returns<R: Serving>(serve: impl Fn(Hub, Drain) -> R) {
    all_are_told(Way::WebSocket, 300, serve).await;
}

/// Checks the same with browsers of the streamed fallback, whose answers are in transit.
///
/// # Panics
/// Panics if that does not hold.
pub async fn every_browser_of_the_fallback_is_told_and_the_server_returns<R: Serving>(serve: impl Fn(Hub, Drain) -> R) {
    all_are_told(Way::Fallback { wait: None }, 50, serve).await;
}

/// Checks the same with browsers that poll. The pending answer or the next one tells them.
///
/// # Panics
/// Panics if that does not hold.
pub async fn every_browser_that_polls_is_told_and_the_server_returns<R: Serving>(serve: impl Fn(Hub, Drain) -> R) {
    let wait = Some(Duration::from_millis(300));
    all_are_told(Way::Fallback { wait }, 50, serve).await;
}

async fn all_are_told<R: Serving>(way: Way, count: usize, serve: impl Fn(Hub, Drain) -> R) {
    let hub = Hub::new();
    let running = start(&hub, Duration::from_secs(10), serve).await;
    let address = way.to(running.address).await;
    let browsers: Vec<_> = stream::iter(0..count)
        .map(|_| async {
            let browser = Browser::connect(address, &hub.open(echo).ticket_json());
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
    assert_eq!(
        (report.sessions, report.aborted, report.connections_left),
        (count + 1, 0, 0)
    );
    assert_ends(running.serving).await;
    for browser in &browsers {
        assert_eq!(browser.session_end().await.code, Code::Draining as u64);
    }
    others.assert_closed().await;
    assert!(
        TcpStream::connect(running.address).await.is_err(),
        "the server has stopped listening"
    );
}

/// Connections that must not delay the server: a silent one, one that is kept alive after a
/// request, and a half-open one.
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
            closed.expect("the connection is closed in order");
        }
    }
}

/// Promise 4: a browser that reads nothing does not delay the server beyond the deadline.
///
/// # Panics
/// Panics if that does not hold.
pub async fn a_browser_that_reads_nothing_delays_the_end_only_until_the_deadline<R: Serving>(
    serve: impl Fn(Hub, Drain) -> R,
) {
    one_takes_nothing(Way::WebSocket, serve).await;
}

/// Checks the same with a browser of the fallback whose streamed answer nobody reads.
///
/// # Panics
/// Panics if that does not hold.
pub async fn a_browser_of_the_fallback_that_reads_nothing_delays_the_end_only_until_the_deadline<R: Serving>(
    serve: impl Fn(Hub, Drain) -> R,
) {
    one_takes_nothing(Way::Fallback { wait: None }, serve).await;
}

async fn one_takes_nothing<R: Serving>(way: Way, serve: impl Fn(Hub, Drain) -> R) {
    let hub = Hub::new();
    let deadline = Duration::from_millis(300);
    let running = start(&hub, deadline, serve).await;
    let proxy = FaultProxy::start(([127, 0, 0, 1], 0).into(), running.address)
        .await
        .expect("loopback has a free port");
    let session = hub.open(echo);
    let browser = Browser::connect(way.to(proxy.address()).await, &session.ticket_json());
    browser.wait_for_outcome(Outcome::Opened).await;
    for connection in proxy.connections() {
        connection.silence();
    }
    session.send("never arrives").await.expect("the session is open");

    running.stop.send(()).expect("the server runs");
    let report = within("the drain's report", running.report)
        .await
        .expect("the server reports");
    assert_eq!(report.unacknowledged, [(*session.id(), 1)]);
    assert_ends(running.serving).await;
}

/// Promise 6: a client that sends an incomplete request does not delay the server for longer than
/// pending requests may take.
///
/// # Panics
/// Panics if that does not hold.
pub async fn half_sent_requests_do_not_delay_the_end<R: Serving>(serve: impl Fn(Hub, Drain) -> R) {
    let hub = Hub::new();
    let running = start(&hub, Duration::from_secs(1), serve).await;
    let session = hub.open(echo);
    let post = format!(
        "POST {} HTTP/1.1\r\nhost: here\r\ncontent-type: application/stillhere.v1\r\ncontent-length: 100\r\n\r\nhalf",
        session.url()
    );
    let mut halves = Vec::new();
    for half in ["GET /noth", "GET /nothing HTTP/1.1\r\nhost: he", &post] {
        let mut stream = TcpStream::connect(running.address).await.expect("the server listens");
        stream.write_all(half.as_bytes()).await.expect("the connection holds");
        halves.push(stream);
    }
    // Once this is answered, the server has read everything that was sent before.
    let browser = Browser::connect(running.address, &session.ticket_json());
    browser.wait_for_outcome(Outcome::Opened).await;
    drop(browser);

    running.stop.send(()).expect("the server runs");
    within("the drain's report", running.report)
        .await
        .expect("the server reports");
    assert_ends(running.serving).await;
}

/// Asserts that the server's task ends soon after the drain. Service managers kill a process that
/// takes longer.
async fn assert_ends(serving: JoinHandle<()>) {
    let Ok(ended) = tokio::time::timeout(FOR_THE_REST, serving).await else {
        panic!(
            "the hub is drained, but the server still runs {FOR_THE_REST:?} later: give the framework's own graceful shutdown \
             5 s and no more, or idle connections and incomplete requests delay it for as long as they like"
        );
    };
    ended.expect("the server does not panic");
}

/// Servers give pending requests 5 s after the drain; this adds a margin for a busy machine.
const FOR_THE_REST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(time: Duration) -> JoinHandle<()> {
        tokio::spawn(tokio::time::sleep(time))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_take_some_seconds_to_end() {
        assert_ends(serving(Duration::from_secs(6))).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the hub is drained, but the server still runs 10s later")]
    async fn a_server_that_takes_half_a_minute_to_end_is_failed() {
        assert_ends(serving(Duration::from_secs(30))).await;
    }
}
