//! Events that peers can cause at any rate are logged at most once a minute, in one short line.

mod support;

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillhere::{Hub, Session, SessionRequest, Share};
use tracing::subscriber::DefaultGuard;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let logging = tracing::subscriber::set_default(subscriber.finish());
        (log, logging)
    }

    /// Returns the lines since the last call.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("unpoisoned"));
        let text = String::from_utf8(bytes).expect("logs are text");
        text.lines().map(str::to_owned).collect()
    }
}

async fn idle(session: Session) {
    session.ended().await;
}

fn ask(hub: &Hub, name: &str, headers: &[(&str, &[u8])]) {
    let protocol = ("sec-websocket-protocol", &b"stillhere.v1"[..]);
    let request = SessionRequest::new(name, headers.iter().copied().chain([protocol]));
    let request = request.peer_address(Some(Ipv4Addr::LOCALHOST.into()));
    drop(hub.accept(&request).expect("our protocol was offered"));
}

#[tokio::test(start_paused = true)]
async fn crowding_is_logged_once_a_minute_with_a_count() {
    let (log, _logging) = Log::begin();
    let hub = Hub::builder()
        .max_unconnected(10)
        .max_sessions(12)
        .max_pending_hellos(0)
        .build();
    // Without any request there would be another warning.
    ask(&hub, "nothing", &[]);
    for minute in 0..2 {
        let opened: Vec<_> = (0..1_010).map(|_| hub.open(idle)).collect();
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let count = if minute == 0 { "count=1 " } else { "count=1000 " };
        assert!(
            lines[0].contains("first browser") && lines[0].contains(count),
            "{lines:?}"
        );
        for _ in 0..100 {
            ask(&hub, &opened[1_009].id().to_string(), &[]);
        }
        let lines = log.lines();
        assert!(lines.len() == 1 && lines[0].contains("hello"), "{lines:?}");
        opened.iter().for_each(|session| session.abort(""));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test]
async fn each_refusal_names_the_options_that_set_its_limit() {
    let share = Share {
        connections: 0,
        ..Share::default()
    };
    for (builder, options) in [
        (Hub::builder().max_sessions(0), "HubBuilder::max_sessions set"),
        (Hub::builder().max_unconnected(0), "HubBuilder::max_unconnected set"),
        (
            Hub::builder().max_pending_hellos(0),
            "HubBuilder::max_pending_hellos, address_share and principal_share set",
        ),
        (
            Hub::builder().principal_share(share),
            "HubBuilder::address_share and principal_share set",
        ),
    ] {
        let (log, _logging) = Log::begin();
        let hub = builder.principal(|_| Some("ada".to_owned())).build();
        let id = hub.open_for("ada", idle).id().to_string();
        ask(&hub, &id, &[]);
        let lines = log.lines();
        assert!(lines.len() == 1 && lines[0].contains(options), "{options}: {lines:?}");
    }
}

#[tokio::test]
async fn the_reason_why_no_address_is_counted_is_logged_once() {
    let forwarded = ("x-forwarded-for", &b"8.8.8.8"[..]);
    for (hops, peer, headers, reason) in [
        (0, None, &[][..], "does not provide client addresses"),
        (0, Some(Ipv4Addr::LOCALHOST), &[forwarded], "trusted_hops is 0"),
        (2, Some(Ipv4Addr::LOCALHOST), &[forwarded], "fewer addresses"),
        (1, Some(Ipv4Addr::LOCALHOST), &[forwarded], ""),
        (0, Some(Ipv4Addr::LOCALHOST), &[], ""),
        (0, Some(Ipv4Addr::new(8, 8, 8, 8)), &[forwarded], ""),
    ] {
        let (log, _logging) = Log::begin();
        let hub = Hub::builder().trusted_hops(hops).build();
        let id = hub.open(idle).id().to_string();
        for _ in 0..3 {
            let protocol = ("sec-websocket-protocol", &b"stillhere.v1"[..]);
            let request = SessionRequest::new(&id, headers.iter().copied().chain([protocol]));
            let request = request.peer_address(peer.map(Into::into));
            drop(hub.accept(&request).expect("our protocol was offered"));
        }
        let lines = log.lines();
        let expected = usize::from(!reason.is_empty());
        assert!(
            lines.len() == expected && lines.iter().all(|line| line.contains(reason)),
            "{reason}: {lines:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_refused_requests_is_logged_as_one_short_line_a_minute() {
    let (log, _logging) = Log::begin();
    let hub = Hub::builder().principal(|_| None).build();
    let origin = format!("http://evil.example\u{1b}[31m{}", "x".repeat(60_000));
    for minute in 0..2 {
        let theirs = hub.open_for("ada", idle).id().to_string();
        for _ in 0..1_000 {
            ask(
                &hub,
                "nothing",
                &[("origin", origin.as_bytes()), ("host", origin.as_bytes())],
            );
            ask(&hub, &theirs, &[]);
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let count = if minute == 0 { "count=1" } else { "count=1000" };
        for line in &lines {
            assert!(
                line.len() < 600 && line.contains(count) && !line.contains('\u{1b}'),
                "{line}"
            );
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_no_page_reaches_is_reported_once() {
    let (log, _logging) = Log::begin();
    let miss = async |hub: &Hub| {
        hub.open(idle);
        tokio::time::sleep(Duration::from_secs(31)).await;
        log.lines()
    };
    let hub = Hub::builder().mount("/live").build();
    for told in [0, 0, 1, 0, 0, 0] {
        let lines = miss(&hub).await;
        assert_eq!(lines.len(), told, "{lines:?}");
        assert!(
            lines.iter().all(|line| line.ends_with("tickets_lead_to=/live")),
            "{lines:?}"
        );
    }
    let hub = Hub::new();
    miss(&hub).await;
    // A request arrived, whatever the result.
    ask(&hub, "nothing", &[]);
    for _ in 0..5 {
        assert!(miss(&hub).await.is_empty());
    }
}
