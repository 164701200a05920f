//! The ready-made cleanup policies, and how a hub supports policies that compare sessions or judge
//! them by size.

#[path = "../examples/by_worth.rs"]
#[allow(dead_code, reason = "an example has a main function")]
mod by_worth;
mod support;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use stillhere::connection::Packet;
use stillhere::wire::Frame;
use stillhere::{
    CleanupPolicy, DefaultCleanupPolicy, EndReason, FRAME_CHARGE, Hub, Lane, MemoryBudget, PrincipalCap, Session,
    SessionHandle, SessionId, SessionSnapshot, SessionState, WhileAuthenticated, run_connection_loop,
};
use tokio::time::Instant;

use support::pipe::pipe;
use support::wire::{RawDocument, Wire};
use support::{accept, milliseconds, seconds, settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

/// Returns a hub without a heartbeat that could interfere with the deadlines of a test.
fn hub(policy: impl CleanupPolicy) -> Hub {
    Hub::builder().heartbeat(Duration::MAX).cleanup_policy(policy).build()
}

/// A page whose browser has connected.
struct Page {
    session: SessionHandle,
    document: RawDocument,
    wire: Option<Wire>,
}

impl Page {
    async fn open(hub: &Hub) -> Self {
        Self::come_to(hub, hub.open(idle)).await
    }

    async fn open_for(hub: &Hub, principal: &str) -> Self {
        Self::come_to(hub, hub.open_for(principal, idle)).await
    }

    async fn come_to(hub: &Hub, session: SessionHandle) -> Self {
        let document = RawDocument::new(&session);
        let mut page = Self {
            session,
            document,
            wire: None,
        };
        page.connect(hub).await;
        page
    }

    async fn connect(&mut self, hub: &Hub) {
        let request = stillhere::SessionRequest::new(
            &self.document.access.id,
            [("sec-websocket-protocol", &b"stillhere.v1"[..])],
        )
        .principal(self.session.principal());
        let (server, end) = pipe();
        let accepted = hub.accept(&request).expect("our protocol was offered");
        let wire = Wire {
            end,
            carrier: tokio::spawn(run_connection_loop(accepted, server)),
        };
        wire.send(Frame::Hello(self.document.hello()));
        self.document.incarnation = wire.welcome().await.incarnation;
        self.wire = Some(wire);
    }

    /// Loses the connection, a millisecond after the previous event.
    async fn lose(&mut self) {
        tokio::time::sleep(milliseconds(1)).await;
        self.wire = None;
        settled().await;
    }

    fn is_over(&self) -> bool {
        self.session.state() == SessionState::Closed
    }
}

/// Returns the numbers of the pages whose sessions have ended.
fn over(pages: &[Page]) -> Vec<usize> {
    (0..pages.len()).filter(|number| pages[*number].is_over()).collect()
}

async fn pages(hub: &Hub, weights: &[u64]) -> Vec<Page> {
    let mut pages = Vec::new();
    for weight in weights {
        let page = Page::open(hub).await;
        page.session.set_weight(*weight);
        pages.push(page);
    }
    settled().await;
    pages
}

async fn pages_of(hub: &Hub, principal: &str, count: usize) -> Vec<Page> {
    let mut pages = Vec::new();
    for _ in 0..count {
        tokio::time::sleep(milliseconds(1)).await;
        pages.push(Page::open_for(hub, principal).await);
    }
    pages
}

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_the_longest_soft_closed_end_first() {
    let hub = hub(MemoryBudget::new(100));
    let mut pages = pages(&hub, &[30, 50, 20, 40, 1000]).await;
    for number in [2, 0, 1] {
        pages[number].lose().await;
    }
    assert_eq!(over(&pages), [] as [usize; 0], "exactly the budget fits");
    pages[3].lose().await;
    assert_eq!(
        over(&pages),
        [0, 2],
        "the two that waited longest, and no more than needed"
    );
    assert_eq!(pages[0].session.ended().now_or_never(), Some(EndReason::Expired));
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!(
        over(&pages),
        [0, 2],
        "an open one costs nothing, however heavy, and the budget knows no time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_sessions_keeps_the_youngest() {
    let hub = hub(MemoryBudget::new(u64::MAX).max_sessions(2));
    let mut pages = pages(&hub, &[u64::MAX; 4]).await;
    for page in &mut pages {
        page.lose().await;
    }
    assert_eq!(over(&pages), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_session_larger_than_the_budget_cannot_wait() {
    let hub = hub(MemoryBudget::new(100));
    let mut pages = pages(&hub, &[10, 101]).await;
    pages[1].lose().await;
    assert_eq!(over(&pages), [1]);
    pages[0].lose().await;
    assert_eq!(over(&pages), [1]);
}

#[tokio::test(start_paused = true)]
async fn the_budget_follows_what_sessions_hold_while_they_wait() {
    let hub = hub(MemoryBudget::new(1000));
    let mut pages = pages(&hub, &[300, 300, 300]).await;
    for page in &mut pages {
        page.lose().await;
    }
    pages[2].session.set_weight(400);
    settled().await;
    assert_eq!(over(&pages), [] as [usize; 0]);
    pages[2].session.try_send("x").expect("there is room");
    settled().await;
    assert_eq!(over(&pages), [0], "a message is {} bytes too much", FRAME_CHARGE + 1);
    pages[1].session.set_weight(0);
    settled().await;
    pages[2].session.try_send(vec![0; 400]).expect("there is room");
    settled().await;
    assert_eq!(over(&pages), [0], "freed memory is available to others");
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_function_reads_while_its_session_waits_no_longer_count() {
    let hub = hub(MemoryBudget::new(1000));
    let read = Arc::new(tokio::sync::Notify::new());
    let asked = Arc::clone(&read);
    let session = hub.open(async move |mut session: Session| {
        asked.notified().await;
        session.recv().await;
        session.ended().await;
    });
    let mut reader = Page::come_to(&hub, session).await;
    let wire = reader.wire.as_ref().expect("it is connected");
    wire.send_data(Lane::Interactive, 1, vec![0; 900]);
    settled().await;
    let mut others = pages(&hub, &[0, 500]).await;
    others[0].lose().await;
    reader.lose().await;
    assert_eq!(reader.session.snapshot().buffered, 900 + FRAME_CHARGE);
    read.notify_one();
    settled().await;
    others[1].lose().await;
    assert_eq!((over(&others).len(), reader.is_over()), (0, false));
}

#[tokio::test(start_paused = true)]
async fn sessions_that_reconnect_or_end_leave_the_budget() {
    let hub = hub(MemoryBudget::new(100).or(DefaultCleanupPolicy::default()));
    let mut pages = pages(&hub, &[100, 100, 100, 100]).await;
    pages[0].lose().await;
    pages[0].connect(&hub).await;
    pages[1].lose().await;
    pages[1].session.abort("");
    pages[2].lose().await;
    tokio::time::sleep(seconds(121)).await;
    assert_eq!(over(&pages), [1, 2]);
    assert_eq!(pages[2].session.ended().now_or_never(), Some(EndReason::Expired));
    pages[3].lose().await;
    assert_eq!(over(&pages), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_set_at_run_time_observes_all_sessions_before_it_judges() {
    for _ in 0..20 {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&ends);
        let hub = Hub::builder()
            .heartbeat(Duration::MAX)
            .on_end(move |id, _| noted.lock().expect("unpoisoned").push(*id))
            .build();
        let mut pages = pages(&hub, &[10; 30]).await;
        for page in &mut pages {
            page.lose().await;
        }
        hub.set_cleanup_policy(MemoryBudget::new(105));
        settled().await;
        let by_age: Vec<_> = pages[..20].iter().map(|page| *page.session.id()).collect();
        assert_eq!(*ends.lock().expect("unpoisoned"), by_age);
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_evaluates_only_sessions_that_changed() {
    let hub = hub(MemoryBudget::new(100));
    let mut pages = pages(&hub, &[1; 200]).await;
    let before = hub.stats().policy_evaluations;
    for page in &mut pages {
        page.lose().await;
    }
    assert_eq!(over(&pages), (0..100).collect::<Vec<_>>());
    assert_eq!(
        hub.stats().policy_evaluations - before,
        100,
        "the sessions that had to end"
    );
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!(hub.stats().policy_evaluations - before, 100);
}

#[tokio::test(start_paused = true)]
async fn messages_to_a_waiting_session_cause_few_evaluations_and_none_if_sizes_do_not_matter() {
    let hubs = [hub(MemoryBudget::new(u64::MAX)), hub(DefaultCleanupPolicy::default())];
    for (hub, evaluations) in hubs.iter().zip([1, 0]) {
        let mut page = Page::open(hub).await;
        page.lose().await;
        let before = hub.stats().policy_evaluations;
        for _ in 0..1000 {
            page.session.try_send("x").expect("there is room");
        }
        settled().await;
        assert_eq!(hub.stats().policy_evaluations - before, evaluations);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_ends_the_longest_soft_closed_of_that_principal_and_never_an_open_one() {
    let hub = hub(PrincipalCap::new(2));
    let mut ada = pages_of(&hub, "ada", 2).await;
    let mut eve = pages_of(&hub, "eve", 2).await;
    let mut nobody = pages(&hub, &[0; 5]).await;
    for page in ada.iter_mut().rev().chain(&mut eve).chain(&mut nobody) {
        page.lose().await;
    }
    let waiting = hub.open_for("ada", idle);
    settled().await;
    assert_eq!(
        over(&ada),
        [] as [usize; 0],
        "an unconnected session does not count yet"
    );
    ada.push(Page::come_to(&hub, waiting).await);
    settled().await;
    assert_eq!(over(&ada), [1]);
    ada.extend(pages_of(&hub, "ada", 3).await);
    settled().await;
    assert_eq!(over(&ada), [0, 1], "the four open sessions stay");
    ada[3].lose().await;
    assert_eq!(over(&ada), [0, 1, 3]);
    assert_eq!((over(&eve).len(), over(&nobody).len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_closes_open_ones_begins_with_those_opened_first() {
    let hub = hub(PrincipalCap::new(2).close_open_ones());
    let mut pages = pages_of(&hub, "ada", 2).await;
    pages[0].lose().await;
    pages[0].connect(&hub).await;
    settled().await;
    pages.extend(pages_of(&hub, "ada", 1).await);
    settled().await;
    assert_eq!(
        over(&pages),
        [0],
        "a recent connection does not make the session younger"
    );
    pages[2].lose().await;
    pages.extend(pages_of(&hub, "ada", 1).await);
    settled().await;
    assert_eq!(over(&pages), [0, 2], "a soft-closed one goes before an open one");
}

#[tokio::test(start_paused = true)]
async fn a_cap_forgets_sessions_that_ended_or_are_ending() {
    let hub = hub(PrincipalCap::new(1));
    let mut pages = pages_of(&hub, "ada", 3).await;
    pages[0].session.abort("");
    pages[1].session.send("last words").await.expect("there is room");
    pages[1].session.close("");
    settled().await;
    assert_eq!(pages[1].session.state(), SessionState::Ending);
    pages[2].lose().await;
    assert_eq!(over(&pages), [0]);
}

fn logins(names: &[&str]) -> Arc<Mutex<BTreeSet<String>>> {
    Arc::new(Mutex::new(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn while_logged_in(logins: &Arc<Mutex<BTreeSet<String>>>) -> WhileAuthenticated {
    let logins = Arc::clone(logins);
    WhileAuthenticated::new(seconds(10), move |user| {
        logins.lock().expect("unpoisoned").contains(user)
    })
}

#[tokio::test(start_paused = true)]
async fn after_a_logout_open_and_waiting_sessions_end_within_the_interval() {
    let logins = logins(&["ada", "eve"]);
    let hub = hub(while_logged_in(&logins));
    let mut ada = pages_of(&hub, "ada", 2).await;
    let eve = pages_of(&hub, "eve", 1).await;
    let nobody = pages(&hub, &[0]).await;
    let waiting = hub.open_for("ada", idle);
    ada[1].lose().await;
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!(
        (over(&ada).len(), waiting.state()),
        (0, SessionState::Unconnected),
        "the logged-in stay"
    );
    logins.lock().expect("unpoisoned").remove("ada");
    let start = Instant::now();
    for session in [&ada[0].session, &ada[1].session, &waiting] {
        soon("the end", session.ended()).await;
    }
    assert!(start.elapsed() <= milliseconds(10_001), "{:?}", start.elapsed());
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!((over(&eve).len(), over(&nobody).len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn only_the_logged_in_user_may_reconnect() {
    let logins = logins(&["ada"]);
    let hub = hub(while_logged_in(&logins));
    let mut pages = pages_of(&hub, "ada", 2).await;
    pages[0].lose().await;
    logins.lock().expect("unpoisoned").clear();
    pages[1].lose().await;
    assert_eq!(over(&pages), [1], "at once");
    assert_eq!(pages[1].session.ended().now_or_never(), Some(EndReason::Disconnected));
}

#[tokio::test(start_paused = true)]
async fn sessions_are_checked_once_an_interval_and_those_without_a_principal_never() {
    let logins = logins(&["ada"]);
    let hub = hub(while_logged_in(&logins));
    let _ada = pages_of(&hub, "ada", 10).await;
    let _nobody = pages(&hub, &[0; 10]).await;
    tokio::time::sleep(seconds(1)).await;
    let before = hub.stats().policy_evaluations;
    tokio::time::sleep(seconds(600)).await;
    let evaluations = hub.stats().policy_evaluations - before;
    assert!((580..=620).contains(&evaluations), "{evaluations}");
}

#[tokio::test(start_paused = true)]
async fn pages_are_told_the_shorter_wait_of_either_and_the_longer_of_both() {
    let wait = |wait: u64| DefaultCleanupPolicy {
        soft_closed: seconds(wait),
        ..Default::default()
    };
    let either = hub(MemoryBudget::new(1).or(wait(7)).or(wait(9)));
    let both = hub(wait(7).and(wait(9)));
    let one_allows = hub(wait(0).and(wait(9)));
    let one_forbids = hub(wait(0).or(wait(9)));
    for (hub, keep) in [(either, 7000), (both, 9000), (one_allows, 9000), (one_forbids, 0)] {
        let (_wire, welcome) = RawDocument::new(&hub.open(idle)).welcomed(&hub).await;
        assert_eq!(welcome.keep, keep);
    }
}

#[tokio::test(start_paused = true)]
async fn either_policy_ends_a_session_at_its_time_and_both_together_at_the_later() {
    let wait = |unconnected: u64, soft_closed: u64| DefaultCleanupPolicy {
        unconnected: seconds(unconnected),
        soft_closed: seconds(soft_closed),
        ..DefaultCleanupPolicy::default()
    };
    let either = hub(wait(5, 50).or(wait(20, 30)));
    let both = hub(wait(5, 50).and(wait(20, 30)));
    for (hub, unconnected, soft_closed) in [(either, 5, 30), (both, 20, 50)] {
        let start = Instant::now();
        soon("the end", hub.open(idle).ended()).await;
        assert_eq!(start.elapsed().as_secs(), unconnected);
        let mut page = Page::open(&hub).await;
        page.lose().await;
        let start = Instant::now();
        soon("the end", page.session.ended()).await;
        assert_eq!(start.elapsed().as_secs(), soft_closed);
        // The first is judged at its end. The second is judged at the deadline that it had while
        // unconnected, and at its end.
        assert!(
            hub.stats().policy_evaluations <= 3,
            "{}",
            hub.stats().policy_evaluations
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_combined_by_and_waits_for_the_other_policy_and_no_longer() {
    let grace = DefaultCleanupPolicy {
        unconnected: seconds(1000),
        soft_closed: seconds(10),
        ..DefaultCleanupPolicy::default()
    };
    for hub in [
        hub(MemoryBudget::new(100).and(grace)),
        hub(grace.and(MemoryBudget::new(100))),
    ] {
        let mut pages = pages(&hub, &[60, 60, 60]).await;
        for page in &mut pages {
            page.lose().await;
        }
        tokio::time::sleep(milliseconds(9900)).await;
        assert_eq!(over(&pages), [] as [usize; 0]);
        tokio::time::sleep(milliseconds(200)).await;
        assert_eq!(over(&pages), [0, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn by_worth_a_user_is_kept_longer_than_a_guest_and_both_longer_than_a_heavy_session() {
    let hub = hub(by_worth::ByWorth);
    let mut pages = vec![
        Page::open(&hub).await,
        Page::open_for(&hub, "ada").await,
        Page::open_for(&hub, "ada").await,
    ];
    pages[2].session.set_weight((64 << 20) + 1);
    for page in &mut pages {
        page.lose().await;
    }
    let waiting = hub.open_for("ada", idle);
    tokio::time::sleep(seconds(59)).await;
    assert_eq!((over(&pages).len(), waiting.state()), (0, SessionState::Closed));
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(over(&pages), [2]);
    tokio::time::sleep(seconds(9 * 60 - 3)).await;
    assert_eq!(over(&pages), [2]);
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(over(&pages), [0, 2]);
    tokio::time::sleep(seconds((24 * 60 - 10) * 60 - 5)).await;
    assert_eq!(over(&pages), [0, 2]);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(over(&pages), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_grows_heavy_while_it_waits_by_worth_is_judged_anew() {
    let hub = hub(by_worth::ByWorth);
    let mut page = Page::open(&hub).await;
    page.lose().await;
    tokio::time::sleep(seconds(200)).await;
    assert!(!page.is_over());
    page.session.set_weight(1 << 30);
    settled().await;
    assert!(page.is_over());
}

/// Frees sessions above a weight. It asks for no checks by time.
struct MaxWeight {
    bytes: u64,
    meanwhile: Mutex<Option<SessionHandle>>,
}

impl CleanupPolicy for MaxWeight {
    fn should_cleanup(&self, session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        let heavy = session.weight > self.bytes;
        if heavy && let Some(session) = self.meanwhile.lock().expect("unpoisoned").take() {
            session.set_weight(0);
        }
        heavy
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> Option<std::time::Instant> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_asked_when_a_session_declares_another_weight() {
    let hub = hub(MaxWeight {
        bytes: 10,
        meanwhile: Mutex::default(),
    });
    let open = Page::open(&hub).await;
    let waiting = hub.open(idle);
    open.session.set_weight(10);
    settled().await;
    assert_eq!((open.session.snapshot().weight, open.is_over()), (10, false));
    assert_eq!(waiting.snapshot().weight, 0);
    let before = hub.stats().policy_evaluations;
    open.session.set_weight(10);
    settled().await;
    assert_eq!(hub.stats().policy_evaluations, before, "nothing has changed");
    open.session.set_weight(11);
    waiting.set_weight(11);
    settled().await;
    assert_eq!(open.session.ended().now_or_never(), Some(EndReason::Expired));
    assert_eq!(waiting.ended().now_or_never(), Some(EndReason::NeverConnected));
    open.session.set_weight(12);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_weight_drops_while_it_is_judged_stays() {
    let heavy = MaxWeight {
        bytes: 10,
        meanwhile: Mutex::default(),
    };
    let hub = hub(DefaultCleanupPolicy::default());
    let page = Page::open(&hub).await;
    page.session.set_weight(11);
    *heavy.meanwhile.lock().expect("unpoisoned") = Some(page.session.clone());
    hub.set_cleanup_policy(heavy);
    settled().await;
    assert!(!page.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_soft_close_without_a_connection_changes_nothing() {
    let hub = hub(DefaultCleanupPolicy::default());
    let waiting = hub.open(idle);
    waiting.soft_close();
    assert_eq!(waiting.state(), SessionState::Unconnected);
    let mut page = Page::open(&hub).await;
    page.lose().await;
    let since = page.session.snapshot().since;
    tokio::time::sleep(seconds(1)).await;
    page.session.soft_close();
    assert_eq!(page.session.snapshot().since, since);
}

#[tokio::test(start_paused = true)]
async fn a_requested_soft_close_ends_a_session_whose_policy_allows_none() {
    let hub = hub(DefaultCleanupPolicy {
        soft_closed: Duration::ZERO,
        ..Default::default()
    });
    let page = Page::open(&hub).await;
    page.session.soft_close();
    settled().await;
    assert_eq!(page.session.ended().now_or_never(), Some(EndReason::Disconnected));
}

/// Records the last state that it was told of each session. Once, it is so slow that something
/// happens in the meantime.
#[derive(Default)]
struct Notes {
    last: Arc<Mutex<HashMap<SessionId, (SessionState, u64)>>>,
    meanwhile: Arc<Mutex<Option<Carrier>>>,
    /// Connections that were opened in the meantime and remain open.
    carried: Mutex<Vec<Carrier>>,
}

type Carrier = Pin<Box<dyn Future<Output = ()> + Send>>;

impl CleanupPolicy for Notes {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        false
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    fn next_check(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> Option<std::time::Instant> {
        None
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        let meanwhile = self.meanwhile.lock().expect("unpoisoned").take();
        if let Some(mut carrier) = meanwhile {
            assert!(carrier.as_mut().now_or_never().is_none(), "the connection goes on");
            self.carried.lock().expect("unpoisoned").push(carrier);
        }
        let noted = (session.state, session.weight);
        self.last.lock().expect("unpoisoned").insert(session.id, noted);
        Vec::new()
    }

    fn weighs(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_observed_an_old_state_observes_the_new_one() {
    let notes = Notes::default();
    let (last, meanwhile) = (Arc::clone(&notes.last), Arc::clone(&notes.meanwhile));
    let hub = hub(notes);
    let mut page = Page::open(&hub).await;
    let (server, browser) = pipe();
    browser.send(Packet::Binary(Frame::Hello(page.document.hello()).to_bytes()));
    let carrier = run_connection_loop(accept(&hub, &page.document.access.id), server);
    *meanwhile.lock().expect("unpoisoned") = Some(Box::pin(carrier));
    page.lose().await;
    assert_eq!(
        page.session.state(),
        SessionState::Open,
        "it reconnected while the policy observed the loss"
    );
    assert_eq!(
        last.lock().expect("unpoisoned")[page.session.id()].0,
        SessionState::Open
    );
}

#[test]
fn a_policy_ends_up_with_the_final_state_of_every_session_on_many_threads() {
    const SESSIONS: usize = 200;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .expect("the runtime starts");
    for round in 0..20 {
        let hub = {
            let _context = runtime.enter();
            hub(Notes::default())
        };
        let mut pages: Vec<_> = runtime.block_on(async {
            let mut pages = Vec::new();
            for _ in 0..SESSIONS {
                pages.push(Page::open(&hub).await);
            }
            pages
        });
        let sessions: Arc<Vec<_>> = Arc::new(pages.iter().map(|page| page.session.clone()).collect());
        let notes = Notes::default();
        let last = Arc::clone(&notes.last);
        let (swapped, weighed, aborted, lost) = (
            hub.clone(),
            Arc::clone(&sessions),
            Arc::clone(&sessions),
            Arc::clone(&sessions),
        );
        let work: Vec<Box<dyn FnOnce() + Send>> = vec![
            Box::new(move || swapped.set_cleanup_policy(notes)),
            Box::new(move || weighed.iter().for_each(|session| session.set_weight(7))),
            Box::new(move || aborted.iter().step_by(3).for_each(|session| session.abort(""))),
            Box::new(move || lost.iter().rev().for_each(SessionHandle::soft_close)),
        ];
        let start = Arc::new(Barrier::new(work.len()));
        let threads: Vec<_> = work
            .into_iter()
            .map(|work| {
                let start = Arc::clone(&start);
                std::thread::spawn(move || {
                    start.wait();
                    work();
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("the task does not panic");
        }
        pages.clear();
        let is_right = || {
            let last = last.lock().expect("unpoisoned");
            sessions.iter().all(|session| match last.get(session.id()) {
                Some((SessionState::Closed, _)) => session.state() == SessionState::Closed,
                Some(noted) => *noted == (session.state(), session.snapshot().weight),
                // The session ended before this was set.
                None => session.state() == SessionState::Closed,
            })
        };
        runtime.block_on(async {
            for _ in 0..100_000 {
                if is_right() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("round {round}: the policy has another state");
        });
    }
}
