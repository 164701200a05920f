//! One schedule: a session, its pages, their connections, and the order of events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stillhere_proto::EndReason;
use stillhere_proto::code::Code;
use stillhere_proto::machine::{
    Action, Cause, ConnectionKey, DocumentPhase, Event, Outcome, Phase, SendRefused, SessionMachine,
};
use stillhere_proto::wire::{Frame, Sender};
use stillhere_proto::{DocumentId, Secret};
use stillhere_proto::{Lane, Message, PerLane};

use crate::browser::{Browser, Seen, Ticket};
use crate::ledger::{self, Stream};
use crate::network::{ClientEnd, Connection, ServerEnd};
use crate::page::{Application, Page, Verdict, Wanted};
use crate::pipe::{Item, Time};
use crate::plan::{MS, Plan, SECOND};
use crate::random::Random;

/// Counts how often each kind of event happened, over many schedules.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    times: BTreeMap<&'static str, u64>,
    pub(crate) schedules: u64,
    pub(crate) longest_calm: Time,
}

impl Coverage {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.times.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, times) in &other.times {
            *self.times.entry(what).or_default() += times;
        }
        self.schedules += 1;
        self.longest_calm = self.longest_calm.max(other.longest_calm);
    }

    /// Checks that enough happened. Schedules in which little happens show little.
    pub(crate) fn check(&self) {
        for what in EXPECTED {
            let times = self.times.get(what).copied().unwrap_or(0);
            assert!(times > 0, "in {} schedules there never was {what:?}", self.schedules);
        }
    }
}

/// Events that must occur in a few hundred schedules.
const EXPECTED: [&str; 25] = [
    "a connection lost before its hello came",
    "a connection that does not open",
    "a cut at some byte",
    "a frame that came twice",
    "a late frame to a page",
    "a late frame to the server",
    "a message at the limit",
    "a message larger than the window",
    "a page's inbox was full",
    "a page's outbox was full",
    "an empty message",
    "an end of the session",
    "busy",
    "duplicate",
    "hello deadline",
    "kept no longer",
    "opened",
    "replaced",
    "restored",
    "resumed",
    "silent",
    "stale",
    "superseded",
    "the server's inbox was full",
    "the server's outbox was full",
];

pub(crate) type OpenBrowser<'a> = &'a mut dyn FnMut(Ticket, Instant) -> Box<dyn Browser>;

pub(crate) struct World<'a> {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now: Time,
    pub(crate) pages: Vec<Page>,
    pub(crate) connections: Vec<Connection>,
    /// Indices of the connections on which something can still happen.
    pub(crate) active: Vec<usize>,
    pub(crate) server: Server,
    pub(crate) coverage: Coverage,
    pub(crate) is_calm: bool,
    base: Instant,
    ticket: Ticket,
    open_browser: OpenBrowser<'a>,
    is_traced: bool,
}

pub(crate) struct Server {
    pub(crate) machine: SessionMachine,
    pub(crate) application: Application,
    pub(crate) paused_until: Time,
    pub(crate) opened: u32,
    pub(crate) ended: Option<EndReason>,
    /// Reasons with which the session ended or was going to end.
    pub(crate) reasons: Vec<u64>,
    /// Messages sent, by incarnation; 0 stands for no document.
    pub(crate) sent: Vec<PerLane<Stream>>,
    /// The page of each incarnation, as far as pages know.
    pub(crate) pages: Vec<Option<usize>>,
    pub(crate) attached: Option<usize>,
    /// The connection that the session lost last.
    lost: Option<usize>,
    last_taken: u64,
    epoch: u64,
    is_dirty: bool,
    timeouts_in_a_row: u32,
}

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, is_traced: bool, open_browser: OpenBrowser<'a>) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let base = Instant::now();
        let machine = SessionMachine::new(plan.limits, plan.timing, random.next(), base);
        let ticket = Ticket {
            secret: random.bytes(),
            document: [0; 16],
            limits: plan.limits,
            seed: 0,
        };
        let server = Server {
            machine,
            application: Application::default(),
            paused_until: 0,
            opened: 0,
            ended: None,
            reasons: Vec::new(),
            sent: vec![PerLane::default(), PerLane::default()],
            pages: vec![None, None],
            attached: None,
            lost: None,
            last_taken: 0,
            epoch: 0,
            is_dirty: false,
            timeouts_in_a_row: 0,
        };
        let mut world = Self {
            plan,
            random,
            now: 0,
            pages: Vec::new(),
            connections: Vec::new(),
            active: Vec::new(),
            server,
            coverage: Coverage::default(),
            is_calm: false,
            base,
            ticket,
            open_browser,
            is_traced,
        };
        world.trace(|world| format!("{:?}", world.plan));
        world
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.is_traced {
            eprintln!("{:>12.3} ms  {}", self.now as f64 / 1000.0, line(self));
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    /// Runs all events up to `until`.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self.step(until) {}
    }

    /// Runs the next events, unless they are later than `until`.
    pub(crate) fn step(&mut self, until: Time) -> bool {
        let next = self.next_time().max(self.now);
        if next > until {
            self.now = self.now.max(until);
            return false;
        }
        self.now = next;
        self.deliver();
        self.expire();
        self.run_applications();
        self.flush();
        self.judge();
        true
    }

    fn next_time(&self) -> Time {
        let mut next = Time::MAX;
        let mut consider = |time: Option<Time>| next = next.min(time.unwrap_or(Time::MAX));
        let server_free = self.server.paused_until;
        for connection in self.active.iter().map(|index| &self.connections[*index]) {
            let page = &self.pages[connection.page];
            let page_free = page.frozen_until;
            if let ClientEnd::Opening { at, .. } = connection.client {
                consider(Some(at.max(page_free)));
            }
            consider(connection.down.arrival().map(|at| at.max(page_free)));
            consider(connection.up.arrival().map(|at| at.max(server_free)));
            if connection.client != ClientEnd::Closed {
                consider(connection.client_loses_at.map(|at| at.max(page_free)));
            }
            consider(self.server_deadline(connection).map(|at| at.max(server_free)));
            consider(connection.up.drain(self.now));
            consider(connection.down.drain(self.now));
        }
        for page in self.pages.iter().filter(|page| page.is_alive) {
            let release = Lane::ALL.iter().filter_map(|lane| page.release_at[*lane]).min();
            let read = [page.application.read_at, release].into_iter().flatten().min();
            let read = read.map(|at| at.max(page.application.stuck_until));
            for time in [
                page.browser.next_timeout(),
                read,
                self.page_writes_at(page),
                page.shown_at,
            ] {
                consider(time.map(|at| at.max(page.frozen_until)));
            }
        }
        let application = &self.server.application;
        let read = application.read_at.map(|at| at.max(application.stuck_until));
        for time in [self.server_timeout(), read, self.server_writes_at(), self.cleanup_at()] {
            consider(time.map(|at| at.max(server_free)));
        }
        next
    }

    fn micros(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.base).as_nanos().div_ceil(1000) as Time
    }

    fn server_timeout(&self) -> Option<Time> {
        self.server.machine.poll_timeout().map(|at| self.micros(at))
    }

    /// Returns when the server loses a connection or stops waiting for its hello.
    fn server_deadline(&self, connection: &Connection) -> Option<Time> {
        match (connection.server, connection.client) {
            (ServerEnd::Closed, _) | (ServerEnd::Unseen, ClientEnd::Opening { .. }) => None,
            (ServerEnd::Unseen, _) => Some(
                connection
                    .server_loses_at
                    .map_or(connection.hello_by, |at| at.min(connection.hello_by)),
            ),
            (ServerEnd::Known | ServerEnd::Ending, _) => connection.server_loses_at,
        }
    }

    /// Returns when a cleanup policy would end the session.
    fn cleanup_at(&self) -> Option<Time> {
        let machine = &self.server.machine;
        let waits = !machine.has_connection() && !matches!(machine.phase(), Phase::Closed(_) | Phase::Unconnected);
        waits.then(|| self.micros(machine.since()) + self.plan.keep)
    }

    fn deliver(&mut self) {
        for turn in 0..self.active.len() {
            let connection = self.active[turn];
            self.deliver_to_page(connection);
            self.deliver_to_server(connection);
        }
        let connections = &self.connections;
        self.active.retain(|connection| !connections[*connection].is_over());
    }

    fn deliver_to_page(&mut self, index: usize) {
        let page = self.connections[index].page;
        if !self.pages[page].is_alive {
            while self.connections[index].down.receive(self.now).is_some() {}
            return;
        }
        if !self.pages[page].is_awake(self.now) {
            return;
        }
        if let ClientEnd::Opening { at, succeeds } = self.connections[index].client
            && at <= self.now
        {
            self.finish_opening(index, succeeds);
        }
        while let Some(item) = self.connections[index].down.receive(self.now) {
            self.page_receives(index, item);
            self.flush_sometimes(page);
        }
        let connection = &self.connections[index];
        if connection.client != ClientEnd::Closed && connection.client_loses_at.is_some_and(|at| at <= self.now) {
            self.page_loses(index, 1006);
        }
    }

    fn finish_opening(&mut self, index: usize, succeeds: bool) {
        let Connection { page, number, .. } = self.connections[index];
        if !succeeds {
            self.coverage.note("a connection that does not open");
            return self.page_loses(index, 1006);
        }
        self.trace(|_| format!("page {page} connection {number} opens (#{index})"));
        self.connections[index].client = ClientEnd::Open;
        self.pages[page].browser.open(number, self.now);
        self.pages[page].is_dirty = true;
    }

    fn page_receives(&mut self, index: usize, item: Item) {
        let connection = &mut self.connections[index];
        let (page, number) = (connection.page, connection.number);
        let is_late = connection.client == ClientEnd::Closed;
        match item {
            Item::Frame(_) if is_late && !connection.is_undead => {}
            Item::Frame(bytes) => {
                connection.client_heard = self.now;
                if is_late {
                    self.coverage.note("a late frame to a page");
                }
                self.trace(|_| format!("page {page} #{index} gets {}", describe(&bytes, Sender::Server)));
                self.pages[page].browser.frame(number, bytes, self.now);
                self.pages[page].is_dirty = true;
                self.pages[page].has_news = true;
                self.poll_page_events(page);
            }
            Item::Close(_) if is_late => {}
            Item::Close(code) => self.page_loses(index, code),
        }
    }

    fn page_loses(&mut self, index: usize, code: u64) {
        let connection = &mut self.connections[index];
        let (page, number) = (connection.page, connection.number);
        connection.client = ClientEnd::Closed;
        self.trace(|_| format!("page {page} loses #{index} with {code}"));
        self.pages[page].browser.close(number, code, self.now);
        self.pages[page].is_dirty = true;
        self.poll_page_events(page);
    }

    fn deliver_to_server(&mut self, index: usize) {
        if self.server.paused_until > self.now {
            return;
        }
        while let Some(item) = self.connections[index].up.receive(self.now) {
            match item {
                Item::Frame(bytes) => self.server_receives(index, bytes),
                Item::Close(_) => {
                    let at = self.connections[index].server_loses_at.unwrap_or(self.now);
                    self.connections[index].server_loses_at = Some(at.min(self.now));
                }
            }
            if self.random.percent(30) {
                self.flush_server();
            }
        }
        let connection = &self.connections[index];
        if self.server_deadline(connection).is_none_or(|at| at > self.now) {
            return;
        }
        if connection.server == ServerEnd::Unseen {
            self.coverage.note("a connection lost before its hello came");
        }
        self.trace(|_| format!("server loses #{index}"));
        self.connections[index].server = ServerEnd::Closed;
        self.server.machine.handle_closed(key(index), self.instant());
        self.server.lost = Some(index);
        self.poll_server_events();
        self.server.is_dirty = true;
    }

    fn server_receives(&mut self, index: usize, bytes: Bytes) {
        let now = self.instant();
        self.trace(|_| format!("server #{index} gets {}", describe(&bytes, Sender::Client)));
        let connection = &mut self.connections[index];
        if self.server.attached == Some(index) {
            connection.server_heard = self.now;
        }
        self.server.is_dirty = true;
        self.pages[connection.page].has_confirmed |= bytes[..] == [CONFIRM];
        if connection.was_greeted {
            if self.server.attached != Some(index) {
                self.coverage.note("a late frame to the server");
            }
            return self.server.machine.handle_frame(key(index), bytes, now);
        }
        if connection.server == ServerEnd::Closed {
            return;
        }
        connection.was_greeted = true;
        connection.greeted_at = self.now;
        let hello = match Frame::decode(bytes, Sender::Client) {
            Ok(Frame::Hello(hello)) => hello,
            other => panic!("the first frame of a connection is {other:?}"),
        };
        assert_eq!(hello.secret, Secret::from_bytes(self.ticket.secret));
        connection.server = ServerEnd::Known;
        self.server
            .machine
            .handle_hello(key(index), &hello, self.plan.keep / MS, now);
        self.poll_server_events();
    }

    fn expire(&mut self) {
        for page in 0..self.pages.len() {
            if !self.pages[page].is_awake(self.now) {
                continue;
            }
            if self.pages[page].shown_at.is_some_and(|at| at <= self.now) {
                self.pages[page].shown_at = None;
                self.trace(|_| format!("page {page} is shown again"));
                self.pages[page].browser.wake(self.now);
                self.pages[page].is_dirty = true;
            }
            if self.pages[page].browser.next_timeout().is_some_and(|at| at <= self.now) {
                self.pages[page].browser.timeout(self.now);
                self.pages[page].is_dirty = true;
                self.pages[page].timeouts_in_a_row += 1;
                assert!(
                    self.pages[page].timeouts_in_a_row < 10,
                    "page {page}'s timer is due again and again"
                );
                self.poll_page_events(page);
            } else {
                self.pages[page].timeouts_in_a_row = 0;
            }
        }
        if self.server.paused_until > self.now {
            return;
        }
        let now = self.instant();
        if self.server.machine.poll_timeout().is_some_and(|at| at <= now) {
            self.server.machine.handle_timeout(now);
            self.server.is_dirty = true;
            self.server.timeouts_in_a_row += 1;
            assert!(
                self.server.timeouts_in_a_row < 10,
                "the server's timer is due again and again"
            );
        } else {
            self.server.timeouts_in_a_row = 0;
        }
        if self.cleanup_at().is_some_and(|at| at <= self.now) {
            self.coverage.note("kept no longer");
            let reason = match self.server.machine.phase() {
                Phase::Ending(reason) => reason.clone(),
                _ => EndReason::Expired,
            };
            self.server.machine.abort(reason, now);
        }
        self.poll_server_events();
    }

    fn run_applications(&mut self) {
        for page in 0..self.pages.len() {
            if self.pages[page].is_awake(self.now) {
                self.run_page(page);
            }
        }
        if self.server.paused_until <= self.now {
            self.run_server();
        }
    }

    fn run_page(&mut self, index: usize) {
        let page = &mut self.pages[index];
        if std::mem::take(&mut page.has_news) && page.application.read_at.is_none() && page.browser.incoming() > 0 {
            page.application.read_at = Some(self.now + self.random.upto(self.plan.think));
        }
        if page.application.stuck_until <= self.now {
            let released = Lane::ALL
                .iter()
                .any(|lane| page.release_at[*lane].is_some_and(|at| at <= self.now));
            if released || page.application.read_at.is_some_and(|at| at <= self.now) {
                self.page_reads(index);
            }
        }
        if self.page_writes_at(&self.pages[index]).is_some_and(|at| at <= self.now) {
            self.page_writes(index);
        }
    }

    pub(crate) fn page_reads(&mut self, index: usize) {
        let thinks = [self.random.upto(self.plan.think), 0];
        let think = self.random.pick(&thinks);
        let page = &mut self.pages[index];
        page.application.read_at = None;
        let read = page.read(|| think, self.now);
        page.is_dirty = true;
        page.has_news = !read.is_empty();
        for (lane, payload) in read {
            self.page_took(index, lane, &payload);
        }
    }

    fn page_took(&mut self, index: usize, lane: Lane, payload: &Bytes) {
        let incarnation = self.pages[index]
            .incarnation
            .expect("only a welcomed page receives messages");
        let received = self.server.sent[incarnation][lane].receive(payload);
        if let Err(error) = received {
            panic!("page {index}, incarnation {incarnation}, {lane:?}: {error}");
        }
        self.coverage.note("messages to pages");
    }

    fn page_writes_at(&self, page: &Page) -> Option<Time> {
        let writes = match page.application.wanted {
            Some(wanted) => page.browser.outgoing(wanted.lane) < page.application.waits_below,
            None => page.application.written < self.plan.messages && !self.is_calm,
        };
        (writes && !page.is_over()).then_some(page.application.write_at)
    }

    fn page_writes(&mut self, index: usize) {
        self.pages[index].application.write_at = self.now + 1 + self.random.upto(self.plan.write_every);
        for _ in 0..self.random.between(1, 6) {
            let wanted = self.pages[index].application.wanted.take();
            let wanted = wanted.unwrap_or_else(|| self.draw_message());
            if !self.page_sends(index, wanted) {
                break;
            }
            if self.is_calm {
                break;
            }
        }
    }

    pub(crate) fn draw_message(&mut self) -> Wanted {
        let lane = self.random.pick(&Lane::ALL);
        Wanted {
            lane,
            size: self.plan.size(&mut self.random),
        }
    }

    /// Sends a message from a page. Returns false if there was no room; the page will then try
    /// again.
    pub(crate) fn page_sends(&mut self, index: usize, wanted: Wanted) -> bool {
        let Wanted { lane, size } = wanted;
        let seed = self.random.next();
        let page = &mut self.pages[index];
        page.is_dirty = true;
        let payload = page.sent[lane].send(size, seed);
        let sent = page.browser.send(lane, payload, self.now);
        if sent.is_err() {
            page.sent[lane].take_back();
        }
        match sent {
            Ok(()) => page.application.written += 1,
            Err(SendRefused::OutboxFull) => {
                page.application.wanted = Some(wanted);
                page.application.waits_below = page.browser.outgoing(lane);
            }
            Err(SendRefused::SessionOver) if page.is_over() => {}
            Err(error) => panic!("page {index} cannot send {size} bytes: {error}"),
        }
        let is_largest = size as u64 == self.plan.limits.message;
        self.trace(|_| format!("page {index} sends {size} bytes on {lane:?}: {sent:?}"));
        let is_long = size as u64 > self.plan.limits.window;
        match sent {
            Ok(()) if is_long => self.coverage.note("a message larger than the window"),
            Ok(()) if is_largest => self.coverage.note("a message at the limit"),
            Ok(()) if size == 0 => self.coverage.note("an empty message"),
            Err(SendRefused::OutboxFull) => self.coverage.note("a page's outbox was full"),
            _ => {}
        }
        self.try_too_much(index, lane);
        sent.is_ok()
    }

    fn try_too_much(&mut self, index: usize, lane: Lane) {
        if self.random.percent(2) && !self.pages[index].is_over() {
            let payload = vec![0; self.plan.limits.message as usize + 1].into();
            let refused = self.pages[index].browser.send(lane, payload, self.now);
            assert_eq!(refused, Err(SendRefused::TooLarge));
        }
    }

    fn run_server(&mut self) {
        let application = &mut self.server.application;
        if application.read_at.is_none() && self.server.machine.has_message() {
            application.read_at = Some(self.now + self.random.upto(self.plan.think));
        }
        let reads = application
            .read_at
            .is_some_and(|at| at.max(application.stuck_until) <= self.now);
        if reads {
            self.server_reads();
        }
        if self.server_writes_at().is_some_and(|at| at <= self.now) {
            self.server_writes();
        }
    }

    pub(crate) fn server_reads(&mut self) {
        self.server.application.read_at = None;
        self.server.is_dirty = true;
        for _ in 0..self.random.between(1, 4) {
            let announced = self.server.machine.next_incarnation();
            let Some((lane, received)) = self.server.machine.take(self.instant()) else {
                break;
            };
            assert_eq!(announced, Some(received.incarnation));
            assert!(
                received.incarnation >= self.server.last_taken,
                "an older document's message after a newer one's"
            );
            self.server.last_taken = received.incarnation;
            let incarnation = received.incarnation as usize;
            let page = self.server.pages[incarnation].expect("only a welcomed page sends data");
            let received = self.pages[page].sent[lane].receive(&received.into_bytes());
            if let Err(error) = received {
                panic!("server, from incarnation {incarnation}, {lane:?}: {error}");
            }
            self.coverage.note("messages to the server");
        }
        if self.server.machine.has_message() {
            self.server.application.read_at = Some(self.now + self.random.upto(self.plan.think));
        }
    }

    fn server_takes_messages(&self) -> bool {
        !matches!(self.server.machine.phase(), Phase::Ending(_) | Phase::Closed(_))
    }

    fn server_writes_at(&self) -> Option<Time> {
        let application = &self.server.application;
        let writes = match application.wanted {
            Some(wanted) => self.server.machine.outgoing(wanted.lane) < application.waits_below,
            None => application.written < self.plan.messages && !self.is_calm,
        };
        (writes && self.server_takes_messages()).then_some(application.write_at)
    }

    fn server_writes(&mut self) {
        self.server.application.write_at = self.now + 1 + self.random.upto(self.plan.write_every);
        for _ in 0..self.random.between(1, 6) {
            let wanted = self.server.application.wanted.take();
            let wanted = wanted.unwrap_or_else(|| self.draw_message());
            if !self.server_sends(wanted) || self.is_calm {
                break;
            }
        }
    }

    /// Sends a message from the server. Returns false if there was no room; the server will then
    /// try again.
    pub(crate) fn server_sends(&mut self, wanted: Wanted) -> bool {
        let Wanted { lane, size } = wanted;
        let seed = self.random.next();
        if !self.server.machine.admits(lane, size) {
            self.coverage.note("the server's outbox was full");
            self.server.application.wanted = Some(wanted);
            self.server.application.waits_below = self.server.machine.outgoing(lane);
            return false;
        }
        let incarnation = self.server.machine.incarnation().max(1) as usize;
        let payload = self.server.sent[incarnation][lane].send(size, seed);
        self.trace(|_| format!("server sends {size} bytes on {lane:?} to incarnation {incarnation}"));
        self.server.machine.send(lane, Message::from(payload));
        self.server.application.written += 1;
        self.server.is_dirty = true;
        true
    }

    fn flush(&mut self) {
        for index in &self.active {
            let connection = &mut self.connections[*index];
            if connection.up.blocked && connection.up.buffered(self.now) < self.plan.bulk_room {
                connection.up.blocked = false;
                self.pages[connection.page].is_dirty = true;
            }
            if connection.down.blocked && connection.down.buffered(self.now) < self.plan.socket {
                connection.down.blocked = false;
                self.server.is_dirty = true;
            }
        }
        for page in 0..self.pages.len() {
            if self.pages[page].is_dirty && self.pages[page].is_awake(self.now) {
                self.flush_page(page);
            }
        }
        if self.server.is_dirty && self.server.paused_until <= self.now {
            self.flush_server();
        }
    }

    fn flush_sometimes(&mut self, page: usize) {
        if self.random.percent(30) {
            self.flush_page(page);
        }
    }

    pub(crate) fn flush_page(&mut self, page: usize) {
        self.pages[page].is_dirty = false;
        if let Some(index) = self.pages[page].connection
            && self.connections[index].client == ClientEnd::Open
        {
            self.page_transmits(page, index);
        }
        while let Some(action) = self.pages[page].browser.poll_action() {
            self.trace(|_| format!("page {page} does {action:?}"));
            match action {
                Action::Connect(number) => self.page_connects(page, number),
                Action::Close(number, code) => self.page_closes(page, number, code),
            }
        }
        self.poll_page_events(page);
    }

    fn page_transmits(&mut self, page: usize, index: usize) {
        const AT_ONCE: usize = 4;
        loop {
            let connection = &mut self.connections[index];
            let bulk_allowed = connection.up.buffered(self.now) < self.plan.bulk_room;
            connection.up.blocked = !bulk_allowed;
            let frames = self.pages[page]
                .browser
                .transmit(connection.number, bulk_allowed, AT_ONCE, self.now);
            let written = frames.len();
            for bytes in frames {
                self.page_wrote(index, bytes);
            }
            if written < AT_ONCE {
                return;
            }
        }
    }

    fn page_wrote(&mut self, index: usize, bytes: Bytes) {
        self.trace(|world| {
            format!(
                "page {} #{index} writes {}",
                world.connections[index].page,
                describe(&bytes, Sender::Client)
            )
        });
        let connection = &mut self.connections[index];
        let kind = bytes[0];
        if !std::mem::replace(&mut connection.said_hello, true) {
            assert_eq!(kind, HELLO, "a connection begins with hello");
        } else if !connection.was_welcomed {
            assert_eq!(kind, CONFIRM, "only confirm comes between hello and welcome");
        }
        if let Ok(Frame::Data(data)) = Frame::decode(bytes.clone(), Sender::Client) {
            let written = &mut self.pages[connection.page].last_frames[data.lane];
            if !data.more && written.last().is_none_or(|last| *last < data.sequence) {
                written.push(data.sequence);
            }
            if self.random.percent(self.plan.repeats) {
                self.coverage.note("a frame that came twice");
                connection.up.write(Item::Frame(bytes.clone()), self.now);
            }
        }
        connection.up.write(Item::Frame(bytes), self.now);
        if kind == HELLO {
            connection.delay_hello(self.now, &mut self.random);
        }
        if connection.up.written() > connection.fuse_up {
            connection.cut(&self.plan, self.now, &mut self.random);
            self.coverage.note("a cut at some byte");
        }
    }

    fn page_connects(&mut self, page: usize, number: u64) {
        let connection = Connection::open(page, number, &self.plan, self.now, &mut self.random);
        self.pages[page].connection = Some(self.connections.len());
        self.active.push(self.connections.len());
        self.connections.push(connection);
    }

    fn page_closes(&mut self, page: usize, number: u64, code: u64) {
        let is_error = (Code::Malformed as u64..=Code::Flood as u64).contains(&code) || code == Code::Gap as u64;
        assert!(!is_error, "page {page} reports a violation by the server: {code}");
        let found = self
            .connections
            .iter_mut()
            .find(|connection| connection.page == page && connection.number == number);
        let connection = found.expect("a page closes its own connections");
        if let ClientEnd::Open = connection.client {
            connection.up.write(Item::Close(code), self.now);
        }
        connection.client = ClientEnd::Closed;
    }

    pub(crate) fn flush_server(&mut self) {
        self.server.is_dirty = false;
        self.poll_server_events();
        for turn in 0..self.active.len() {
            let index = self.active[turn];
            while self.connections[index].server == ServerEnd::Known {
                if self.connections[index].down.buffered(self.now) >= self.plan.socket {
                    self.connections[index].down.blocked = true;
                    break;
                }
                let Some(frame) = self.server.machine.poll_transmit(key(index), self.instant()) else {
                    break;
                };
                self.server_wrote(index, &frame);
            }
        }
    }

    fn server_wrote(&mut self, index: usize, frame: &Frame) {
        self.trace(|_| format!("server #{index} writes {frame:?}"));
        let connection = &mut self.connections[index];
        match frame {
            Frame::Welcome(welcome) => {
                let page = &mut self.pages[connection.page];
                assert!(
                    connection.number > page.last_welcomed,
                    "an older attempt displaced a newer one"
                );
                page.last_welcomed = connection.number;
                assert!(welcome.epoch > self.server.epoch, "an epoch came twice");
                self.server.epoch = welcome.epoch;
                self.server.attached = Some(index);
                connection.server_heard = self.now;
                self.judge_welcome(index, welcome.incarnation);
            }
            Frame::End(end) => {
                self.coverage.note(judge_end(end.code, end.reason));
                if end.code == Code::Duplicate as u64 {
                    self.judge_duplicate(index);
                }
            }
            Frame::Offer => {
                self.coverage.note("offer");
                self.judge_offer();
            }
            Frame::Data(_) if self.random.percent(self.plan.repeats) => {
                connection.down.write(Item::Frame(frame.to_bytes()), self.now);
            }
            _ => {}
        }
        self.note_received(index, frame);
        let connection = &mut self.connections[index];
        connection.down.write(Item::Frame(frame.to_bytes()), self.now);
        if let Frame::End(end) = frame {
            connection.down.write(Item::Close(end.code), self.now);
            connection.server = ServerEnd::Ending;
            let at = self.now + SECOND;
            connection.server_loses_at = Some(connection.server_loses_at.map_or(at, |earlier| earlier.min(at)));
        }
        if connection.down.written() > connection.fuse_down {
            connection.cut(&self.plan, self.now, &mut self.random);
            self.coverage.note("a cut at some byte");
        }
    }

    /// Records what the server acknowledges, because it must deliver that to its application.
    fn note_received(&mut self, index: usize, frame: &Frame) {
        let counts = match frame {
            Frame::Welcome(welcome) => &welcome.counts,
            Frame::Ack(counts) | Frame::Ping { counts, .. } | Frame::Pong { counts, .. } => counts,
            _ => return,
        };
        let received = &mut self.pages[self.connections[index].page].acknowledged;
        for lane in Lane::ALL {
            assert!(
                counts.received[lane] >= received[lane],
                "an acknowledgement was taken back"
            );
            received[lane] = counts.received[lane];
        }
    }

    /// Checks that a session loses its connection only when that connection is lost, and not when
    /// an older one is.
    fn judge_loss(&self) {
        let (Some(attached), Some(lost)) = (self.server.attached, self.server.lost) else {
            return;
        };
        let (current, lost) = (&self.connections[attached], &self.connections[lost]);
        let is_older = lost.page == current.page && lost.number < current.number;
        assert!(!is_older, "the end of an older connection ended #{attached}");
    }

    /// Checks that a newcomer becomes the session's document only after its confirm.
    fn judge_welcome(&mut self, index: usize, incarnation: u64) {
        let connection = &self.connections[index];
        let page = &mut self.pages[connection.page];
        let was_confirmed = page.has_confirmed || incarnation == 1;
        let is_known = page.served.replace(incarnation) == Some(incarnation);
        assert!(
            is_known || was_confirmed,
            "page {} was welcomed without its confirm",
            connection.page
        );
    }

    /// Checks that a session is not offered while its page answers.
    fn judge_offer(&self) {
        let (Some(attached), Some(probe)) = (self.server.attached, self.plan.probe()) else {
            return;
        };
        let connection = &self.connections[attached];
        let page = &self.pages[connection.page];
        let began = self.now.saturating_sub(probe + SECOND);
        let was_awake = page.is_alive && page.frozen_until <= began && self.server.paused_until <= began;
        let was_there = page.connection == Some(attached) && connection.greeted_at < began;
        let answers = was_awake && was_there && connection.answers_within(probe, self.now);
        assert!(
            !answers,
            "page {} answers, but its session was offered",
            connection.page
        );
    }

    /// Checks that a page that is gone does not keep another page out.
    fn judge_duplicate(&self, newcomer: usize) {
        let Some(attached) = self.server.attached else { return };
        let page = self.connections[attached].page;
        let was_gone = self.pages[page].died_at < self.connections[newcomer].greeted_at;
        assert!(!was_gone, "page {page} is gone but keeps another out");
    }

    pub(crate) fn poll_server_events(&mut self) {
        while let Some(event) = self.server.machine.poll_event() {
            self.trace(|_| format!("server: {event:?}"));
            match event {
                Event::Opened => self.server.opened += 1,
                Event::Restored { incarnation } => {
                    self.server.sent.push(PerLane::default());
                    self.server.pages.push(None);
                    assert_eq!(
                        incarnation as usize + 1,
                        self.server.sent.len(),
                        "incarnations are numbered in turn"
                    );
                }
                Event::SoftClosed(Cause::Lost) => self.judge_loss(),
                Event::Ended(reason) => {
                    self.server.reasons.push(reason.number());
                    assert_eq!(self.server.ended.replace(reason), None, "a session ends once");
                }
                _ => {}
            }
        }
        if !self.server.machine.has_connection() {
            self.server.attached = None;
        }
    }

    pub(crate) fn poll_page_events(&mut self, index: usize) {
        while let Some(seen) = self.pages[index].browser.poll_event() {
            self.trace(|_| format!("page {index}: {seen:?}"));
            match seen {
                Seen::Welcomed { outcome, incarnation } => self.page_was_welcomed(index, outcome, incarnation as usize),
                Seen::Refused { code } => {
                    if Code::Busy as u64 != code {
                        self.pages[index].verdict = Some(Verdict::Refused { code });
                    }
                }
                Seen::Ended {
                    reason, unacknowledged, ..
                } => {
                    let was_connected = self.was_connected(index);
                    let verdict = Verdict::Ended {
                        reason,
                        unacknowledged,
                        was_connected,
                    };
                    assert_eq!(
                        self.pages[index].verdict.replace(verdict),
                        None,
                        "a page gets only one verdict"
                    );
                }
                Seen::Disconnected { .. } | Seen::Pong => {}
            }
        }
    }

    fn was_connected(&self, page: usize) -> bool {
        self.pages[page]
            .connection
            .is_some_and(|index| self.connections[index].was_welcomed)
    }

    fn page_was_welcomed(&mut self, index: usize, outcome: Outcome, incarnation: usize) {
        let connection = self.pages[index].connection.expect("a welcome arrives on a connection");
        self.connections[connection].was_welcomed = true;
        let expected = match (self.pages[index].incarnation, incarnation) {
            (None, 1) => Outcome::Opened,
            (None, _) => Outcome::Restored,
            (Some(mine), _) => {
                assert_eq!(mine, incarnation, "a document keeps its incarnation");
                Outcome::Resumed
            }
        };
        assert_eq!(outcome, expected);
        self.coverage.note(match outcome {
            Outcome::Opened => "opened",
            Outcome::Resumed => "resumed",
            Outcome::Restored => "restored",
            other => panic!("the simulation does not know {other:?}"),
        });
        self.pages[index].incarnation = Some(incarnation);
        let known = self.server.pages[incarnation].replace(index);
        assert!(
            known.is_none_or(|known| known == index),
            "an incarnation is one document"
        );
    }

    fn judge(&mut self) {
        let outbox = self.plan.outbox_bound();
        let inboxes = PerLane::new(
            self.plan.inbox_bound(self.plan.limits.window),
            self.plan.inbox_bound(self.plan.limits.bulk_window),
        );
        // Not even one full frame more.
        let full = self.plan.limits.window.min(self.plan.limits.bulk_window) - self.plan.limits.fragment;
        let machine = &self.server.machine;
        for lane in Lane::ALL {
            assert!(
                machine.outgoing(lane) <= outbox,
                "the server's {lane:?} outbox holds {}",
                machine.outgoing(lane)
            );
            assert!(
                machine.incoming(lane) <= inboxes[lane],
                "the server's {lane:?} inbox holds {}",
                machine.incoming(lane)
            );
            if machine.incoming(lane) > full {
                self.coverage.note("the server's inbox was full");
            }
        }
        for (index, page) in self.pages.iter().enumerate() {
            if !page.is_awake(self.now) {
                continue;
            }
            for lane in Lane::ALL {
                assert!(
                    page.browser.outgoing(lane) <= outbox,
                    "page {index}'s {lane:?} outbox is too full"
                );
            }
            // The message that is being processed may still be counted.
            let in_hand = 2 * self.plan.outbox_bound();
            if page.browser.incoming() > full {
                self.coverage.note("a page's inbox was full");
            }
            assert!(
                page.browser.incoming() <= inboxes.interactive + inboxes.bulk + in_hand,
                "page {index}'s inboxes are too full"
            );
            self.judge_silence(index, page);
        }
        if let Some(attached) = self.server.attached
            && self.server.paused_until <= self.now
        {
            let heartbeat = self.plan.heartbeat();
            let heard = self.connections[attached].server_heard;
            let bound = (heard + 2 * heartbeat).max(self.server.paused_until + heartbeat);
            assert!(
                self.now <= bound,
                "the server has relied on a silent connection since {heard}"
            );
        }
    }

    /// Checks that no page relies on a silent connection for longer than the silence limit.
    fn judge_silence(&self, index: usize, page: &Page) {
        if page.phase() != DocumentPhase::Connected {
            return;
        }
        let connection = &self.connections[page.connection.expect("a connected page has a connection")];
        let bound = connection.client_heard.max(page.frozen_until) + 2 * self.plan.heartbeat() + 10 * SECOND;
        assert!(
            self.now <= bound,
            "page {index} has relied on a silent connection since {}",
            connection.client_heard
        );
    }

    pub(crate) fn open_page(&mut self) -> usize {
        let ticket = Ticket {
            document: self.random.bytes(),
            seed: self.random.next(),
            ..self.ticket
        };
        let browser = (self.open_browser)(ticket, self.base);
        let index = self.pages.len();
        self.trace(|_| format!("page {index} is loaded: {:?}", DocumentId(ticket.document)));
        self.pages.push(Page::new(browser, self.now));
        self.pages[index].browser.start(self.now);
        self.flush_page(index);
        index
    }

    /// Returns how many messages this page and the session have not yet delivered to each other.
    pub(crate) fn missing(&self, page: usize) -> usize {
        let incarnation = self.pages[page].incarnation.unwrap_or(0);
        ledger::missing(&self.pages[page].sent) + ledger::missing(&self.server.sent[incarnation])
    }
}

const HELLO: u8 = 1;
const CONFIRM: u8 = 2;

fn key(index: usize) -> ConnectionKey {
    ConnectionKey(index as u64)
}

fn judge_end(code: u64, reason: u64) -> &'static str {
    match code {
        _ if reason != 0 => "an end of the session",
        4103 => "superseded",
        4104 => "duplicate",
        4202 => "busy",
        4300 => "hello deadline",
        4301 => "silent",
        4302 => "replaced",
        4400 => "stale",
        _ => panic!("a page that follows the protocol was refused with {code}"),
    }
}

fn describe(bytes: &Bytes, sender: Sender) -> String {
    match Frame::decode(bytes.clone(), sender) {
        Ok(Frame::Data(data)) => {
            format!(
                "data {:?} {} ({} bytes, more: {})",
                data.lane,
                data.sequence,
                data.payload.len(),
                data.more
            )
        }
        other => format!("{other:?}"),
    }
}
