//! The fallback, POST by POST: the promises of the core over the HTTP implementation of each
//! framework (PROTOCOL.md, section 16).

use std::time::{Duration, Instant};

use stillhere::code::Code;
use stillhere::wire::Frame;
use stillhere::{EndReason, Lane, SessionHandle, SessionState};

use crate::application::{echo, handing_on, next_message};
use crate::credentials::Credentials;
use crate::raw_connection::{hello, whole};
use crate::raw_posts::{HEAD, PostAnswer, RawPosts, packed};
use crate::server::{Server, credentials, end_of, wait_for_state};

const STREAMED: u32 = 0;
/// Milliseconds. Long compared to the answers that should arrive earlier.
const POLLED: u32 = 20_000;

/// The hello may arrive in a POST after the opening one.
pub async fn the_hello_may_come_in_the_post_after_the_opening_one(server: &Server) {
    let session = server.hub.open(echo);
    let streamed = RawPosts::new(server.address, &credentials(&session), STREAMED);
    let mut down = streamed.open(&[]).await;
    assert!(streamed.send(1, &first_hello(&session)).await.is_empty().await);
    assert!(matches!(down.frame().await, Some(Frame::Welcome(_))));

    let session = server.hub.open(echo);
    let polled = RawPosts::new(server.address, &credentials(&session), 1);
    assert!(
        polled.open(&[]).await.is_empty().await,
        "the answer ends without content"
    );
    let said = polled
        .waiting(POLLED)
        .send(1, &first_hello(&session))
        .await
        .frames()
        .await;
    assert!(matches!(said[..], [Frame::Welcome(_)]), "{said:?}");
}

/// A streamed answer starts at once, even without content, and stays open for at most a second
/// after the `end`.
pub async fn a_streamed_answer_begins_at_once_and_ends_soon_after_the_end(server: &Server) {
    let session = server.hub.open(echo);
    let posts = RawPosts::new(server.address, &credentials(&session), STREAMED);
    let mut down = posts.open(&[]).await;
    assert_eq!((down.status, &down.piece().await[..]), (200, &[0; 4][..]));
    assert!(posts.send(1, &first_hello(&session)).await.is_empty().await);
    assert!(matches!(down.frame().await, Some(Frame::Welcome(_))));

    session.abort("it is over");
    while !matches!(down.frame().await, Some(Frame::End(end)) if end.code == Code::Ended as u64) {}
    let said = Instant::now();
    assert_eq!(down.frame().await, None);
    assert!(said.elapsed() < LONGEST_LINGER, "{:?}", said.elapsed());
}

/// A polled answer without content ends after the requested wait, and not earlier.
pub async fn a_polled_answer_waits_as_long_as_it_is_asked_to(server: &Server) {
    let session = server.hub.open(echo);
    let posts = RawPosts::new(server.address, &credentials(&session), POLLED);
    welcomed(&posts, &session).await;
    let posts = posts.waiting(300);
    let asked = Instant::now();
    assert!(posts.send(1, &[]).await.is_empty().await);
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());

    let posts = posts.waiting(POLLED);
    let late = async { session.send("late").await.expect("it is open") };
    let (answer, ()) = tokio::join!(posts.send(2, &[]), late);
    assert_eq!(
        messages(answer.frames().await),
        ["late"],
        "the first packets within the wait"
    );
}

/// A browser may send a POST twice on its own. On a streamed connection the second one has no
/// effect, and a repeated opening POST opens nothing.
pub async fn a_streamed_post_that_arrives_twice_is_processed_once(server: &Server) {
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(application);
    let posts = RawPosts::new(server.address, &credentials(&session), STREAMED);
    let _down = welcomed(&posts, &session).await;
    assert_eq!(
        posts.open(&first_hello(&session)).await.status,
        410,
        "the token is in use"
    );
    for (number, sequence) in [(1, 1), (1, 2), (2, 2)] {
        let packets = packed([whole(Lane::Interactive, sequence, format!("{number}"))]);
        assert!(posts.send(number, &packets).await.is_empty().await);
    }
    assert_eq!(next_message(&mut incoming).await, "1");
    assert_eq!(
        next_message(&mut incoming).await,
        "2",
        "a POST whose number was used before is dropped"
    );
}

/// On a polled connection the first answer may be lost, so the connection ends and the next one
/// resumes.
pub async fn a_polled_post_that_arrives_twice_ends_the_connection(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let posts = RawPosts::new(server.address, &credentials, POLLED);
    welcomed(&posts, &session).await;
    let posts = posts.waiting(1);
    assert!(posts.send(1, &[]).await.is_empty().await);
    assert_eq!(posts.send(1, &[]).await.status, 410);
    wait_for_state(&session, SessionState::SoftClosed).await;
    assert_eq!(posts.send(2, &[]).await.status, 410);
    resumed(server, &credentials, 0).await;
}

/// Only one POST is in transit at a time, so a skipped number reveals a loss.
pub async fn a_skipped_post_number_ends_the_connection(server: &Server) {
    for wait in [STREAMED, POLLED] {
        let session = server.hub.open(echo);
        let credentials = credentials(&session);
        let posts = RawPosts::new(server.address, &credentials, wait);
        let down = welcomed(&posts, &session).await;
        let packets = packed([whole(Lane::Interactive, 1, "it is not taken")]);
        assert_eq!(posts.send(2, &packets).await.status, 410);
        assert_eq!(down.frames().await, [], "the answer ends without an end");
        wait_for_state(&session, SessionState::SoftClosed).await;
        assert_eq!(posts.send(1, &[]).await.status, 410);
        resumed(server, &credentials, 0).await;
    }
}

/// The whole packets are processed and the POST is answered. The next connection continues after
/// them.
pub async fn a_body_that_ends_within_a_packet_ends_only_the_connection(server: &Server) {
    let cut_off = packed([whole(Lane::Interactive, 2, "cut off")]);
    for length in [1, 4, cut_off.len() - 1] {
        let (application, mut incoming) = handing_on();
        let session = server.hub.open(application);
        let credentials = credentials(&session);
        let posts = RawPosts::new(server.address, &credentials, STREAMED);
        let down = welcomed(&posts, &session).await;
        let packets = [&packed([whole(Lane::Interactive, 1, "whole")]), &cut_off[..length]].concat();
        assert!(posts.send(1, &packets).await.is_empty().await, "after {length} bytes");
        let said = down.frames().await;
        assert!(!said.iter().any(|frame| matches!(frame, Frame::End(_))), "{said:?}");
        assert_eq!(next_message(&mut incoming).await, "whole");
        resumed(server, &credentials, 1).await;
    }
}

/// A packet is judged by its announced length. Before the hello it ends the connection, and after
/// it the session.
pub async fn a_packet_above_what_the_session_allows_is_too_large_by_its_length(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let largest = packed([whole(Lane::Interactive, 1, vec![7; fragment(&credentials)])]);
    let announced = u32::try_from(fragment(&credentials) + 10)
        .expect("it is small")
        .to_le_bytes();

    let posts = RawPosts::new(server.address, &credentials, STREAMED);
    let refused = posts.open(&u32::MAX.to_le_bytes()).await.frames().await;
    assert_eq!(end_code(&refused), (Code::TooLarge as u64, 0));
    assert_eq!(session.state(), SessionState::Unconnected);

    let posts = RawPosts::new(server.address, &credentials, STREAMED);
    let mut down = welcomed(&posts, &session).await;
    assert!(posts.send(1, &largest).await.is_empty().await);
    while !matches!(down.frame().await.expect("the stream continues"), Frame::Data(_)) {}
    assert!(posts.send(2, &announced).await.is_empty().await);
    let reason = EndReason::TooLarge;
    assert_eq!(end_code(&down.frames().await), (Code::TooLarge as u64, reason.number()));
    assert_eq!(end_of(&session).await, reason);
}

/// No limit of the framework is below ours: a POST carries a mebibyte. A larger one is refused, and
/// may be sent again with less.
pub async fn a_post_carries_a_mebibyte_and_no_more(server: &Server) {
    let (application, mut incoming) = handing_on();
    let mut options = server.hub.session_options();
    options.limits.window = 4 << 20;
    let session = server.hub.open_with(options, application);
    let posts = RawPosts::new(server.address, &credentials(&session), STREAMED);
    let _down = welcomed(&posts, &session).await;
    let data = |sequence, size| whole(Lane::Interactive, sequence, vec![7; size]);
    let mut packets = packed((1..=17).map(|sequence| data(sequence, 60_000)));
    let rest = (1 << 20) - HEAD - packets.len() - LENGTH - 2;
    let small = packets.clone();
    packets.extend(packed([data(18, rest + 1)]));
    assert_eq!(posts.send(1, &packets).await.status, 413);

    let packets = [small, packed([data(18, rest)])].concat();
    assert_eq!(HEAD + packets.len(), 1 << 20);
    assert!(posts.send(1, &packets).await.is_empty().await, "under the same number");
    for _ in 1..=17 {
        assert_eq!(next_message(&mut incoming).await.len(), 60_000);
    }
    assert_eq!(next_message(&mut incoming).await.len(), rest);
}

/// Opens a connection with a first hello and reads the welcome.
async fn welcomed(posts: &RawPosts, session: &SessionHandle) -> PostAnswer {
    let mut answer = posts.open(&first_hello(session)).await;
    let said = answer.frame().await;
    assert!(matches!(said, Some(Frame::Welcome(_))), "{said:?}");
    answer
}

/// Asserts that the document resumes over another connection, and that this many of its messages
/// have been received.
async fn resumed(server: &Server, credentials: &Credentials, received: u64) {
    let posts = RawPosts::new(server.address, credentials, POLLED);
    let hello = Frame::Hello(hello(credentials, 1, 1, 2));
    let mut answer = posts.open(&packed([hello])).await;
    match answer.frame().await {
        Some(Frame::Welcome(welcome)) => {
            assert_eq!((welcome.incarnation, welcome.epoch), (1, 2));
            assert_eq!(welcome.counts.received[Lane::Interactive], received);
        }
        other => panic!("expected a welcome, got {other:?}"),
    }
}

fn first_hello(session: &SessionHandle) -> Vec<u8> {
    packed([Frame::Hello(hello(&credentials(session), 1, 0, 1))])
}

fn fragment(credentials: &Credentials) -> usize {
    usize::try_from(credentials.limits.fragment).expect("it is small")
}

fn messages(frames: Vec<Frame>) -> Vec<String> {
    let payload = |frame| match frame {
        Frame::Data(data) => Some(String::from_utf8(data.payload.to_vec()).expect("the messages are text")),
        _ => None,
    };
    frames.into_iter().filter_map(payload).collect()
}

/// Returns the code and the reason of the `end`, which must be the last frame.
fn end_code(frames: &[Frame]) -> (u64, u64) {
    match frames.last() {
        Some(Frame::End(end)) => (end.code, end.reason),
        other => panic!("expected an end, got {other:?}"),
    }
}

/// The promised second, with a margin for a slow machine.
const LONGEST_LINGER: Duration = Duration::from_secs(5);

/// Bytes of the length before each packet.
const LENGTH: usize = 4;
