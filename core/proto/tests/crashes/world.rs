//! One schedule: pages, connections, processes and the store.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stillhere_proto::machine::{Action, ConnectionKey, DocumentEvent, DocumentMachine, DocumentOptions};
use stillhere_proto::wire::{Frame, Sender};
use stillhere_proto::{DocumentId, Lane, Limits, PerLane, Secret};

use crate::random::Random;
use crate::server::{Durability, Server, State, decode, encode};
use crate::store::Record;

pub(crate) struct World {
    durability: Durability,
    random: Random,
    now: Instant,
    limits: Limits,
    record: Record,
    server: Option<Server>,
    page: Page,
    pipe: Option<Pipe>,
    keys: u64,
    crashes: u64,
    /// How often a commit proceeds.
    speed: u64,
    log: Option<Vec<String>>,
}

struct Page {
    machine: DocumentMachine,
    sent: PerLane<u64>,
    taken: PerLane<u64>,
    pages: u8,
}

/// The current connection: frames on their way, oldest first.
struct Pipe {
    /// The page's number of the connection.
    number: u64,
    key: ConnectionKey,
    to_server: VecDeque<Bytes>,
    to_page: VecDeque<Bytes>,
    /// The code with which the server has closed it, after everything on its way.
    closed: Option<u64>,
    is_greeted: bool,
}

impl World {
    pub(crate) fn new(durability: Durability, seed: u64, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let now = Instant::now();
        let fragment = random.between(60, 300);
        let message = random.pick(&[fragment, 2000]);
        let limits = Limits {
            fragment,
            message,
            inflated: message,
            window: 4 * (fragment + 64) + random.upto(1000),
            bulk_window: 4 * (fragment + 64),
            outbox: random.between(1500, 6000),
        };
        Self {
            durability,
            page: Page::new(limits, 1, now),
            speed: random.pick(&[0, 1, 8]),
            random,
            now,
            limits,
            record: Record::default(),
            server: None,
            pipe: None,
            keys: 0,
            crashes: 0,
            log: verbose.then(Vec::new),
        }
    }

    /// Runs the schedule. Returns how often a process has ended.
    pub(crate) fn run(mut self) -> Result<u64, String> {
        let steps = self.random.between(50, 600);
        for _ in 0..steps {
            self.step(true).map_err(|error| self.describe(error))?;
        }
        for _ in 0..40_000 {
            if self.is_settled() {
                return Ok(self.crashes);
            }
            self.step(false).map_err(|error| self.describe(error))?;
        }
        Err(self.describe("not everything has arrived".to_owned()))
    }

    fn describe(&self, error: String) -> String {
        let log = self.log.as_ref().map(|log| log.join("\n")).unwrap_or_default();
        let server = self
            .server
            .as_ref()
            .map(|server| (server.state, server.machine.phase().clone()));
        format!(
            "{log}\n{error}\nserver: {server:?}, page: sent {:?}, taken {:?}, {:?}",
            self.page.sent,
            self.page.taken,
            self.page.machine.phase()
        )
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(text());
        }
    }

    fn is_settled(&self) -> bool {
        let Some(server) = &self.server else { return false };
        let state = server.state;
        let is_stored = self.durability == Durability::Restart || State::decode(self.record.state.clone()) == state;
        is_stored
            && self.page.machine.incarnation() == state.incarnation
            && state.incarnation != 0
            && state.taken == self.page.sent
            && state.sent == self.page.taken
            && server.machine.unacknowledged() == 0
            && self.page.machine.unacknowledged() == 0
    }

    fn step(&mut self, with_faults: bool) -> Result<(), String> {
        let f = u64::from(with_faults);
        let c = u64::from(self.durability == Durability::Crash);
        let speed = c * if with_faults { self.speed } else { 8 };
        // What happens, and how often.
        let weights = [
            6 * f, // 0 the page sends
            20,    // 1 a frame reaches the server
            20,    // 2 a frame reaches the page
            8,     // 3 the function reads
            6,     // 4 the function acts
            speed, // 5 a commit begins
            speed, // 6 a commit is carried out
            c * f, // 7 a commit fails
            f * c, // 8 the process dies
            f,     // 9 the process hands over
            2 * f, // 10 the connection is cut
            f,     // 11 the page reloads
            6,     // 12 time passes
            10,    // 13 the page takes
            f,     // 14 the page wakes, and pings
        ];
        let what = self.random.weighted(&weights);
        match what {
            0 => self.page_sends(),
            1 => self.reach_server(),
            2 => self.reach_page(),
            3 => {
                let now = self.now;
                if let Some(server) = &mut self.server {
                    server.end_turn(now);
                }
            }
            4 => {
                if let Some(server) = &mut self.server {
                    server.turn(&mut self.random, if with_faults { 3 } else { 0 }, self.now)?;
                }
            }
            5 => {
                if let Some(server) = &mut self.server {
                    server.begin_commit();
                }
            }
            6 => self.flush(),
            7 => {
                if let Some(server) = &mut self.server {
                    server.commit_failed();
                }
            }
            8 => self.crash(),
            9 => self.hand_over(),
            10 => self.cut(),
            11 => self.reload(),
            12 => self.wait(),
            13 => self.page.take(self.now)?,
            _ => self.page.machine.handle_wake(self.now),
        }
        self.settle()
    }

    fn page_sends(&mut self) {
        let incarnation = self.page.machine.incarnation();
        if incarnation == 0 {
            return;
        }
        let lane = self.random.pick(&Lane::ALL);
        let padding = self.random.upto(900) as usize;
        let number = self.page.sent[lane] + 1;
        if self
            .page
            .machine
            .send(lane, encode(incarnation, number, padding))
            .is_ok()
        {
            self.page.sent[lane] = number;
        }
    }

    fn flush(&mut self) {
        if let Some(server) = &mut self.server
            && let Some(turns) = &server.committing
        {
            self.record.commit(turns, server.machine.acknowledged());
            // The process may die before it learns of it.
            if self.random.percent(90) {
                server.committed(self.now);
            } else if self.durability == Durability::Crash {
                self.die();
            }
        }
    }

    fn crash(&mut self) {
        if let Some(server) = &self.server
            && let Some(turns) = &server.committing
            && self.random.percent(50)
        {
            self.record.commit(turns, server.machine.acknowledged());
        }
        self.die();
    }

    fn die(&mut self) {
        self.note(|| "the process dies".to_owned());
        self.crashes += u64::from(self.server.is_some());
        self.server = None;
        self.cut();
    }

    fn hand_over(&mut self) {
        if let Some(server) = &mut self.server {
            self.crashes += 1;
            server.hand_over(&mut self.record, self.now);
            if self.random.percent(50) {
                server.machine.hand_over(Duration::from_millis(100), self.now);
                self.pump();
            }
            self.server = None;
            let is_closed = self.pipe.as_ref().is_some_and(|pipe| pipe.closed.is_some());
            if !is_closed {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            if let Some(server) = &mut self.server {
                server.machine.handle_closed(pipe.key, self.now);
            }
            self.page.machine.handle_close(pipe.number, 1006, self.now);
        }
    }

    fn reload(&mut self) {
        if self.page.pages >= 4 || self.page.machine.incarnation() == 0 {
            return;
        }
        self.note(|| "the page reloads".to_owned());
        let pages = self.page.pages + 1;
        if let Some(pipe) = self.pipe.take()
            && let Some(server) = &mut self.server
        {
            server.machine.handle_closed(pipe.key, self.now);
        }
        self.page = Page::new(self.limits, pages, self.now);
    }

    fn wait(&mut self) {
        let next = [
            self.page.machine.poll_timeout(),
            self.server.as_ref().and_then(|server| server.machine.poll_timeout()),
        ];
        let most = self.now + Duration::from_millis(self.random.upto(3000));
        self.now = next.into_iter().flatten().min().unwrap_or(most).min(most).max(self.now);
        self.page.machine.handle_timeout(self.now);
        if let Some(server) = &mut self.server {
            server.machine.handle_timeout(self.now);
        }
    }

    fn reach_server(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let Some(bytes) = pipe.to_server.pop_front() else {
            return;
        };
        let server = self
            .server
            .get_or_insert_with(|| Server::start(self.durability, self.limits, &mut self.record, 7, self.now));
        if std::mem::replace(&mut pipe.is_greeted, true) {
            server.frame(pipe.key, bytes, self.now);
        } else if let Ok(Frame::Hello(hello)) = Frame::decode(bytes, Sender::Client) {
            server.hello(pipe.key, &hello, self.now);
        }
    }

    fn reach_page(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        if let Some(bytes) = pipe.to_page.pop_front() {
            let number = pipe.number;
            self.page.machine.handle_frame(number, bytes, self.now);
        } else if let Some(code) = pipe.closed {
            let number = pipe.number;
            self.pipe = None;
            self.page.machine.handle_close(number, code, self.now);
        }
    }

    /// Moves what the machines have to write into the pipe, and does what the page asks for.
    fn settle(&mut self) -> Result<(), String> {
        self.pump();
        while let Some(action) = self.page.machine.poll_action() {
            match action {
                Action::Connect(number) => {
                    self.cut();
                    self.keys += 1;
                    self.pipe = Some(Pipe {
                        number,
                        key: ConnectionKey(self.keys),
                        to_server: VecDeque::new(),
                        to_page: VecDeque::new(),
                        closed: None,
                        is_greeted: false,
                    });
                    self.page.machine.handle_open(number, self.now);
                }
                Action::Close(number, code) => {
                    if (4100..4200).contains(&code) {
                        return Err(format!("the page closed with {code}"));
                    }
                    if self.pipe.as_ref().is_some_and(|pipe| pipe.number == number) {
                        let pipe = self.pipe.take().expect("it was just seen");
                        if let Some(server) = &mut self.server {
                            server.machine.handle_closed(pipe.key, self.now);
                        }
                    }
                }
            }
            self.pump();
        }
        while let Some(event) = self.page.machine.poll_event() {
            self.note(|| format!("page: {event:?}"));
            match event {
                DocumentEvent::Ended { .. } => return Err(format!("{event:?}")),
                DocumentEvent::Refused { code, .. } if code < 4200 => return Err(format!("{event:?}")),
                DocumentEvent::Disconnected { code: code @ 4303, .. } => {
                    return Err(format!("the page found a loss that there was not: {code}"));
                }
                _ => {}
            }
        }
        self.server.as_ref().map_or(Ok(()), Server::check)
    }

    fn pump(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        while let Some(frame) = self.page.machine.poll_transmit(pipe.number, true, self.now) {
            if let Some(log) = &mut self.log {
                log.push(format!("-> {frame:?}"));
            }
            pipe.to_server.push_back(encoded(&frame));
        }
        let Some(server) = &mut self.server else { return };
        while pipe.is_greeted && pipe.closed.is_none() {
            let Some(frame) = server.poll(pipe.key, self.now) else {
                break;
            };
            if let Some(log) = &mut self.log {
                log.push(format!("<- {frame:?}"));
            }
            if let Frame::End(end) = &frame {
                pipe.closed = Some(end.code);
            }
            pipe.to_page.push_back(encoded(&frame));
        }
    }
}

impl Page {
    fn new(limits: Limits, pages: u8, now: Instant) -> Self {
        let options = DocumentOptions {
            secret: Secret::from_bytes([1; 32]),
            document: DocumentId([pages; 16]),
            limits,
            seed: pages.into(),
        };
        let mut machine = DocumentMachine::new(options, now);
        machine.start(now);
        Self {
            machine,
            sent: PerLane::default(),
            taken: PerLane::default(),
            pages,
        }
    }

    fn take(&mut self, now: Instant) -> Result<(), String> {
        for lane in Lane::ALL {
            let Some(received) = self.machine.take(lane) else {
                continue;
            };
            let (incarnation, number) = decode(received.into_bytes());
            if incarnation != self.machine.incarnation() || number != self.taken[lane] + 1 {
                return Err(format!("the page got {number} of document {incarnation} on {lane:?}"));
            }
            self.taken[lane] = number;
            self.machine.release(lane, now);
        }
        Ok(())
    }
}

fn encoded(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes.freeze()
}
