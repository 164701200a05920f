//! Custom kinds of connection: which one a page is told to use, and that it carries a session.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use stillhere::machine::Outcome;
use stillhere::{ConnectionSetup, Hub, Session, SessionHandle, client, static_script_tag};

use support::browser::Browser;

async fn idle(session: Session) {
    session.ended().await;
}

fn json(ticket: &str) -> serde_json::Value {
    serde_json::from_str(ticket).expect("a ticket is JSON")
}

fn ticket(session: &SessionHandle) -> serde_json::Value {
    json(&session.ticket_json())
}

/// Returns the kind that the session's page is told to use.
fn kind(session: &SessionHandle) -> String {
    ticket(session)
        .get("connection")
        .map_or("a WebSocket".to_owned(), |name| {
            name.as_str().expect("the name is valid").to_owned()
        })
}

/// Returns the attributes of each element as they are written.
fn elements(tag: &str) -> Vec<&str> {
    let parts = tag
        .strip_prefix("<script ")
        .and_then(|rest| rest.strip_suffix("></script>"));
    parts
        .expect("the tag has two scripts")
        .split("></script><script ")
        .collect()
}

fn ticket_of(element: &str) -> serde_json::Value {
    let (_, rest) = element
        .split_once(" data-stillhere=\"")
        .expect("the attribute is there");
    let attribute = rest.strip_suffix('"').expect("the attribute is the last");
    json(&attribute.replace("&quot;", "\"").replace("&amp;", "&"))
}

#[tokio::test(start_paused = true)]
async fn a_page_connects_by_web_socket_unless_something_else_is_registered() {
    let hub = Hub::new();
    let session = hub.open(idle);
    assert!(
        ticket(&session).get("connection").is_none(),
        "the default is omitted, for older clients"
    );
    assert_eq!(elements(&session.script_tag()).len(), 1);

    hub.register_connection(|_| Some(ConnectionSetup::web_socket()));
    assert!(ticket(&session).get("connection").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_last_registered_kind_wins_also_for_sessions_that_are_open_already() {
    let hub = Hub::new();
    let session = hub.open(idle);
    hub.register_connection(|_| Some(ConnectionSetup::named("first")));
    assert_eq!(kind(&session), "first");
    hub.register_connection(|_| Some(ConnectionSetup::named("second")));
    assert_eq!(kind(&session), "second");
    assert_eq!(kind(&hub.open(idle)), "second");
    hub.register_connection(|_| Some(ConnectionSetup::web_socket()));
    assert_eq!(kind(&session), "a WebSocket");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_returns_none_leaves_the_decision_to_earlier_ones() {
    let hub = Hub::new();
    hub.register_connection(|session| session.principal().map(ConnectionSetup::named));
    hub.register_connection(|session| (session.principal() == Some("ada")).then(|| ConnectionSetup::named("hers")));
    assert_eq!(kind(&hub.open_for("ada", idle)), "hers");
    assert_eq!(kind(&hub.open_for("bob", idle)), "bob");
    assert_eq!(kind(&hub.open(idle)), "a WebSocket");
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_called_once_for_each_ticket_and_each_script_tag() {
    let hub = Hub::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    hub.register_connection(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Some(ConnectionSetup::named(&number.to_string()).url(&format!("/{number}")))
    });
    let session = hub.open(idle);
    assert_eq!(asked.load(Ordering::Relaxed), 0, "no page was requested yet");
    assert_eq!(kind(&session), "1");
    let tag = session.script_tag();
    assert!(tag.starts_with("<script src=\"/2/client."), "{tag}");
    assert_eq!(ticket_of(elements(&tag)[0])["connection"], "2");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_panics_counts_as_none() {
    let hub = Hub::new();
    hub.register_connection(|_| Some(ConnectionSetup::named("kept")));
    hub.register_connection(|session| panic!("a condition's own panic, for {}", session.id()));
    let session = hub.open(idle);
    assert_eq!(kind(&session), "kept");

    for taken in ["", "none", "websocket"] {
        hub.register_connection(|_| Some(ConnectionSetup::named(taken)));
    }
    assert_eq!(kind(&session), "kept", "a name that is taken is a panic too");
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_called_without_a_lock() {
    let hub = Hub::new();
    let own = hub.clone();
    let known = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&known);
    hub.register_connection(move |session| {
        noted
            .lock()
            .expect("unpoisoned")
            .push((session.state(), own.stats().sessions));
        session.set_weight(1);
        let found = own.session(session.id())?;
        own.register_connection(|_| None);
        found.try_send("hello").ok().map(|()| ConnectionSetup::named("own"))
    });
    let session = hub.open(idle);
    assert_eq!(kind(&session), "own");
    assert_eq!(*known.lock().expect("unpoisoned"), [(session.state(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_page_may_find_the_mount_at_a_url_of_its_own() {
    let hub = Hub::builder().public_url("/app/stillhere").build();
    hub.register_connection(|session| Some(ConnectionSetup::web_socket().url(session.principal()?)));
    for (base, expected) in [
        ("https://live.example/stillhere/", "https://live.example/stillhere"),
        ("/sub/path", "/sub/path"),
        ("/", ""),
    ] {
        let session = hub.open_for(base, idle);
        let tag = session.script_tag();
        assert_eq!(ticket(&session)["url"], format!("{expected}/{}", session.id()));
        assert!(ticket(&session).get("connection").is_none());
        assert!(
            tag.starts_with(&format!("<script src=\"{expected}/{}\"", client::script_name())),
            "{tag}"
        );
    }
    let other = hub.open(idle);
    assert_eq!(ticket(&other)["url"], format!("/app/stillhere/{}", other.id()));
}

#[tokio::test(start_paused = true)]
async fn the_script_of_a_kind_follows_the_clients_with_the_same_nonce() {
    let hub = Hub::new();
    hub.register_connection(|_| Some(ConnectionSetup::named("webrtc").script("/webrtc.js")));
    let session = hub.open(idle);

    let tag = session.script_tag();
    let [client, script] = elements(&tag)[..] else {
        panic!("{tag}")
    };
    assert_eq!(ticket_of(client), ticket(&session));
    assert_eq!(script, "src=\"/webrtc.js\"");

    let tag = session.script_tag_with_nonce("r4nd0m");
    let [client, script] = elements(&tag)[..] else {
        panic!("{tag}")
    };
    assert!(client.contains("\" nonce=\"r4nd0m\" data-stillhere="), "{tag}");
    assert_eq!(script, "src=\"/webrtc.js\" nonce=\"r4nd0m\"");
}

#[tokio::test(start_paused = true)]
async fn a_setup_of_the_application_cannot_break_out_of_its_attribute() {
    let hub = Hub::new();
    let evil = "/a&b=\"'></script><script>alert(1)</script>";
    hub.register_connection(move |_| Some(ConnectionSetup::named(evil).url(evil).script(evil)));
    let session = hub.open(idle);
    let tag = session.script_tag();
    let escaped = "/a&amp;b=&quot;&#39;&gt;&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;";
    let [client, script] = elements(&tag)[..] else {
        panic!("{tag}")
    };
    assert!(client.starts_with(&format!("src=\"{escaped}/client.")), "{tag}");
    assert_eq!(script, format!("src=\"{escaped}\""));
    assert_eq!(ticket(&session)["connection"], evil);
}

#[tokio::test(start_paused = true)]
async fn a_page_without_a_server_gets_a_ticket_that_says_so_and_no_secret() {
    let hub = Hub::new();
    hub.register_connection(|_| Some(ConnectionSetup::none().url("./assets").script("assets/page.js")));
    let session = hub.open(idle);
    let nothing = serde_json::json!({ "protocol": "stillhere.v1", "connection": "none" });
    assert_eq!(ticket(&session), nothing);
    let tag = session.script_tag();
    let [client, script] = elements(&tag)[..] else {
        panic!("{tag}")
    };
    assert_eq!(ticket_of(client), nothing);
    assert!(client.starts_with("src=\"./assets/client."), "{tag}");
    assert_eq!(script, "src=\"assets/page.js\"");
    assert_eq!(session.ticket().to_string(), "Ticket(without a server)");

    let tag = static_script_tag("a&b.js");
    assert!(tag.starts_with("<script src=\"a&amp;b.js\" "), "{tag}");
    assert_eq!(
        ticket_of(elements(&tag)[0]),
        nothing,
        "a tag without a session is the same"
    );
}

#[tokio::test(start_paused = true)]
async fn above_the_hubs_limits_a_page_of_any_kind_is_refused_unless_it_needs_no_server() {
    let hub = Hub::builder().max_sessions(0).build();
    hub.register_connection(|_| Some(ConnectionSetup::named("webrtc")));
    let refused = hub.open(idle);
    assert_eq!(ticket(&refused)["refused"]["code"], 4201);
    assert!(ticket(&refused).get("connection").is_none());

    hub.register_connection(|_| Some(ConnectionSetup::none()));
    assert_eq!(kind(&refused), "none");
}

#[tokio::test(start_paused = true)]
async fn a_session_of_another_kind_opens_and_resumes_over_whatever_carries_its_packets() {
    let hub = Hub::new();
    hub.register_connection(|_| Some(ConnectionSetup::named("pipe").script("/pipe.js")));
    let session = hub.open(|mut session: Session| async move {
        while let Some(message) = session.recv().await {
            session.send(message).await.expect("the session is open");
        }
    });
    let page = Browser::connected(&hub, &session).await;
    page.send("one");
    assert_eq!(page.text().await, "one");
    page.cut();
    assert_eq!(page.outcome().await, Outcome::Resumed);
    page.send("two");
    assert_eq!(page.text().await, "two");
}
