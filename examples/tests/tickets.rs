//! Tests that each of the demo's tickets does what the README says, on each framework.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::bufread::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere::wire::{Data, End, Frame};
use stillhere::{EndReason, Lane};
use stillhere_client::TicketError;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http;
use stillhere_conformance::plain_client::PlainClient;
use stillhere_conformance::program::Program;
use stillhere_conformance::raw_connection::{RawConnection, whole};
use stillhere_conformance::socket::Request;

#[tokio::test]
async fn every_ticket_does_what_the_readme_says_on_axum() {
    try_tickets(env!("CARGO_BIN_EXE_axum")).await;
}

#[tokio::test]
async fn every_ticket_does_what_the_readme_says_on_actix() {
    try_tickets(env!("CARGO_BIN_EXE_actix")).await;
}

#[tokio::test]
async fn every_ticket_does_what_the_readme_says_on_warp() {
    try_tickets(env!("CARGO_BIN_EXE_warp")).await;
}

async fn try_tickets(path: &str) {
    let program = Program::start(path, &[]).await;
    let demo = Demo(program.address);
    demo.echoes_on_both_lanes().await;
    demo.floods().await;
    demo.broadcasts().await;
    demo.compresses_and_takes_what_is_compressed().await;
    demo.has_small_limits().await;
    demo.grants_no_more_than_its_window().await;
    demo.pings_after_a_second().await;
    demo.is_taken_over_without_a_probe().await;
    demo.lets_its_user_in_only().await;
    demo.ends_as_it_is_told_to().await;
    demo.speaks_plainly().await;
    demo.has_no_room().await;
}

/// The tickets that [`try_tickets`] tries.
const TRIED: [&str; 14] = [
    "echo",
    "flood",
    "broadcast",
    "compressed",
    "small",
    "unread",
    "heartbeat",
    "takeover",
    "user",
    "ending",
    "plain",
    "plain-zlib",
    "plain-gzip",
    "full",
];

#[test]
fn the_readme_has_these_tickets_and_no_others() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("it is there");
    let (_, table) = readme.split_once("| ticket |").expect("there is a table of tickets");
    let (table, _) = table.split_once("\n\n").expect("the table ends");
    let names = table.lines().skip(2).flat_map(|row| {
        let cell = row.split('|').nth(1).expect("a row has cells");
        cell.split('`').skip(1).step_by(2)
    });
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(TRIED));
}

/// A running demo, by its address.
struct Demo(SocketAddr);

impl Demo {
    async fn ticket(&self, name: &str) -> String {
        let ticket = http::get(self.0, &format!("/ticket/{name}"), &[]).await;
        assert_eq!(
            (ticket.status, ticket.header("cache-control")),
            (200, "no-store"),
            "{name}"
        );
        assert_eq!(ticket.header("content-type"), "application/json");
        ticket.text()
    }

    async fn open(&self, name: &str) -> Browser {
        let browser = Browser::connect(self.0, &self.ticket(name).await);
        browser.wait_for_outcome(Outcome::Opened).await;
        browser
    }

    /// Opens a client that controls each frame, and waits for the welcome.
    async fn open_raw(&self, name: &str) -> (RawConnection, Credentials) {
        let credentials = Credentials::parse(&self.ticket(name).await).expect("there is room");
        let mut raw = self.connect_raw(&credentials, 1).await;
        raw.welcome().await;
        (raw, credentials)
    }

    /// Says hello as this document.
    async fn connect_raw(&self, credentials: &Credentials, document: u8) -> RawConnection {
        let request = Request::new(self.0, credentials.path());
        let mut raw = RawConnection::open(&request).await.expect("it is upgraded");
        raw.say_hello(credentials, document, 0, 1).await;
        raw
    }

    async fn echoes_on_both_lanes(&self) {
        let browser = self.open("echo").await;
        for lane in Lane::ALL {
            browser.send_on(lane, "hello").expect("the session is open");
            assert_eq!(browser.recv_on(lane).await, "hello");
        }
    }

    async fn floods(&self) {
        let browser = self.open("flood").await;
        let request = [3u32, 70_000].map(u32::to_le_bytes).concat();
        browser.send(request).expect("the session is open");
        for _ in 0..3 {
            assert_eq!(browser.recv().await.payload, vec![0; 70_000]);
        }
    }

    async fn broadcasts(&self) {
        let browsers = [self.open("broadcast").await, self.open("broadcast").await];
        // A session joins when its function starts, so its own message comes back after it has
        // joined.
        for browser in &browsers {
            browser.send("here").expect("the session is open");
            assert_eq!(browser.recv().await.payload, "here");
        }
        browsers[1].send("to all").expect("the session is open");
        for browser in &browsers {
            while browser.recv().await.payload != "to all" {}
        }
    }

    async fn compresses_and_takes_what_is_compressed(&self) {
        let (mut raw, _) = self.open_raw("compressed").await;
        raw.send(whole(Lane::Interactive, 1, vec![7; 1_000])).await;
        let compressed = raw.data().await;
        assert!(
            compressed.compressed && compressed.payload.len() < 100,
            "{compressed:?}"
        );
        raw.send(Frame::Data(Data {
            sequence: 2,
            ..compressed.clone()
        }))
        .await;
        let again = raw.data().await;
        assert_eq!((again.sequence, again.payload), (2, compressed.payload));
    }

    async fn has_small_limits(&self) {
        let (mut raw, credentials) = self.open_raw("small").await;
        let limits = credentials.limits;
        assert_eq!(
            (limits.fragment, limits.message, limits.window, limits.bulk_window),
            (100, 1_000, 2_000, 1_000)
        );
        raw.send(whole(Lane::Interactive, 1, vec![7; 100])).await;
        assert_eq!(raw.data().await.payload, vec![7; 100]);
        raw.send(whole(Lane::Interactive, 2, vec![7; 101])).await;
        assert_is(&raw.end().await, Code::TooLarge, &EndReason::TooLarge);
    }

    async fn grants_no_more_than_its_window(&self) {
        let (mut raw, _) = self.open_raw("unread").await;
        for sequence in 1..=12 {
            raw.send(whole(Lane::Interactive, sequence, vec![7; 100])).await;
        }
        raw.send(whole(Lane::Interactive, 13, vec![7; 100])).await;
        assert_is(&raw.end().await, Code::Flood, &EndReason::Flood);
    }

    async fn pings_after_a_second(&self) {
        let credentials = Credentials::parse(&self.ticket("heartbeat").await).expect("there is room");
        let mut raw = self.connect_raw(&credentials, 1).await;
        assert_eq!(raw.welcome().await.heartbeat, 1_000);
        assert!(matches!(raw.frame().await, Frame::Ping { .. }));
        assert_eq!(raw.end().await.code, Code::Silent as u64);
    }

    async fn is_taken_over_without_a_probe(&self) {
        let (mut first, credentials) = self.open_raw("takeover").await;
        let mut second = self.connect_raw(&credentials, 2).await;
        assert_eq!(second.frame().await, Frame::Offer);
        second.send(Frame::Confirm).await;
        assert_eq!(second.welcome().await.incarnation, 2);
        assert_eq!(first.end().await.code, Code::Superseded as u64);
    }

    async fn lets_its_user_in_only(&self) {
        let ticket = self.ticket("user").await;
        let nobody = Browser::connect(self.0, &ticket);
        assert_eq!(nobody.refusal().await, Code::Forbidden as u64);
        let other = Browser::connect_with_cookie("demo-user=bob", self.0, &ticket);
        assert_eq!(other.refusal().await, Code::Forbidden as u64);
        let ada = Browser::connect_with_cookie("theme=dark; demo-user=ada", self.0, &ticket);
        ada.wait_for_outcome(Outcome::Opened).await;
        ada.send("hello").expect("the session is open");
        assert_eq!(ada.recv().await.payload, "hello");
    }

    async fn ends_as_it_is_told_to(&self) {
        for (word, reason) in [
            ("finish", EndReason::Finished),
            ("close", EndReason::Closed("".into())),
            ("abort", EndReason::Aborted("".into())),
            ("panic", EndReason::Panicked),
            ("drain", EndReason::Draining),
        ] {
            let browser = self.open("ending").await;
            browser.send(word).expect("the session is open");
            if word == "finish" {
                assert_eq!(browser.recv().await.payload, "bye");
            }
            let end = browser.session_end().await;
            assert_eq!(
                (end.code, end.reason),
                (reason.code() as u64, reason.number()),
                "{word}"
            );
            assert_eq!(end.retry_after.as_secs(), u64::from(word == "drain"), "{word}");
        }
        let browser = self.open("ending").await;
        browser.send("soft-close").expect("the session is open");
        browser.wait_for_outcome(Outcome::Resumed).await;
        browser.send("what?").expect("the session is open");
        assert!(browser.recv().await.payload.starts_with(b"finish, close"));
    }

    async fn speaks_plainly(&self) {
        let hello = || &b"hello"[..];
        let mut zlib = Vec::new();
        let mut gzip = Vec::new();
        let read = ZlibEncoder::new(hello(), Compression::fast()).read_to_end(&mut zlib);
        read.and_then(|_| GzEncoder::new(hello(), Compression::fast()).read_to_end(&mut gzip))
            .expect("writing to memory succeeds");

        assert_eq!(self.plain_echo("plain", hello().into()).await, hello());
        let mut text = String::new();
        let answer = self.plain_echo("plain-zlib", zlib).await;
        ZlibDecoder::new(&answer[..])
            .read_to_string(&mut text)
            .expect("it is zlib");
        let answer = self.plain_echo("plain-gzip", gzip).await;
        GzDecoder::new(&answer[..])
            .read_to_string(&mut text)
            .expect("it is gzip");
        assert_eq!(text, "hellohello");
    }

    async fn plain_echo(&self, name: &str, message: Vec<u8>) -> Vec<u8> {
        let credentials = Credentials::parse(&self.ticket(name).await).expect("there is room");
        let request = Request::new(self.0, credentials.path()).offering_nothing();
        let mut client = PlainClient::open(&request).await.expect("it is upgraded");
        client.send(message).await;
        client.recv().await.to_vec()
    }

    async fn has_no_room(&self) {
        let refused = Credentials::parse(&self.ticket("full").await).expect_err("there is no room");
        let TicketError::Refused { code, retry_after, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!((code, retry_after), (Code::Full as u64, Duration::from_secs(5)));
    }
}

fn assert_is(end: &End, code: Code, reason: &EndReason) {
    assert_eq!((end.code, end.reason), (code as u64, reason.number()), "{end:?}");
}
