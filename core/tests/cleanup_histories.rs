//! Random histories under a paused clock. A simple model, which examines all sessions after every
//! event, determines which sessions may end and which must.
//!
//! `STILLHERE_SEED=n` shows one history.

#[path = "../proto/tests/simulation/random.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod random;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stillhere::wire::{Counts, Frame};
use stillhere::{
    Cause, DefaultCleanupPolicy, EndReason, FRAME_CHARGE, Hub, Lane, MemoryBudget, PerLane, PrincipalCap, Session,
    SessionHandle, SessionId, SessionRequest, SessionState, WhileAuthenticated, run_connection_loop,
};

use random::Random;
use support::pipe::pipe;
use support::wire::{RawDocument, Wire};
use support::{milliseconds, seconds};

/// A second description of a policy: the conditions under which a session is freed.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    unconnected: u64,
    soft_closed: u64,
    left: u64,
    budget: Option<Budget>,
    cap: Option<(usize, bool)>,
    /// Seconds between two checks of the login.
    logins: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    bytes: u64,
    sessions: usize,
    /// Seconds for which every session is kept.
    grace: Option<u64>,
}

const USERS: [&str; 6] = ["ada", "bob", "cem", "dea", "eve", "fay"];

type Logins = Arc<Mutex<BTreeSet<&'static str>>>;

impl Rules {
    fn random(random: &mut Random) -> Self {
        let budget = Budget {
            bytes: random.between(2_000, 40_000),
            sessions: random.between(5, 100) as usize,
            grace: random.percent(40).then(|| random.between(1, 20)),
        };
        Self {
            unconnected: random.between(5, 40),
            soft_closed: random.between(5, 60),
            left: random.between(5, 60),
            budget: random.percent(60).then_some(budget),
            cap: random
                .percent(50)
                .then(|| (random.between(2, 15) as usize, random.percent(30))),
            logins: random.percent(50).then(|| random.between(1, 30)),
        }
    }

    fn wait_for_return(&self, page: &Page) -> Duration {
        let wait = if page.has_left {
            self.left.min(self.soft_closed)
        } else {
            self.soft_closed
        };
        seconds(wait)
    }

    fn waits(&self) -> DefaultCleanupPolicy {
        DefaultCleanupPolicy {
            unconnected: seconds(self.unconnected),
            soft_closed: seconds(self.soft_closed),
            left: seconds(self.left),
        }
    }

    /// Gives the hub the policy that these rules describe.
    fn enact(&self, hub: &Hub, logins: &Logins) {
        use stillhere::CleanupPolicy as _;
        let known = Arc::clone(logins);
        let logins = self.logins.map(|interval| {
            WhileAuthenticated::new(seconds(interval), move |user| {
                known.lock().expect("unpoisoned").contains(user)
            })
        });
        let budget = |budget: Budget| MemoryBudget::new(budget.bytes).max_sessions(budget.sessions);
        let grace = |grace: u64| DefaultCleanupPolicy {
            unconnected: Duration::MAX,
            soft_closed: seconds(grace),
            left: seconds(grace),
        };
        let cap = self.cap.map(|(most, closes_open_ones)| {
            let cap = PrincipalCap::new(most);
            if closes_open_ones { cap.close_open_ones() } else { cap }
        });
        let waits = self.waits();
        match (self.budget, cap, logins) {
            (None, None, None) => hub.set_cleanup_policy(waits),
            (None, Some(cap), None) => hub.set_cleanup_policy(cap.or(waits)),
            (None, None, Some(logins)) => hub.set_cleanup_policy(waits.or(logins)),
            (None, Some(cap), Some(logins)) => hub.set_cleanup_policy(cap.or(logins.or(waits))),
            (Some(b), cap, logins) => {
                let cap = cap.unwrap_or(PrincipalCap::new(usize::MAX));
                let others = cap.or(waits);
                match (b.grace, logins) {
                    (None, None) => hub.set_cleanup_policy(budget(b).or(others)),
                    (None, Some(logins)) => hub.set_cleanup_policy(logins.or(others).or(budget(b))),
                    (Some(g), None) => hub.set_cleanup_policy(budget(b).and(grace(g)).or(others)),
                    (Some(g), Some(logins)) => hub.set_cleanup_policy(others.or(grace(g).and(budget(b))).or(logins)),
                }
            }
        }
    }
}

/// A session as the model sees it.
struct Page {
    /// Histories use this number because ids are random.
    number: u64,
    session: SessionHandle,
    document: RawDocument,
    wire: Option<Wire>,
    principal: Option<&'static str>,
    state: SessionState,
    since: Instant,
    opened: Instant,
    weight: u64,
    buffered: u64,
    /// When the session's principal logged out.
    logged_out: Option<Instant>,
    had_gap: bool,
    has_left: bool,
}

type Ends = Arc<Mutex<Vec<(SessionId, EndReason, Instant)>>>;

struct World {
    random: Random,
    hub: Hub,
    ends: Ends,
    logins: Logins,
    rules: Rules,
    rules_since: Instant,
    pages: BTreeMap<SessionId, Page>,
    /// Upper bound for the number of evaluations.
    due: f64,
    counts: BTreeMap<&'static str, u64>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Yields often enough for a lost connection to be noticed, for its consequences, and for the
/// sweeper.
async fn turns() {
    for _ in 0..12 {
        tokio::task::yield_now().await;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let ends = Ends::default();
        let noted = Arc::clone(&ends);
        let hub = Hub::builder()
            .heartbeat(Duration::MAX)
            .on_end(move |id, reason| {
                let end = (*id, reason.clone(), now());
                noted.lock().expect("unpoisoned").push(end);
            })
            .build();
        let mut random = Random::new(seed);
        let rules = Rules::random(&mut random);
        let logins = Arc::new(Mutex::new(USERS.into_iter().collect()));
        rules.enact(&hub, &logins);
        Self {
            random,
            hub,
            ends,
            logins,
            rules,
            rules_since: now(),
            pages: BTreeMap::new(),
            due: 0.0,
            counts: BTreeMap::new(),
        }
    }

    async fn step(&mut self) {
        let pause = self.random.pick(&[1, 2, 20, 100, 400]);
        tokio::time::sleep(milliseconds(pause)).await;
        turns().await;
        self.judge_ends();
        self.budget_evaluations(pause);
        match self.random.weighted(&[30, 30, 30, 10, 8, 6, 4, 1, 1]) {
            0 => self.open(),
            1 => self.connect().await,
            2 => self.disconnect(),
            3 => self.weigh(),
            4 => self.send(),
            5 => self.send_to_open(),
            6 => self.end(),
            7 => self.log_in_or_out(),
            _ => self.swap(),
        }
        turns().await;
        self.judge_ends();
        self.judge_the_living();
    }

    /// Each event makes one session due, possibly the one that must end for it, and possibly one at
    /// its deadlines: two waits and a grace period.
    fn budget_evaluations(&mut self, pause: u64) {
        self.due += 1.0;
        if let Some(interval) = self.rules.logins {
            let asked_about = self.pages.values().filter(|page| page.principal.is_some()).count();
            self.due += (asked_about as u64 * pause) as f64 / (interval * 1000) as f64;
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn pick(&mut self, wanted: impl Fn(&Page) -> bool) -> Option<SessionId> {
        let mut pages: Vec<_> = self.pages.values().filter(|page| wanted(page)).collect();
        pages.sort_by_key(|page| page.number);
        let index = self.random.upto(pages.len().checked_sub(1)? as u64);
        Some(*pages[index as usize].session.id())
    }

    fn open(&mut self) {
        let principal = self.random.percent(70).then(|| self.random.pick(&USERS));
        let idle = async |session: Session| {
            session.ended().await;
        };
        let session = match principal {
            Some(principal) => self.hub.open_for(principal, idle),
            None => self.hub.open(idle),
        };
        let is_out = principal.is_some_and(|principal| !self.logins.lock().expect("unpoisoned").contains(principal));
        self.count("opened");
        let page = Page {
            number: self.counts["opened"],
            document: RawDocument::new(&session),
            wire: None,
            principal,
            state: SessionState::Unconnected,
            since: now(),
            opened: now(),
            weight: 0,
            buffered: 0,
            logged_out: is_out.then(now),
            had_gap: false,
            has_left: false,
            session,
        };
        self.pages.insert(*page.session.id(), page);
    }

    async fn connect(&mut self) {
        let Some(id) = self.pick(|page| page.wire.is_none()) else {
            return;
        };
        let page = self.pages.get_mut(&id).expect("the picked session exists");
        let headers = [("sec-websocket-protocol", &b"stillhere.v1"[..])];
        let request = SessionRequest::new(&page.document.access.id, headers).principal(page.principal);
        let (server, end) = pipe();
        let accepted = self.hub.accept(&request).expect("our protocol was offered");
        let carrier = tokio::spawn(run_connection_loop(accepted, server));
        let wire = Wire { end, carrier };
        wire.send(Frame::Hello(page.document.hello()));
        page.document.incarnation = wire.welcome().await.incarnation;
        let waiting = page.buffered / (FRAME_CHARGE + 100);
        for _ in 0..waiting {
            wire.data().await;
            page.buffered -= FRAME_CHARGE + 100;
        }
        let received = page.document.counts.received.interactive + waiting;
        wire.ack(received, 0);
        page.document.counts = Counts {
            received: PerLane::new(received, 0),
            credit: PerLane::new(1 << 40, 1 << 40),
        };
        page.wire = Some(wire);
        page.state = SessionState::Open;
        page.since = now();
        self.count("connected");
    }

    fn disconnect(&mut self) {
        let Some(id) = self.pick(|page| page.wire.is_some()) else {
            return;
        };
        let how = self.random.upto(3);
        let page = self.pages.get_mut(&id).expect("the picked session exists");
        let wire = page.wire.take().expect("the picked page is connected");
        let cause = match how {
            0 => Cause::Lost,
            1 => {
                wire.send(Frame::Leave);
                Cause::Left
            }
            2 if !page.had_gap => {
                // Several gaps in a row would end the session.
                page.had_gap = true;
                wire.send_data(Lane::Interactive, 7, "x");
                Cause::Gap
            }
            _ => {
                page.session.soft_close();
                Cause::Asked
            }
        };
        drop(wire);
        page.state = SessionState::SoftClosed;
        page.has_left = cause == Cause::Left;
        page.since = now();
        self.count(match cause {
            Cause::Lost => "lost",
            Cause::Left => "left",
            Cause::Gap => "gap",
            _ => "asked",
        });
    }

    fn weigh(&mut self) {
        let Some(id) = self.pick(|_| true) else { return };
        let weight = self.random.pick(&[0, 100, 500, 2_000, 10_000]);
        let page = self.pages.get_mut(&id).expect("the picked session exists");
        page.session.set_weight(weight);
        page.weight = weight;
        self.count("weighed");
    }

    /// Sends to a session that waits for its browser, so nobody acknowledges the message.
    fn send(&mut self) {
        let Some(id) = self.pick(|page| page.state == SessionState::SoftClosed) else {
            return;
        };
        let page = self.pages.get_mut(&id).expect("the picked session exists");
        page.session.try_send(vec![0; 100]).expect("there is room");
        page.buffered += FRAME_CHARGE + 100;
        self.count("sent");
    }

    /// Sends to an open session. What it buffers does not count before the session is soft-closed,
    /// and is then acknowledged.
    fn send_to_open(&mut self) {
        let Some(id) = self.pick(|page| page.state == SessionState::Open) else {
            return;
        };
        let page = self.pages.get_mut(&id).expect("the picked session exists");
        page.session.try_send(vec![0; 100]).expect("there is room");
        page.buffered += FRAME_CHARGE + 100;
        self.count("sent to an open one");
    }

    fn end(&mut self) {
        let Some(id) = self.pick(|_| true) else { return };
        let page = self.pages.remove(&id).expect("the picked session exists");
        page.session.abort("by hand");
        let end = self
            .ends
            .lock()
            .expect("unpoisoned")
            .pop()
            .map(|(id, reason, _)| (id, reason));
        assert_eq!(end, Some((id, EndReason::Aborted("by hand".into()))));
        self.count("aborted");
    }

    fn log_in_or_out(&mut self) {
        let user = self.random.pick(&USERS);
        let is_in = {
            let mut logins = self.logins.lock().expect("unpoisoned");
            logins.remove(user) || !logins.insert(user)
        };
        for page in self.pages.values_mut().filter(|page| page.principal == Some(user)) {
            page.logged_out = is_in.then(now);
        }
        self.count("logged in or out");
    }

    fn swap(&mut self) {
        self.rules = Rules::random(&mut self.random);
        self.rules_since = now();
        self.due += self.pages.len() as f64;
        self.rules.enact(&self.hub, &self.logins);
        self.count("policies");
    }

    /// Checks, one after another, that each session that ended was allowed to end at that time.
    fn judge_ends(&mut self) {
        let ends = std::mem::take(&mut *self.ends.lock().expect("unpoisoned"));
        for (id, reason, at) in ends {
            let page = self.pages.get(&id).unwrap_or_else(|| panic!("{id} ended twice"));
            let Some(why) = self.why(&id, page, &self.victims(at), at) else {
                panic!("ended too early: {reason}, {:?}", self.describe(page))
            };
            match page.state {
                SessionState::Unconnected => assert_eq!(reason, EndReason::NeverConnected),
                SessionState::SoftClosed if why == "logged out" && reason == EndReason::Disconnected => {}
                _ => assert_eq!(reason, EndReason::Expired),
            }
            self.count(why);
            self.pages.remove(&id);
        }
    }

    /// Checks that no session is left that must have ended.
    fn judge_the_living(&self) {
        let at = now() - GRANULARITY;
        let victims = self.victims(at);
        for (id, page) in &self.pages {
            assert_eq!(page.session.state(), page.state, "{:?}", self.describe(page));
            let why = self.why(id, page, &victims, at).filter(|why| *why != "logged out");
            assert_eq!(why.or(self.must_be_logged_out(page)), None, "{:?}", self.describe(page));
        }
    }

    fn describe(&self, page: &Page) -> String {
        let (age, held) = (now() - page.since, page.weight + page.buffered);
        format!(
            "{} {:?} for {age:?} holding {held} under {:?}",
            page.number, page.state, self.rules
        )
    }

    /// Returns why the session may end at this time.
    fn why(&self, id: &SessionId, page: &Page, victims: &Victims, at: Instant) -> Option<&'static str> {
        let age = at - page.since;
        let is_logged_out = self.rules.logins.is_some() && page.logged_out.is_some_and(|since| since <= at);
        match page.state {
            SessionState::Unconnected if age >= seconds(self.rules.unconnected) => Some("never connected"),
            SessionState::SoftClosed if age >= self.rules.wait_for_return(page) => Some("expired"),
            _ if is_logged_out => Some("logged out"),
            _ if victims.of_budget == Some(*id) => Some("budget"),
            _ if victims.of_cap.contains(id) => Some("cap"),
            _ => None,
        }
    }

    /// Ends at once if the policy had a reason to check after the logout, and one interval later
    /// otherwise.
    fn must_be_logged_out(&self, page: &Page) -> Option<&'static str> {
        let (interval, since) = (self.rules.logins?, page.logged_out?);
        let is_known = page.state == SessionState::SoftClosed && since < page.since || since < self.rules_since;
        (is_known || since + seconds(interval) + GRANULARITY < now()).then_some("logged out")
    }

    fn victims(&self, at: Instant) -> Victims {
        Victims {
            of_budget: self.rules.budget.and_then(|budget| self.victim_of(budget, at)),
            of_cap: self.rules.cap.map_or_else(Vec::new, |(most, closes_open_ones)| {
                self.victims_of_cap(most, closes_open_ones)
            }),
        }
    }

    fn victim_of(&self, budget: Budget, at: Instant) -> Option<SessionId> {
        let waiting = || {
            self.pages
                .iter()
                .filter(|(_, page)| page.state == SessionState::SoftClosed)
        };
        let held: u64 = waiting().map(|(_, page)| page.weight + page.buffered).sum();
        let (since, oldest) = waiting().map(|(id, page)| (page.since, *id)).min()?;
        let is_exceeded = held > budget.bytes || waiting().count() > budget.sessions;
        let has_grace = budget.grace.is_some_and(|grace| at - since < seconds(grace));
        (is_exceeded && !has_grace).then_some(oldest)
    }

    fn victims_of_cap(&self, most: usize, closes_open_ones: bool) -> Vec<SessionId> {
        let mut places: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (id, page) in &self.pages {
            let place = match page.state {
                SessionState::Open => (true, page.opened, *id),
                SessionState::SoftClosed => (false, page.since, *id),
                _ => continue,
            };
            places.entry(page.principal).or_default().insert(place);
        }
        places.remove(&None);
        let too_many = places.values().filter(|places| places.len() > most);
        let first = too_many.filter_map(BTreeSet::first);
        first
            .filter(|(is_open, ..)| closes_open_ones || !is_open)
            .map(|(.., id)| *id)
            .collect()
    }
}

/// The sessions that must end to make room for others.
struct Victims {
    of_budget: Option<SessionId>,
    of_cap: Vec<SessionId>,
}

/// Timers fire at whole milliseconds.
const GRANULARITY: Duration = Duration::from_millis(2);

/// Runs a history with this many sessions. Returns how often each kind of event happened.
async fn history(seed: u64, sessions: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed);
    while world.counts.get("opened").is_none_or(|opened| *opened < sessions) {
        world.step().await;
    }
    let evaluations = world.hub.stats().policy_evaluations;
    println!(
        "seed {seed}: {evaluations} evaluations, at most {:.0} are due",
        world.due
    );
    assert!(
        evaluations as f64 <= world.due,
        "{evaluations} evaluations, and {} were due",
        world.due
    );
    world.counts
}

/// Runs a history for each seed, or only for the one in `STILLHERE_SEED`.
async fn histories(seeds: std::ops::Range<u64>, sessions: u64) {
    let replayed = std::env::var("STILLHERE_SEED").ok();
    let replayed = replayed.map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in replayed.map_or(seeds, |seed| seed..seed + 1) {
        println!("STILLHERE_SEED={seed}");
        for (what, count) in history(seed, sessions).await {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{counts:#?}");
    for what in ["never connected", "expired", "logged out", "budget", "cap"] {
        assert!(
            replayed.is_some() || counts.contains_key(what),
            "no session ended for this reason: {what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_those_end_that_the_policy_names_in_one_history_of_ten_thousand_sessions() {
    histories(1..2, 10_000).await;
}

#[tokio::test(start_paused = true)]
async fn exactly_those_end_that_the_policy_names_in_many_short_histories() {
    histories(100..200, 100).await;
}
