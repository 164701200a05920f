//! The test kit: a page within the process does what one in a browser does.

use std::future::ready;
use std::time::Duration;

use stillhere::{EndReason, Hub};
use stillhere_app::testing::{Page, PageCallError, connect};
use stillhere_app::{Items, PageRights, Received, Session, app};

/// A function with something of everything.
async fn everything(mut session: Session) {
    let count = session.observable("count", 0i64);
    session.handle("add", move |by: i64| {
        count.update(|count| *count += by.max(0));
        ready(if by < 0 { Err("only up") } else { Ok(count.get()) })
    });
    session.handle("panic", async |(): ()| -> Result<(), String> {
        panic!("as the test wants")
    });
    session.handle_stream("countdown", async |from: u8, items: Items<u8>| {
        for number in (1..=from).rev() {
            items.send(&number).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>("lift-off")
    });
    let handle = session.to_handle();
    session.on("wave", move |name: String| {
        let handle = handle.clone();
        async move {
            let _ = handle.emit("waved", &format!("{name} waved")).await;
        }
    });
    while let Some(received) = session.recv().await {
        let answer = match received {
            Received::Text(name) => session.call::<_, String>("greet", &name).await,
            Received::Bytes(bytes) => session.call("missing", &bytes.len()).await,
            other => panic!("{other:?}"),
        };
        let answer = answer.unwrap_or_else(|error| error.to_string());
        if session.send_json(&answer).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_calls_and_is_called() {
    let page = Page::open(&Hub::new(), everything);
    assert_eq!(page.call("add", &2).await, Ok(2));
    assert_eq!(
        page.call::<()>("add", &-1).await,
        Err(PageCallError::Rejected("only up".to_owned()))
    );
    assert_eq!(page.call::<()>("panic", &()).await, Err(PageCallError::Failed));
    assert_eq!(page.call::<()>("nobody", &()).await, Err(PageCallError::Missing));
    assert_eq!(page.call::<()>("countdown", &1).await, Err(PageCallError::Streamed));
    assert!(matches!(
        page.call::<()>("add", "one").await,
        Err(PageCallError::Undecodable(_))
    ));
    let countdown = page.items::<u8, String>("countdown", &3).await;
    assert_eq!(countdown, Ok((vec![3, 2, 1], "lift-off".to_owned())));

    page.handle("greet", |name: String| match name.as_str() {
        "" => Err("no name".to_owned()),
        _ => Ok(format!("hello, {name}")),
    });
    page.send_text("Ada").await;
    assert_eq!(page.recv_json::<String>().await, "hello, Ada");
    page.send_text("").await;
    assert_eq!(
        page.recv_json::<String>().await,
        "the page's handler rejected the call: no name"
    );
    page.send(b"bytes").await;
    assert_eq!(page.recv_json::<String>().await, "the page has no handler of that name");
    page.emit("wave", "Ada").await;
    assert_eq!(page.event::<String>("waved").await, "Ada waved");
}

#[tokio::test(start_paused = true)]
async fn a_gap_loses_nothing_and_a_reload_gets_the_newest_values() {
    let mut page = Page::open(&Hub::new(), everything);
    page.set("count", &10).await;
    assert_eq!(page.value("count"), Some(10));
    assert_eq!(page.call("add", &1).await, Ok(11));
    for _ in 0..100 {
        page.cut();
        assert!(page.call::<i64>("add", &1).await.is_ok());
    }
    page.go_away();
    let (answer, ()) = tokio::join!(page.call("add", &1), async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!page.status().is_connected());
        page.come_back();
    });
    assert_eq!(answer, Ok(112), "each call was executed once");
    assert_eq!(page.wait_for("count", |count: &i64| *count == 112).await, 112);

    page.handle("greet", |_: String| Ok("again"));
    page.reload();
    assert_eq!(page.value::<i64>("count"), None, "the new document has nothing yet");
    assert_eq!(
        page.wait_for("count", |_: &i64| true).await,
        112,
        "the newest comes first"
    );
    page.send_text("Ada").await;
    assert_eq!(
        page.recv_json::<String>().await,
        "again",
        "the same script has run again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_tab_ends_the_session_and_a_call_then_fails() {
    let page = Page::open(&Hub::new(), everything);
    let session = page.session().clone();
    assert_eq!(page.call("add", &1).await, Ok(1));
    page.go_away();
    let (outcome, ended) = tokio::join!(page.call::<i64>("add", &1), async {
        let ended = session.ended().await;
        page.come_back();
        ended
    });
    assert_eq!(ended, EndReason::Expired);
    assert_eq!(outcome, Err(PageCallError::SessionOver));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the page has not received an event \"never\" within an hour")]
async fn what_never_comes_fails_the_test() {
    let page = Page::open(&Hub::new(), everything);
    page.event::<()>("never").await;
}

#[tokio::test(start_paused = true)]
async fn a_function_of_the_core_gets_a_client_of_bytes() {
    let hub = Hub::new();
    let session = hub.open(async |mut session: stillhere::Session| {
        while let Some(message) = session.recv().await {
            let _ = session.send(message).await;
        }
    });
    let (client, network) = connect(&hub, &session);
    for number in 0..10u8 {
        client.send(vec![number]).await.expect("the session is open");
        network.cut();
        assert_eq!(client.recv().await.expect("an echo").to_vec(), [number]);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_meet_in_a_room_over_a_gap_and_a_reload() {
    let hub = Hub::new();
    let open = || {
        let mut options = hub.session_options();
        options.restore = Some("page".into());
        let board = async move |session: Session| {
            let rights = || PageRights::default().event("draw").state();
            session.on_join(move |name| (name == "board").then(rights));
            session.ended().await;
        };
        Page::of(&hub, &hub.open_with(options, app(board)))
    };
    let (mut ada, ben) = (open(), open());
    ada.join("board", "Ada").await;
    ada.wait_for_members("board", |members| members.len() == 1).await;
    ben.join("board", "Ben").await;
    let members = ben.wait_for_members("board", |members| members.len() == 2).await;
    assert_eq!((&members[0].state, &members[1].state), (&"Ada".into(), &"Ben".into()));

    ada.go_away();
    ben.wait_for_members("board", |members| members[0].is_away).await;
    ben.emit_in("board", "draw", &7).await;
    ben.set_room_state("board", "Benjamin").await;
    assert_eq!(ben.members("board")[1].state, "Benjamin");
    ada.come_back();
    assert_eq!(ada.room_event("board", "draw").await, (members[1].id, 7));
    ada.wait_for_members("board", |members| members[1].state == "Benjamin")
        .await;
    assert_eq!(ada.missed("board"), 0);

    ada.reload();
    let after = ada.wait_for_members("board", |members| members.len() == 2).await;
    assert_eq!(after[0].id, members[0].id);
    ben.leave("board").await;
    assert_eq!(ben.wait_for_out("board").await, "left");
    ada.wait_for_members("board", |members| members.len() == 1).await;
    ben.join("lobby", "Ben").await;
    assert_eq!(ben.wait_for_out("lobby").await, "refused");
}
