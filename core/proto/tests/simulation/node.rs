//! The implementation in TypeScript, run in a Node process. `client/test/simulation_peer.ts`
//! describes the format on the pipes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes};
use serde_json::{Value, json};
use stillhere_proto::Lane;
use stillhere_proto::machine::{Action, DocumentPhase, Outcome, SendRefused};

use crate::browser::{Browser, Seen, Ticket};
use crate::pipe::Time;

/// Node processes that are ready for another document.
#[derive(Debug, Clone)]
pub(crate) struct NodePool {
    script: PathBuf,
    idle: Rc<RefCell<Vec<Node>>>,
}

impl NodePool {
    pub(crate) fn new() -> Self {
        Self {
            script: bundle(),
            idle: Rc::default(),
        }
    }

    pub(crate) fn open(&self, ticket: Ticket) -> Box<dyn Browser> {
        let node = self
            .idle
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Node::spawn(&self.script));
        let mut browser = NodeBrowser {
            node: Some(node),
            pool: self.clone(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            state: State::default(),
        };
        browser.reset(ticket);
        Box::new(browser)
    }
}

/// Bundles the client's sources into one file for Node.
fn bundle() -> PathBuf {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client");
    let esbuild = client.join("node_modules/.bin/esbuild");
    assert!(
        esbuild.exists(),
        "the client's tools are missing: run `npm ci` in core/client"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let script = folder.join("simulation_peer.mjs");
    // Test processes run in parallel, so each writes its own file and moves it into place.
    let own = folder.join(format!("simulation_peer.{}.mjs", std::process::id()));
    let status = Command::new(esbuild)
        .current_dir(&client)
        .args([
            "test/simulation_peer.ts",
            "--bundle",
            "--platform=node",
            "--format=esm",
            "--target=node20",
            "--define:SLIM=false",
        ])
        .arg("--log-level=warning")
        .arg(format!("--outfile={}", own.display()))
        .status()
        .expect("esbuild runs");
    assert!(status.success(), "esbuild cannot bundle the simulation peer");
    std::fs::rename(&own, &script).expect("the bundle can be moved into place");
    script
}

#[derive(Debug)]
struct Node {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Node {
    fn spawn(script: &Path) -> Self {
        let child = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("`node` (20 or newer) is in the PATH");
        let requests = child.stdin.take().expect("standard input is a pipe");
        let answers = BufReader::with_capacity(64 * 1024, child.stdout.take().expect("standard output is a pipe"));
        Self {
            child,
            requests,
            answers,
        }
    }

    fn ask(&mut self, request: &[u8]) -> Bytes {
        self.requests.write_all(request).expect("the peer reads");
        let mut size = [0; 4];
        self.answers.read_exact(&mut size).expect("the peer answers");
        let mut answer = vec![0; u32::from_le_bytes(size) as usize];
        self.answers.read_exact(&mut answer).expect("the peer answers in full");
        answer.into()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The process may have exited already, and its output is no longer needed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct NodeBrowser {
    node: Option<Node>,
    pool: NodePool,
    actions: VecDeque<Action>,
    events: VecDeque<Seen>,
    state: State,
}

/// The state at the end of every answer.
#[derive(Debug, Clone, Copy)]
struct State {
    timeout: f64,
    phase: DocumentPhase,
    outgoing: [u32; 2],
    incoming: u32,
    error: u8,
}

impl Default for State {
    fn default() -> Self {
        Self {
            timeout: f64::NAN,
            phase: DocumentPhase::Idle,
            outgoing: [0; 2],
            incoming: 0,
            error: 0,
        }
    }
}

/// The results that only some requests return.
struct Given {
    frames: Vec<Bytes>,
    taken: Vec<Bytes>,
}

impl NodeBrowser {
    fn reset(&mut self, ticket: Ticket) {
        let options = json!({
            "secret": hex(&ticket.secret),
            "document": hex(&ticket.document),
            "limits": ticket.limits,
            "outbox": ticket.limits.outbox,
            "seed": ticket.seed as u32,
        });
        let options = options.to_string();
        self.ask(0, 0, |request| put_bytes(options.as_bytes(), request));
    }

    fn ask(&mut self, op: u8, now: Time, fields: impl FnOnce(&mut Vec<u8>)) -> Given {
        let mut request = vec![0; 4];
        request.put_u8(op);
        request.put_f64_le(now as f64 / 1000.0);
        fields(&mut request);
        let size = request.len() as u32 - 4;
        request[..4].copy_from_slice(&size.to_le_bytes());
        let mut answer = self
            .node
            .as_mut()
            .expect("a running page has its process")
            .ask(&request);

        let frames = list(&mut answer, take_bytes);
        self.actions.extend(list(&mut answer, take_action));
        self.events.extend(list(&mut answer, take_bytes).iter().map(event));
        let taken = list(&mut answer, |answer| {
            answer.advance(1);
            take_bytes(answer)
        });
        self.state = State {
            timeout: answer.get_f64_le(),
            phase: PHASES[usize::from(answer.get_u8())],
            outgoing: [answer.get_u32_le(), answer.get_u32_le()],
            incoming: answer.get_u32_le(),
            error: answer.get_u8(),
        };
        assert_ne!(self.state.error, 255, "an exception in the peer");
        Given { frames, taken }
    }
}

const PHASES: [DocumentPhase; 9] = [
    DocumentPhase::Idle,
    DocumentPhase::Connecting,
    DocumentPhase::Hello,
    DocumentPhase::Offered,
    DocumentPhase::Connected,
    DocumentPhase::Waiting,
    DocumentPhase::Resting,
    DocumentPhase::Left,
    DocumentPhase::Over,
];

impl Drop for NodeBrowser {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.pool.idle.borrow_mut().extend(self.node.take());
        }
    }
}

impl Browser for NodeBrowser {
    fn start(&mut self, now: Time) {
        self.ask(1, now, |_| {});
    }

    fn open(&mut self, connection: u64, now: Time) {
        self.ask(2, now, |request| request.put_u32_le(connection as u32));
    }

    fn frame(&mut self, connection: u64, bytes: Bytes, now: Time) {
        self.ask(3, now, |request| {
            request.put_u32_le(connection as u32);
            put_bytes(&bytes, request);
        });
    }

    fn close(&mut self, connection: u64, code: u64, now: Time) {
        self.ask(4, now, |request| {
            request.put_u32_le(connection as u32);
            request.put_u32_le(code as u32);
        });
    }

    fn timeout(&mut self, now: Time) {
        self.ask(5, now, |_| {});
    }

    fn wake(&mut self, now: Time) {
        self.ask(6, now, |_| {});
    }

    fn hidden(&mut self, hidden: bool, now: Time) {
        self.ask(7, now, |request| request.put_u8(hidden.into()));
    }

    fn leave(&mut self, now: Time) {
        self.ask(8, now, |_| {});
    }

    fn send(&mut self, lane: Lane, payload: Bytes, now: Time) -> Result<(), SendRefused> {
        self.ask(9, now, |request| {
            request.put_u8(lane as u8);
            put_bytes(&payload, request);
        });
        match self.state.error {
            0 => Ok(()),
            1 => Err(SendRefused::OutboxFull),
            2 => Err(SendRefused::TooLarge),
            3 => Err(SendRefused::SessionOver),
            other => panic!("error {other} is none of the peer's"),
        }
    }

    fn take(&mut self, lane: Lane, hold: bool, now: Time) -> Option<Bytes> {
        self.ask(if hold { 11 } else { 10 }, now, |request| request.put_u8(lane as u8))
            .taken
            .pop()
    }

    fn release(&mut self, lane: Lane, now: Time) {
        self.ask(12, now, |request| request.put_u8(lane as u8));
    }

    fn transmit(&mut self, connection: u64, bulk_allowed: bool, most: usize, now: Time) -> Vec<Bytes> {
        let given = self.ask(13, now, |request| {
            request.put_u32_le(connection as u32);
            request.put_u8(bulk_allowed.into());
            request.put_u32_le(most as u32);
        });
        given.frames
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_event(&mut self) -> Option<Seen> {
        self.events.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let timeout = self.state.timeout;
        if timeout.is_nan() || timeout.is_infinite() {
            return None;
        }
        let at = (timeout * 1000.0).ceil() as Time;
        // Rounding must not make the timeout earlier.
        Some(if (at as f64) / 1000.0 < timeout { at + 1 } else { at })
    }

    fn phase(&self) -> DocumentPhase {
        self.state.phase
    }

    fn outgoing(&self, lane: Lane) -> u64 {
        self.state.outgoing[lane as usize].into()
    }

    fn incoming(&self) -> u64 {
        self.state.incoming.into()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put_bytes(bytes: &[u8], request: &mut Vec<u8>) {
    request.put_u32_le(bytes.len() as u32);
    request.put_slice(bytes);
}

fn list<T>(answer: &mut Bytes, item: impl Fn(&mut Bytes) -> T) -> Vec<T> {
    let count = answer.get_u32_le();
    (0..count).map(|_| item(answer)).collect()
}

fn take_bytes(answer: &mut Bytes) -> Bytes {
    let size = answer.get_u32_le() as usize;
    answer.split_to(size)
}

fn take_action(answer: &mut Bytes) -> Action {
    let is_close = answer.get_u8() == 1;
    let (connection, code) = (answer.get_u32_le().into(), answer.get_u32_le().into());
    if is_close {
        Action::Close(connection, code)
    } else {
        Action::Connect(connection)
    }
}

fn event(json: &Bytes) -> Seen {
    let event: Value = serde_json::from_slice(json).expect("an event is JSON");
    let number = |field: &str| {
        event[field]
            .as_u64()
            .unwrap_or_else(|| panic!("{event} has no {field}"))
    };
    match event["type"].as_str() {
        Some("welcomed") => {
            let outcome = match event["outcome"].as_str() {
                Some("opened") => Outcome::Opened,
                Some("resumed") => Outcome::Resumed,
                Some("restored") => Outcome::Restored,
                _ => panic!("{event} has no outcome"),
            };
            Seen::Welcomed {
                outcome,
                incarnation: number("incarnation"),
            }
        }
        Some("disconnected") => Seen::Disconnected { code: number("code") },
        Some("refused") => Seen::Refused { code: number("code") },
        Some("ended") => {
            let unacknowledged = number("unacknowledged") as usize;
            Seen::Ended {
                code: number("code"),
                reason: number("reason"),
                unacknowledged,
            }
        }
        Some("pong") => Seen::Pong,
        _ => panic!("{event} is not an event"),
    }
}
