//! When sessions without a connection end.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use stillhere::connection::Packet;
use stillhere::machine::Event;
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{
    Cause, CleanupPolicy, DefaultCleanupPolicy, EndReason, Hub, Session, SessionHandle, SessionOptions,
    SessionSnapshot, SessionState, run_connection_loop,
};
use tokio::time::{Instant, advance};

use support::browser::Browser;
use support::pipe::pipe;
use support::wire::{RawDocument, Wire};
use support::{accept, milliseconds, seconds, settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

/// Returns options without a heartbeat that could interfere with the deadlines of a test.
fn quiet() -> SessionOptions {
    let mut options = SessionOptions::default();
    options.timing.heartbeat = Duration::MAX;
    options
}

async fn soft_closed(hub: &Hub) -> (SessionHandle, RawDocument) {
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(hub).await;
    drop(wire);
    while session.state() != SessionState::SoftClosed {
        tokio::task::yield_now().await;
    }
    (session, document)
}

#[tokio::test(start_paused = true)]
async fn an_unconnected_session_ends_after_thirty_seconds_and_not_a_millisecond_early() {
    let hub = Hub::new();
    tokio::time::sleep(milliseconds(17)).await;
    let session = hub.open(idle);
    settled().await;
    advance(milliseconds(29_999)).await;
    settled().await;
    assert_eq!(session.state(), SessionState::Unconnected);
    advance(milliseconds(1)).await;
    settled().await;
    assert_eq!(session.ended().now_or_never(), Some(EndReason::NeverConnected));
    assert_eq!((hub.stats().sessions, hub.stats().unconnected), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_page_left_ends_after_fifteen_seconds_and_reports_at_once_that_it_left() {
    let hub = Hub::new();
    // One session whose function is running, and one that still has messages to deliver.
    for ends in [false, true] {
        let session = hub.open(idle);
        let mut document = RawDocument::new(&session);
        let (wire, welcome) = document.welcomed(&hub).await;
        assert_eq!(welcome.keep, 120_000, "the keep time of a page that stays");
        let mut events = session.events();
        if ends {
            session.send("a last word").await.expect("there is room");
            session.close("");
        }
        wire.send(Frame::Leave);
        drop(wire);
        settled().await;
        let left = Instant::now();
        assert_eq!(session.snapshot().cause, Some(Cause::Left));
        if !ends {
            assert_eq!(events.next().await, Some(Event::SoftClosed(Cause::Left)));
        }
        assert_eq!(left.elapsed(), seconds(0), "at once");
        tokio::time::sleep(milliseconds(14_999)).await;
        assert!(session.state().is_soft_closed());
        soon("the end", session.ended()).await;
        assert_eq!(left.elapsed(), seconds(15));

        let end = document.connect(&hub).end().await;
        assert_eq!(
            (end.code, end.reason),
            (4102, if ends { 2 } else { 5 }),
            "a clear answer"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_left_and_came_back_is_kept_like_any_other() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    for _ in 0..3 {
        let (wire, _) = document.welcomed(&hub).await;
        assert_eq!(session.snapshot().cause, None);
        wire.send(Frame::Leave);
        drop(wire);
        tokio::time::sleep(seconds(14)).await;
    }
    let (wire, _) = document.welcomed(&hub).await;
    drop(wire);
    settled().await;
    assert_eq!(session.snapshot().cause, Some(Cause::Lost));
    tokio::time::sleep(seconds(119)).await;
    assert_eq!(session.state(), SessionState::SoftClosed);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_left_is_never_waited_for_longer_than_one_that_is_lost() {
    for (soft_closed, left, expected) in [(7, 15, 7), (120, 0, 0), (0, 15, 0), (30, 20, 20)] {
        let policy = DefaultCleanupPolicy {
            soft_closed: seconds(soft_closed),
            left: seconds(left),
            ..DefaultCleanupPolicy::default()
        };
        let hub = Hub::builder().cleanup_policy(policy).build();
        let session = hub.open(idle);
        let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
        wire.send(Frame::Leave);
        let since = Instant::now();
        let reason = soon("the end", session.ended()).await;
        assert_eq!(since.elapsed(), seconds(expected), "{policy:?}");
        let disconnected = expected == 0;
        assert_eq!(
            reason,
            if disconnected {
                EndReason::Disconnected
            } else {
                EndReason::Expired
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_closed_session_ends_after_two_minutes_and_not_a_millisecond_early() {
    let hub = Hub::new();
    tokio::time::sleep(milliseconds(23)).await;
    let (session, mut document) = soft_closed(&hub).await;
    for _ in 0..4 {
        // The sweeper checks the session in between, at the deadline that it had while unconnected.
        advance(milliseconds(29_999)).await;
        settled().await;
    }
    advance(milliseconds(3)).await;
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
    advance(milliseconds(1)).await;
    settled().await;
    assert_eq!(session.ended().now_or_never(), Some(EndReason::Expired));
    let end = document.connect(&hub).end().await;
    assert_eq!((end.code, end.reason), (4102, EndReason::Expired.number()));
}

#[tokio::test(start_paused = true)]
async fn the_wait_restarts_with_each_soft_close_and_stops_with_each_resume() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let browser = Browser::connected(&hub, &session).await;
    for _ in 0..3 {
        browser.set_online(false);
        tokio::time::sleep(seconds(119)).await;
        browser.set_online(true);
        assert_eq!(browser.outcome().await, Outcome::Resumed);
        tokio::time::sleep(seconds(300)).await;
    }
    browser.set_online(false);
    let start = Instant::now();
    assert_eq!(soon("the end", session.ended()).await, EndReason::Expired);
    assert!(
        (seconds(120)..milliseconds(120_002)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hello_after_the_deadline_is_refused_even_if_its_connection_opened_earlier() {
    let hub = Hub::builder().session_options(quiet()).build();
    // Timers fire at whole milliseconds.
    tokio::time::sleep(milliseconds(1)).await;
    let (session, mut document) = soft_closed(&hub).await;
    advance(milliseconds(119_999)).await;
    let wire = Wire::connect(&hub, &document.access.id);
    settled().await;
    advance(milliseconds(1)).await;
    settled().await;
    assert_eq!(session.state(), SessionState::Closed);
    wire.send(Frame::Hello(document.hello()));
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4102, EndReason::Expired.number()));
}

/// Frees soft-closed sessions, but while it decides, the browser reconnects.
struct SlowJudge {
    meanwhile: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    asked: Arc<AtomicUsize>,
}

impl CleanupPolicy for SlowJudge {
    fn should_cleanup(&self, session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut meanwhile = self.meanwhile.lock().expect("unpoisoned");
        if let Some(future) = meanwhile.as_mut() {
            assert!(future.now_or_never().is_none(), "the connection goes on");
        }
        session.state == SessionState::SoftClosed
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_between_the_decision_and_the_end_resumes() {
    let hub = Hub::builder().session_options(quiet()).build();
    let (session, mut document) = soft_closed(&hub).await;
    let (server, browser) = pipe();
    browser.send(Packet::Binary(Frame::Hello(document.hello()).to_bytes()));
    let carrier = run_connection_loop(accept(&hub, &document.access.id), server);
    let asked = Arc::new(AtomicUsize::new(0));
    let policy = SlowJudge {
        meanwhile: Mutex::new(Some(Box::pin(carrier))),
        asked: Arc::clone(&asked),
    };
    hub.set_cleanup_policy(policy);
    assert_eq!(session.state(), SessionState::Open, "the session is fully open");
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "the policy was asked again, about the present state"
    );
    let Some(Packet::Binary(welcome)) = browser.receive().await else {
        panic!("no welcome")
    };
    assert_eq!(welcome[0], 0x11);
}

#[test]
fn a_reconnect_that_races_with_the_deadline_either_resumes_or_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("the runtime starts");
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ends);
    let hub = {
        let _context = runtime.enter();
        Hub::builder()
            .on_end(move |id, reason| noted.lock().expect("unpoisoned").push((*id, reason.clone())))
            .build()
    };
    let (mut resumed, mut refused) = (0, 0);
    for round in 0..2000 {
        let (session, mut document) = runtime.block_on(soft_closed(&hub));
        let start = Arc::new(std::sync::Barrier::new(2));
        let sweeper = {
            let (hub, start) = (hub.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                spin(round % 40);
                hub.set_cleanup_policy(DefaultCleanupPolicy {
                    soft_closed: Duration::ZERO,
                    ..Default::default()
                });
            })
        };
        start.wait();
        spin((round / 40) % 40);
        let wire = {
            let _context = runtime.enter();
            document.connect(&hub)
        };
        sweeper.join().expect("the task does not panic");
        let id = *session.id();
        match runtime.block_on(wire.frame()) {
            Frame::Welcome(_) => {
                resumed += 1;
                assert_eq!(session.state(), SessionState::Open);
                assert!(ends.lock().expect("unpoisoned").is_empty());
                session.abort("");
            }
            Frame::End(end) => {
                refused += 1;
                // The session is not kept, or its time is over: the policy may change at any
                // moment.
                let reasons = [EndReason::Disconnected.number(), EndReason::Expired.number()];
                assert!(end.code == 4102 && reasons.contains(&end.reason), "{end:?}");
                assert_eq!(session.state(), SessionState::Closed);
            }
            other => panic!("{other:?}"),
        }
        while ends.lock().expect("unpoisoned").is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(std::mem::take(&mut *ends.lock().expect("unpoisoned")).len(), 1, "{id}");
        hub.set_cleanup_policy(DefaultCleanupPolicy::default());
    }
    assert!(
        resumed > 0 && refused > 0,
        "{resumed} resumed, {refused} refused: the race never happened"
    );
}

fn spin(times: u64) {
    for _ in 0..times * 200 {
        std::hint::spin_loop();
    }
}

/// Keeps no session that has lost its connection.
struct NoSoftClose;

impl CleanupPolicy for NoSoftClose {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        false
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        false
    }

    fn next_check(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> Option<std::time::Instant> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_allows_no_soft_close_ends_the_session_at_once() {
    for zero_by_default in [false, true] {
        let builder = Hub::builder();
        let hub = if zero_by_default {
            builder.cleanup_policy(DefaultCleanupPolicy {
                soft_closed: Duration::ZERO,
                ..Default::default()
            })
        } else {
            builder.cleanup_policy(NoSoftClose)
        }
        .build();
        let session = hub.open(idle);
        let mut document = RawDocument::new(&session);
        let (wire, welcome) = document.welcomed(&hub).await;
        assert_eq!(welcome.keep, 0, "the page knows");
        drop(wire);
        settled().await;
        assert_eq!(session.ended().now_or_never(), Some(EndReason::Disconnected));
    }
}

#[tokio::test(start_paused = true)]
async fn an_ending_session_that_may_not_wait_ends_for_its_own_reason() {
    let hub = Hub::builder().cleanup_policy(NoSoftClose).build();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    session.send("last words").await.expect("there is room");
    session.close("bye");
    settled().await;
    assert_eq!(session.state(), SessionState::Ending);
    drop(wire);
    settled().await;
    assert_eq!(session.ended().now_or_never(), Some(EndReason::Closed("bye".into())));
}

#[tokio::test(start_paused = true)]
async fn pages_are_told_how_long_the_session_is_kept() {
    for (soft_closed, keep) in [(seconds(7), 7000), (Duration::MAX, (1 << 53) - 1)] {
        let hub = Hub::builder()
            .cleanup_policy(DefaultCleanupPolicy {
                soft_closed,
                ..Default::default()
            })
            .build();
        let (_wire, welcome) = RawDocument::new(&hub.open(idle)).welcomed(&hub).await;
        assert_eq!(welcome.keep, keep);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_may_be_endless() {
    let policy = DefaultCleanupPolicy {
        unconnected: Duration::MAX,
        soft_closed: Duration::MAX,
        ..DefaultCleanupPolicy::default()
    };
    let mut options = SessionOptions::default();
    options.timing.heartbeat = Duration::MAX;
    options.timing.hello = Duration::MAX;
    options.timing.ending = Duration::MAX;
    options.timing.probe = Some(Duration::MAX);
    let hub = Hub::builder().cleanup_policy(policy).session_options(options).build();
    let waiting = hub.open(idle);
    let (session, mut document) = soft_closed(&hub).await;
    tokio::time::sleep(seconds(30 * 24 * 3600)).await;
    assert_eq!(
        (waiting.state(), session.state()),
        (SessionState::Unconnected, SessionState::SoftClosed)
    );
    let (wire, _) = document.welcomed(&hub).await;
    session.send("x").await.expect("there is room");
    session.close("");
    assert_eq!(wire.data().await.payload, "x");
    tokio::time::sleep(seconds(24 * 3600)).await;
    assert_eq!(session.state(), SessionState::Ending);
    wire.ack(1, 0);
    wire.end().await;
}

/// Panics in the method with this name.
struct Panics(&'static str);

impl Panics {
    fn at(&self, place: &str) {
        assert_ne!(self.0, place, "a test's panic");
    }
}

impl CleanupPolicy for Panics {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        self.at("should_cleanup");
        false
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        self.at("allow_soft_close");
        true
    }

    fn next_check(&self, _session: &SessionSnapshot, now: std::time::Instant) -> Option<std::time::Instant> {
        self.at("next_check");
        Some(now + seconds(1))
    }

    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        self.at("keep");
        seconds(1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_is_asked_again_a_second_later() {
    for place in ["should_cleanup", "allow_soft_close", "next_check", "keep"] {
        let hub = Hub::builder().cleanup_policy(Panics(place)).build();
        let waiting = hub.open(idle);
        let session = hub.open(idle);
        let browser = Browser::connected(&hub, &session).await;
        browser.cut();
        assert_eq!(browser.outcome().await, Outcome::Resumed, "{place}");
        browser.leave();
        settled().await;
        assert_eq!(session.state(), SessionState::SoftClosed, "{place}");
        let before = hub.stats().policy_evaluations;
        tokio::time::sleep(milliseconds(10_500)).await;
        let evaluations = hub.stats().policy_evaluations - before;
        assert!(
            (18..=24).contains(&evaluations),
            "{place}: {evaluations} evaluations of two sessions in ten seconds"
        );
        assert_eq!(waiting.state(), SessionState::Unconnected, "{place}");
        hub.set_cleanup_policy(DefaultCleanupPolicy::default());
        soon("the end", session.ended()).await;
        soon("the end", waiting.ended()).await;
        assert_eq!(hub.stats().sessions, 0, "{place}: the sweeper keeps running");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_swapped_at_run_time_judges_at_once_in_both_directions() {
    let hub = Hub::new();
    let (patient, _) = soft_closed(&hub).await;
    tokio::time::sleep(seconds(100)).await;
    let (recent, _) = soft_closed(&hub).await;
    let waiting = hub.open(idle);
    // A stricter policy: one session has exceeded its time already, and the others get an earlier
    // deadline.
    let strict = DefaultCleanupPolicy {
        unconnected: seconds(10),
        soft_closed: seconds(50),
        ..DefaultCleanupPolicy::default()
    };
    let start = Instant::now();
    hub.set_cleanup_policy(strict);
    assert_eq!(patient.ended().now_or_never(), Some(EndReason::Expired));
    assert_eq!(soon("the end", waiting.ended()).await, EndReason::NeverConnected);
    assert_eq!(start.elapsed().as_secs(), 10);
    // A more patient policy: nothing happens at the old deadline.
    hub.set_cleanup_policy(DefaultCleanupPolicy {
        soft_closed: seconds(200),
        ..strict
    });
    tokio::time::sleep(seconds(150)).await;
    assert_eq!(recent.state(), SessionState::SoftClosed);
    assert_eq!(soon("the end", recent.ended()).await, EndReason::Expired);
    assert_eq!(start.elapsed().as_secs(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_policy_swapped_at_run_time_judges_thousands_of_sessions_in_steps() {
    let hub = Hub::new();
    let sessions: Vec<_> = (0..3000).map(|_| hub.open(idle)).collect();
    let strict = DefaultCleanupPolicy {
        unconnected: Duration::ZERO,
        ..DefaultCleanupPolicy::default()
    };
    hub.set_cleanup_policy(strict);
    let at_once = 3000 - hub.stats().sessions;
    assert_eq!(at_once, 1000, "the caller waits for no more");
    let start = Instant::now();
    for session in sessions {
        assert_eq!(soon("the end", session.ended()).await, EndReason::NeverConnected);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "the others follow without a delay");
}

/// Replaces the policy again when it is dropped, as careless code may.
struct SwapsWhenDropped(Hub);

impl CleanupPolicy for SwapsWhenDropped {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        // Calls the hub, which is allowed.
        self.0.sessions().len() > 1000
    }

    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool {
        self.0.session(&session.id).is_some()
    }
}

impl Drop for SwapsWhenDropped {
    fn drop(&mut self) {
        self.0.set_cleanup_policy(DefaultCleanupPolicy::default());
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_call_its_hub_even_when_it_is_dropped() {
    let hub = Hub::new();
    hub.set_cleanup_policy(SwapsWhenDropped(hub.clone()));
    let (session, _) = soft_closed(&hub).await;
    tokio::time::sleep(seconds(5)).await;
    hub.set_cleanup_policy(NoSoftClose);
    assert_eq!(session.state(), SessionState::SoftClosed);
    assert_eq!(
        soon("the end", session.ended()).await,
        EndReason::Expired,
        "the value that was set last applies"
    );
}

#[tokio::test(start_paused = true)]
async fn the_default_policy_evaluates_only_what_is_due() {
    let hub = Hub::builder().max_unconnected(20_000).build();
    let count = 10_000;
    for batch in 0..10 {
        for _ in 0..count / 10 {
            hub.open(idle);
        }
        tokio::time::sleep(milliseconds(batch)).await;
    }
    assert_eq!(hub.stats().policy_evaluations, 0);
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(hub.stats().sessions, 0);
    let evaluations = hub.stats().policy_evaluations;
    assert!(evaluations <= count + count / 100, "{evaluations}");
}

#[tokio::test(start_paused = true)]
async fn connected_sessions_are_not_evaluated_at_all_and_flapping_ones_once_a_deadline() {
    let hub = Hub::builder().session_options(quiet()).build();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let mut wire = document.welcomed(&hub).await.0;
    tokio::time::sleep(seconds(31)).await;
    let at_thirty = hub.stats().policy_evaluations;
    assert!(at_thirty <= 1);
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!(hub.stats().policy_evaluations, at_thirty);
    for _ in 0..1000 {
        drop(wire);
        settled().await;
        wire = document.welcomed(&hub).await.0;
    }
    tokio::time::sleep(seconds(3600)).await;
    assert!(
        hub.stats().policy_evaluations <= at_thirty + 2,
        "{}",
        hub.stats().policy_evaluations
    );
}

/// Asks for an earlier check while a browser is connected, which is the worst case for a queue of
/// deadlines.
struct Fickle;

impl CleanupPolicy for Fickle {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        false
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, session: &SessionSnapshot, now: std::time::Instant) -> Option<std::time::Instant> {
        Some(
            now + if session.state == SessionState::Open {
                seconds(1)
            } else {
                seconds(60)
            },
        )
    }
}

#[tokio::test(start_paused = true)]
async fn earlier_deadlines_replace_later_ones_and_do_not_add_up() {
    let hub = Hub::builder().session_options(quiet()).cleanup_policy(Fickle).build();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    for _ in 0..50 {
        let (wire, _) = document.welcomed(&hub).await;
        tokio::time::sleep(milliseconds(1500)).await;
        drop(wire);
        tokio::time::sleep(milliseconds(1500)).await;
    }
    let before = hub.stats().policy_evaluations;
    tokio::time::sleep(seconds(600)).await;
    let evaluations = hub.stats().policy_evaluations - before;
    assert!(
        (9..=12).contains(&evaluations),
        "expected one evaluation a minute, got {evaluations} in ten minutes"
    );
}

/// Always asks to be called at once.
struct Impatient(AtomicBool);

impl CleanupPolicy for Impatient {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, session: &SessionSnapshot, _now: std::time::Instant) -> Option<std::time::Instant> {
        Some(session.opened)
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_always_asks_for_an_immediate_check_does_not_spin() {
    let hub = Hub::builder().cleanup_policy(Impatient(AtomicBool::new(false))).build();
    let session = hub.open(idle);
    tokio::time::sleep(seconds(10)).await;
    let evaluations = hub.stats().policy_evaluations;
    assert!((900..=1100).contains(&evaluations), "{evaluations}");
    hub.set_cleanup_policy(Impatient(AtomicBool::new(true)));
    assert_eq!(session.ended().now_or_never(), Some(EndReason::NeverConnected));
}
