//! A connection between a page and the server, with the faults that affect it.

use crate::pipe::{Pipe, Time};
use crate::plan::{MS, Plan, SECOND};
use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// Opens, or fails to open, at this time.
    Opening {
        at: Time,
        succeeds: bool,
    },
    Open,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerEnd {
    /// Nothing has arrived yet.
    Unseen,
    /// The session knows the connection.
    Known,
    /// The connection was told that it ends. Whatever still arrives is read and dropped.
    Ending,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) page: usize,
    /// The page's number for the connection.
    pub(crate) number: u64,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) client: ClientEnd,
    pub(crate) server: ServerEnd,
    /// When the page and the server notice that the connection is lost.
    pub(crate) client_loses_at: Option<Time>,
    pub(crate) server_loses_at: Option<Time>,
    /// Number of bytes up or down after which the connection is cut.
    pub(crate) fuse_up: u64,
    pub(crate) fuse_down: u64,
    has_late_hello: bool,
    /// Whether frames reach the page after it has closed the connection.
    pub(crate) is_undead: bool,
    pub(crate) hello_by: Time,
    /// Whether the page has written its hello, the server has read it, and the page has read its
    /// welcome.
    pub(crate) said_hello: bool,
    pub(crate) was_greeted: bool,
    pub(crate) greeted_at: Time,
    pub(crate) was_welcomed: bool,
    pub(crate) client_heard: Time,
    pub(crate) server_heard: Time,
    is_cut: bool,
    /// Whether a fault ever affected the connection.
    is_bad: bool,
}

impl Connection {
    pub(crate) fn open(page: usize, number: u64, plan: &Plan, now: Time, random: &mut Random) -> Self {
        let latency = random.upto(plan.latency);
        let per_byte = random.upto(plan.slowest);
        let succeeds = !random.percent(plan.dead_ends);
        // A connection that does not open either reports that, or nothing happens at all.
        let at = if succeeds || random.percent(60) {
            now + 2 * latency + random.upto(50 * MS)
        } else {
            Time::MAX
        };
        let mut connection = Self {
            page,
            number,
            up: Pipe::new(latency, per_byte),
            down: Pipe::new(latency, per_byte),
            client: ClientEnd::Opening { at, succeeds },
            server: ServerEnd::Unseen,
            client_loses_at: None,
            server_loses_at: None,
            fuse_up: u64::MAX,
            fuse_down: u64::MAX,
            has_late_hello: random.percent(plan.late_hellos),
            is_undead: random.percent(50),
            hello_by: at.saturating_add(plan.timing.hello.as_micros() as Time),
            said_hello: false,
            was_greeted: false,
            greeted_at: 0,
            was_welcomed: false,
            client_heard: now,
            server_heard: now,
            is_cut: false,
            is_bad: false,
        };
        if random.percent(plan.fuses) {
            let fuse = if random.percent(50) {
                &mut connection.fuse_up
            } else {
                &mut connection.fuse_down
            };
            *fuse = random.upto(plan.fuse);
        }
        connection
    }

    /// Delays the hello that the page has written, possibly for longer than the page waits.
    pub(crate) fn delay_hello(&mut self, now: Time, random: &mut Random) {
        if self.has_late_hello {
            self.is_bad = true;
            self.up.stall(random.upto(5 * SECOND), now);
            self.client_loses_at = Some(now + random.upto(100 * MS));
        }
    }

    /// Returns true if nothing more will happen on the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.client == ClientEnd::Closed
            && matches!(self.server, ServerEnd::Closed | ServerEnd::Unseen)
            && self.up.is_empty()
            && self.down.is_empty()
    }

    /// Cuts the connection at any byte in either direction. Each side notices soon, late or never.
    pub(crate) fn cut(&mut self, plan: &Plan, now: Time, random: &mut Random) {
        if std::mem::replace(&mut self.is_cut, true) {
            return;
        }
        self.is_bad = true;
        let late = |random: &mut Random| if random.percent(70) { 0 } else { random.upto(6 * SECOND) };
        let (late_up, late_down) = (late(random), late(random));
        self.up.cut(late_up, random);
        self.down.cut(late_down, random);
        // The server notices after the last byte. A browser may also close the connection on its
        // own before that.
        let notices = |at: Time, random: &mut Random| {
            let wait = if random.percent(70) { 50 * MS } else { 3 * SECOND };
            (!random.percent(plan.unnoticed)).then(|| at + random.upto(wait))
        };
        let client = notices(now + if random.percent(50) { late_down } else { 0 }, random);
        let server = notices(now + late_up, random);
        self.client_loses_at = self.client_loses_at.or(client);
        self.server_loses_at = self.server_loses_at.or(server);
    }

    /// Blocks one direction or both for a while.
    pub(crate) fn stall(&mut self, wait: Time, now: Time, random: &mut Random) {
        self.is_bad = true;
        let which = random.upto(2);
        if which != 0 {
            self.up.stall(wait, now);
        }
        if which != 1 {
            self.down.stall(wait, now);
        }
    }

    /// Returns true if an answer is certain to arrive within `wait`.
    pub(crate) fn answers_within(&self, wait: Time, now: Time) -> bool {
        const ROOM: u64 = 20_000;
        !self.is_bad && self.client == ClientEnd::Open && self.up.delay(ROOM, now) + self.down.delay(ROOM, now) < wait
    }

    /// Drops everything in one direction or both from now on. Neither side notices.
    pub(crate) fn blackhole(&mut self, random: &mut Random) {
        self.is_bad = true;
        let which = random.upto(2);
        if which != 0 {
            self.up.cut(0, random);
        }
        if which != 1 {
            self.down.cut(0, random);
        }
    }
}
