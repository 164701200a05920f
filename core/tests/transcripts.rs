//! Replays the conversations of `vectors/transcripts.json` against each half of the protocol. Given
//! the frames of the other side, and the same time and actions of the application, each half must
//! send exactly what the transcript contains.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;
use stillhere::machine::{Action, ConnectionKey, DocumentMachine, DocumentOptions, SessionMachine, Timing};
use stillhere::wire::{Frame, Sender};
use stillhere::{DocumentId, EndReason, Secret};

use support::transcripts::{array, book, decoded, lane, limits, list, message, number, text};

#[test]
fn the_server_half_sends_what_the_transcripts_contain() {
    for_each_transcript(|book, transcript| Server::new(book).replay(transcript));
}

#[test]
fn the_document_half_sends_what_the_transcripts_contain() {
    for_each_transcript(|book, transcript| {
        if transcript["client_violates_the_protocol"] != true {
            Documents::new(book).replay(transcript);
        }
    });
}

/// One half of the conversation.
trait Half {
    const SIDE: &str;
    const SENDER: Sender;

    /// Performs the step's action for this half, or passes it what the other half sends.
    fn act(&mut self, step: &Value);

    /// Returns what it has sent since the last call, by connection.
    fn said(&mut self) -> &mut BTreeMap<u64, VecDeque<Frame>>;

    fn wait(&mut self, duration: Duration);

    fn replay(&mut self, transcript: &Value) {
        for step in list(&transcript["steps"]) {
            if step["act"] == "frame" && step["by"] == Self::SIDE {
                let said = self.said().entry(number(&step["connection"])).or_default().pop_front();
                let frame =
                    said.unwrap_or_else(|| panic!("{}: nothing was sent instead of {step}", transcript["name"]));
                let written = Frame::decode(frame.to_bytes(), Self::SENDER).expect("the frame is well-formed");
                let expected = decoded(&step["hex"], Self::SENDER);
                assert_eq!(written, expected, "{}: {step}", transcript["name"]);
            } else if step["act"] == "wait" {
                self.said();
                self.wait(Duration::from_millis(number(&step["ms"])));
            } else if !(step["act"] == "frame" && step["lost"] == true) {
                self.act(step);
            }
        }
        let said = self.said();
        said.retain(|_, frames| !frames.is_empty());
        assert!(said.is_empty(), "{} ends before {said:?}", transcript["name"]);
    }
}

struct Server {
    machine: SessionMachine,
    now: Instant,
    /// Whether each connection has said hello.
    connections: BTreeMap<u64, bool>,
    said: BTreeMap<u64, VecDeque<Frame>>,
    keep: u64,
}

impl Server {
    fn new(book: &Value) -> Self {
        let now = Instant::now();
        let timing = Timing {
            heartbeat: Duration::from_millis(number(&book["heartbeat"])),
            probe: Some(Duration::from_millis(number(&book["probe"]))),
            ..Timing::default()
        };
        Self {
            machine: SessionMachine::new(limits(book), timing, 1, now),
            now,
            connections: BTreeMap::new(),
            said: BTreeMap::new(),
            keep: number(&book["keep"]),
        }
    }

    fn hear(&mut self, connection: u64, step: &Value) {
        let key = ConnectionKey(connection);
        let has_said_hello = self.connections.insert(connection, true).expect("it is open");
        match decoded(&step["hex"], Sender::Client) {
            Frame::Hello(hello) if !has_said_hello => self.machine.handle_hello(key, &hello, self.keep, self.now),
            frame => self.machine.handle_frame(key, frame.to_bytes(), self.now),
        }
    }
}

impl Half for Server {
    const SIDE: &str = "server";
    const SENDER: Sender = Sender::Server;

    fn act(&mut self, step: &Value) {
        let connection = step["connection"].as_u64().unwrap_or_default();
        let is_mine = step["by"] == Self::SIDE;
        match text(&step["act"]) {
            "connect" => drop(self.connections.insert(connection, false)),
            "frame" => self.hear(connection, step),
            "close" => self.machine.handle_closed(ConnectionKey(connection), self.now),
            "send" if is_mine => self.machine.send(lane(step), message(step).into()),
            "take" if is_mine => {
                let (taken, received) = self.machine.take(self.now).expect("there is a message");
                assert_eq!((taken, received.into_bytes()), (lane(step), message(step)), "{step}");
            }
            "drain" => {
                let retry_after = Duration::from_millis(number(&step["retry_after"]));
                let patience = Duration::from_secs(10);
                self.machine
                    .close_with(EndReason::Draining, retry_after, patience, self.now);
            }
            _ => {}
        }
    }

    fn said(&mut self) -> &mut BTreeMap<u64, VecDeque<Frame>> {
        for connection in self.connections.keys() {
            let key = ConnectionKey(*connection);
            let frames = std::iter::from_fn(|| self.machine.poll_transmit(key, self.now));
            self.said.entry(*connection).or_default().extend(frames);
        }
        &mut self.said
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.said();
        }
        self.now = until;
    }
}

struct Documents {
    documents: BTreeMap<String, Document>,
    now: Instant,
    /// The document of each connection.
    connections: BTreeMap<u64, String>,
    said: BTreeMap<u64, VecDeque<Frame>>,
}

struct Document {
    machine: DocumentMachine,
    actions: VecDeque<Action>,
    /// The newest connection, in the document's own numbers and in the transcript's.
    connection: (u64, u64),
}

impl Documents {
    fn new(book: &Value) -> Self {
        let now = Instant::now();
        let document = |id: &Value| DocumentOptions {
            secret: Secret::from_bytes(array(&book["secret"])),
            document: DocumentId(array(id)),
            limits: limits(book),
            seed: 1,
        };
        let ids = book["documents"].as_object().expect("documents have names");
        let documents = ids.iter().map(|(name, id)| {
            let document = Document {
                machine: DocumentMachine::new(document(id), now),
                actions: VecDeque::new(),
                connection: (0, 0),
            };
            (name.clone(), document)
        });
        Self {
            documents: documents.collect(),
            now,
            connections: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// Returns the document of a step, by its name or by its connection.
    fn document(&mut self, step: &Value) -> &mut Document {
        let of_connection = || self.connections.get(&step["connection"].as_u64()?).cloned();
        let name = step["document"].as_str().map(str::to_owned).or_else(of_connection);
        let name = name.expect("a step has a document");
        self.documents
            .get_mut(&name)
            .expect("the transcripts name the document")
    }

    fn connect(&mut self, step: &Value) {
        let (now, connection) = (self.now, number(&step["connection"]));
        self.connections.insert(connection, text(&step["document"]).to_owned());
        let document = self.document(step);
        document.machine.start(now);
        document.pump();
        let Some(Action::Connect(own)) = document.actions.pop_front() else {
            panic!("the client does not connect: {step}")
        };
        document.connection = (own, connection);
        document.machine.handle_open(own, now);
    }

    fn close(&mut self, step: &Value) {
        let now = self.now;
        let document = self.document(step);
        let (own, _) = document.connection;
        let code = number(&step["code"]);
        if step["by"] == Self::SIDE {
            document.pump();
            assert_eq!(document.actions.pop_front(), Some(Action::Close(own, code)), "{step}");
        } else {
            document.machine.handle_close(own, code, now);
        }
    }
}

impl Document {
    fn pump(&mut self) {
        self.actions.extend(std::iter::from_fn(|| self.machine.poll_action()));
    }
}

impl Half for Documents {
    const SIDE: &str = "client";
    const SENDER: Sender = Sender::Client;

    fn act(&mut self, step: &Value) {
        let (now, is_mine) = (self.now, step["by"] == Self::SIDE);
        // What is due must be written before anything else happens.
        self.said();
        match text(&step["act"]) {
            "connect" => self.connect(step),
            "close" => self.close(step),
            "frame" => {
                let bytes = decoded(&step["hex"], Sender::Server).to_bytes();
                let document = self.document(step);
                document.machine.handle_frame(document.connection.0, bytes, now);
            }
            "send" if is_mine => {
                let sent = self.document(step).machine.send(lane(step), message(step));
                assert_eq!(sent, Ok(()), "{step}");
            }
            "take" if is_mine => {
                let machine = &mut self.document(step).machine;
                let received = machine.take(lane(step)).expect("there is a message");
                assert_eq!(received.into_bytes(), message(step), "{step}");
                machine.release(lane(step), now);
            }
            "leave" => self.document(step).machine.handle_leave(),
            "wake" => self.document(step).machine.handle_wake(now),
            _ => {}
        }
    }

    fn said(&mut self) -> &mut BTreeMap<u64, VecDeque<Frame>> {
        for document in self.documents.values_mut() {
            let (own, connection) = document.connection;
            let frames = std::iter::from_fn(|| document.machine.poll_transmit(own, true, self.now));
            self.said.entry(connection).or_default().extend(frames);
            document.pump();
        }
        &mut self.said
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        let due = |documents: &BTreeMap<String, Document>| {
            let timeouts = documents
                .values()
                .filter_map(|document| document.machine.poll_timeout());
            timeouts.min().filter(|at| *at <= until)
        };
        while let Some(at) = due(&self.documents) {
            self.now = self.now.max(at);
            for document in self.documents.values_mut() {
                document.machine.handle_timeout(self.now);
            }
            self.said();
        }
        self.now = until;
    }
}

fn for_each_transcript(replay: impl Fn(&Value, &Value)) {
    let book = book();
    let transcripts = list(&book["transcripts"]);
    assert!(transcripts.len() > 10, "only {}", transcripts.len());
    for transcript in transcripts {
        replay(&book, transcript);
    }
}
