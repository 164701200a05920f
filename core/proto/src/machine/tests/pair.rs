//! Tests of both machines together, over a transport without latency that can be cut.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::harness::{LIMITS, bytes, ms, only, secret, text};
use super::host::{KEEP, TIMING};
use crate::code::{Code, EndReason};
use crate::id::DocumentId;
use crate::limits::Limits;
use crate::machine::{
    Action, Cause, ConnectionKey, DocumentEvent, DocumentMachine, DocumentOptions, DocumentPhase, Event, Outcome,
    Phase, SendRefused, SessionMachine,
};
use crate::message::Lane;
use crate::wire::Frame;

use Lane::{Bulk, Interactive};

struct Pair {
    session: SessionMachine,
    pages: Vec<Page>,
    now: Instant,
    connections: u64,
    events: Vec<Event>,
}

struct Page {
    machine: DocumentMachine,
    link: Option<Link>,
    /// True if the page neither receives nor sends anything.
    is_dead: bool,
    events: Vec<DocumentEvent>,
    received: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    number: u64,
    key: ConnectionKey,
    said_hello: bool,
    /// How many more frames reach the server. `down` counts those that reach the page.
    up: usize,
    down: usize,
}

impl Pair {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let session = SessionMachine::new(limits, TIMING, 1, now);
        Self {
            session,
            pages: Vec::new(),
            now,
            connections: 0,
            events: Vec::new(),
        }
    }

    /// Returns a session with one connected page.
    fn connected() -> Self {
        let mut pair = Self::new(LIMITS);
        pair.load();
        pair.settle();
        assert_eq!(pair.outcome(0), Outcome::Opened);
        pair
    }

    /// Opens another page with the same session.
    fn load(&mut self) -> usize {
        let page = self.present();
        self.settle();
        page
    }

    fn present(&mut self) -> usize {
        let seed = self.pages.len() as u8 + 1;
        let (document, limits) = (DocumentId([seed; 16]), *self.session.limits());
        let options = DocumentOptions {
            secret: secret(),
            document,
            limits,
            seed: seed.into(),
        };
        let mut machine = DocumentMachine::new(options, self.now);
        machine.start(self.now);
        self.pages.push(Page {
            machine,
            link: None,
            is_dead: false,
            events: Vec::new(),
            received: Vec::new(),
        });
        self.pages.len() - 1
    }

    /// Runs both machines until nothing happens without time passing.
    fn settle(&mut self) {
        while (0..self.pages.len()).any(|page| self.step(page)) {}
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        assert!(
            self.session.poll_timeout().is_none_or(|at| at > self.now),
            "a timer is due again and again"
        );
    }

    fn step(&mut self, index: usize) -> bool {
        if self.pages[index].is_dead {
            return false;
        }
        let mut progressed = self.exchange(index);
        while let Some(action) = self.pages[index].machine.poll_action() {
            progressed = true;
            match action {
                Action::Connect(number) => {
                    self.connections += 1;
                    let key = ConnectionKey(self.connections);
                    let link = Link {
                        number,
                        key,
                        said_hello: false,
                        up: usize::MAX,
                        down: usize::MAX,
                    };
                    self.pages[index].link = Some(link);
                    self.pages[index].machine.handle_open(number, self.now);
                }
                Action::Close(number, _) => {
                    if let Some(link) = self.pages[index].link.take_if(|link| link.number == number) {
                        self.session.handle_closed(link.key, self.now);
                    }
                }
            }
        }
        let page = &mut self.pages[index];
        page.events.extend(std::iter::from_fn(|| page.machine.poll_event()));
        progressed
    }

    /// Passes at most one frame in each direction.
    fn exchange(&mut self, index: usize) -> bool {
        let page = &mut self.pages[index];
        let Some(link) = &mut page.link else { return false };
        if let Some(frame) = page.machine.poll_transmit(link.number, true, self.now) {
            let passes = link.up > 0;
            link.up = link.up.saturating_sub(1);
            let is_first = !std::mem::replace(&mut link.said_hello, true);
            match frame {
                _ if !passes => {}
                Frame::Hello(hello) if is_first => self.session.handle_hello(link.key, &hello, KEEP, self.now),
                frame => self.session.handle_frame(link.key, frame.to_bytes(), self.now),
            }
            return true;
        }
        let Some(frame) = self.session.poll_transmit(link.key, self.now) else {
            return false;
        };
        if link.down > 0 {
            link.down -= 1;
            page.machine.handle_frame(link.number, frame.to_bytes(), self.now);
        }
        if matches!(frame, Frame::End(_)) {
            let Link { number, key, .. } = *link;
            page.link = None;
            page.machine.handle_close(number, 1006, self.now);
            self.session.handle_closed(key, self.now);
        }
        true
    }

    /// Breaks a page's connection, which both sides notice.
    fn cut(&mut self, page: usize) {
        if let Some(link) = self.pages[page].link.take() {
            self.session.handle_closed(link.key, self.now);
            self.pages[page].machine.handle_close(link.number, 1006, self.now);
        }
    }

    /// Stops a page without notice. Its connection still looks alive to the server.
    fn kill(&mut self, page: usize) {
        self.pages[page].is_dead = true;
    }

    fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.settle();
        loop {
            let living = self.pages.iter().filter(|page| !page.is_dead);
            let timeouts = living
                .filter_map(|page| page.machine.poll_timeout())
                .chain(self.session.poll_timeout());
            let Some(at) = timeouts.min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            for page in self.pages.iter_mut().filter(|page| !page.is_dead) {
                page.machine.handle_timeout(self.now);
            }
            self.session.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn send(&mut self, payload: impl Into<Bytes>) {
        self.session.send(Interactive, payload.into().into());
    }

    fn send_from(&mut self, page: usize, payload: impl Into<Bytes>) {
        self.pages[page]
            .machine
            .send(Interactive, payload.into())
            .expect("there is room");
    }

    /// Reads all messages as the session's application.
    fn take_all(&mut self) -> Vec<Bytes> {
        let taken = std::iter::from_fn(|| self.session.take(self.now)).map(|(_, received)| received.into_bytes());
        taken.collect()
    }

    /// Reads all messages as a page's application.
    fn take_all_from(&mut self, page: usize) -> Vec<Bytes> {
        let page = &mut self.pages[page];
        for lane in Lane::ALL {
            while let Some(received) = page.machine.take(lane) {
                page.received.push(received.into_bytes());
                page.machine.release(lane, self.now);
            }
        }
        std::mem::take(&mut page.received)
    }

    fn outcome(&mut self, page: usize) -> Outcome {
        match self.pages[page].events.drain(..).next_back() {
            Some(DocumentEvent::Welcomed { outcome, .. }) => outcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    fn phase(&self, page: usize) -> DocumentPhase {
        self.pages[page].machine.phase()
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Bytes> {
    range.map(|number| Bytes::from(number.to_string())).collect()
}

#[test]
fn a_cut_before_any_message_was_received_loses_nothing() {
    let mut pair = Pair::connected();
    pair.cut(0);
    pair.send(text("first"));
    pair.send_from(0, text("first too"));
    pair.advance(ms(600));
    assert_eq!(pair.outcome(0), Outcome::Resumed);
    assert_eq!(
        (pair.take_all_from(0), pair.take_all()),
        (vec![text("first")], vec![text("first too")])
    );
}

#[test]
fn a_blip_after_idling_far_longer_than_the_window_loses_nothing() {
    let mut pair = Pair::connected();
    pair.advance(Duration::from_secs(24 * 3600));
    assert_eq!(pair.session.epoch(), 1);
    pair.send(text("before"));
    pair.cut(0);
    pair.send(text("after"));
    pair.settle();
    assert_eq!(pair.outcome(0), Outcome::Resumed);
    assert_eq!(pair.take_all_from(0), ["before", "after"]);
}

#[test]
fn a_drop_during_replay_loses_nothing() {
    for passing in 0..12 {
        let mut pair = Pair::connected();
        pair.cut(0);
        for number in numbers(0..10) {
            pair.send(number.clone());
            pair.send_from(0, number);
        }
        pair.step(0);
        if let Some(link) = &mut pair.pages[0].link {
            (link.up, link.down) = (passing, passing);
        }
        pair.settle();
        pair.cut(0);
        pair.advance(ms(1000));
        assert_eq!(pair.take_all_from(0), numbers(0..10), "{passing} frames passed");
        assert_eq!(pair.take_all(), numbers(0..10), "{passing} frames passed");
    }
}

#[test]
fn a_thousand_drops_in_a_row_lose_nothing() {
    let mut pair = Pair::connected();
    let (mut to_page, mut to_server) = (Vec::new(), Vec::new());
    for (drop, number) in numbers(0..1000).into_iter().enumerate() {
        pair.send(number.clone());
        pair.send_from(0, number);
        if let Some(link) = &mut pair.pages[0].link {
            (link.up, link.down) = (drop % 4, drop / 4 % 5);
        }
        pair.settle();
        pair.cut(0);
        to_page.extend(pair.take_all_from(0));
        to_server.extend(pair.take_all());
        pair.advance(ms(501));
    }
    pair.advance(Duration::from_secs(60));
    to_page.extend(pair.take_all_from(0));
    to_server.extend(pair.take_all());
    assert!(pair.session.epoch() > 500, "{}", pair.session.epoch());
    assert_eq!((to_page, to_server), (numbers(0..1000), numbers(0..1000)));
}

#[test]
fn of_two_clients_with_one_session_the_one_that_answers_keeps_it() {
    let mut pair = Pair::connected();
    let copy = pair.load();
    assert_eq!(
        only(std::mem::take(&mut pair.pages[copy].events)),
        refused(Code::Duplicate)
    );
    assert_eq!(pair.phase(copy), DocumentPhase::Over);
    pair.send(text("still mine"));
    pair.settle();
    assert_eq!(
        (pair.take_all_from(0), pair.take_all_from(copy)),
        (vec![text("still mine")], vec![])
    );
}

fn refused(code: Code) -> DocumentEvent {
    let text = match code {
        Code::Duplicate => "this session is in use in another tab",
        _ => "another document has taken over this session",
    };
    DocumentEvent::Refused {
        code: code as u64,
        text: text.to_owned(),
        retry_at: None,
    }
}

#[test]
fn of_two_clients_with_the_same_session_a_silent_one_loses_it_within_two_seconds() {
    let mut pair = Pair::connected();
    pair.kill(0);
    pair.send(text("for the first"));
    let other = pair.load();
    pair.advance(ms(2000));
    assert_eq!(pair.outcome(other), Outcome::Restored);
    pair.send(text("for the second"));
    pair.settle();
    assert_eq!(pair.take_all_from(other), ["for the second"]);
    // The first page was only frozen. When it thaws, it learns that it was superseded from the
    // close code, or from its next hello.
    pair.pages[0].is_dead = false;
    pair.settle();
    assert_eq!(pair.pages[0].events, [refused(Code::Superseded)]);
    assert_eq!(pair.phase(other), DocumentPhase::Connected);
}

#[test]
fn a_frozen_page_whose_connection_is_gone_finds_out_that_it_was_superseded() {
    let mut pair = Pair::connected();
    pair.kill(0);
    let other = pair.load();
    pair.advance(ms(2000));
    pair.pages[0].link = None;
    pair.pages[0].is_dead = false;
    pair.advance(Duration::from_secs(41));
    assert_eq!(pair.pages[0].events.last(), Some(&refused(Code::Superseded)));
    assert_eq!(pair.phase(other), DocumentPhase::Connected);
}

#[test]
fn a_lost_welcome_of_a_restore_is_repaired() {
    let mut pair = Pair::connected();
    pair.cut(0);
    pair.kill(0);
    let page = pair.present();
    pair.step(page);
    pair.pages[page].link.as_mut().expect("it connects at once").down = 1;
    pair.settle();
    assert_eq!(pair.session.incarnation(), 2);
    assert_eq!(pair.phase(page), DocumentPhase::Offered);
    pair.send_from(page, text("mine"));
    pair.cut(page);
    pair.advance(ms(600));
    assert_eq!(pair.outcome(page), Outcome::Restored);
    assert_eq!((pair.session.incarnation(), pair.take_all()), (2, vec![text("mine")]));
}

#[test]
fn a_reload_during_the_ending_learns_the_reason() {
    let mut pair = Pair::connected();
    pair.cut(0);
    pair.kill(0);
    pair.send(text("last"));
    pair.session.close(EndReason::Finished, pair.now);
    let reload = pair.load();
    assert!(matches!(
        pair.pages[reload].events[..],
        [DocumentEvent::Ended {
            code: 4102,
            reason: 1,
            ..
        }]
    ));
    assert_eq!(pair.session.phase(), &Phase::Ending(EndReason::Finished));
}

fn ended(pair: &Pair) -> (u64, usize) {
    match pair.pages[0].events.last() {
        Some(DocumentEvent::Ended {
            reason, unacknowledged, ..
        }) => (*reason, *unacknowledged),
        other => panic!("expected the end, got {other:?}"),
    }
}

#[test]
fn the_last_message_and_the_reason_arrive_when_the_function_returns_while_attached() {
    let mut pair = Pair::connected();
    pair.send(text("bye"));
    pair.session.close(EndReason::Finished, pair.now);
    pair.advance(ms(200));
    assert_eq!((pair.take_all_from(0), ended(&pair)), (vec![text("bye")], (1, 0)));
    assert_eq!(pair.events.last(), Some(&Event::Ended(EndReason::Finished)));
    assert_eq!(pair.session.unacknowledged(), 0);
}

#[test]
fn the_last_message_and_the_reason_arrive_when_the_function_returns_while_soft_closed() {
    let mut pair = Pair::connected();
    pair.advance(ms(1500));
    pair.pages[0].machine.handle_leave();
    pair.settle();
    assert_eq!(pair.session.phase(), &Phase::SoftClosed(Cause::Left));
    pair.send(text("bye"));
    pair.session.close(EndReason::Finished, pair.now);
    pair.advance(Duration::from_secs(60));
    pair.pages[0].machine.handle_wake(pair.now);
    pair.advance(ms(200));
    assert_eq!((pair.take_all_from(0), ended(&pair)), (vec![text("bye")], (1, 0)));
    assert_eq!(pair.session.phase(), &Phase::Closed(EndReason::Finished));
}

#[test]
fn the_page_learns_how_many_of_its_messages_were_not_received() {
    let mut pair = Pair::connected();
    for number in numbers(0..3) {
        pair.send_from(0, number);
    }
    pair.settle();
    pair.pages[0].link.as_mut().expect("it is connected").up = 0;
    for number in numbers(3..7) {
        pair.send_from(0, number);
    }
    pair.settle();
    pair.session.abort(EndReason::Panicked, pair.now);
    pair.settle();
    assert_eq!(ended(&pair), (9, 4));
    assert_eq!(pair.take_all(), numbers(0..3));
}

#[test]
fn messages_just_above_each_bound_pass_or_are_refused() {
    let limits = Limits {
        outbox: 3000,
        message: 5000,
        ..LIMITS
    };
    let sizes = [
        limits.window + 1,
        limits.bulk_window + 1,
        limits.outbox + 1,
        limits.message - 1,
        limits.message,
    ];
    for size in sizes.map(|size| size as usize) {
        for lane in Lane::ALL {
            let mut pair = Pair::new(limits);
            pair.load();
            assert!(pair.session.admits(lane, size), "an empty lane takes any message");
            pair.session.send(lane, bytes(size).into());
            pair.pages[0]
                .machine
                .send(lane, bytes(size))
                .expect("an empty lane takes any message");
            pair.advance(ms(200));
            assert_eq!(
                (pair.take_all(), pair.take_all_from(0)),
                (vec![bytes(size)], vec![bytes(size)])
            );
        }
    }
    let mut pair = Pair::new(limits);
    pair.load();
    let refused = pair.pages[0].machine.send(Interactive, bytes(5001));
    assert_eq!(refused, Err(SendRefused::TooLarge));
}

#[test]
fn a_hundred_thousand_empty_messages_pass_within_the_bounds() {
    const MESSAGES: u32 = 100_000;
    let mut pair = Pair::new(Limits {
        outbox: 20_000,
        ..LIMITS
    });
    pair.load();
    let (mut sent, mut received) = ([0; 2], [0; 2]);
    while received != [MESSAGES; 2] {
        while sent[0] < MESSAGES && pair.session.admits(Interactive, 0) {
            pair.session.send(Interactive, Bytes::new().into());
            sent[0] += 1;
        }
        while sent[1] < MESSAGES && pair.pages[0].machine.send(Bulk, Bytes::new()).is_ok() {
            sent[1] += 1;
        }
        pair.settle();
        assert!(pair.session.outgoing(Interactive) <= 20_000 && pair.pages[0].machine.outgoing(Bulk) <= 20_000);
        assert!(pair.session.incoming(Bulk) <= 1000 && pair.pages[0].machine.incoming(Interactive) <= 2000);
        received[0] += pair.take_all_from(0).len() as u32;
        received[1] += pair.take_all().len() as u32;
    }
    pair.advance(ms(1000));
    assert_eq!(
        (pair.take_all_from(0), pair.take_all(), pair.session.unacknowledged()),
        (vec![], vec![], 0)
    );
}

#[test]
fn applications_that_never_read_fill_the_buffers_and_no_more() {
    let limits = Limits { outbox: 5000, ..LIMITS };
    let mut pair = Pair::new(limits);
    pair.load();
    let mut sent = [0; 2];
    for _ in 0..100 {
        while pair.session.admits(Interactive, 4) {
            pair.send(text("fill"));
            sent[0] += 1;
        }
        while pair.pages[0].machine.send(Interactive, text("fill")).is_ok() {
            sent[1] += 1;
        }
        pair.advance(ms(200));
    }
    assert!(pair.session.incoming(Interactive) <= 2000 && pair.session.outgoing(Interactive) <= 5000);
    // Unacknowledged messages fill the outbox and acknowledged ones the window. Each is charged 68
    // bytes.
    assert_eq!(sent, [(5000 / 68) + 2000 / 68; 2]);
    assert_eq!(pair.phase(0), DocumentPhase::Connected);
    assert_eq!(
        (pair.take_all().len(), pair.take_all_from(0).len()),
        (2000 / 68, 2000 / 68)
    );
}

#[test]
fn a_page_from_the_back_forward_cache_resumes() {
    let mut pair = Pair::connected();
    pair.advance(ms(1500));
    pair.pages[0].machine.handle_leave();
    pair.settle();
    pair.send(text("while away"));
    pair.advance(Duration::from_secs(30));
    assert_eq!(pair.take_all_from(0), [] as [Bytes; 0]);
    pair.pages[0].machine.handle_wake(pair.now);
    pair.settle();
    assert_eq!(
        (pair.outcome(0), pair.take_all_from(0)),
        (Outcome::Resumed, vec![text("while away")])
    );
}

#[test]
fn both_sides_detect_a_half_open_connection() {
    let mut pair = Pair::connected();
    let link = pair.pages[0].link.as_mut().expect("it is connected");
    (link.up, link.down) = (0, 0);
    pair.send(text("into the void"));
    pair.advance(Duration::from_secs(29));
    assert_eq!(pair.session.phase(), &Phase::Open);
    pair.advance(Duration::from_secs(1));
    assert!(pair.events.contains(&Event::SoftClosed(Cause::Silent)));
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.outcome(0), Outcome::Resumed);
    assert_eq!(pair.session.phase(), &Phase::Open);
    assert_eq!(pair.take_all_from(0), ["into the void"]);
}
