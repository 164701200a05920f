//! Replays the conversations over the fallback in `vectors/transcripts.json` against the server,
//! and checks how it answers each POST, and when.

mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use stillhere::http_answer::Answer;
use stillhere::wire::{Frame, Sender};
use stillhere::{AnswerBody, Hub, Session, SessionHandle, SessionRequest};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;

use support::transcripts::{book, bytes, lane, limits, list, message, number, text};
use support::{access, milliseconds, settled, soon};

#[tokio::test(start_paused = true)]
async fn the_server_answers_as_the_transcripts_say() {
    let book = book();
    let transcripts = list(&book["fallback"]);
    assert!(transcripts.len() > 10, "only {}", transcripts.len());
    for transcript in transcripts {
        Server::new(&book).replay(transcript).await;
    }
}

struct Server {
    hub: Hub,
    handle: SessionHandle,
    /// Receives the session when its first document is welcomed.
    sessions: UnboundedReceiver<Session>,
    session: Option<Session>,
    /// The secret in the transcripts.
    secret: Bytes,
    posts: BTreeMap<u64, Post>,
}

/// A POST, until its answer has ended.
enum Post {
    Asked(JoinHandle<Answer>),
    Answered(Body),
}

/// The body of an answer, which is read as it arrives.
struct Body {
    chunks: UnboundedReceiver<Bytes>,
    reader: JoinHandle<()>,
    rest: BytesMut,
}

impl Server {
    fn new(book: &Value) -> Self {
        let hub = Hub::new();
        let mut options = hub.session_options();
        options.limits = limits(book);
        options.timing.heartbeat = milliseconds(number(&book["heartbeat"]));
        let (started, sessions) = mpsc::unbounded_channel();
        let handle = hub.open_with(options, async move |session: Session| {
            let ended = session.handle();
            // The receiver is gone if its transcript has ended.
            let _ = started.send(session);
            ended.ended().await;
        });
        Self {
            hub,
            handle,
            sessions,
            session: None,
            secret: bytes(&book["secret"]),
            posts: BTreeMap::new(),
        }
    }

    async fn replay(mut self, transcript: &Value) {
        let name = &transcript["name"];
        for step in list(&transcript["steps"]) {
            println!("{name}: {step}");
            self.act(step).await;
            settled().await;
        }
        for (number, post) in &mut self.posts {
            match post {
                Post::Asked(answer) => assert!(!answer.is_finished(), "{name}: POST {number} is answered"),
                Post::Answered(body) => assert_eq!(body.frames(), [], "{name}: the answer to POST {number} goes on"),
            }
        }
    }

    async fn act(&mut self, step: &Value) {
        let is_mine = step["by"] == "server";
        match text(&step["act"]) {
            "post" if step["lost"] != true => self.post(step),
            "answer" => self.answer(step).await,
            "more" => assert_frames(self.body(step).frames(), step),
            "end" => assert!(self.body(step).is_over(), "{step}"),
            "break" => self.body(step).reader.abort(),
            "send" if is_mine => {
                let session = self.session();
                let sent = match lane(step) {
                    stillhere::Lane::Interactive => session.try_send(message(step)),
                    stillhere::Lane::Bulk => session.try_send_bulk(message(step)),
                };
                sent.expect("there is room");
            }
            "take" if is_mine => {
                let taken = soon("a message", self.session().recv()).await.expect("it is not over");
                assert_eq!(
                    (taken.lane(), taken.into_bytes()),
                    (lane(step), message(step)),
                    "{step}"
                );
            }
            "drain" => self.handle.drain(milliseconds(number(&step["retry_after"]))),
            "wait" => tokio::time::sleep(milliseconds(number(&step["ms"]))).await,
            _ => {}
        }
    }

    fn post(&mut self, step: &Value) {
        let (hub, access) = (self.hub.clone(), access(&self.handle));
        let mut body = bytes(&step["hex"]).to_vec();
        // The hub generates its own secrets.
        if let Some(at) = body.windows(32).position(|place| place == &self.secret[..]) {
            body[at..at + 32].copy_from_slice(access.secret.expose());
        }
        let asking = async move {
            let headers = [("content-type", &b"application/stillhere.v1"[..])];
            let body = stream::iter([Ok::<_, Infallible>(Bytes::from(body))]);
            hub.answer("POST", &SessionRequest::new(&access.id, headers), body)
                .await
        };
        self.posts
            .insert(number(&step["post"]), Post::Asked(tokio::spawn(asking)));
    }

    async fn answer(&mut self, step: &Value) {
        let number = number(&step["post"]);
        let Some(Post::Asked(answer)) = self.posts.remove(&number) else {
            panic!("the POST was answered before: {step}")
        };
        assert!(answer.is_finished(), "the POST is not answered yet: {step}");
        let answer = answer.await.expect("the hub does not panic");
        assert_eq!(
            u64::from(answer.status),
            support::transcripts::number(&step["status"]),
            "{step}"
        );
        if answer.status != 200 {
            return;
        }
        let mut body = Body::read(answer.body);
        settled().await;
        assert_frames(body.frames(), step);
        if step["open"] == true {
            self.posts.insert(number, Post::Answered(body));
        } else {
            assert!(body.is_over(), "{step}");
        }
    }

    fn body(&mut self, step: &Value) -> &mut Body {
        match self.posts.get_mut(&number(&step["post"])) {
            Some(Post::Answered(body)) => body,
            _ => panic!("the POST has no answer: {step}"),
        }
    }

    fn session(&mut self) -> &mut Session {
        if let Ok(session) = self.sessions.try_recv() {
            self.session = Some(session);
        }
        self.session.as_mut().expect("a document was welcomed")
    }
}

impl Body {
    fn read(body: AnswerBody) -> Self {
        let (read, chunks) = mpsc::unbounded_channel();
        let reader = match body {
            AnswerBody::Whole(whole) => {
                read.send(whole).expect("a reader is left");
                tokio::spawn(async {})
            }
            AnswerBody::Stream(mut stream) => tokio::spawn(async move {
                while let Some(Ok(chunk)) = stream.next().await {
                    // Nobody reads the rest after the transcript has ended.
                    let _ = read.send(chunk);
                }
            }),
        };
        Self {
            chunks,
            reader,
            rest: BytesMut::new(),
        }
    }

    /// Returns the frames that have arrived since the last call. Skips what only keeps the answer
    /// alive.
    fn frames(&mut self) -> Vec<Frame> {
        while let Ok(chunk) = self.chunks.try_recv() {
            self.rest.extend_from_slice(&chunk);
        }
        let mut frames = Vec::new();
        while !self.rest.is_empty() {
            let length = self.rest.get_u32_le() as usize;
            let packet = self.rest.split_to(length).freeze();
            if !packet.is_empty() {
                let frame = Frame::decode(packet, Sender::Server).expect("the server's frames are well-formed");
                frames.push(frame);
            }
        }
        frames
    }

    /// Returns true if the answer has ended and everything was read.
    fn is_over(&mut self) -> bool {
        self.frames().is_empty() && self.chunks.is_closed()
    }
}

fn assert_frames(said: Vec<Frame>, step: &Value) {
    let mut packets = bytes(&step["hex"]);
    let mut expected = Vec::new();
    while packets.has_remaining() {
        let length = packets.get_u32_le() as usize;
        let frame = Frame::decode(packets.split_to(length), Sender::Server).expect("the frame is well-formed");
        expected.push(frame);
    }
    assert_eq!(said, expected, "{step}");
}
