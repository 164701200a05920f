//! The hub: which connections it accepts, what a page is told, and what must stay secret.

mod support;

use std::sync::{Arc, Mutex};

use stillhere::connection::Packet;
use stillhere::wire::Frame;
use stillhere::{
    ConnectionError, EndReason, Hub, HubBuilder, Lane, NotOurProtocol, Renewal, Session, SessionHandle, SessionOptions,
    SessionRequest, SessionState, run_connection_loop,
};
use tokio::time::Instant;

use support::browser::Browser;
use support::pipe::pipe;
use support::wire::{RawDocument, Wire};
use support::{access, milliseconds, seconds, settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

fn json(session: &SessionHandle) -> serde_json::Value {
    serde_json::from_str(&session.ticket_json()).expect("a ticket is JSON")
}

/// Returns the ticket as a browser reads it from the script element.
fn ticket_of(script: &str) -> serde_json::Value {
    let (_, rest) = script.split_once("data-stillhere=\"").expect("the attribute is there");
    let (attribute, _) = rest.split_once('"').expect("the attribute ends");
    let text = attribute
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&text).expect("the attribute is JSON")
}

#[tokio::test(start_paused = true)]
async fn above_the_limit_of_sessions_a_page_gets_full_and_a_time_to_retry() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ends);
    let on_end = move |id: &_, reason: &EndReason| noted.lock().expect("unpoisoned").push((*id, reason.clone()));
    let hub = Hub::builder().max_sessions(2).on_end(on_end).build();
    let first = hub.open(idle);
    let _page = Browser::connected(&hub, &first).await;
    let _second = hub.open(idle);
    let third = hub.open(idle);
    assert_eq!(third.state(), SessionState::Closed);
    assert_eq!(soon("the end", third.ended()).await, EndReason::Full);
    let ticket = ticket_of(&third.script_tag());
    assert_eq!(ticket["protocol"], "stillhere.v1");
    assert_eq!(ticket["refused"]["code"], 4201);
    assert!(
        ticket["refused"]["retryAfter"]
            .as_u64()
            .is_some_and(|hint| hint >= 1000),
        "{ticket}"
    );
    assert!(ticket["refused"]["text"].is_string());
    assert!(
        ticket.get("secret").is_none() && ticket.get("url").is_none(),
        "{ticket}"
    );
    assert!(hub.session(third.id()).is_none());
    assert_eq!((hub.stats().sessions, hub.stats().unconnected), (2, 1));
    assert_eq!(*ends.lock().expect("unpoisoned"), [(*third.id(), EndReason::Full)]);

    first.abort("");
    settled().await;
    assert_eq!(hub.open(idle).state(), SessionState::Unconnected, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn above_the_limit_of_unconnected_sessions_the_oldest_ends() {
    let hub = Hub::builder().max_unconnected(3).build();
    let sessions: Vec<_> = (0..3).map(|_| hub.open(idle)).collect();
    let _page = Browser::connected(&hub, &sessions[0]).await;
    let fourth = hub.open(idle);
    let states = || [0, 1, 2].map(|index| sessions[index].state());
    assert_eq!(
        states(),
        [SessionState::Open, SessionState::Unconnected, SessionState::Unconnected],
        "a connected session does not count"
    );
    let fifth = hub.open(idle);
    assert_eq!(
        states(),
        [SessionState::Open, SessionState::Closed, SessionState::Unconnected]
    );
    assert_eq!(sessions[1].ended().await, EndReason::NeverConnected);
    assert_eq!(
        (fourth.state(), fifth.state()),
        (SessionState::Unconnected, SessionState::Unconnected)
    );
    assert_eq!((hub.stats().unconnected, hub.stats().sessions), (3, 4));
    let late = RawDocument::new(&sessions[1]).connect(&hub).end().await;
    assert_eq!(
        (late.code, late.reason),
        (4102, 4),
        "a page that arrives too late is told why"
    );

    fifth.abort("");
    assert_eq!(hub.stats().unconnected, 2);
    let _sixth = hub.open(idle);
    assert_eq!(sessions[2].state(), SessionState::Unconnected, "there was room again");
}

#[tokio::test(start_paused = true)]
async fn the_count_of_waiting_sessions_stays_true_however_they_end() {
    let hub = Hub::new();
    for how in 0..5 {
        let session = hub.open(idle);
        match how {
            0 => session.abort(""),
            1 => session.close(""),
            2 => {
                session.send("for the first").await.expect("there is room");
                session.close("");
                assert_eq!(hub.stats().unconnected, 1);
                let browser = Browser::connected(&hub, &session).await;
                browser.ended().await;
            }
            3 => {
                drop(Browser::connected(&hub, &session).await);
                session.abort("");
            }
            _ => tokio::time::sleep(seconds(40)).await,
        }
        soon("the end", session.ended()).await;
        settled().await;
        assert_eq!((hub.stats().unconnected, hub.stats().sessions), (0, 0), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_connections_without_a_hello_are_told_to_retry_later() {
    let hub = Hub::builder().max_pending_hellos(3).build();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let mut silent: Vec<_> = (0..3).map(|_| Wire::connect(&hub, &document.access.id)).collect();
    let end = document.connect(&hub).end().await;
    assert_eq!((end.code, end.reason), (4202, 0));
    assert!(end.retry_after >= 500, "{end:?}");
    silent.pop();
    settled().await;
    let (_wire, _) = document.welcomed(&hub).await;
    // A connection that has said hello does not count, nor one that was accepted and then dropped.
    drop(support::accept(&hub, &document.access.id));
    let (_wire, _) = document.welcomed(&hub).await;
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_missing_hello_ends_the_connection_whatever_else_arrives() {
    for chatter in [false, true] {
        let hub = Hub::new();
        let session = hub.open(idle);
        let mut document = RawDocument::new(&session);
        let wire = Wire::connect(&hub, &document.access.id);
        let start = Instant::now();
        if chatter {
            for _ in 0..101 {
                wire.end.send(Packet::Other);
                tokio::time::sleep(milliseconds(99)).await;
            }
        }
        assert_eq!(wire.end().await.code, 4300);
        assert!(
            (seconds(10)..milliseconds(10_002)).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
        // Available input is handled before an expired deadline, because the process may have been
        // stopped for long.
        let wire = Wire::connect(&hub, &document.access.id);
        settled().await;
        wire.send(Frame::Hello(document.hello()));
        tokio::time::advance(seconds(11)).await;
        assert!(matches!(wire.frame().await, Frame::Welcome(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_welcome_ends_only_the_connection() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let mut wrong_secret = document.clone();
    wrong_secret.access.secret = stillhere::Secret::from_bytes([7; 32]);
    let hello = Frame::Hello(document.hello()).to_bytes();
    let cut = hello.slice(..hello.len() - 1);
    let cases: Vec<(u64, Packet)> = vec![
        (4101, Packet::Binary(Frame::Hello(wrong_secret.hello()).to_bytes())),
        (4107, Packet::Binary(Frame::Confirm.to_bytes())),
        (4107, Packet::Binary(cut)),
        (4107, Packet::Binary([&hello[..], &[0]].concat().into())),
        (4107, Packet::Binary(bytes::Bytes::new())),
        (4107, Packet::Text(bytes::Bytes::new())),
    ];
    for (code, packet) in cases {
        let wire = Wire::connect(&hub, &document.access.id);
        wire.end.send(packet.clone());
        let end = wire.end().await;
        assert_eq!((end.code, end.reason), (code, 0), "{packet:?}");
    }
    let wire = Wire::connect(&hub, &document.access.id);
    wire.end.fail(ConnectionError::TooLarge);
    assert_eq!(wire.end().await.code, 4108);
    let wire = Wire::connect(&hub, &document.access.id);
    wire.end.send(Packet::Close(1000));
    assert_eq!(wire.packet().await, None);
    assert_eq!(session.state(), SessionState::Unconnected);
    document.welcomed(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn the_request_is_judged_before_the_hello() {
    let hub = Hub::builder().allow_origin("https://app.example.com").build();
    let session = hub.open(idle);
    let id = session.id().to_string();
    let ask = |name, origin: &'static str, protocols: &'static str| {
        let headers = [
            ("origin", origin),
            ("host", "example.com"),
            ("sec-websocket-protocol", protocols),
        ];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        SessionRequest::new(name, headers.map(|(name, value)| (name, value.as_bytes())))
    };
    let same = "https://example.com";
    assert_eq!(hub.accept(&ask(&id, same, "")).err(), Some(NotOurProtocol));
    assert_eq!(hub.accept(&ask(&id, same, "chat, x")).err(), Some(NotOurProtocol));
    let cases = [
        (ask(&id, same, "stillhere.v1"), "stillhere.v1", None),
        (ask(&id, same, "x, stillhere.v2 , stillhere.v1"), "stillhere.v1", None),
        (
            ask(&id, same, "x,stillhere.v2,stillhere.v3"),
            "stillhere.v2",
            Some(4106),
        ),
        (ask(&id, "https://evil.com", "stillhere.v1"), "stillhere.v1", Some(4105)),
        (
            ask(&id, "https://app.example.com", "stillhere.v1"),
            "stillhere.v1",
            None,
        ),
        (ask(&id, "", "stillhere.v1"), "stillhere.v1", None),
        (ask("x", same, "stillhere.v1"), "stillhere.v1", Some(4100)),
        // The Origin is checked first, so a foreign page learns nothing.
        (ask("x", "null", "stillhere.v1"), "stillhere.v1", Some(4105)),
    ];
    for (request, protocol, refused) in cases {
        let accepted = hub.accept(&request).expect("our protocol was offered");
        assert_eq!(accepted.protocol(), Some(protocol));
        let (server, end) = pipe();
        let wire = Wire {
            end,
            carrier: tokio::spawn(run_connection_loop(accepted, server)),
        };
        match refused {
            Some(code) => assert_eq!(wire.end().await.code, code, "{request:?}"),
            None => {
                settled().await;
                assert!(!wire.carrier.is_finished(), "{request:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn packet_limits_leave_room_for_a_hello_and_for_a_fragment() {
    let hub = Hub::new();
    let mut options = SessionOptions::default();
    options.limits.fragment = 0;
    let tiny = hub.open_with(options, idle);
    let usual = hub.open(idle);
    assert_eq!(
        support::accept(&hub, &usual.id().to_string()).packet_limit(),
        64 * 1024 + 9
    );
    let limit = support::accept(&hub, &tiny.id().to_string()).packet_limit();
    assert!((200..2000).contains(&limit), "{limit}");
    assert!(support::accept(&hub, "unknown").packet_limit() >= 200);
}

#[tokio::test(start_paused = true)]
async fn invalid_limits_are_clamped_and_work() {
    let mut options = SessionOptions::default();
    options.limits.message = u64::MAX;
    options.limits.inflated = u64::MAX;
    options.limits.outbox = u64::MAX;
    options.limits.window = u64::MAX;
    options.limits.bulk_window = 0;
    options.timing.heartbeat = std::time::Duration::ZERO;
    let hub = Hub::new();
    let session = hub.open_with(options, |mut session| async move {
        while let Some(message) = session.recv().await {
            session.send(message).await.expect("the session lives");
        }
    });
    let limits = json(&session)["limits"].clone();
    assert!(
        limits
            .as_object()
            .expect("the ticket has limits")
            .values()
            .all(|limit| limit.as_u64().is_some_and(|n| n < 1 << 53))
    );
    let browser = Browser::connected(&hub, &session).await;
    let message = vec![1; 3_000_000];
    browser.send(message.clone());
    assert_eq!(browser.next().await, message);
    browser.send_bulk(message.clone());
    assert_eq!(browser.next().await, message);
}

#[tokio::test]
async fn a_ticket_is_the_json_that_the_protocol_describes() {
    let mut options = SessionOptions::default();
    let hub = Hub::new();
    let session = hub.open(idle);
    let id = session.id().to_string();
    let secret = session
        .ticket_json()
        .split_once("\"secret\":\"")
        .expect("the ticket has a secret")
        .1[..43]
        .to_owned();
    let expected = format!(
        "{{\"protocol\":\"stillhere.v1\",\"url\":\"/stillhere/{id}\",\"id\":\"{id}\",\"secret\":\"{secret}\",\
         \"limits\":{{\"fragment\":65536,\"message\":1048576,\"inflated\":8388608,\"window\":1048576,\
         \"bulkWindow\":262400}}}}"
    );
    assert_eq!(session.ticket_json(), expected);
    assert_eq!(
        serde_json::to_string(&session.ticket()).expect("a ticket serializes"),
        expected
    );

    options.restore = Some("label".to_owned());
    let restorable = hub.open_with(options, idle);
    assert_eq!(json(&restorable)["restore"], "label");
    assert_ne!(json(&restorable)["secret"], json(&session)["secret"]);
}

#[tokio::test]
async fn the_script_element_survives_hostile_labels_and_names_the_script_by_its_hash() {
    let label = "\"'></script><script>alert(1)</script>&amp;\u{1F980} ünï";
    let hub = Hub::builder().restore_on_reload(label).build();
    let session = hub.open(idle);
    let script = session.script_tag();
    let (head, rest) = script.split_once(" data-stillhere=\"").expect("the attribute is there");
    assert_eq!(
        head,
        format!("<script src=\"/stillhere/{}\"", stillhere::client::script_name())
    );
    let (attribute, tail) = rest.split_once('"').expect("the attribute ends");
    assert_eq!(tail, "></script>");
    assert!(!attribute.contains(['<', '>', '\'']), "{attribute}");
    let ticket = ticket_of(&script);
    assert_eq!(ticket["restore"], label);
    assert_eq!(ticket, json(&session));
}

#[tokio::test]
async fn the_script_element_says_where_new_tickets_come_from_also_if_the_first_was_refused() {
    let hub = Hub::builder().max_sessions(1).build();
    let tag = |renewal| {
        let mut options = hub.session_options();
        options.renewal = renewal;
        hub.open_with(options, idle).script_tag()
    };
    assert!(!tag(Renewal::Page).contains("data-stillhere-from"));
    for (renewal, attribute) in [
        (
            Renewal::Address("/ticket?a=\"1\"&b".to_owned()),
            "/ticket?a=&quot;1&quot;&amp;b",
        ),
        (Renewal::Off, "none"),
        (Renewal::Address("none".to_owned()), "./none"),
    ] {
        let tag = tag(renewal);
        assert!(
            tag.contains(&format!(" data-stillhere-from=\"{attribute}\" data-stillhere=")),
            "{tag}"
        );
        assert_eq!(ticket_of(&tag)["refused"]["code"], 4201);
    }
    let hub = Hub::builder().renewal(Renewal::Off).build();
    let with_nonce = hub.open(idle).script_tag_with_nonce("rAnd0m");
    assert!(
        with_nonce.contains(" nonce=\"rAnd0m\" data-stillhere-from=\"none\" "),
        "{with_nonce}"
    );
}

#[tokio::test]
async fn a_nonce_is_written_if_it_is_valid() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let with = session.script_tag_with_nonce("rAnd0m+/=-_");
    assert!(with.contains(" nonce=\"rAnd0m+/=-_\" data-stillhere="), "{with}");
    assert_eq!(ticket_of(&with), json(&session));
    for bad in ["\" onload=\"x", "a b", "<", "'"] {
        assert_eq!(session.script_tag_with_nonce(bad), session.script_tag(), "{bad}");
    }
}

#[tokio::test]
async fn the_mount_and_the_public_url_are_where_browsers_go() {
    for (mount, public, mounted, base) in [
        ("stillhere", None, "/stillhere", "/stillhere"),
        ("/live/sessions/", None, "/live/sessions", "/live/sessions"),
        ("/", None, "", ""),
        ("/live", Some("/app/live/"), "/live", "/app/live"),
        (
            "/live",
            Some("https://live.example.com/live"),
            "/live",
            "https://live.example.com/live",
        ),
        ("/live", Some("./live/"), "/live", "./live"),
    ] {
        let mut builder = Hub::builder().mount(mount);
        if let Some(public) = public {
            builder = builder.public_url(public);
        }
        let hub = builder.build();
        assert_eq!(hub.mount(), mounted);
        let session = hub.open(idle);
        assert_eq!(json(&session)["url"], format!("{base}/{}", session.id()));
        let src = format!("<script src=\"{base}/{}\"", stillhere::client::script_name());
        assert!(session.script_tag().starts_with(&src), "{}", session.script_tag());
    }
}

#[tokio::test]
async fn the_setters_of_a_hub_may_come_in_any_order() {
    let session_options = || {
        let mut options = SessionOptions::default();
        options.timing.heartbeat = seconds(40);
        options.limits.outbox = 1 << 16;
        options.renewal = Renewal::Off;
        options
    };
    let single = |builder: HubBuilder| {
        let builder = builder.heartbeat(seconds(5)).message_limit(2000).compress_from(500);
        builder.restore_on_reload("editor")
    };
    for hub in [
        single(Hub::builder()).session_options(session_options()).build(),
        single(Hub::builder().session_options(session_options())).build(),
    ] {
        let options = hub.session_options();
        assert_eq!((options.timing.heartbeat, options.limits.message), (seconds(5), 2000));
        assert_eq!(
            (options.compress_from, options.restore.as_deref()),
            (Some(500), Some("editor"))
        );
        assert_eq!((options.limits.outbox, options.renewal), (1 << 16, Renewal::Off));
    }
    let last = Hub::builder().heartbeat(seconds(5)).heartbeat(seconds(7)).build();
    assert_eq!(last.session_options().timing.heartbeat, seconds(7));
}

#[tokio::test]
#[should_panic(expected = "an address relative to the page")]
async fn an_ambiguous_public_url_is_refused_when_the_hub_is_built() {
    let _ = Hub::builder().public_url("live.example.com/stillhere").build();
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_in_the_ticket_and_nowhere_else() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let hub = Hub::builder().restore_on_reload("label").build();
    let session = hub.open(|mut session| async move {
        tracing::info!(?session, "the function begins");
        session.on_restore(|restoring| async move {
            tracing::info!(?restoring, "restores");
            panic!("a test's panic");
        });
        while let Some(message) = session.recv().await {
            tracing::info!(?message, "message");
            session.send(message).await.expect("the session lives");
        }
        panic!("a test's panic");
    });
    let access = access(&session);
    let mut shown = vec![
        format!("{session:?} {hub:?} {:?} {:?}", session.snapshot(), session.events()),
        format!("{:?} {} {:#?}", session.ticket(), session.ticket(), session.ticket()),
        format!("{access:?} {:?}", support::accept(&hub, &access.id)),
    ];
    let browser = Browser::connected(&hub, &session).await;
    browser.send("hello");
    assert_eq!(browser.text().await, "hello");
    let mut wrong = RawDocument::new(&session);
    wrong.access.secret = stillhere::Secret::from_bytes([9; 32]);
    shown.push(format!("{:?}", wrong.connect(&hub).end().await));
    let mut document = RawDocument::new(&session);
    let hello = document.hello();
    shown.push(format!(
        "{hello:?} {:?}",
        Packet::Binary(Frame::Hello(hello.clone()).to_bytes())
    ));
    drop(browser);
    settled().await;
    let (wire, welcome) = document.welcomed(&hub).await;
    shown.push(format!("{welcome:?}"));
    wire.send_data(Lane::Interactive, 5, "a gap");
    shown.push(format!("{:?}", wire.end().await));
    session.abort("over");
    shown.push(format!("{:?}", document.connect(&hub).end().await));
    tokio::time::sleep(seconds(60)).await;

    let log = String::from_utf8(log.0.lock().expect("unpoisoned").clone()).expect("logs are text");
    assert!(
        log.contains("session ended") && log.contains("the function begins"),
        "nothing was logged: {log}"
    );
    shown.push(log);
    let text = session
        .ticket_json()
        .split_once("\"secret\":\"")
        .expect("the ticket has a secret")
        .1[..43]
        .to_owned();
    let bytes = access.secret.expose();
    let decimal = bytes[..6].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let hex: String = bytes[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let escaped = format!("{:?}", bytes::Bytes::copy_from_slice(&bytes[..6]));
    let escaped = escaped[2..escaped.len() - 1].to_owned();
    for shown in shown {
        for secret in [&text[..8], &decimal, &hex, &hex.to_uppercase(), &escaped] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_hub_finds_its_sessions_until_they_end() {
    let hub = Hub::new();
    let session = hub.open(idle);
    assert_eq!(hub.session(session.id()).map(|found| *found.id()), Some(*session.id()));
    assert_eq!(hub.sessions().len(), 1);
    assert_eq!((hub.stats().opened, hub.stats().unconnected), (1, 1));
    session.abort("");
    assert!(hub.session(session.id()).is_none());
    assert_eq!(
        (hub.sessions().len(), hub.stats().opened, hub.stats().unconnected),
        (0, 1, 0)
    );
}

#[test]
fn sessions_live_on_the_hubs_runtime_whatever_thread_opens_and_carries_them() {
    let home = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("the runtime starts");
    let hub = Hub::builder().runtime(home.handle().clone()).build();
    let (report, mut reported) = tokio::sync::mpsc::unbounded_channel();
    let session = {
        let hub = hub.clone();
        std::thread::spawn(move || {
            hub.open(move |mut session| async move {
                while let Some(message) = session.recv().await {
                    report.send(std::thread::current().id()).expect("the test listens");
                    session.send(message).await.expect("the session lives");
                }
            })
        })
        .join()
        .expect("the task does not panic")
    };
    for round in 0..3u8 {
        // Each connection runs on its own runtime, which is dropped before the next one.
        let carrier = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the runtime starts");
        carrier.block_on(async {
            let browser = Browser::connected(&hub, &session).await;
            browser.send([round]);
            assert_eq!(browser.next().await, [round]);
        });
        drop(carrier);
        let thread = home.block_on(reported.recv()).expect("the function runs");
        assert_ne!(thread, std::thread::current().id());
    }
    assert_eq!(hub.stats().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn bad_input_after_the_welcome_ends_that_session_with_its_reason_and_no_other() {
    let hub = Hub::new();
    let bystander = hub.open(|mut session| async move {
        while let Some(message) = session.recv().await {
            session.send(message).await.expect("the session lives");
        }
    });
    let page = Browser::connected(&hub, &bystander).await;
    type Misdeed = fn(&Wire);
    let misdeeds: [(Misdeed, EndReason); 8] = [
        (
            |wire| wire.end.send(Packet::Text(bytes::Bytes::new())),
            EndReason::Malformed,
        ),
        (
            |wire| wire.end.send(Packet::Binary(bytes::Bytes::from_static(b"\xff"))),
            EndReason::Malformed,
        ),
        (|wire| wire.send(Frame::Confirm), EndReason::Malformed),
        (|wire| wire.ack(1, 0), EndReason::Malformed),
        (|wire| wire.end.fail(ConnectionError::TooLarge), EndReason::TooLarge),
        (
            |wire| wire.send_data(Lane::Interactive, 1, vec![0; 65_537]),
            EndReason::TooLarge,
        ),
        (
            |wire| {
                for sequence in 1..=20 {
                    wire.send_data(Lane::Bulk, sequence, vec![0; 60_000]);
                }
            },
            EndReason::Flood,
        ),
        (
            |wire| {
                wire.send(Frame::Hello(stillhere::wire::Hello {
                    secret: stillhere::Secret::from_bytes([0; 32]),
                    document: support::new_document(),
                    incarnation: 0,
                    attempt: 1,
                    counts: support::wire::fresh_counts(),
                }));
            },
            EndReason::Malformed,
        ),
    ];
    for (number, (misdeed, reason)) in misdeeds.into_iter().enumerate() {
        let session = hub.open(idle);
        let mut document = RawDocument::new(&session);
        let (wire, _) = document.welcomed(&hub).await;
        settled().await;
        misdeed(&wire);
        let end = wire.end().await;
        assert_eq!(
            (end.code, end.reason),
            (reason.code() as u64, reason.number()),
            "misdeed {number}"
        );
        assert_eq!(soon("the end", session.ended()).await, reason, "misdeed {number}");
        page.send("unharmed");
        assert_eq!(page.text().await, "unharmed");
    }
    assert_eq!(hub.stats().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_gap_ends_the_connection_and_three_without_progress_the_session() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    for _ in 0..2 {
        let (wire, _) = document.welcomed(&hub).await;
        wire.send_data(Lane::Interactive, 7, "too early");
        let end = wire.end().await;
        assert_eq!((end.code, end.reason), (4303, 0));
        assert_eq!(session.state(), SessionState::SoftClosed);
    }
    let (wire, _) = document.welcomed(&hub).await;
    wire.send_data(Lane::Interactive, 7, "too early");
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4107, EndReason::Malformed.number()));
}
