//! Tests the application of `drop-in/` on each framework: its session belongs to the logged-in
//! user, and the other parts of the application work as before.

use std::net::SocketAddr;
use std::time::Duration;

use stillhere::EndReason;
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::program::Program;
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket::Request;
use stillhere_conformance::{fallback_bridge, http};

/// Creates a test on each framework for each of these functions.
macro_rules! on_each_framework {
    ($($case:ident)*) => {
        on_each_framework!(axum, env!("CARGO_BIN_EXE_drop-in-axum"); $($case)*);
        on_each_framework!(actix, env!("CARGO_BIN_EXE_drop-in-actix"); $($case)*);
        on_each_framework!(warp, env!("CARGO_BIN_EXE_drop-in-warp"); $($case)*);
    };
    ($framework:ident, $program:expr; $($case:ident)*) => {
        mod $framework {
            $(
                #[tokio::test]
                async fn $case() {
                    let program = super::Program::start($program, &[]).await;
                    super::$case(super::Site { program }).await;
                }
            )*
        }
    };
}

on_each_framework! {
    who_is_not_logged_in_is_sent_to_the_login
    a_user_logs_in_and_gets_a_page_with_a_session
    a_session_resumes_with_its_users_cookie
    over_the_fallback_the_same_logins_hold
    another_users_cookie_is_refused_and_the_session_goes_on
    without_a_cookie_the_session_is_refused_and_goes_on
    a_login_that_is_over_does_not_resume_its_session
    logging_out_ends_the_users_sessions_and_nobody_elses
    a_foreign_page_is_refused
    a_draft_is_kept_for_the_restored_page
    other_routes_and_static_files_are_served_as_before
    compression_leaves_the_clients_files_alone
    it_stops_when_it_is_told_to
}

/// A running application.
struct Site {
    program: Program,
}

impl Site {
    fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// Logs in and returns the cookie.
    async fn log_in(&self, name: &str) -> String {
        let answer = http::post(self.address(), "/login", &[], &format!("name={name}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, "./"));
        let (cookie, _) = answer
            .header("set-cookie")
            .split_once(';')
            .expect("the cookie has attributes");
        cookie.to_owned()
    }

    async fn log_out(&self, cookie: &str) {
        let answer = http::post(self.address(), "/logout", &[("cookie", cookie)], "").await;
        assert_eq!((answer.status, answer.header("location")), (303, "login"));
    }

    /// Opens the page with the notes and returns the ticket of its session.
    async fn open_page(&self, cookie: &str) -> String {
        let page = http::get(self.address(), "/", &[("cookie", cookie), ("accept-encoding", "gzip")]).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "private, no-cache"));
        let page = page.text();
        let (_, attribute) = page.split_once("data-stillhere=\"").expect("the page has a session");
        let (ticket, _) = attribute.split_once('"').expect("the attribute ends");
        ticket.replace("&quot;", "\"").replace("&amp;", "&")
    }

    /// Logs in and connects. Returns the cookie, the ticket and the page.
    async fn arrive(&self, name: &str) -> (String, String, Browser) {
        let cookie = self.log_in(name).await;
        let ticket = self.open_page(&cookie).await;
        let browser = Browser::connect_with_cookie(&cookie, self.address(), &ticket);
        browser.wait_for_outcome(Outcome::Opened).await;
        (cookie, ticket, browser)
    }
}

async fn who_is_not_logged_in_is_sent_to_the_login(site: Site) {
    for headers in [&[][..], &[("cookie", "login=1; id=1")]] {
        let answer = http::get(site.address(), "/", headers).await;
        assert_eq!((answer.status, answer.header("location")), (303, "login"));
    }
    let refused = http::post(site.address(), "/login", &[], "name=+").await;
    assert_eq!((refused.status, refused.header("set-cookie")), (303, ""));
}

async fn a_user_logs_in_and_gets_a_page_with_a_session(site: Site) {
    let (_, _, ada) = site.arrive("ada").await;
    let (_, _, bob) = site.arrive("bob").await;
    for greeting in [r#"{"draft":""}"#, r#"{"notes":[]}"#] {
        assert_eq!(ada.recv().await.payload, greeting);
    }

    note(&ada, "hello");

    let notes = r#"{"notes":[{"by":"ada","text":"hello"}]}"#;
    assert_eq!(ada.recv().await.payload, notes);
    // A page that is late or slow gets only the newest state.
    while bob.recv().await.payload != notes {}
}

async fn a_session_resumes_with_its_users_cookie(site: Site) {
    let (_, _, ada) = site.arrive("ada").await;
    ada.lose_connection();
    ada.wait_for_outcome(Outcome::Resumed).await;
    assert_alive(&ada, "still here").await;
}

async fn another_users_cookie_is_refused_and_the_session_goes_on(site: Site) {
    let (_, ticket, ada) = site.arrive("ada").await;
    let mallory = site.log_in("mallory").await;

    let thief = Browser::connect_with_cookie(&mallory, site.address(), &ticket);

    assert_eq!(thief.refusal().await, Code::Forbidden as u64);
    assert_alive(&ada, "mine").await;
    assert_eq!(ada.close_codes(), [] as [u64; 0], "she was not disconnected");
}

async fn without_a_cookie_the_session_is_refused_and_goes_on(site: Site) {
    let (_, ticket, ada) = site.arrive("ada").await;
    assert_eq!(
        Browser::connect(site.address(), &ticket).refusal().await,
        Code::Forbidden as u64
    );
    assert_alive(&ada, "mine").await;
}

async fn over_the_fallback_the_same_logins_hold(site: Site) {
    for wait in [None, Some(Duration::from_millis(100))] {
        let bridge = fallback_bridge::start(site.address(), wait).await;
        let cookie = site.log_in("ada").await;
        let ticket = site.open_page(&cookie).await;
        let mallory = site.log_in("mallory").await;
        for stranger in [
            Browser::connect_with_cookie(&mallory, bridge, &ticket),
            Browser::connect(bridge, &ticket),
        ] {
            assert_eq!(stranger.refusal().await, Code::Forbidden as u64, "{wait:?}");
        }
        let ada = Browser::connect_with_cookie(&cookie, bridge, &ticket);
        ada.wait_for_outcome(Outcome::Opened).await;
        assert_alive(&ada, "mine").await;
        ada.lose_connection();
        ada.wait_for_outcome(Outcome::Resumed).await;
        assert_alive(&ada, "still mine").await;

        site.log_out(&cookie).await;

        assert_eq!(ada.session_end().await.text, "logged out", "{wait:?}");
    }
}

async fn a_login_that_is_over_does_not_resume_its_session(site: Site) {
    let (cookie, ..) = site.arrive("ada").await;
    let ticket = site.open_page(&cookie).await;
    site.log_out(&cookie).await;
    let late = Browser::connect_with_cookie(&cookie, site.address(), &ticket);
    // This client is not logged in, so it is not told how the user's session ended.
    assert_eq!(late.refusal().await, Code::Forbidden as u64);
    let answer = http::get(site.address(), "/", &[("cookie", &cookie)]).await;
    assert_eq!(answer.status, 303);
}

async fn logging_out_ends_the_users_sessions_and_nobody_elses(site: Site) {
    let (cookie, _, ada) = site.arrive("ada").await;
    let elsewhere = site.arrive("ada").await.2;
    let (_, _, bob) = site.arrive("bob").await;

    site.log_out(&cookie).await;

    for page in [ada, elsewhere] {
        let end = page.session_end().await;
        let aborted = EndReason::Aborted("logged out".into());
        assert_eq!(
            (end.code, end.reason, &*end.text),
            (aborted.code() as u64, aborted.number(), aborted.text())
        );
    }
    assert_alive(&bob, "not me").await;
}

async fn a_foreign_page_is_refused(site: Site) {
    let (cookie, ticket, ada) = site.arrive("ada").await;
    let credentials = Credentials::parse(&ticket).expect("the hub has room");
    let request = Request::new(site.address(), credentials.path()).with_cookie(&cookie);
    let foreign = request.from_origin("https://evil.example");
    let mut foreign = RawConnection::open(&foreign)
        .await
        .expect("it is upgraded, to be told why it is refused");
    assert_eq!(foreign.end().await.code, Code::Forbidden as u64);
    assert_alive(&ada, "mine").await;
}

async fn a_draft_is_kept_for_the_restored_page(site: Site) {
    let (_, _, ada) = site.arrive("ada").await;
    ada.send(r#"{"draft":"half a tho"}"#).expect("the session is open");
    ada.wait_until_acknowledged().await;

    let reloaded = ada.reload().await;
    reloaded.wait_for_outcome(Outcome::Restored).await;

    assert_eq!(reloaded.recv().await.payload, r#"{"draft":"half a tho"}"#);
    assert_eq!(reloaded.recv().await.payload, r#"{"notes":[]}"#);
}

async fn other_routes_and_static_files_are_served_as_before(site: Site) {
    for (path, content) in [
        ("/login", "<title>Notes: log in</title>"),
        ("/about", "<title>Notes: about</title>"),
        ("/static/notes.css", "color-scheme"),
        ("/static/notes.js", "window.stillhere"),
    ] {
        let answer = http::get(site.address(), path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, "gzip"),
            "{path}"
        );
        assert!(answer.text().contains(content), "{path}");
    }
    for path in ["/nothing", "/static/nothing", "/stillhere/nothing"] {
        assert_eq!(http::get(site.address(), path, &[]).await.status, 404, "{path}");
    }
}

async fn compression_leaves_the_clients_files_alone(site: Site) {
    for (name, of_gzip) in [("client.js", true), ("client.mjs", true), ("client.js", false)] {
        let path = format!("/stillhere/{name}");
        let headers = if of_gzip {
            &[("accept-encoding", "gzip")][..]
        } else {
            &[]
        };
        let answer = http::get(site.address(), &path, headers).await;
        let encoding = if of_gzip { "gzip" } else { "" };
        assert_eq!(
            (answer.status, answer.header("content-encoding")),
            (200, encoding),
            "{name}"
        );
        // If it were compressed twice, it would not be text yet.
        assert!(answer.text().contains("stillhere.v1"), "{name}");
        let etag = answer.header("etag");
        let again = [headers, &[("if-none-match", etag)]].concat();
        assert_eq!(http::get(site.address(), &path, &again).await.status, 304, "{name}");
    }
}

async fn it_stops_when_it_is_told_to(mut site: Site) {
    let (_, _, ada) = site.arrive("ada").await;
    site.program.terminate().await;
    assert_eq!(ada.session_end().await.code, Code::Draining as u64);
    assert_eq!(site.program.exit().await.code(), Some(0));
}

fn note(page: &Browser, text: &str) {
    page.send(format!(r#"{{"draft":"{text}"}}"#))
        .expect("the session is open");
    page.send(r#""add""#).expect("the session is open");
}

/// Asserts that a note from the page comes back to it.
async fn assert_alive(page: &Browser, text: &str) {
    note(page, text);
    let noted = format!(r#""text":"{text}"}}]}}"#);
    while !page.recv().await.payload.ends_with(noted.as_bytes()) {}
}
