//! Handles the demo's requests, and runs the demo from its arguments to the drain.

use std::{borrow::Cow, io, net::SocketAddr, sync::Arc, time::Duration};

use stillhere::{Hub, stop_signal};
use stillhere_app::app_with;
use stillhere_conformance::fault_proxy::FaultProxy;
use tokio::{net::lookup_host, sync::Notify, time::sleep};

use crate::{
    arguments,
    layer_session::{self, run_layer_session},
    page_session::{run_other_session, run_page_session},
    tickets::{Tickets, until_over, with_users},
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:3000";
/// Short, so that people can see how silence is detected.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(2);
/// Room for an upload of 20 MB in one message.
const PAGE_MESSAGE_LIMIT: u64 = 32 << 20;
/// Time that the server has after the drain for pending requests.
const LAST_WORDS: Duration = Duration::from_millis(500);
const STALL: Duration = Duration::from_secs(10);

/// The running demo. Clones are handles to the same demo; the proxy stops when the last one is
/// dropped.
#[derive(Clone, Debug)]
pub struct Demo {
    hub: Hub,
    proxy: FaultProxy,
    tickets: Tickets,
    heartbeat: Duration,
    probe: Option<Duration>,
    drain: Duration,
    drained: Arc<Notify>,
}

impl Demo {
    /// How long browsers have at the end to receive their last messages, unless `--drain` says
    /// otherwise.
    pub const DEFAULT_DRAIN: Duration = Duration::from_secs(5);

    /// Reads the program's arguments, starts the fault proxy in front of the server at `upstream`,
    /// and prints its address.
    ///
    /// # Errors
    /// Returns an error if the address cannot be resolved or bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_writer(io::stderr)
            .init();
        let [address, origin, host, public_url, heartbeat, probe, drain] = arguments::read([
            "--addr",
            "--allow-origin",
            "--allow-host",
            "--public-url",
            "--heartbeat",
            "--probe",
            "--drain",
        ]);
        let [heartbeat, probe, drain] = [heartbeat, probe, drain].map(|value| value.map(arguments::seconds));
        let address = lookup_host(address.as_deref().unwrap_or(DEFAULT_ADDRESS))
            .await?
            .next()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let proxy = FaultProxy::start(address, upstream).await?;
        println!("stillhere demo on http://{}", proxy.address());
        let mut hub = with_users(Hub::builder());
        if let Some(origin) = origin {
            hub = hub.allow_origin(&origin);
        }
        // A demo on the loopback interface allows the names of loopback and the given name. Behind
        // a proxy with an unknown name it allows all names.
        if proxy.address().ip().is_loopback() && (public_url.is_none() || host.is_some()) {
            hub = hub.allow_host("localhost");
        }
        if let Some(host) = host {
            hub = hub.allow_host(&host);
        }
        if let Some(url) = public_url {
            hub = hub.public_url(&url);
        }
        let hub = hub.build();
        Ok(Self {
            tickets: Tickets::new(&hub),
            hub,
            proxy,
            heartbeat: heartbeat.unwrap_or(DEFAULT_HEARTBEAT),
            probe,
            drain: drain.unwrap_or(Self::DEFAULT_DRAIN),
            drained: Arc::default(),
        })
    }

    /// Returns the hub, for the adapter's routes.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the page, with a session of its own that survives a reload.
    pub fn page(&self) -> String {
        let mut options = self.hub.session_options();
        options.timing.heartbeat = self.heartbeat;
        options.timing.probe = self.probe.or(options.timing.probe);
        options.limits.message = PAGE_MESSAGE_LIMIT;
        options.restore = Some("demo".into());
        let session = self
            .hub
            .open_with(options, |session| until_over(run_page_session(session)));
        include_str!("page/index.html").replace("{{session}}", &session.script_tag())
    }

    /// Returns another page of the application, with another session.
    pub fn other_page(&self) -> String {
        let session = self.hub.open(|session| until_over(run_other_session(session)));
        include_str!("page/other.html").replace("{{session}}", &session.script_tag())
    }

    /// Returns the page of the layer `stillhere-app`, with a session that survives a reload.
    pub fn layer_page(&self) -> String {
        let mut options = self.hub.session_options();
        options.timing.heartbeat = self.heartbeat;
        options.restore = Some("layer".into());
        let function = app_with(layer_session::options(), run_layer_session);
        let session = self.hub.open_with(options, function);
        include_str!("page/layer.html").replace("{{session}}", &session.app_script_tag())
    }

    /// Answers every request that is neither for a page nor for the adapter.
    pub fn answer(&self, method: &str, path: &str) -> Answer {
        let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match (method, segments.as_slice()) {
            ("GET", ["assets", name]) => asset(name).unwrap_or_else(Answer::not_found),
            ("GET", ["ticket", name]) => self.ticket(name).unwrap_or_else(Answer::not_found),
            ("POST", ["fault", id, kind]) => self.fault(id, kind),
            _ => Answer::not_found(),
        }
    }

    fn ticket(&self, name: &str) -> Option<Answer> {
        let session = self.tickets.open(name)?;
        Some(Answer {
            content_type: "application/json",
            cache_control: "no-store",
            ..Answer::text(200, session.ticket_json())
        })
    }

    /// Applies the fault to the newest connection of this session.
    fn fault(&self, id: &str, kind: &str) -> Answer {
        if kind == "drain" {
            let Some(session) = id.parse().ok().and_then(|id| self.hub.session(&id)) else {
                return Answer::text(404, "this session is over");
            };
            session.drain(Duration::ZERO);
            return Answer::done();
        }
        let Some(connection) = self.proxy.connections_of(id).pop() else {
            return Answer::text(409, "this session has no WebSocket to break at the moment");
        };
        match kind {
            "reset" => connection.reset(),
            "silence" => connection.silence(),
            "stall" => connection.stall(STALL),
            _ => return Answer::not_found(),
        }
        Answer::done()
    }

    /// Waits for Ctrl-C or SIGTERM and drains the hub, which tells every page. Afterwards the
    /// server may stop.
    ///
    /// # Panics
    /// Panics if the program cannot listen for the signals.
    pub async fn drained(self) {
        stop_signal().await;
        let report = self.hub.shutdown(self.drain).await;
        tracing::info!(?report, "drained");
        self.drained.notify_one();
    }

    /// Runs a server whose graceful shutdown starts when the hub is [drained](Self::drained).
    /// Returns its output, or `None` if it does not end soon afterwards: a client that sends only
    /// half a request would keep axum and warp running forever.
    pub async fn run<S: IntoFuture>(&self, server: S) -> Option<S::Output> {
        let late = async {
            self.drained.notified().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            output = server.into_future() => Some(output),
            () = late => None,
        }
    }
}

/// A response for a framework to send.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Value of the `Cache-Control` header.
    pub cache_control: &'static str,
    /// The whole body.
    pub body: Cow<'static, str>,
}

impl Answer {
    fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            cache_control: "no-cache",
            body: body.into(),
        }
    }

    fn done() -> Self {
        Self::text(204, "")
    }

    fn not_found() -> Self {
        Self::text(404, "there is nothing here")
    }
}

fn asset(name: &str) -> Option<Answer> {
    let (content_type, body) = match name {
        "demo.js" => (JAVASCRIPT, include_str!("page/demo.js")),
        "chart.js" => (JAVASCRIPT, include_str!("page/chart.js")),
        "counts.js" => (JAVASCRIPT, include_str!("page/counts.js")),
        "other.js" => (JAVASCRIPT, include_str!("page/other.js")),
        "layer.js" => (JAVASCRIPT, include_str!("page/layer.js")),
        "demo.css" => ("text/css; charset=utf-8", include_str!("page/demo.css")),
        "icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(Answer {
        content_type,
        ..Answer::text(200, body)
    })
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
