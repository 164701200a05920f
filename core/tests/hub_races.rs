//! Many threads at once: every end is reported once, and no count is lost. The threads are real,
//! and nothing waits for time to pass.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use stillhere::machine::Event;
use stillhere::wire::Frame;
use stillhere::{CleanupPolicy, EndReason, Hub, Session, SessionId, SessionSnapshot, SessionState};
use tokio::runtime::Runtime;

use support::browser::Browser;
use support::wire::RawDocument;

fn runtime(threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("the runtime starts")
}

type Ends = Arc<Mutex<HashMap<SessionId, Vec<EndReason>>>>;

fn hub(runtime: &Runtime) -> (Hub, Ends) {
    let ends = Ends::default();
    let noted = Arc::clone(&ends);
    let builder = Hub::builder()
        .runtime(runtime.handle().clone())
        .on_end(move |id, reason| {
            noted
                .lock()
                .expect("unpoisoned")
                .entry(*id)
                .or_default()
                .push(reason.clone());
        });
    (builder.build(), ends)
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

/// Frees every session.
struct CloseAll;

impl CleanupPolicy for CloseAll {
    fn should_cleanup(&self, _session: &SessionSnapshot, _now: std::time::Instant) -> bool {
        true
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }
}

#[test]
fn each_end_is_reported_exactly_once_under_racing_close_abort_sweep_drain_and_misbehaviour() {
    const SESSIONS: usize = 300;
    let runtime = runtime(3);
    for round in 0..10 {
        let (hub, ends) = hub(&runtime);
        let sessions: Vec<_> = (0..SESSIONS).map(|_| hub.open(echo)).collect();
        let mut listeners: Vec<_> = sessions.iter().map(stillhere::SessionHandle::events).collect();
        let wires: Vec<_> = runtime.block_on(async {
            let mut wires = Vec::new();
            // Some sessions are unconnected, some connected, some soft-closed, and some have
            // messages in transit.
            for (number, session) in sessions.iter().enumerate().filter(|(number, _)| number % 4 != 0) {
                let mut document = RawDocument::new(session);
                let (wire, _) = document.welcomed(&hub).await;
                if number % 4 == 1 {
                    session.send("x").await.expect("there is room");
                }
                if number % 4 != 2 {
                    wires.push(wire);
                }
            }
            wires
        });

        let start = Arc::new(Barrier::new(5));
        let work: Vec<Box<dyn FnOnce() + Send>> = {
            let sessions = Arc::new(sessions.clone());
            let (closed, aborted) = (Arc::clone(&sessions), sessions);
            let (swept, drained, handle) = (hub.clone(), hub.clone(), runtime.handle().clone());
            vec![
                Box::new(move || closed.iter().for_each(|session| session.close("closed"))),
                Box::new(move || aborted.iter().rev().for_each(|session| session.abort("aborted"))),
                Box::new(move || swept.set_cleanup_policy(CloseAll)),
                Box::new(move || {
                    handle.block_on(drained.shutdown(Duration::ZERO));
                }),
                Box::new(move || {
                    for wire in wires {
                        wire.end.send(stillhere::connection::Packet::Text(bytes::Bytes::new()));
                    }
                }),
            ]
        };
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

        runtime.block_on(async {
            for (session, events) in sessions.iter().zip(&mut listeners) {
                let reason = session.ended().await;
                let mut last = None;
                let mut ends = 0;
                while let Some(event) = events.next().await {
                    ends += usize::from(matches!(event, Event::Ended(_)));
                    last = Some(event);
                }
                assert_eq!((ends, last), (1, Some(Event::Ended(reason))), "round {round}");
            }
        });
        while ends.lock().expect("unpoisoned").len() < SESSIONS {
            std::thread::yield_now();
        }
        for session in &sessions {
            let reason = runtime.block_on(session.ended());
            assert_eq!(
                ends.lock().expect("unpoisoned")[session.id()],
                [reason],
                "round {round}"
            );
        }
        assert_eq!((hub.stats().sessions, hub.stats().unconnected), (0, 0), "round {round}");
    }
}

#[test]
fn every_end_is_reported_once_when_the_hub_goes_while_sessions_end() {
    let runtime = runtime(2);
    for _ in 0..300 {
        let (hub, ends) = hub(&runtime);
        let sessions: Vec<_> = (0..20).map(|_| hub.open(echo)).collect();
        let start = Arc::new(Barrier::new(2));
        let aborter = {
            let (sessions, start) = (sessions.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                sessions.iter().for_each(|session| session.abort("aborted"));
            })
        };
        start.wait();
        drop(hub);
        aborter.join().expect("the task does not panic");
        // The sweeper may be the last owner of the hub for a moment.
        while ends.lock().expect("unpoisoned").len() < sessions.len() {
            std::thread::yield_now();
        }
        for session in &sessions {
            let reason = runtime.block_on(session.ended());
            assert_eq!(ends.lock().expect("unpoisoned")[session.id()], [reason]);
        }
    }
}

#[test]
fn the_limits_hold_and_the_counts_are_true_when_many_threads_open_at_once() {
    let runtime = runtime(2);
    let hub = Hub::builder()
        .runtime(runtime.handle().clone())
        .max_sessions(500)
        .max_unconnected(300)
        .build();
    for _ in 0..20 {
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || (0..200).map(|_| hub.open(echo)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("the task does not panic"))
                .collect()
        });
        let waiting = opened
            .iter()
            .filter(|session| session.state() == SessionState::Unconnected)
            .count();
        assert_eq!(
            (waiting, hub.stats().unconnected, hub.stats().sessions),
            (300, 300, 300)
        );
        std::thread::scope(|scope| {
            for part in opened.chunks(200) {
                scope.spawn(move || part.iter().for_each(|session| session.abort("")));
            }
        });
        assert_eq!((hub.stats().unconnected, hub.stats().sessions), (0, 0));
    }
}

#[test]
fn a_first_browser_that_races_with_an_abort_leaves_no_count_and_no_function_behind() {
    let runtime = runtime(3);
    let (hub, ends) = hub(&runtime);
    let tasks = runtime.metrics().num_alive_tasks();
    for round in 0..1000 {
        let session = hub.open(echo);
        let mut document = RawDocument::new(&session);
        let start = Arc::new(Barrier::new(2));
        let aborter = {
            let (session, start) = (session.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                for _ in 0..round * 3 {
                    std::hint::spin_loop();
                }
                session.abort("");
            })
        };
        start.wait();
        let wire = {
            let _context = runtime.enter();
            document.connect(&hub)
        };
        aborter.join().expect("the task does not panic");
        runtime.block_on(async {
            loop {
                match wire.frame().await {
                    Frame::End(end) => break assert_eq!((end.code, end.reason), (4102, 3)),
                    Frame::Welcome(_) | Frame::Ack(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        drop(wire);
    }
    while runtime.metrics().num_alive_tasks() > tasks {
        std::thread::yield_now();
    }
    assert_eq!(
        (hub.stats().unconnected, hub.stats().sessions, hub.stats().connections),
        (0, 0, 0)
    );
    assert_eq!(ends.lock().expect("unpoisoned").len(), 1000);
}

#[test]
fn messages_survive_reconnects_that_race_with_sends_on_many_threads() {
    let runtime = runtime(3);
    let (hub, _ends) = hub(&runtime);
    let session = hub.open(echo);
    runtime.block_on(async {
        let browser = Browser::connected(&hub, &session).await;
        let sender = {
            let session = session.clone();
            tokio::spawn(async move {
                for number in 0..20_000u32 {
                    session
                        .send_bulk(number.to_le_bytes())
                        .await
                        .expect("the session lives");
                }
            })
        };
        for expected in 0..20_000u32 {
            assert_eq!(browser.next().await, expected.to_le_bytes());
            if expected % 2000 == 0 {
                // What was sent before is read without a connection, so it takes no other wait.
                let before = session.snapshot().reconnects;
                browser.cut();
                while session.snapshot().reconnects == before {
                    tokio::task::yield_now().await;
                }
            }
        }
        sender.await.expect("the task does not panic");
    });
    drop(hub);
}
