//! The fallback over HTTP, request by request: how each is answered, and when (PROTOCOL.md, section
//! 16).

mod support;

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use stillhere::code::Code;
use stillhere::http_answer::Answer;
use stillhere::machine::Event;
use stillhere::wire::{End, Frame, Sender};
use stillhere::{
    AnswerBody, Cause, EndReason, Hub, Lane, PlainOptions, Session, SessionHandle, SessionRequest, SessionState,
};
use tokio::time::Instant;

use support::wire::{RawDocument, data, fresh_counts};
use support::{access, assert_waits, milliseconds, seconds, settled, soon};

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message.into_bytes()).await.is_err() {
            return;
        }
    }
}

const OURS: (&str, &str) = ("content-type", "application/stillhere.v1");

/// A connection as the page sees it.
struct Posts {
    hub: Hub,
    id: String,
    token: [u8; 16],
    /// Wait of a poll in milliseconds; 0 asks for a streamed connection.
    wait: u32,
    /// Number of the last POST.
    number: u32,
}

impl Posts {
    fn new(hub: &Hub, session: &SessionHandle, wait: u32) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let mut token = [0; 16];
        token[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Self {
            hub: hub.clone(),
            id: session.id().to_string(),
            token,
            wait,
            number: 0,
        }
    }

    /// Opens a streamed connection on which the page is welcomed. Returns the requests and the
    /// stream that the page reads.
    async fn streamed(hub: &Hub, session: &SessionHandle) -> (Self, Down) {
        let posts = Self::new(hub, session, 0);
        let hello = Frame::Hello(RawDocument::new(session).hello());
        let mut down = Down::of(posts.open(&packed([hello])).await);
        assert!(matches!(down.frame().await, Some(Frame::Welcome(_))));
        (posts, down)
    }

    /// Opens a polled connection on which the answer to the first request welcomes the page.
    async fn polled(hub: &Hub, session: &SessionHandle, wait: u32) -> Self {
        let posts = Self::new(hub, session, wait);
        let hello = Frame::Hello(RawDocument::new(session).hello());
        let welcome = Down::of(posts.open(&packed([hello])).await).frames().await;
        assert!(matches!(welcome[..], [Frame::Welcome(_)]), "{welcome:?}");
        posts
    }

    async fn open(&self, packets: &[u8]) -> Answer {
        self.post(self.opening(packets)).await
    }

    /// Sends the next POST.
    async fn send(&mut self, packets: &[u8]) -> Answer {
        self.number += 1;
        self.post(self.sending(self.number, packets)).await
    }

    async fn post(&self, body: Bytes) -> Answer {
        ask(&self.hub, "POST", &self.id, &[OURS], once(body)).await
    }

    fn opening(&self, packets: &[u8]) -> Bytes {
        let mut body = self.head(1);
        body.put(packets);
        body.freeze()
    }

    fn sending(&self, number: u32, packets: &[u8]) -> Bytes {
        let mut body = self.head(2);
        body.put_u32_le(number);
        body.put(packets);
        body.freeze()
    }

    fn head(&self, operation: u8) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_u8(operation);
        body.put(&self.token[..]);
        body.put_u32_le(self.wait);
        body
    }
}

/// Reads an answer.
struct Down {
    chunks: BoxStream<'static, Bytes>,
    rest: BytesMut,
}

impl Down {
    fn of(answer: Answer) -> Self {
        assert_eq!(answer.status, 200);
        let chunks = match answer.body {
            AnswerBody::Stream(chunks) => chunks.map(|Ok(chunk)| chunk).boxed(),
            AnswerBody::Whole(whole) => stream::iter([whole]).boxed(),
        };
        let rest = BytesMut::new();
        Self { chunks, rest }
    }

    /// Returns the next chunk, or `None` at the end of the answer.
    async fn chunk(&mut self) -> Option<Bytes> {
        let chunk = soon("a chunk of the answer", self.chunks.next()).await;
        assert!(chunk.is_some() || self.rest.is_empty(), "it ends within a packet");
        chunk
    }

    /// Returns the next frame, or `None` at the end of the answer. Skips what only keeps the answer
    /// alive.
    async fn frame(&mut self) -> Option<Frame> {
        soon("a frame, or the end of the answer", self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(length) = self.rest.first_chunk().copied().map(u32::from_le_bytes)
                && self.rest.len() - 4 >= length as usize
            {
                self.rest.advance(4);
                let packet = self.rest.split_to(length as usize).freeze();
                if !packet.is_empty() {
                    return Some(Frame::decode(packet, Sender::Server).expect("the server's frames are well-formed"));
                }
            } else {
                let chunk = self.chunk().await?;
                self.rest.put(chunk);
            }
        }
    }

    /// Returns all frames up to the end of the answer.
    async fn frames(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Reads at least this many bytes.
    async fn read(&mut self, bytes: usize) {
        let mut read = 0;
        while read < bytes {
            read += self.chunk().await.expect("the answer continues").len();
        }
    }

    /// Returns the next message, which must be a small one.
    async fn text(&mut self) -> String {
        loop {
            match self.frame().await.expect("the answer continues") {
                Frame::Data(data) => return String::from_utf8(data.payload.to_vec()).expect("the message is text"),
                Frame::End(end) => panic!("expected a message, got {end:?}"),
                _ => {}
            }
        }
    }

    /// Returns the `end`, which must be the last frame of the answer.
    async fn end(self) -> End {
        match self.frames().await.pop() {
            Some(Frame::End(end)) => end,
            other => panic!("expected an end, got {other:?}"),
        }
    }
}

async fn ask<E>(
    hub: &Hub,
    method: &str,
    name: &str,
    headers: &[(&str, &str)],
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Answer {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    soon(
        "an answer",
        hub.answer(method, &SessionRequest::new(name, headers), body),
    )
    .await
}

fn once(body: impl Into<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter([Ok(body.into())])
}

fn nothing() -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::empty()
}

/// Encodes frames as a body carries them.
fn packed(frames: impl IntoIterator<Item = Frame>) -> Bytes {
    let mut packets = BytesMut::new();
    for frame in frames {
        let packet = frame.to_bytes();
        packets.put_u32_le(packet.len().try_into().expect("a frame is small"));
        packets.put(packet);
    }
    packets.freeze()
}

fn message(sequence: u64, payload: impl Into<Bytes>) -> Frame {
    Frame::Data(data(Lane::Interactive, sequence, payload))
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut values = answer.headers.iter().filter(|(known, _)| *known == name);
    let value = values.next().map(|(_, value)| value.as_str());
    assert!(values.next().is_none(), "{name} is there twice");
    value
}

/// Returns true if the answer has no body.
fn is_empty(answer: &Answer) -> bool {
    matches!(&answer.body, AnswerBody::Whole(bytes) if bytes.is_empty())
}

#[tokio::test(start_paused = true)]
async fn an_invalid_body_is_a_bad_request() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let whole = posts.sending(1, &[]);
    assert_eq!(whole.len(), 25);
    for length in 0..25 {
        let answer = posts.post(whole.slice(..length)).await;
        assert_eq!(answer.status, 400, "{length} bytes");
    }
    for operation in [0, 3, 255] {
        let answer = posts.post(posts.head(operation).freeze()).await;
        assert_eq!(answer.status, 400, "operation {operation}");
    }
    assert_eq!(hub.stats().connections, 0);
    assert_eq!(session.state(), SessionState::Unconnected);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_content_type_opens_nothing() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let hello = packed([Frame::Hello(RawDocument::new(&session).hello())]);
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/octet-stream")],
        &[("content-type", "stillhere.v1")],
        &[("accept", "application/stillhere.v1")],
    ] {
        let answer = ask(&hub, "POST", &posts.id, headers, once(posts.opening(&hello))).await;
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    settled().await;
    assert_eq!(session.state(), SessionState::Unconnected);
}

#[tokio::test(start_paused = true)]
async fn a_plain_session_has_no_fallback() {
    let hub = Hub::new();
    let session = hub.open_plain(PlainOptions::default(), echo);
    let posts = Posts::new(&hub, &session, 0);
    let headers = [("content-type", "application/octet-stream")];
    let answer = ask(&hub, "POST", &posts.id, &headers, once(posts.opening(b"hello"))).await;
    assert_eq!(answer.status, 400);
    settled().await;
    assert_eq!(session.state(), SessionState::Unconnected);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_version_gets_an_answer_that_it_can_read() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let headers = [("content-type", "application/stillhere.v2")];
    let answer = ask(&hub, "POST", &posts.id, &headers, once(posts.opening(&[]))).await;
    let end = Down::of(answer).end().await;
    assert_eq!((end.code, end.reason), (Code::Version as u64, 0));
    assert_eq!(session.state(), SessionState::Unconnected);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_session_is_reported_in_an_answer_with_status_200() {
    let hub = Hub::new();
    let gone = hub.open(echo);
    let posts = Posts::new(&Hub::new(), &gone, 500);
    let end = Down::of(posts.open(&[]).await).end().await;
    assert_eq!((end.code, end.reason), (Code::Unknown as u64, 0));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_is_forbidden_and_may_not_read_why() {
    let hub = Hub::builder().allow_origin("https://friend.example").build();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let headers = [OURS, ("host", "here.example"), ("origin", "https://evil.example")];
    let hello = packed([Frame::Hello(RawDocument::new(&session).hello())]);
    let answer = ask(&hub, "POST", &posts.id, &headers, once(posts.opening(&hello))).await;
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    let end = Down::of(answer).end().await;
    assert_eq!((end.code, end.reason), (Code::Forbidden as u64, 0));
    assert_eq!(session.state(), SessionState::Unconnected);

    let preflight = ask(&hub, "OPTIONS", &posts.id, &headers[1..], nothing()).await;
    assert_eq!(header(&preflight, "access-control-allow-origin"), None);
}

#[tokio::test(start_paused = true)]
async fn another_users_session_is_forbidden() {
    let hub = Hub::builder()
        .principal(|request| request.cookie("login").map(str::to_owned))
        .build();
    let session = hub.open_for("ada", echo);
    let hello = packed([Frame::Hello(RawDocument::new(&session).hello())]);
    for headers in [&[OURS][..], &[OURS, ("cookie", "login=bob")]] {
        let posts = Posts::new(&hub, &session, 0);
        let answer = ask(&hub, "POST", &posts.id, headers, once(posts.opening(&hello))).await;
        assert_eq!(Down::of(answer).end().await.code, Code::Forbidden as u64, "{headers:?}");
    }
    let posts = Posts::new(&hub, &session, 0);
    let headers = [OURS, ("cookie", "login=ada")];
    let answer = ask(&hub, "POST", &posts.id, &headers, once(posts.opening(&hello))).await;
    assert!(matches!(Down::of(answer).frame().await, Some(Frame::Welcome(_))));
}

#[tokio::test(start_paused = true)]
async fn a_page_of_an_allowed_origin_may_read_every_answer() {
    let hub = Hub::builder().allow_origin("https://friend.example").build();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let id = posts.id.as_str();
    let headers = [OURS, ("host", "here.example"), ("origin", "https://friend.example")];
    let opening = ask(&hub, "POST", id, &headers, once(posts.opening(&[]))).await;
    let sending = ask(&hub, "POST", id, &headers, once(posts.sending(1, &[]))).await;
    let preflight = ask(&hub, "OPTIONS", id, &headers[1..], nothing()).await;
    let bad = ask(&hub, "POST", id, &headers, once("nonsense")).await;
    for (answer, status) in [(opening, 200), (sending, 200), (preflight, 204), (bad, 400)] {
        assert_eq!(answer.status, status);
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            Some("https://friend.example")
        );
        assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"));
        assert_eq!(
            header(&answer, "vary"),
            Some("origin"),
            "no cache may serve it to others"
        );
    }
    let own = ask(&hub, "POST", id, &[OURS], once(posts.sending(2, &[]))).await;
    assert_eq!(
        header(&own, "access-control-allow-origin"),
        None,
        "a request of no page needs none"
    );
    assert_eq!(
        header(&own, "vary"),
        Some("origin"),
        "a cache must not serve this answer to a page"
    );
}

#[tokio::test(start_paused = true)]
async fn a_preflight_allows_what_the_client_posts() {
    let hub = Hub::new();
    let answer = ask(&hub, "OPTIONS", "AAECAwQFBgcICQoLDA0ODw", &[], nothing()).await;
    assert_eq!(answer.status, 204);
    assert!(is_empty(&answer));
    assert_eq!(header(&answer, "access-control-allow-methods"), Some("POST"));
    assert_eq!(header(&answer, "access-control-allow-headers"), Some("content-type"));
    assert!(header(&answer, "access-control-max-age").is_some());
}

#[tokio::test(start_paused = true)]
async fn another_method_gets_405_with_the_allowed_methods() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    for method in ["PUT", "DELETE", "PATCH", "post", ""] {
        let answer = ask(&hub, method, &posts.id, &[OURS], once(posts.opening(&[]))).await;
        assert_eq!(answer.status, 405, "{method}");
        // RFC 9110, section 15.5.6.
        assert_eq!(header(&answer, "allow"), Some("GET, HEAD, OPTIONS, POST"), "{method}");
    }
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_must_arrive_within_ten_seconds() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let begun = posts.opening(&[]);

    let start = Instant::now();
    let never = once(begun.clone()).chain(stream::pending());
    let answer = ask(&hub, "POST", &posts.id, &[OURS], never).await;
    assert_eq!((answer.status, start.elapsed()), (408, seconds(10)));

    let start = Instant::now();
    let trickling = stream::unfold(0, |at| async move {
        tokio::time::sleep(seconds(1)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(&[0])), at + 1))
    });
    let answer = ask(&hub, "POST", &posts.id, &[OURS], trickling).await;
    assert_eq!((answer.status, start.elapsed()), (408, seconds(10)));

    let late = once(begun).then(|chunk| async {
        tokio::time::sleep(seconds(9)).await;
        chunk
    });
    assert_eq!(ask(&hub, "POST", &posts.id, &[OURS], late).await.status, 200);
}

/// Returns an endless body that starts with `first`, and counts in `read` how many pieces were
/// read.
fn endless(first: Bytes, read: &AtomicUsize) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let piece = Bytes::from_static(&[0; PIECE]);
    let pieces = stream::repeat_with(move || {
        assert!(
            read.fetch_add(1, Ordering::Relaxed) < 10_000,
            "the server never stops reading"
        );
        Ok(piece.clone())
    });
    once(first).chain(pieces)
}

const PIECE: usize = 16 * 1024;

#[tokio::test(start_paused = true)]
async fn no_more_than_a_mebibyte_is_read_of_a_post() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (mut posts, mut down) = Posts::streamed(&hub, &session).await;
    let read = AtomicUsize::new(0);
    let body = endless(posts.sending(1, &[]), &read);
    let answer = ask(&hub, "POST", &posts.id, &[OURS], body).await;
    assert_eq!(answer.status, 413);
    assert_eq!(read.into_inner() * PIECE, 1024 * 1024);

    // The same message repeated until the body is full to the last byte.
    let message = |size| packed([message(1, vec![b'x'; size])]);
    let mut packets = message(65_000).repeat(16);
    let rest = 1024 * 1024 - posts.sending(1, &packets).len();
    packets.extend(message(rest - message(0).len()));
    assert_eq!(posts.sending(1, &packets).len(), 1024 * 1024);
    assert_eq!(posts.send(&packets).await.status, 200);
    assert_eq!(down.text().await.len(), 65_000);
    let one_more = posts.post(posts.sending(2, &[&packets[..], b"x"].concat())).await;
    assert_eq!(one_more.status, 413, "in one piece too");
    assert_eq!(
        session.state(),
        SessionState::Open,
        "the connection did not receive the body"
    );
}

#[tokio::test(start_paused = true)]
async fn little_is_read_of_a_post_without_a_connection() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (over, down) = Posts::streamed(&hub, &session).await;
    drop(down);
    settled().await;
    let posts = Posts::new(&hub, &session, 0);
    for (first, status) in [
        (posts.opening(&[]), 413),
        (posts.sending(1, &[]), 410),
        (over.sending(1, &[]), 410),
        (Bytes::from_static(b"short"), 413),
    ] {
        let read = AtomicUsize::new(0);
        let answer = ask(&hub, "POST", &posts.id, &[OURS], endless(first, &read)).await;
        assert_eq!(answer.status, status);
        assert_eq!(read.into_inner(), 1, "only one piece of 16 KiB is read");
    }
    let most = posts.opening(&vec![0; 4 * 1024 - 21]);
    assert_eq!(posts.post(most).await.status, 200);
}

/// Sends a POST of 500,000 bytes whose end never arrives.
fn half_sent(posts: &Posts, number: u32) -> tokio::task::JoinHandle<u16> {
    let body = stream::iter([posts.sending(number, &[]), vec![0; 500_000].into()])
        .map(Ok::<_, Infallible>)
        .chain(stream::pending());
    let (hub, id) = (posts.hub.clone(), posts.id.clone());
    tokio::spawn(async move { ask(&hub, "POST", &id, &[OURS], body).await.status })
}

#[tokio::test(start_paused = true)]
async fn incomplete_posts_count_for_their_session() {
    let hub = Hub::builder().memory_limit(2_200_000).build();
    let mut pages = Vec::new();
    for posts_at_once in [1, 2, 1] {
        let session = hub.open(echo);
        let (posts, down) = Posts::streamed(&hub, &session).await;
        let half_sent: Vec<_> = (1..=posts_at_once).map(|number| half_sent(&posts, number)).collect();
        settled().await;
        let held = session.snapshot().buffered;
        let expected = u64::from(posts_at_once) * 500_000;
        assert!((expected..expected + 1000).contains(&held), "{held}");
        pages.push((session, half_sent, down));
    }
    assert_eq!(hub.stats().sessions, 3, "it is within the limit");

    let session = hub.open(echo);
    let (posts, _down) = Posts::streamed(&hub, &session).await;
    let last = half_sent(&posts, 1);
    let (greedy, half_sent, _) = pages.remove(1);
    assert_eq!(soon("the end", greedy.ended()).await, EndReason::MemoryPressure);
    for post in half_sent {
        let status = soon("an answer", post).await.expect("it does not panic");
        assert_eq!(status, 410, "at once, not after 10 s");
    }
    assert_eq!(hub.stats().sessions, 3, "no other session ended for it");
    assert_eq!(soon("an answer", last).await.expect("it does not panic"), 408);
    settled().await;
    assert_eq!(hub.stats().buffered, 0);
}

#[tokio::test(start_paused = true)]
async fn no_connection_holds_more_than_two_large_posts() {
    let hub = Hub::new();
    let (posts, _down) = Posts::streamed(&hub, &hub.open(echo)).await;
    let mut held = Vec::new();
    for number in 1..=20 {
        held.push(half_sent(&posts, number));
    }
    let mut statuses = Vec::new();
    for status in held {
        statuses.push(soon("an answer", status).await.expect("it does not panic"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses[..2], [408, 408], "the two that were read to their ends");
    assert_eq!(statuses[2..], [413; 18]);
}

#[tokio::test(start_paused = true)]
async fn nothing_remains_of_a_refused_opening() {
    let hub = Hub::new();
    let posts = Posts::new(&hub, &Hub::new().open(echo), 0);
    let answer = posts.open(&[0; 4000]).await;
    assert_eq!(hub.stats().connections, 0);
    assert_eq!(Down::of(answer).end().await.code, Code::Unknown as u64);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_body_is_dropped_and_may_be_sent_again() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (mut posts, mut down) = Posts::streamed(&hub, &session).await;
    let body = posts.sending(1, &packed([message(1, "one")]));
    let broken = stream::iter([Ok(body), Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
    let answer = ask(&hub, "POST", &posts.id, &[OURS], broken).await;
    assert_eq!(answer.status, 413);
    assert_eq!(posts.send(&packed([message(1, "again")])).await.status, 200);
    assert_eq!(down.text().await, "again");
}

#[tokio::test(start_paused = true)]
async fn a_token_identifies_one_connection_until_it_ends() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut posts = Posts::new(&hub, &session, 0);
    assert_eq!(
        posts.post(posts.sending(1, &[])).await.status,
        410,
        "no POST has opened this connection"
    );

    let hello = Frame::Hello(RawDocument::new(&session).hello());
    let mut down = Down::of(posts.open(&packed([hello])).await);
    assert!(matches!(down.frame().await, Some(Frame::Welcome(_))));
    assert_eq!(posts.open(&[]).await.status, 410, "it is in use");
    assert_eq!(posts.send(&packed([message(1, "one")])).await.status, 200);
    assert_eq!(down.text().await, "one", "the connection in use has not noticed");

    drop(down);
    settled().await;
    assert_eq!(posts.send(&[]).await.status, 410, "it is over");
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn the_hello_may_come_in_the_post_after_the_opening_one() {
    let hub = Hub::new();
    for wait in [0, 50] {
        let session = hub.open(echo);
        let hello = packed([Frame::Hello(RawDocument::new(&session).hello())]);
        let mut posts = Posts::new(&hub, &session, wait);
        let mut streamed = Down::of(posts.open(&[]).await);
        if wait > 0 {
            assert_eq!(streamed.frame().await, None, "nothing to say");
        }
        let mut answer = Down::of(posts.send(&hello).await);
        let down = if wait > 0 { &mut answer } else { &mut streamed };
        assert!(matches!(down.frame().await, Some(Frame::Welcome(_))));
    }
    let session = hub.open(echo);
    let down = Down::of(Posts::new(&hub, &session, 0).open(&[]).await);
    let start = Instant::now();
    assert_eq!(down.end().await.code, Code::HelloDeadline as u64);
    assert!((10..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_stays_open_for_a_second_at_most_after_the_end() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (mut posts, mut down) = Posts::streamed(&hub, &session).await;
    session.abort("over");
    while !matches!(down.frame().await, Some(Frame::End(_))) {}
    let start = Instant::now();
    assert_eq!(posts.send(&packed([message(1, "too late")])).await.status, 200);
    assert_eq!(down.frame().await, None);
    assert!(start.elapsed() <= seconds(1), "{:?}", start.elapsed());
    settled().await;
    assert_eq!(posts.send(&[]).await.status, 410);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_post_is_processed_once() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (posts, mut down) = Posts::streamed(&hub, &session).await;
    let first = posts.sending(1, &packed([message(1, "one")]));
    let second = posts.sending(2, &packed([message(2, "two")]));
    // These packets would be missing, or too many, if the number did not decide.
    let false_first = posts.sending(1, b"cut");
    let false_second = posts.sending(2, b"cut");
    for body in [first.clone(), first, second, false_first, false_second] {
        let answer = posts.post(body).await;
        assert!(Down::of(answer).frames().await.is_empty(), "all is said in the stream");
    }
    assert_eq!((down.text().await, down.text().await), ("one".into(), "two".into()));
    assert_eq!(
        posts.post(posts.sending(0, b"cut")).await.status,
        200,
        "none is below 1"
    );
    settled().await;
    assert_eq!(session.state(), SessionState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_post_of_a_polled_connection_ends_it_because_an_answer_may_be_lost() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut posts = Posts::polled(&hub, &session, 500).await;
    let packets = packed([message(1, "one")]);
    Down::of(posts.send(&packets).await).text().await;
    assert_eq!(posts.post(posts.sending(1, &packets)).await.status, 410);
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
    assert_eq!(posts.send(&[]).await.status, 410);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_post_number_ends_the_connection_and_nothing_of_the_post_is_processed() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (posts, down) = Posts::streamed(&hub, &session).await;
    let answer = posts.post(posts.sending(2, &packed([message(1, "early")]))).await;
    assert_eq!(answer.status, 410);
    assert!(down.frames().await.is_empty());
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
    let mended = posts.post(posts.sending(1, &[])).await;
    assert_eq!(mended.status, 410, "it is too late");
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_begins_at_once_and_is_never_quiet_for_more_than_fifteen_seconds() {
    let hub = Hub::builder().heartbeat(seconds(3600)).build();
    let session = hub.open(echo);
    let posts = Posts::new(&hub, &session, 0);
    let start = Instant::now();
    let mut down = Down::of(posts.open(&[]).await);
    assert_eq!(down.chunk().await.as_deref(), Some(&[0; 4][..]));
    assert!(start.elapsed() <= milliseconds(1), "{:?}", start.elapsed());

    let (_posts, mut down) = Posts::streamed(&hub, &session).await;
    for _ in 0..5 {
        let quiet = Instant::now();
        assert_eq!(down.chunk().await.as_deref(), Some(&[0; 4][..]));
        assert!(
            quiet.elapsed() <= seconds(15) && quiet.elapsed() > seconds(1),
            "{:?}",
            quiet.elapsed()
        );
        tokio::time::advance(seconds(10)).await;
        session.try_send("hello").expect("there is room");
        assert_eq!(down.text().await, "hello", "sent messages count too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_polled_answer_ends_with_the_first_packets_or_after_its_wait() {
    let hub = Hub::builder().heartbeat(seconds(3600)).build();
    for (wait, expected) in [
        (1, 1),
        (300, 300),
        (20_000, 20_000),
        (20_001, 20_000),
        (u32::MAX, 20_000),
    ] {
        let mut posts = Posts::polled(&hub, &hub.open(echo), wait).await;
        let start = Instant::now();
        let nothing = Down::of(posts.send(&[]).await).frames().await;
        assert!(nothing.is_empty(), "{nothing:?}");
        assert_eq!(start.elapsed(), milliseconds(expected), "wait {wait}");
    }

    let session = hub.open(echo);
    let mut posts = Posts::polled(&hub, &session, 10_000).await;
    let mut waiting = Box::pin(posts.send(&[]));
    assert_waits(waiting.as_mut()).await;
    tokio::time::advance(seconds(5)).await;
    let start = Instant::now();
    session.try_send("first").expect("there is room");
    let mut answer = Down::of(waiting.await);
    assert_eq!(answer.text().await, "first");
    session.try_send("second").expect("there is room");
    assert_eq!(answer.frame().await, None, "an answer carries one flush");
    let mut next = Down::of(posts.send(&[]).await);
    assert_eq!(next.text().await, "second", "messages sent between two answers wait");
    assert_eq!(start.elapsed(), seconds(0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_within_a_packet_ends_the_connection_and_not_the_session() {
    let hub = Hub::new();
    let whole = packed([message(1, "never whole")]);
    for length in [1, 3, 4, 5, whole.len() - 1] {
        let session = hub.open(echo);
        let (mut posts, down) = Posts::streamed(&hub, &session).await;
        let packets = [&packed([message(1, "whole")]), &whole[..length]].concat();
        assert_eq!(posts.send(&packets).await.status, 200);
        let said = down.frames().await;
        assert!(!said.iter().any(|frame| matches!(frame, Frame::End(_))), "{said:?}");
        assert_eq!(session.state(), SessionState::SoftClosed, "after {length} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_packet_is_too_large_by_the_length_that_announces_it() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let announced = |length: u32| [&length.to_le_bytes()[..], b"little of it"].concat();

    let posts = Posts::new(&hub, &session, 0);
    let end = Down::of(posts.open(&announced(u32::MAX)).await).end().await;
    assert_eq!((end.code, end.reason), (Code::TooLarge as u64, 0));
    assert_eq!(
        session.state(),
        SessionState::Unconnected,
        "before the welcome it ends only the connection"
    );

    let (mut posts, down) = Posts::streamed(&hub, &session).await;
    let limit = u32::try_from(access(&session).limits.fragment).expect("a fragment is small");
    assert_eq!(posts.send(&announced(limit + 10)).await.status, 200);
    let end = down.end().await;
    assert_eq!((end.code, end.reason), (Code::TooLarge as u64, 11));
    assert_eq!(session.state(), SessionState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_empty_packet_is_an_empty_frame_and_no_keep_alive() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (mut posts, down) = Posts::streamed(&hub, &session).await;
    assert_eq!(posts.send(&[0; 4]).await.status, 200);
    assert_eq!(down.end().await.code, Code::Malformed as u64);
}

#[tokio::test(start_paused = true)]
async fn proxies_are_asked_not_to_buffer_an_answer() {
    let hub = Hub::new();
    let session = hub.open(echo);
    for wait in [0, 100] {
        let mut posts = Posts::new(&hub, &session, wait);
        let opening = posts.open(&[]).await;
        let sending = posts.send(&[]).await;
        for answer in [opening, sending] {
            assert_eq!(header(&answer, "cache-control"), Some("no-store, no-transform"));
            assert_eq!(header(&answer, "x-accel-buffering"), Some("no"));
            assert_eq!(header(&answer, "content-encoding"), Some("identity"));
            assert_eq!(header(&answer, "content-type"), Some("application/stillhere.v1"));
            assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_soft_closes_the_session_at_once() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let (posts, down) = Posts::streamed(&hub, &session).await;
    let mut events = session.events();
    assert_waits(events.next()).await;
    let start = Instant::now();
    drop(down);
    let event = soon("the soft close", events.next()).await;
    assert_eq!(event, Some(Event::SoftClosed(Cause::Lost)));
    assert_eq!(start.elapsed(), seconds(0));
    assert_eq!(posts.post(posts.sending(1, &[])).await.status, 410);

    let unread = Posts::new(&hub, &session, 0);
    drop(unread.open(&[]).await);
    settled().await;
    assert_eq!(hub.stats().connections, 0, "a stream that was never read is dropped");
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_detects_a_polling_page_that_has_disappeared() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut posts = Posts::polled(&hub, &session, 1000).await;
    let mut events = session.events();
    let start = Instant::now();
    let event = soon("the soft close", events.next()).await;
    assert_eq!(event, Some(Event::SoftClosed(Cause::Silent)));
    assert!(
        start.elapsed() >= seconds(30) && start.elapsed() < seconds(32),
        "{:?}",
        start.elapsed()
    );
    let late = Down::of(posts.send(&[]).await).end().await;
    assert_eq!(
        (late.code, late.reason),
        (Code::Silent as u64, 0),
        "a page that returns soon is told why"
    );
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(posts.send(&[]).await.status, 410);
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_pending_answer_soft_closes_the_session_at_once() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut posts = Posts::polled(&hub, &session, 1000).await;
    let start = Instant::now();
    let mut events = session.events();
    assert_waits(posts.send(&[])).await;
    let event = soon("the soft close", events.next()).await;
    assert_eq!(event, Some(Event::SoftClosed(Cause::Lost)));
    assert_eq!(start.elapsed(), seconds(0));
    assert_eq!(posts.send(&[]).await.status, 410);
}

#[tokio::test(start_paused = true)]
async fn the_last_frames_wait_five_seconds_for_a_poll() {
    for (late, expected) in [(4, 200), (6, 410)] {
        let hub = Hub::new();
        let session = hub.open(echo);
        let mut posts = Posts::polled(&hub, &session, 1000).await;
        session.close("good night");
        tokio::time::sleep(seconds(late)).await;
        let answer = posts.send(&[]).await;
        assert_eq!(answer.status, expected, "after {late} s");
        if answer.status == 200 {
            let end = Down::of(answer).end().await;
            assert_eq!((end.code, &end.text[..]), (Code::Ended as u64, "good night"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_polling_page_that_pongs_stays() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut posts = Posts::polled(&hub, &session, 20_000).await;
    let start = Instant::now();
    let mut pongs = Vec::new();
    while start.elapsed() < seconds(120) {
        let answer = Down::of(posts.send(&packed(pongs)).await).frames().await;
        pongs = answer
            .into_iter()
            .map(|frame| match frame {
                Frame::Ping { nonce, .. } => Frame::Pong {
                    nonce,
                    counts: fresh_counts(),
                },
                other => panic!("expected a ping, got {other:?}"),
            })
            .collect();
    }
    assert_eq!(session.state(), SessionState::Open);
}

#[tokio::test(start_paused = true)]
async fn frames_that_nobody_fetches_wait_in_the_session_and_then_continue() {
    let hub = Hub::builder().heartbeat(seconds(3600)).build();
    let session = hub.open(echo);
    let (_posts, mut down) = Posts::streamed(&hub, &session).await;
    for _ in 0..COUNT {
        session.try_send(vec![b'x'; SIZE]).expect("there is room");
    }
    settled().await;
    let first = down.chunk().await.expect("the answer continues").len();
    assert!(first > SIZE && first < 64 * 1024 + 2 * SIZE, "{first} bytes wait");
    down.read(COUNT * SIZE - first).await;
}

#[tokio::test(start_paused = true)]
async fn more_than_an_answer_has_room_for_reaches_the_page_that_reads_without_delay() {
    let hub = Hub::builder().heartbeat(seconds(3600)).build();
    let session = hub.open(echo);
    let (_posts, mut down) = Posts::streamed(&hub, &session).await;
    assert_eq!(down.chunk().await.as_deref(), Some(&[0; 4][..]));
    let start = Instant::now();
    let sending = async {
        settled().await;
        for _ in 0..COUNT {
            session.try_send(vec![b'x'; SIZE]).expect("there is room");
        }
    };
    tokio::join!(down.read(COUNT * SIZE), sending);
    assert_eq!(start.elapsed(), seconds(0));
}

/// These messages exceed the room of an answer many times, but not the window.
const COUNT: usize = 15;
const SIZE: usize = 60_000;

#[tokio::test(start_paused = true)]
async fn frames_lost_with_an_answer_arrive_over_the_next_connection() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let hello = Frame::Hello(document.hello());
    let mut first = Posts::new(&hub, &session, 500);
    Down::of(first.open(&packed([hello])).await).frames().await;
    let lost = Down::of(first.send(&packed([message(1, "one")])).await).frames().await;
    assert!(
        lost.iter().any(|frame| matches!(frame, Frame::Data(_))),
        "lost in transit: {lost:?}"
    );

    document.incarnation = 1;
    let hello = Frame::Hello(document.hello());
    let mut second = Posts::new(&hub, &session, 0);
    let mut down = Down::of(second.open(&packed([hello])).await);
    let Some(Frame::Welcome(welcome)) = down.frame().await else {
        panic!("it resumes")
    };
    assert_eq!(welcome.counts.received[Lane::Interactive], 1);
    assert_eq!(down.text().await, "one", "sent again");
    second.send(&packed([message(1, "one"), message(2, "two")])).await;
    assert_eq!(down.text().await, "two", "nothing is delivered twice");

    let end = Down::of(first.send(&[]).await).end().await;
    assert_eq!(end.code, Code::Replaced as u64);
}

/// Returns a body that gives a session back.
fn discarding(secret: &[u8]) -> Vec<u8> {
    let mut body = vec![3];
    body.extend([0; 20]);
    body.extend(secret);
    body
}

#[tokio::test(start_paused = true)]
async fn a_returned_ticket_ends_its_session_at_once_if_no_page_has_connected() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let body = discarding(access(&session).secret.expose());
    let answer = ask(&hub, "POST", &session.id().to_string(), &[OURS], once(body.clone())).await;
    assert!(answer.status == 200 && is_empty(&answer));
    assert_eq!(session.ended().await, EndReason::NeverConnected);
    let again = ask(&hub, "POST", &session.id().to_string(), &[OURS], once(body)).await;
    let end = Down::of(again).end().await;
    assert_eq!(end.code, Code::Ended as u64);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_had_a_page_cannot_be_discarded() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let body = discarding(access(&session).secret.expose());
    let (_posts, down) = Posts::streamed(&hub, &session).await;
    let answer = ask(&hub, "POST", &session.id().to_string(), &[OURS], once(body.clone())).await;
    assert!(answer.status == 200 && is_empty(&answer));
    assert_eq!(session.state(), SessionState::Open);
    drop(down);
    settled().await;
    ask(&hub, "POST", &session.id().to_string(), &[OURS], once(body)).await;
    assert_eq!(session.state(), SessionState::SoftClosed);
}

#[tokio::test(start_paused = true)]
async fn a_session_cannot_be_given_back_without_its_secret_or_by_another_user() {
    let hub = Hub::builder()
        .principal(|request| request.cookie("login").map(str::to_owned))
        .build();
    let session = hub.open_for("ada", echo);
    let id = session.id().to_string();
    let right = discarding(access(&session).secret.expose());
    let ada = ("cookie", "login=ada");
    let wrong = ask(&hub, "POST", &id, &[OURS, ada], once(discarding(&[7; 32]))).await;
    assert_eq!(Down::of(wrong).end().await.code, Code::WrongSecret as u64);
    let short = ask(&hub, "POST", &id, &[OURS, ada], once(discarding(&[7; 31]))).await;
    assert_eq!(short.status, 400);
    let bob = ask(&hub, "POST", &id, &[OURS, ("cookie", "login=bob")], once(right.clone())).await;
    assert_eq!(Down::of(bob).end().await.code, Code::Forbidden as u64);
    assert_eq!(session.state(), SessionState::Unconnected);
    ask(&hub, "POST", &id, &[OURS, ada], once(right)).await;
    assert_eq!(session.state(), SessionState::Closed);
}
