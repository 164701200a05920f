//! Promise 2: a page never becomes unresponsive. The cases check which document has the session,
//! and what other documents are told.

use std::time::Duration;

use stillhere::code::Code;
use stillhere::machine::Event;
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{Incoming, Lane, SessionHandle, SessionState};
use tokio::sync::oneshot;

use crate::application::{echo, handing_on, never_reads, next_message};
use crate::neighbour::Neighbour;
use crate::patience::within;
use crate::raw_connection::{fragment, hello, received, whole};
use crate::server::{Server, credentials, wait_for_event, wait_for_state};

/// Promise 2: the first document of a session is Opened, its reconnect is Resumed, and its reload
/// is Restored.
pub async fn a_page_is_opened_resumed_and_restored(server: &Server) {
    let session = server.hub.open(echo);
    let mut events = session.events();
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    browser.lose_connection();
    browser.wait_for_outcome(Outcome::Resumed).await;
    let browser = browser.reload().await;
    browser.wait_for_outcome(Outcome::Restored).await;
    assert_eq!(browser.incarnation(), 2);
    let restored = wait_for_event(&mut events, "a restore", |event| {
        matches!(event, Event::Restored { .. })
    })
    .await;
    assert_eq!(restored, Event::Restored { incarnation: 2 });
}

/// R29: the page that has the session answers the probe, so a duplicated tab is answered with
/// Duplicate and the page is not affected.
pub async fn a_duplicate_of_an_active_page_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    for _ in 0..3 {
        let duplicate = browser.duplicate();
        assert_eq!(duplicate.refusal().await, Code::Duplicate as u64);
    }
    browser.send("mine").expect("the session is open");
    assert_eq!(browser.recv().await.payload, "mine");
    assert_eq!(browser.events().len(), 1, "the page got no event but the welcome");
    neighbour.assert_untouched().await;
}

/// R29, R30, R26: a page whose old document is half-open is Restored after the probe has timed out.
/// When the old document returns, it is answered with Superseded.
pub async fn a_reload_while_the_old_page_is_half_open_is_restored_after_the_probe(server: &Server) {
    let session = server.hub.open(echo);
    let old = server.browse_through_proxy(&session);
    old.wait_for_outcome(Outcome::Opened).await;
    let connection = server.newest_connection(&session).await;
    connection.silence();

    let since = std::time::Instant::now();
    let new = server.browse(&session);
    new.wait_for_outcome(Outcome::Restored).await;
    assert!(
        since.elapsed() >= Duration::from_secs(2),
        "the old page had its 2 s to answer"
    );
    new.send("mine now").expect("the session is open");
    assert_eq!(new.recv().await.payload, "mine now");

    connection.resume();
    assert_eq!(old.refusal().await, Code::Superseded as u64);
}

/// R26: an old page that returns on a new connection is answered with Superseded too.
pub async fn a_superseded_page_that_comes_back_is_refused(server: &Server) {
    let session = server.hub.open(echo);
    let old = server.browse_through_proxy(&session);
    old.wait_for_outcome(Outcome::Opened).await;
    server.proxy.refuse_new(true);
    server.newest_connection(&session).await.reset();
    wait_for_state(&session, SessionState::SoftClosed).await;
    let new = server.browse(&session);
    new.wait_for_outcome(Outcome::Restored).await;

    server.proxy.refuse_new(false);
    old.wake();
    assert_eq!(old.refusal().await, Code::Superseded as u64);
    assert_eq!(session.state(), SessionState::Open);
    new.send("mine").expect("the session is open");
    assert_eq!(new.recv().await.payload, "mine");
}

/// PROTOCOL 6.2: an incarnation that the session has not reached is answered with Superseded,
/// whichever document presents it.
pub async fn an_incarnation_of_the_future_is_superseded(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    let _current = server.raw_welcomed(&session).await;
    for document in [1, 2] {
        let mut raw = server.raw(&credentials).await;
        raw.say_hello(&credentials, document, 2, 9).await;
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Superseded as u64, 0));
    }
    assert_eq!(session.state(), SessionState::Open);
}

/// PROTOCOL 6.6: without a probe, which is an option of the application, the session is offered at
/// once.
pub async fn without_a_probe_an_active_page_is_superseded_at_once(server: &Server) {
    let mut options = server.hub.session_options();
    options.timing.probe = None;
    let session = server.hub.open_with(options, echo);
    let old = server.browse(&session);
    old.wait_for_outcome(Outcome::Opened).await;
    let new = server.browse(&session);
    new.wait_for_outcome(Outcome::Restored).await;
    assert_eq!(old.refusal().await, Code::Superseded as u64);
    assert_eq!(old.wait_for_close_codes(1).await, [Code::Superseded as u64]);
}

/// PROTOCOL 6.6: while one newcomer waits for the session, another is answered with Busy and a time
/// to retry.
pub async fn a_second_newcomer_is_told_that_the_session_is_busy(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    // This connection never answers the probe.
    let _silent = server.raw_welcomed(&session).await;
    let mut newcomers = [server.raw(&credentials).await, server.raw(&credentials).await];
    for (newcomer, document) in newcomers.iter_mut().zip([2, 3]) {
        newcomer.say_hello(&credentials, document, 0, 1).await;
    }
    // The network decides which of them arrives first.
    let [one, other] = &mut newcomers;
    let frames = [one.frame().await, other.frame().await];
    let offered = frames
        .iter()
        .position(|frame| *frame == Frame::Offer)
        .expect("one newcomer is offered the session");
    let Frame::End(end) = &frames[1 - offered] else {
        panic!("both are: {frames:?}")
    };
    assert_eq!((end.code, end.reason), (Code::Busy as u64, 0));
    assert!(end.retry_after > 0);
    newcomers[offered].send(Frame::Confirm).await;
    assert_eq!(newcomers[offered].welcome().await.incarnation, 2);
}

/// PROTOCOL 6.6: a newcomer that says hello again is offered the session again on its newer
/// connection. The older connection is closed with Replaced.
pub async fn a_newcomer_may_come_again(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    drop(server.raw_welcomed(&session).await);
    wait_for_state(&session, SessionState::SoftClosed).await;
    let mut older = server.raw(&credentials).await;
    older.say_hello(&credentials, 2, 0, 1).await;
    assert_eq!(older.frame().await, Frame::Offer);
    let mut newer = server.raw(&credentials).await;
    newer.say_hello(&credentials, 2, 0, 2).await;
    assert_eq!(newer.frame().await, Frame::Offer);
    assert_eq!(older.end().await.code, Code::Replaced as u64);
    newer.send(Frame::Confirm).await;
    assert_eq!(newer.welcome().await.incarnation, 2);
}

/// R21: a newcomer that does not confirm is closed with HelloDeadline, and the session stays with
/// its document.
pub async fn an_offer_that_is_not_confirmed_is_withdrawn(server: &Server) {
    let mut options = server.hub.session_options();
    // The hellos of this case must arrive within this time too.
    options.timing.hello = Duration::from_secs(1);
    // If a page that polls disappears between two polls, only its silence reveals that.
    options.timing.heartbeat = Duration::from_millis(100);
    let session = server.hub.open_with(options, never_reads);
    let credentials = credentials(&session);
    drop(server.raw_welcomed(&session).await);
    wait_for_state(&session, SessionState::SoftClosed).await;
    let mut newcomer = server.raw(&credentials).await;
    newcomer.say_hello(&credentials, 2, 0, 1).await;
    assert_eq!(newcomer.frame().await, Frame::Offer);
    assert_eq!(newcomer.end().await.code, Code::HelloDeadline as u64);

    let mut own = server.raw(&credentials).await;
    own.say_hello(&credentials, 1, 1, 2).await;
    assert_eq!(own.welcome().await.incarnation, 1);
}

/// R18: before the welcome, a violation ends only the connection. A newcomer that violates the
/// protocol does not affect the session.
pub async fn a_protocol_violation_by_a_newcomer_ends_only_its_connection(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let mut current = server.raw_welcomed(&session).await;
    let mut counts = hello(&credentials, 2, 0, 1);
    counts.counts.received.interactive = 3;
    for bad in [
        vec![Frame::Hello(counts)],
        vec![Frame::Hello(hello(&credentials, 3, 0, 1)), Frame::Confirm],
    ] {
        let mut newcomer = server.raw(&credentials).await;
        for frame in bad {
            newcomer.send(frame).await;
        }
        let end = newcomer.end().await;
        assert_eq!((end.code, end.reason), (Code::Malformed as u64, 0));
    }
    current.send(whole(Lane::Interactive, 1, "mine")).await;
    assert_eq!(current.data().await.payload, "mine");
    assert_eq!(session.state(), SessionState::Open);
}

/// R31: messages that the old document had not acknowledged, and the incomplete message that it had
/// sent, reach neither the new document nor the application.
pub async fn nothing_of_the_old_document_reaches_the_new_one(server: &Server) {
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(application);
    let credentials = credentials(&session);
    let mut old = server.raw_welcomed(&session).await;
    session.send("for the old document").await.expect("the session is open");
    assert_eq!(old.data().await.payload, "for the old document");
    old.send(fragment(Lane::Bulk, 1, vec![1; credentials.limits.fragment as usize]))
        .await;
    old.send(whole(Lane::Interactive, 1, "from the old document")).await;
    assert_eq!(next_message(&mut incoming).await, "from the old document");
    drop(old);
    wait_for_state(&session, SessionState::SoftClosed).await;
    session.send("sent to nobody").await.expect("the session is open");

    let new = server.browse(&session);
    new.wait_for_outcome(Outcome::Restored).await;
    session.send("for the new document").await.expect("the session is open");
    assert_eq!(new.recv().await.payload, "for the new document");
    new.send_bulk("from the new document").expect("the session is open");
    let restored = within("the news of the restore", incoming.recv()).await;
    assert_eq!(restored, Some(Incoming::Restored));
    assert_eq!(next_message(&mut incoming).await, "from the new document");
    new.wait_until_acknowledged().await;
    assert!(
        new.received().is_empty() && incoming.try_recv().is_err(),
        "nothing else arrived"
    );
}

/// R23, R31: messages received before a restore can still be read, before the restore is reported.
/// They reduce the new document's first credit.
pub async fn messages_received_before_a_restore_are_read_before_it(server: &Server) {
    let (read, to_read) = oneshot::channel();
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(|session| async move {
        to_read.await.expect("the case says when to read");
        application(session).await;
    });
    let credentials = credentials(&session);
    let old = server.browse(&session);
    old.wait_for_outcome(Outcome::Opened).await;
    for text in ["one", "two"] {
        old.send(text).expect("the session is open");
    }
    old.wait_until_acknowledged().await;
    old.leave().await;
    wait_for_state(&session, SessionState::SoftClosed).await;

    let mut new = server.raw(&credentials).await;
    new.say_hello(&credentials, 200, 0, 1).await;
    assert_eq!(new.frame().await, Frame::Offer);
    new.send(Frame::Confirm).await;
    let welcome = new.welcome().await;
    assert_eq!(welcome.counts.received.interactive, 0);
    let held = 2 * (3 + stillhere::FRAME_CHARGE);
    assert_eq!(welcome.counts.credit.interactive, credentials.limits.window - held);
    new.send(whole(Lane::Interactive, 1, "three")).await;

    read.send(()).expect("the application waits");
    assert_eq!(next_message(&mut incoming).await, "one");
    assert_eq!(next_message(&mut incoming).await, "two");
    assert_eq!(
        within("the news of the restore", incoming.recv()).await,
        Some(Incoming::Restored)
    );
    assert_eq!(next_message(&mut incoming).await, "three");
}

/// The function given to `on_restore` sends first. The new document's messages wait until it has
/// returned.
pub async fn the_restore_function_speaks_first(server: &Server) {
    let (returning, to_return) = oneshot::channel::<()>();
    let to_return = std::sync::Arc::new(tokio::sync::Mutex::new(Some(to_return)));
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(move |session| {
        session.on_restore(move |restoring| {
            let to_return = std::sync::Arc::clone(&to_return);
            async move {
                restoring.send("state").await.expect("the session is open");
                let to_return = to_return.lock().await.take().expect("the session is restored once");
                to_return.await.expect("the case says when to return");
                restoring.send("more state").await.expect("the session is open");
            }
        });
        application(session)
    });
    let old = server.browse(&session);
    old.wait_for_outcome(Outcome::Opened).await;
    // Once the function has read a message, it has also set its restore function.
    old.send("first").expect("the session is open");
    assert_eq!(next_message(&mut incoming).await, "first");
    let new = old.reload().await;
    new.wait_for_outcome(Outcome::Restored).await;
    assert_eq!(new.recv().await.payload, "state");
    session.send("after").await.expect("the session is open");
    new.send("from the new document").expect("the session is open");
    new.wait_until_acknowledged().await;
    assert!(
        incoming.try_recv().is_err(),
        "not read before the restore function has returned"
    );

    returning.send(()).expect("the restore function waits");
    assert_eq!(new.recv().await.payload, "more state");
    assert_eq!(new.recv().await.payload, "after");
    let first = within("the news of the restore", incoming.recv()).await;
    assert_eq!(first, Some(Incoming::Restored));
    assert_eq!(next_message(&mut incoming).await, "from the new document");
}

/// R25: if the welcome of a restore is lost, the document has not seen it, sends its hello again
/// and is Restored.
pub async fn a_lost_welcome_of_a_restore_does_no_harm(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    drop(server.raw_welcomed(&session).await);
    wait_for_state(&session, SessionState::SoftClosed).await;
    let mut events = session.events();
    let mut new = server.raw(&credentials).await;
    new.say_hello(&credentials, 2, 0, 1).await;
    assert_eq!(new.frame().await, Frame::Offer);
    new.send(Frame::Confirm).await;
    wait_for_event(&mut events, "the restore", |event| {
        *event == Event::Restored { incarnation: 2 }
    })
    .await;
    session.send("state").await.expect("the session is open");
    drop(new);

    let mut again = server.raw(&credentials).await;
    again.say_hello(&credentials, 2, 0, 2).await;
    let welcome = again.welcome().await;
    assert_eq!(welcome.incarnation, 2, "above 1: Restored");
    assert_eq!(again.data().await.payload, "state");
    again.send(Frame::Ack(received(1))).await;
    wait_until_all_is_acknowledged(&session, &mut again).await;
}

async fn wait_until_all_is_acknowledged(session: &SessionHandle, raw: &mut crate::raw_connection::RawConnection) {
    // The pong is sent after the acknowledgement has been processed.
    raw.send(Frame::Ping {
        nonce: 1,
        counts: received(1),
    })
    .await;
    assert!(matches!(raw.frame().await, Frame::Pong { nonce: 1, .. }));
    assert_eq!(session.unacknowledged(), 0);
}

/// R32: a page that goes away announces it, and its session waits. When the page returns from the
/// back/forward cache it is Resumed.
pub async fn a_page_that_comes_back_from_the_cache_resumes(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    browser.leave().await;
    wait_for_state(&session, SessionState::SoftClosed).await;
    assert_eq!(session.snapshot().cause, Some(stillhere::Cause::Left));
    browser.send("while away").expect("an outbox has room");
    browser.wake();
    browser.wait_for_outcome(Outcome::Resumed).await;
    assert_eq!(browser.recv().await.payload, "while away");
}

/// Promises 1 and 2: fifty reloads in a row are each Restored, and each document gets only its own
/// messages.
pub async fn many_reloads_in_a_row_are_restored(server: &Server) {
    let session = server.hub.open(echo);
    let mut browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    for number in 2..=50u64 {
        browser.send("unanswered, perhaps").expect("the session is open");
        browser = browser.reload().await;
        browser.wait_for_outcome(Outcome::Restored).await;
        assert_eq!(browser.incarnation(), number);
    }
    wait_for_state(&session, SessionState::Open).await;
    browser.send("the last").expect("the session is open");
    // Answers to messages of the previous document may arrive, because the application took those
    // messages after the restore.
    while browser.recv().await.payload != "the last" {}
}
