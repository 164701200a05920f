//! Injects faults during the first part of a schedule, and stops them in the second.

use stillhere_proto::EndReason;
use stillhere_proto::machine::{DocumentPhase, Phase};

use crate::network::ClientEnd;
use crate::pipe::{Item, Time};
use crate::plan::{FAULTS, Fault, MS, SECOND};
use crate::world::World;

impl World<'_> {
    /// Runs the first part of the schedule, in which faults are injected.
    pub(crate) fn run_trouble(&mut self) {
        let until = self.plan.trouble;
        let mut fault_at = self.random.upto(2 * self.plan.fault_every);
        while self.now < until {
            self.run_until(fault_at.min(until));
            if self.now >= fault_at {
                let fault = FAULTS[self.random.weighted(&self.plan.weights)];
                self.apply(fault);
                fault_at = self.now + self.random.upto(2 * self.plan.fault_every);
            }
            self.replace_pages();
        }
    }

    /// Opens a new page from time to time if all pages are gone or refused.
    fn replace_pages(&mut self) {
        if self.random.percent(50) && !self.has_willing_page() && self.pages.len() < MOST_PAGES {
            self.open_page();
        }
    }

    pub(crate) fn has_willing_page(&self) -> bool {
        self.pages.iter().any(|page| page.is_alive && !page.is_over())
    }

    fn apply(&mut self, fault: Fault) {
        self.trace(|_| format!("---- {fault:?}"));
        match fault {
            Fault::Cut => self.cut_some(),
            Fault::Stall => self.stall_some(),
            Fault::Blackhole => self.blackhole_some(),
            Fault::Reload => self.reload(),
            Fault::Duplicate => self.duplicate(),
            Fault::Freeze => self.freeze(),
            Fault::PauseServer => self.server.paused_until = self.now + self.random.upto(5 * SECOND),
            Fault::Hide => self.hide(),
            Fault::Wake => self.wake_some(),
            Fault::HidePage => self.put_into_the_cache(),
            Fault::StickServer => self.server.application.stuck_until = self.now + self.random.upto(20 * SECOND),
            Fault::StickPage => self.stick_page(),
            Fault::SoftClose => {
                let now = self.instant();
                self.server.machine.soft_close(now);
                self.flush_server();
            }
            Fault::Close => self.close_session(),
            Fault::Abort => self.abort_session(),
        }
        self.coverage.note(name(fault));
    }

    fn some_connection(&mut self) -> Option<usize> {
        if self.active.is_empty() {
            return None;
        }
        // The newest connection is usually the one that matters.
        let turn = if self.random.percent(70) {
            self.active.len() - 1
        } else {
            self.random.upto(self.active.len() as u64 - 1) as usize
        };
        Some(self.active[turn])
    }

    fn some_page(&mut self) -> Option<usize> {
        let awake = (0..self.pages.len())
            .filter(|page| self.pages[*page].is_awake(self.now))
            .collect::<Vec<_>>();
        (!awake.is_empty()).then(|| self.random.pick(&awake))
    }

    fn cut_some(&mut self) {
        if let Some(index) = self.some_connection() {
            self.connections[index].cut(&self.plan, self.now, &mut self.random);
        }
    }

    fn stall_some(&mut self) {
        let wait = self.random.upto(8 * SECOND);
        if let Some(index) = self.some_connection() {
            self.connections[index].stall(wait, self.now, &mut self.random);
        }
    }

    fn blackhole_some(&mut self) {
        if let Some(index) = self.some_connection() {
            self.connections[index].blackhole(&mut self.random);
        }
    }

    /// Closes the page, with or without a `leave`, and opens another in its place.
    fn reload(&mut self) {
        let Some(page) = self.some_page() else { return };
        if self.random.percent(40) {
            self.pages[page].browser.leave(self.now);
            self.flush_page(page);
        }
        self.remove_page(page);
        if self.pages.len() < MOST_PAGES {
            self.open_page();
        }
    }

    pub(crate) fn remove_page(&mut self, page: usize) {
        self.trace(|_| format!("page {page} is gone"));
        self.pages[page].is_alive = false;
        self.pages[page].died_at = self.now;
        for connection in self.connections.iter_mut().filter(|connection| connection.page == page) {
            if connection.client == ClientEnd::Closed {
                continue;
            }
            if self.random.percent(self.plan.unnoticed) {
                connection.blackhole(&mut self.random);
            } else if connection.client == ClientEnd::Open {
                connection.up.write(Item::Close(1001), self.now);
            }
            connection.client = ClientEnd::Closed;
        }
    }

    fn duplicate(&mut self) {
        if self.pages.len() < MOST_PAGES {
            self.open_page();
        }
    }

    fn freeze(&mut self) {
        let wait = self.random.pick(&[SECOND, 5 * SECOND, 40 * SECOND]);
        if let Some(page) = self.some_page() {
            self.pages[page].frozen_until = self.now + self.random.upto(wait);
        }
    }

    fn hide(&mut self) {
        let Some(page) = self.some_page() else { return };
        let is_hidden = !self.pages[page].is_hidden;
        self.show(page, is_hidden);
    }

    fn show(&mut self, page: usize, is_hidden: bool) {
        self.pages[page].is_hidden = is_hidden;
        self.pages[page].browser.hidden(is_hidden, self.now);
        if !is_hidden {
            self.pages[page].browser.wake(self.now);
        }
        self.pages[page].is_dirty = true;
        self.flush_page(page);
    }

    fn wake_some(&mut self) {
        if let Some(page) = self.some_page() {
            self.pages[page].browser.wake(self.now);
            self.flush_page(page);
        }
    }

    /// Moves the page into the back/forward cache, from which it may return.
    fn put_into_the_cache(&mut self) {
        let Some(page) = self.some_page() else { return };
        self.pages[page].browser.leave(self.now);
        self.flush_page(page);
        let shown_at = self.now + self.random.upto(10 * SECOND);
        self.pages[page].frozen_until = shown_at;
        self.pages[page].shown_at = Some(shown_at);
    }

    fn stick_page(&mut self) {
        let until = self.now + self.random.upto(20 * SECOND);
        if let Some(page) = self.some_page() {
            self.pages[page].application.stuck_until = until;
        }
    }

    pub(crate) fn close_session(&mut self) {
        let now = self.instant();
        self.server.reasons.push(EndReason::Finished.number());
        self.server.machine.close(EndReason::Finished, now);
        self.flush_server();
    }

    pub(crate) fn abort_session(&mut self) {
        let now = self.instant();
        self.server.machine.abort(EndReason::Aborted("enough".into()), now);
        self.flush_server();
    }

    /// Runs the second part of the schedule, in which nothing goes wrong, everybody reads, and
    /// everything must arrive.
    pub(crate) fn run_calm(&mut self) {
        self.trace(|_| "==== calm".to_owned());
        self.is_calm = true;
        self.plan.fuses = 0;
        self.plan.late_hellos = 0;
        self.plan.repeats = 0;
        self.plan.dead_ends = 0;
        self.plan.unnoticed = 0;
        self.plan.latency = self.plan.latency.min(50 * MS);
        self.plan.slowest = self.plan.slowest.min(10);
        self.plan.think = self.plan.think.min(20 * MS);
        self.plan.write_every = 20 * MS;
        self.server.paused_until = self.now;
        self.server.application.stuck_until = self.now;
        for page in 0..self.pages.len() {
            self.calm_page(page);
        }
        let mut began = self.now;
        let mut replacements = 0;
        while !self.is_settled() {
            assert!(
                self.now < began + CALM,
                "not settled {} s after the last fault",
                CALM / SECOND
            );
            if self.is_ending() && !self.has_willing_page() {
                // No browser will come for the last messages, so the cleanup policy ends the
                // session.
                self.run_until(self.now + self.plan.keep);
                began = self.now;
            } else if !self.is_session_over() && !self.has_willing_page() {
                replacements += 1;
                assert!(replacements < 4, "the session accepts nobody");
                self.open_page();
            }
            self.run_until(self.now + 100 * MS);
        }
        self.coverage.longest_calm = self.coverage.longest_calm.max(self.now - began);
    }

    fn calm_page(&mut self, page: usize) {
        if !self.pages[page].is_alive {
            return;
        }
        self.pages[page].application.stuck_until = self.now;
        self.pages[page].frozen_until = self.now;
        if self.pages[page].shown_at.is_some() {
            if self.random.percent(50) {
                return self.remove_page(page);
            }
            self.pages[page].shown_at = Some(self.now);
        }
        self.pages[page].is_dirty = true;
        if self.pages[page].is_hidden || self.random.percent(20) {
            self.show(page, false);
        }
    }

    pub(crate) fn is_session_over(&self) -> bool {
        matches!(self.server.machine.phase(), Phase::Closed(_))
    }

    fn is_ending(&self) -> bool {
        matches!(self.server.machine.phase(), Phase::Ending(_))
    }

    /// Returns true if one page has the session and nothing is in transit, or if no page has the
    /// session.
    fn is_settled(&self) -> bool {
        let mut living = self
            .pages
            .iter()
            .enumerate()
            .filter(|(_, page)| page.is_alive && !page.is_over());
        if self.is_session_over() {
            return living.next().is_none();
        }
        let Some((index, page)) = living.next() else {
            return false;
        };
        let machine = &self.server.machine;
        let is_attached = self.server.attached.is_some() && self.server.attached == page.connection;
        living.next().is_none()
            && page.phase() == DocumentPhase::Connected
            && is_attached
            && page.application.wanted.is_none()
            && self.server.application.wanted.is_none()
            && machine.unacknowledged() == 0
            && !machine.has_message()
            && !page.holds_messages()
            && stillhere_proto::Lane::ALL
                .iter()
                .all(|lane| page.browser.outgoing(*lane) == 0)
            && self.missing(index) == 0
    }
}

pub(crate) const CALM: Time = 150 * SECOND;
const MOST_PAGES: usize = 12;

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Cut => "fault: cut",
        Fault::Stall => "fault: stall",
        Fault::Blackhole => "fault: blackhole",
        Fault::Reload => "fault: reload",
        Fault::Duplicate => "fault: duplicate",
        Fault::Freeze => "fault: freeze",
        Fault::PauseServer => "fault: server pauses",
        Fault::Hide => "fault: hide",
        Fault::Wake => "fault: wake",
        Fault::HidePage => "fault: back/forward cache",
        Fault::StickServer => "fault: the server's application sticks",
        Fault::StickPage => "fault: a page's application sticks",
        Fault::SoftClose => "fault: soft close",
        Fault::Close => "fault: close",
        Fault::Abort => "fault: abort",
    }
}
