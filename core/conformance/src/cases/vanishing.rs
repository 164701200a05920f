//! Lost connections that the server notices at once. Polling has no such connections.

use stillhere::machine::Event;
use stillhere::machine::Outcome;
use stillhere::{Cause, SessionState};

use crate::application::echo;
use crate::patience::within;
use crate::server::{Server, wait_until_disconnected};

/// Promises 3 and 5: a browser that disappears by FIN or RST leaves its session soft-closed at
/// once. A browser that leaves announces it.
pub async fn a_browser_that_vanishes_leaves_its_session_soft_closed(server: &Server) {
    for vanish in ["cut", "reset", "leave", "drop"] {
        let session = server.hub.open(echo);
        let browser = server.browse_through_proxy(&session);
        browser.wait_for_outcome(Outcome::Opened).await;
        let mut events = session.events();
        server.proxy.refuse_new(true);
        let connection = server.newest_connection(&session).await;
        match vanish {
            "cut" => connection.cut(),
            "reset" => connection.reset(),
            "leave" => browser.leave().await,
            _ => drop(browser),
        }
        let cause = if vanish == "leave" { Cause::Left } else { Cause::Lost };
        let event = within("the soft close", events.next()).await;
        assert_eq!(event, Some(Event::SoftClosed(cause)), "{vanish}");
        assert_eq!(session.state(), SessionState::SoftClosed);
        wait_until_disconnected(&server.hub).await;
        server.proxy.refuse_new(false);
    }
}

/// Promises 3 and 5: if the server's side of a connection is dropped (its task aborted, its worker
/// or its runtime gone), the session is soft-closed and not lost.
pub async fn a_dropped_handler_leaves_its_session_soft_closed(server: &Server) {
    let (first, runtime) = server.on_its_own_runtime().await;
    let session = first.hub.open(echo);
    let browser = first.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut events = session.events();
    first.proxy.refuse_new(true);
    drop(runtime);
    let event = within("the soft close", events.next()).await;
    assert_eq!(event, Some(Event::SoftClosed(Cause::Lost)));
    wait_until_disconnected(&first.hub).await;

    // The hub still exists, and another server in the same process may serve it.
    let second = server.another_for(first.hub.clone()).await;
    first.proxy.set_upstream(second.address);
    first.proxy.refuse_new(false);
    browser.wake();
    browser.wait_for_outcome(Outcome::Resumed).await;
    browser.send("still here").expect("the session is open");
    assert_eq!(browser.recv().await.payload, "still here");
}
