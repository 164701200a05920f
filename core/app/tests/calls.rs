//! Calls in both directions: every failure, cuts, concurrency and cancellation.

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stillhere::Hub;
use stillhere_app::{AppOptions, CallError, Items, Session, app, app_with};
use support::{Page, answer, call, cancel, failure, id_of_call, soon, take_number};
use tokio::sync::{Notify, mpsc};

/// Opens a session that runs `setup` and then waits for its end.
fn open(hub: &Hub, options: AppOptions, setup: impl FnOnce(&Session) + Send + 'static) -> Page {
    let session = hub.open(app_with(options, async move |session: Session| {
        setup(&session);
        session.ended().await;
    }));
    Page::open(hub, &session)
}

/// Makes a call to the page that is answered by `respond`, and returns the outcome.
async fn outcome(respond: impl FnOnce(u64) -> Option<Vec<u8>>) -> Result<u64, CallError> {
    let hub = Hub::new();
    let (sender, mut receiver) = mpsc::channel(1);
    let session = hub.open(app(async move |session: Session| {
        let question = session.call::<_, u64>("ask", &1).timeout(Duration::from_secs(60));
        sender.send(question.await).await.expect("the test waits");
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    match respond(id_of_call(&page.recv().await)) {
        Some(unit) => page.send(unit).await,
        None => session.abort("enough"),
    }
    let outcome = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await;
    outcome.expect("it is known at once").expect("the function runs")
}

#[tokio::test(start_paused = true)]
async fn each_failure_of_the_page_is_an_error_at_once() {
    let failed = |code| outcome(move |id| Some(failure(id, code, "why")));
    assert!(matches!(failed(1).await, Err(CallError::Failed(text)) if text == "why"));
    assert!(matches!(failed(2).await, Err(CallError::Rejected(text)) if text == "why"));
    assert!(matches!(failed(3).await, Err(CallError::Missing)));
    assert!(matches!(failed(4).await, Err(CallError::UndecodableQuestion(text)) if text == "why"));
    assert!(matches!(failed(5).await, Err(CallError::Cancelled)));
    assert!(matches!(failed(6).await, Err(CallError::Busy)));
    assert!(matches!(failed(7).await, Err(CallError::Streamed)));
    assert!(matches!(
        outcome(|id| Some(answer(id, "\"text\""))).await,
        Err(CallError::UndecodableAnswer(_))
    ));
    assert!(matches!(outcome(|_| None).await, Err(CallError::SessionOver)));
    assert!(matches!(outcome(|id| Some(answer(id, "7"))).await, Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_or_is_dropped_is_cancelled() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        let late = session.call::<_, ()>("late", &()).timeout(Duration::from_secs(1));
        assert!(matches!(late.await, Err(CallError::TimedOut)));
        let dropped = tokio::time::timeout(
            Duration::from_secs(1),
            session.call::<_, ()>("dropped", &()).into_future(),
        );
        assert!(dropped.await.is_err());
        session.send_text("done").await.expect("the session is open");
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    for _ in 0..2 {
        let id = id_of_call(&page.recv().await);
        assert_eq!(page.recv().await, cancel(id));
        // Answers that were on their way are ignored.
        page.send(answer(id, "null")).await;
    }
    assert_eq!(page.recv().await, b"\x01done");
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_document_that_is_replaced_fails() {
    let hub = Hub::new();
    let (sender, mut receiver) = mpsc::channel(1);
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let session = hub.open_with(
        options,
        app(async move |session: Session| {
            let outcome = session.call::<_, ()>("ask", &()).await;
            sender.send(outcome).await.expect("the test waits");
            session.ended().await;
        }),
    );
    let page = Page::open(&hub, &session);
    id_of_call(&page.recv().await);
    drop(page);
    let reloaded = Page::open(&hub, &session);
    let outcome = soon("the call fails", receiver.recv()).await;
    assert!(matches!(outcome, Some(Err(CallError::Replaced))), "{outcome:?}");
    assert!(reloaded.client.status().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_unread_messages_fails_instead_of_waiting_for_ever() {
    let hub = Hub::new();
    let (sender, mut receiver) = mpsc::channel(1);
    let session = hub.open(app(async move |mut session: Session| {
        let outcome = session.call::<_, ()>("ask", &()).await;
        sender.send(outcome).await.expect("the test waits");
        let again = session.call::<_, ()>("ask", &()).await;
        sender.send(again).await.expect("the test waits");
        session.recv().await.expect("it was sent");
        let outcome = session.call::<_, ()>("ask", &()).await;
        sender.send(outcome).await.expect("the test waits");
    }));
    let page = Page::open(&hub, &session);
    id_of_call(&page.recv().await);
    // The last one exceeds the bound of 1 MiB.
    for _ in 0..21 {
        page.send(vec![0; 50_000]).await;
    }
    for _ in 0..2 {
        let outcome = soon("the call fails", receiver.recv()).await;
        assert!(matches!(outcome, Some(Err(CallError::Unread))), "{outcome:?}");
    }
    loop {
        let unit = page.recv().await;
        if unit[0] == 4 {
            page.send(answer(id_of_call(&unit), "null")).await;
            break;
        }
    }
    let outcome = soon("the call is answered", receiver.recv()).await;
    assert!(matches!(outcome, Some(Ok(()))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn each_failure_of_the_server_reaches_the_page_at_once() {
    let hub = Hub::new();
    let page = open(&hub, AppOptions::default(), |session| {
        session.handle("double", async |number: u64| Ok::<_, Infallible>(number * 2));
        session.handle("reject", async |(): ()| Err::<(), _>("no room"));
        session.handle("panic", async |fails: bool| {
            assert!(!fails, "planted");
            Ok::<_, Infallible>(())
        });
        session.handle("long", async |(): ()| Err::<(), _>("ü".repeat(1000)));
        session.handle("huge", async |(): ()| Ok::<_, Infallible>("x".repeat(2 << 20)));
    });
    page.send(call(1, "double", "21")).await;
    assert_eq!(page.recv().await, answer(1, "42"));
    page.send(call(2, "reject", "null")).await;
    assert_eq!(page.recv().await, failure(2, 2, "no room"));
    page.send(call(3, "panic", "true")).await;
    assert_eq!(page.recv().await, failure(3, 1, "the handler panicked"));
    page.send(call(4, "absent", "null")).await;
    assert_eq!(page.recv().await, failure(4, 3, ""));
    page.send(call(5, "double", "\"text\"")).await;
    let undecodable = page.recv().await;
    assert_eq!(undecodable[..3], [6, 5, 4]);
    page.send(call(6, "long", "null")).await;
    assert_eq!(page.recv().await, failure(6, 2, &"ü".repeat(512)));
    page.send(call(7, "huge", "null")).await;
    assert_eq!(page.recv().await, failure(7, 1, "the answer is too large"));
    page.send(call(8, "panic", "false")).await;
    assert_eq!(page.recv().await, answer(8, "null"));
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_bounds_are_busy_and_the_others_run_in_turn() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let go = Arc::new(Notify::new());
    let mut options = AppOptions::default();
    options.running_calls = 2;
    options.waiting_calls = 3;
    let (counts, observed, gate) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&go));
    let hub = Hub::new();
    let page = open(&hub, options, move |session| {
        session.handle("wait", move |(): ()| {
            let (running, most, go) = (Arc::clone(&counts), Arc::clone(&observed), Arc::clone(&gate));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                go.notified().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>(())
            }
        });
    });
    for id in 1..=7 {
        page.send(call(id, "wait", "null")).await;
    }
    assert_eq!(page.recv().await, failure(6, 6, ""));
    assert_eq!(page.recv().await, failure(7, 6, ""));
    let mut answered = Vec::new();
    for _ in 1..=5 {
        go.notify_one();
        let unit = page.recv().await;
        answered.push(take_number(&mut &unit[1..]));
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_handler_is_dropped_and_a_waiting_call_never_starts() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let starts = Arc::new(AtomicUsize::new(0));
    let mut options = AppOptions::default();
    options.running_calls = 1;
    let (drops, counts) = (Arc::clone(&dropped), Arc::clone(&starts));
    let hub = Hub::new();
    let page = open(&hub, options, move |session| {
        session.handle("wait", move |(): ()| {
            let dropped = Dropped(Arc::clone(&drops));
            counts.fetch_add(1, Ordering::SeqCst);
            async move {
                std::future::pending::<()>().await;
                drop(dropped);
                Ok::<_, Infallible>(())
            }
        });
    });
    page.send(call(1, "wait", "null")).await;
    page.send(call(2, "wait", "null")).await;
    page.send(cancel(2)).await;
    assert_eq!(page.recv().await, failure(2, 5, ""));
    page.send(cancel(1)).await;
    assert_eq!(page.recv().await, failure(1, 5, ""));
    soon("the handler is dropped", dropped.notified()).await;
    assert_eq!(starts.load(Ordering::SeqCst), 1);
    page.send(cancel(9)).await;
    page.send(call(3, "absent", "null")).await;
    assert_eq!(page.recv().await, failure(3, 3, ""));
}

#[tokio::test(start_paused = true)]
async fn a_handler_calls_back_while_it_handles() {
    let hub = Hub::new();
    let page = open(&hub, AppOptions::default(), |session| {
        let page = session.to_handle();
        session.handle("outer", move |number: u64| {
            let page = page.clone();
            async move { page.call::<_, u64>("inner", &number).await }
        });
    });
    page.send(call(1, "outer", "5")).await;
    let inner = id_of_call(&page.recv().await);
    page.send(answer(inner, "6")).await;
    assert_eq!(page.recv().await, answer(1, "6"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_as_many_items_as_the_page_wants_and_then_its_answer() {
    let hub = Hub::new();
    let page = open(&hub, AppOptions::default(), |session| {
        session.handle_stream("count", async |most: u64, items: Items<u64>| {
            for number in 1..=most {
                items.send(&number).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>("done")
        });
    });
    let item = |id, number: u64| [&answer(id, "")[..], number.to_string().as_bytes()].concat();
    let item = |id, number| [&[9][..], &item(id, number)[1..]].concat();
    page.send(call(1, "count", "5")).await;
    assert_eq!(page.recv().await, failure(1, 7, ""));
    let mut asked = call(2, "count", "5");
    asked[2] = 2;
    page.send(asked).await;
    assert_eq!(page.recv().await, item(2, 1));
    assert_eq!(page.recv().await, item(2, 2));
    let early = tokio::time::timeout(Duration::from_secs(60), page.client.recv()).await;
    assert!(early.is_err(), "{early:?}");
    for _ in 0..3 {
        // All of it, three times: the credit stays in bounds.
        let more = [&[10, 2][..], &[0xff; 7], &[0x0f]].concat();
        page.send(more).await;
    }
    for number in 3..=5 {
        assert_eq!(page.recv().await, item(2, number));
    }
    assert_eq!(page.recv().await, answer(2, "\"done\""));
}

/// Both directions at once, with the connection cut at random moments.
#[tokio::test(start_paused = true)]
async fn a_thousand_calls_over_cut_connections_are_executed_once_each() {
    let seed = 7_u64;
    println!("seed {seed}");
    let hub = Hub::new();
    let executed = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&executed);
    let (sender, mut finished) = mpsc::channel(1);
    let session = hub.open(app(async move |session: Session| {
        session.handle("add", move |number: u64| {
            counts.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(number % 7)).await;
                Ok::<_, Infallible>(number + 1)
            }
        });
        for number in 0..CALLS {
            let answer = session.call::<_, u64>("add", &number).await;
            assert_eq!(answer.expect("the page answers"), number + 1);
        }
        sender.send(()).await.expect("the test waits");
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    let (mut by_server, mut answered, mut random) = (0, vec![false; CALLS as usize], seed);
    page.send(call(0, "add", "0")).await;
    let mut sent = 1;
    while by_server < CALLS || answered.contains(&false) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if random >> 61 == 0 {
            page.cut();
        }
        let unit = page.recv().await;
        if unit[0] == 4 {
            let id = id_of_call(&unit);
            assert_eq!(id, by_server + 1, "each call arrives once and in order");
            page.send(answer(id, &(by_server + 1).to_string())).await;
            by_server += 1;
        } else {
            let id = take_number(&mut &unit[1..]);
            assert_eq!(unit, answer(id, &(id + 1).to_string()));
            assert!(!std::mem::replace(&mut answered[id as usize], true), "answered once");
            if sent < CALLS {
                page.send(call(sent, "add", &sent.to_string())).await;
                sent += 1;
            }
        }
    }
    soon("all calls are answered", finished.recv()).await;
    assert_eq!(executed.load(Ordering::SeqCst), CALLS as usize);
    assert!(session.snapshot().reconnects > 100, "the connection was cut");
}

const CALLS: u64 = 1000;

/// An item of a stream of the page, in JSON.
fn item(id: u64, value: &str) -> Vec<u8> {
    let mut unit = answer(id, value);
    unit[0] = 9;
    unit
}

#[tokio::test(start_paused = true)]
async fn the_server_takes_a_stream_of_the_page_at_its_own_pace() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        let mut stream = session.stream::<_, u64>("count", &40);
        for number in 1..=40 {
            assert_eq!(stream.next().await.expect("an item").expect("a number"), number);
        }
        assert_eq!(stream.answer::<String>().await.expect("an answer"), "done");
        let mut left = session.stream::<_, u64>("left", &());
        left.next().await.expect("an item").expect("a number");
        drop(left);
        let mut failing = session.stream::<_, u64>("fails", &());
        assert!(matches!(failing.next().await, Some(Err(CallError::Rejected(text))) if text == "no"));
        assert!(failing.next().await.is_none());
        let mut wrong = session.stream::<_, u64>("wrong", &());
        assert!(matches!(wrong.next().await, Some(Err(CallError::UndecodableAnswer(_)))));
        assert_eq!(wrong.next().await.expect("an item").expect("a number"), 2);
        session.send_text("over").await.expect("the session is open");
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    let asked = page.recv().await;
    let id = id_of_call(&asked);
    assert_eq!(asked, [&[4, id as u8, 16, 5], &b"count\x0040"[..]].concat());
    let (mut sent, mut credit) = (0, 16);
    while sent < 40 {
        while credit > 0 && sent < 40 {
            sent += 1;
            credit -= 1;
            page.send(item(id, &sent.to_string())).await;
            if sent == 20 {
                page.cut();
            }
        }
        if sent < 40 {
            let more = page.recv().await;
            assert_eq!(more[..2], [10, id as u8]);
            credit += more[2];
        }
    }
    page.send(answer(id, "\"done\"")).await;
    let mut last = page.recv().await;
    while last[0] == 10 {
        last = page.recv().await;
    }
    let id = id_of_call(&last);
    page.send(item(id, "1")).await;
    assert_eq!(page.recv().await, cancel(id));
    let id = id_of_call(&page.recv().await);
    page.send(failure(id, 2, "no")).await;
    let id = id_of_call(&page.recv().await);
    page.send(item(id, "\"text\"")).await;
    page.send(item(id, "2")).await;
    loop {
        let unit = page.recv().await;
        if unit[0] == 1 {
            break assert_eq!(unit, b"\x01over");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_sends_more_items_than_it_may_loses_the_stream() {
    let hub = Hub::new();
    let (sender, outcome) = tokio::sync::oneshot::channel();
    let session = hub.open(app(async move |mut session: Session| {
        let mut stream = session.stream::<_, u64>("flood", &());
        stream.next().await.expect("an item").expect("a number");
        session.recv().await.expect("the end of the flood");
        let mut items = 0;
        let error = loop {
            match stream.next().await.expect("it fails") {
                Ok(_) => items += 1,
                Err(error) => break error,
            }
        };
        sender.send((items, error)).expect("the test waits");
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    let id = id_of_call(&page.recv().await);
    for number in 0..100 {
        page.send(item(id, &number.to_string())).await;
    }
    page.send(vec![1]).await;
    let (items, error) = soon("the stream fails", outcome).await.expect("it runs");
    assert!((15..=16).contains(&items), "{items} items");
    assert!(matches!(&error, CallError::Failed(_)), "{error}");
    loop {
        let unit = page.recv().await;
        if unit == cancel(id) {
            break;
        }
    }
}
