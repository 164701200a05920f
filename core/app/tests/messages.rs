//! Bytes, texts, messages and events, and what goes wrong with them.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillhere::Hub;
use stillhere_app::{AppOptions, Array, Codec, Received, Session, Trouble, app, app_with};
use stillhere_client::Status;
use support::{Page, call, event, failure, soon};

#[tokio::test(start_paused = true)]
async fn bytes_texts_and_messages_arrive_in_order_and_go_back() {
    let hub = Hub::new();
    let session = hub.open(app(async |mut session: Session| {
        while let Some(received) = session.recv().await {
            let sent = match received {
                Received::Bytes(bytes) => session.send(bytes).await,
                Received::Text(text) => session.send_text(text).await,
                Received::Value(value) => {
                    session
                        .send_json(&value.decode::<(u64, String)>().expect("a pair"))
                        .await
                }
                other => panic!("{other:?}"),
            };
            sent.expect("the session is open");
        }
    }));
    let page = Page::open(&hub, &session);
    let units: [&[u8]; 4] = [
        b"\0\xff",
        "\x01ü".as_bytes(),
        b"\x02\0[18446744073709551615,\"x\"]",
        b"\0",
    ];
    for unit in units {
        page.send(unit.to_vec()).await;
        page.cut();
    }
    for unit in units {
        assert_eq!(page.recv().await, unit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_does_not_decode_is_an_error_and_the_next_one_is_read() {
    let hub = Hub::new();
    let session = hub.open(app(async |mut session: Session| {
        let read = [
            session.recv_json::<u64>().await,
            session.recv_json().await,
            session.recv_json().await,
        ];
        let read = read.map(|number| number.expect("it was sent").ok());
        session.send_json(&read).await.expect("the session is open");
    }));
    let page = Page::open(&hub, &session);
    for unit in [&b"\x02\0\"text\""[..], b"\x02\x01\x07", b"\x018"] {
        page.send(unit.to_vec()).await;
    }
    assert_eq!(page.recv().await, b"\x02\0[null,7,8]");
}

#[tokio::test(start_paused = true)]
async fn messages_and_arrays_go_out_in_the_codec_of_the_options() {
    let hub = Hub::new();
    let mut options = AppOptions::default();
    options.codec = Codec::MessagePack;
    let session = hub.open_with(
        hub.session_options(),
        app_with(options, async |session: Session| {
            session.send_json("a").await.expect("the session is open");
            let points = Array::from(vec![1_u8, 2]);
            session.emit("points", &points).await.expect("the session is open");
            assert!(session.emit("", &points).await.is_err(), "a name is not empty");
            assert!(
                session.emit(&"n".repeat(256), &points).await.is_err(),
                "a name is not longer"
            );
        }),
    );
    let page = Page::open(&hub, &session);
    assert_eq!(page.recv().await, b"\x02\x01\xa1a");
    assert_eq!(page.recv().await, b"\x03\x06points\x10\0\0\0\0\0\0\0\x01\x02");
}

#[tokio::test(start_paused = true)]
async fn events_are_handled_in_order_while_the_function_awaits_something_else() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        let page = session.to_handle();
        session.on("wait", move |milliseconds: u64| {
            let page = page.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                page.send_json(&milliseconds).await.expect("the session is open");
            }
        });
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    for milliseconds in ["300", "200", "100"] {
        page.send(event("wait", milliseconds)).await;
    }
    for milliseconds in ["300", "200", "100"] {
        assert_eq!(page.recv().await, [b"\x02\0", milliseconds.as_bytes()].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_reaches_the_hook_and_never_ends_the_session() {
    let hub = Hub::new();
    let troubles = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&troubles);
    let session = hub.open(app(async move |session: Session| {
        session.on("number", async |number: u64| assert_ne!(number, 13, "planted"));
        session.on_trouble(move |trouble: &Trouble| {
            noted.lock().expect("nobody panics").push(trouble.to_string());
            assert!(!trouble.to_string().contains("unlucky"), "a hook may panic");
        });
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    page.send(b"\xff".to_vec()).await;
    page.send(Vec::new()).await;
    page.send(event("number", "\"text\"")).await;
    page.send(event("number", "13")).await;
    page.send(event("nobody", "1")).await;
    page.send(b"\x0b\0{\"message\":\"x is unlucky\"}".to_vec()).await;
    page.send(b"\x0b\0{\"stack\":1}".to_vec()).await;
    page.send(b"\x08\x01a\x01\0".to_vec()).await;
    page.send(call(1, "absent", "null")).await;
    assert_eq!(page.recv().await, failure(1, 3, ""));
    // An event's trouble is known when its handler has returned.
    soon("the last event", async {
        while troubles.lock().expect("nobody panics").len() < 6 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut troubles = std::mem::take(&mut *troubles.lock().expect("nobody panics"));
    troubles.sort();
    let expected = [
        "an error in the page: \"x is unlucky\"",
        "skipped a malformed message: a name or text in the message is malformed",
        "skipped a malformed message: the message is of an unknown kind",
        "skipped a malformed message: the message is of an unknown kind",
        "skipped the event \"number\": the value cannot be decoded from JSON",
        "the handler of the event \"number\" panicked",
    ];
    for (trouble, expected) in troubles.iter().zip(expected) {
        assert!(trouble.starts_with(expected), "{trouble}");
    }
    assert!(page.client.status().is_connected());
}

#[tokio::test(start_paused = true)]
async fn unread_messages_are_bounded_and_none_is_kept_for_a_reader_that_is_gone() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let page = session.to_handle();
        drop(session);
        page.handle("alive", async |(): ()| Ok::<_, String>(()));
        page.ended().await;
    }));
    let page = Page::open(&hub, &session);
    let mut sent = 0;
    let flood = async {
        loop {
            page.send(vec![0; 10_000]).await;
            sent += 1;
            assert!(sent * 10_000 < 8 << 20, "everything is read");
        }
    };
    let stalled = tokio::time::timeout(Duration::from_secs(50), flood).await;
    assert!(stalled.is_err(), "the page waits");
    page.send(call(1, "alive", "null")).await;
    assert_eq!(page.recv().await, b"\x05\x01\0null");
}

#[tokio::test(start_paused = true)]
async fn a_new_document_is_sent_its_state_first() {
    let hub = Hub::new();
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let session = hub.open_with(
        options,
        app(async |session: Session| {
            session.on_restore(async |restoring| {
                restoring.send_text("state").await.expect("the session is open");
                restoring.emit("restored", &1).await.expect("the session is open");
            });
            session.ended().await;
        }),
    );
    let first = Page::open(&hub, &session);
    soon(
        "it is connected",
        first.client.watch_status().wait_for(Status::is_connected),
    )
    .await
    .expect("the client is there");
    drop(first);
    let second = Page::open(&hub, &session);
    assert_eq!(second.recv().await, b"\x01state");
    assert_eq!(second.recv().await, b"\x03\x08restored\x001");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_ends_its_session_and_one_that_returns_closes_it() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        session.on("never", async |(): ()| ());
        tokio::time::sleep(Duration::from_millis(1)).await;
        panic!("planted");
    }));
    let _page = Page::open(&hub, &session);
    assert_eq!(soon("it ends", session.ended()).await, stillhere::EndReason::Panicked);
    let session = hub.open(app(async |session: Session| {
        session.send_text("bye").await.expect("the session is open");
    }));
    let page = Page::open(&hub, &session);
    assert_eq!(page.recv().await, b"\x01bye");
    assert_eq!(soon("it ends", session.ended()).await, stillhere::EndReason::Finished);
}

/// Handlers may hold a handle of their own session, which must not keep them alive.
#[tokio::test(start_paused = true)]
async fn handlers_are_dropped_with_their_session() {
    let hub = Hub::new();
    let held = Arc::new(());
    for returns_at_once in [true, false] {
        let token = Arc::clone(&held);
        let session = hub.open(app(async move |mut session: Session| {
            let captured = (session.to_handle(), Arc::clone(&token));
            session.on("event", move |(): ()| {
                let captured = captured.clone();
                async move { drop(captured) }
            });
            let captured = (session.to_handle(), Arc::clone(&token));
            session.handle("call", move |(): ()| {
                let captured = captured.clone();
                async move {
                    drop(captured);
                    Ok::<_, String>(())
                }
            });
            let captured = (session.to_handle(), Arc::clone(&token), session.observable("value", 1));
            session.on_trouble(move |_| drop(captured.clone()));
            let captured = (session.to_handle(), token);
            session.on_restore(move |_| {
                let captured = captured.clone();
                async move { drop(captured) }
            });
            if !returns_at_once {
                session.recv_json::<()>().await;
            }
        }));
        let page = Page::open(&hub, &session);
        page.send(b"\x02".to_vec()).await;
        soon("it ends", session.ended()).await;
        drop((page, session));
        soon("the handlers are dropped", async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hostile_page_reports_no_more_errors_than_an_honest_one_and_no_longer_ones() {
    let hub = Hub::new();
    let (sender, mut troubles) = tokio::sync::mpsc::unbounded_channel();
    let session = hub.open(app(async move |session: Session| {
        session.on_trouble(move |trouble| match trouble {
            Trouble::Page(error) => sender.send(error.clone()).expect("the test waits"),
            other => panic!("{other}"),
        });
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    let report = |length: usize| {
        let text = "ä".repeat(length);
        let value = serde_json::json!({"message": text, "stack": text, "source": text});
        [b"\x0b\0", value.to_string().as_bytes()].concat()
    };
    for minute in 0..2 {
        for _ in 0..100 {
            page.send(report(2000)).await;
        }
        tokio::time::sleep(Duration::from_secs(61)).await;
        let mut count = 0;
        while let Ok(error) = troubles.try_recv() {
            count += 1;
            let (stack, place) = (error.stack.expect("a stack"), error.place.expect("a place"));
            assert_eq!((error.message.len(), stack.len(), place.len()), (1024, 2560, 512));
        }
        assert_eq!(count, 10, "minute {minute}");
    }
    page.send(report(20_000)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(troubles.try_recv().is_err(), "it is far too long");
}
