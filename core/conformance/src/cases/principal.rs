//! Sessions that belong to a user: only connections of this user are accepted, and each is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stillhere::code::Code;
use stillhere::{EndReason, Hub, Lane, SessionHandle, SessionState};

use crate::application::echo;
use crate::raw_connection::{RawConnection, whole};
use crate::server::{Server, credentials, end_of, wait_for_state};
use crate::socket::Request;

/// Opens a WebSocket for the session with this cookie.
async fn raw_as(server: &Server, session: &SessionHandle, cookie: Option<&str>) -> RawConnection {
    let request = Request::new(server.address, credentials(session).path());
    let request = match cookie {
        Some(cookie) => request.with_cookie(cookie),
        None => request,
    };
    RawConnection::open(&request)
        .await
        .expect("it is upgraded, to be told why it is refused")
}

async fn assert_forbidden(server: &Server, session: &SessionHandle, cookie: Option<&str>) {
    let mut raw = raw_as(server, session, cookie).await;
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (Code::Forbidden as u64, 0), "{cookie:?}");
}

async fn by_cookie(server: &Server) -> Server {
    let hub = Hub::builder().principal(|request| request.cookie("user").map(str::to_owned));
    server.with_hub(hub).await
}

/// Promise 6: the right secret with another user's cookie, or without a cookie, is answered with
/// Forbidden. That ends only the connection.
pub async fn another_user_is_refused_and_the_session_continues(server: &Server) {
    let server = by_cookie(server).await;
    let session = server.hub.open_for("ada", echo);
    for stranger in [
        None,
        Some("user=eve"),
        Some("user="),
        Some("user=ada2; x=ada"),
        Some("xuser=ada"),
    ] {
        assert_forbidden(&server, &session, stranger).await;
    }
    assert_eq!(session.state(), SessionState::Unconnected);

    let mut ada = raw_as(&server, &session, Some("theme=dark; user=ada")).await;
    ada.say_hello(&credentials(&session), 1, 0, 1).await;
    assert_eq!(ada.welcome().await.incarnation, 1);
    assert_forbidden(&server, &session, Some("user=eve")).await;
    ada.send(whole(Lane::Interactive, 1, "mine")).await;
    assert_eq!(ada.data().await.payload, "mine");

    // A session without a principal accepts anyone who has its ticket.
    let open_to_all = server.hub.open(echo);
    assert_eq!(server.raw_welcomed(&open_to_all).await.ping("x").await, "x");
}

/// Promise 6: a user who was accepted once is checked again at every reconnect.
pub async fn the_user_is_checked_at_every_resume(server: &Server) {
    let logged_in = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&logged_in);
    let hub = Hub::builder().principal(move |request| {
        let user = request.cookie("user").filter(|_| still.load(Ordering::SeqCst));
        user.map(str::to_owned)
    });
    let server = server.with_hub(hub).await;
    let session = server.hub.open_for("ada", echo);
    let cookie = Some("user=ada");
    let mut first = raw_as(&server, &session, cookie).await;
    first.say_hello(&credentials(&session), 1, 0, 1).await;
    first.welcome().await;
    drop(first);
    wait_for_state(&session, SessionState::SoftClosed).await;

    logged_in.store(false, Ordering::SeqCst);
    assert_forbidden(&server, &session, cookie).await;
    assert_eq!(session.state(), SessionState::SoftClosed);

    logged_in.store(true, Ordering::SeqCst);
    let mut again = raw_as(&server, &session, cookie).await;
    again.say_hello(&credentials(&session), 1, 1, 2).await;
    assert_eq!(again.welcome().await.incarnation, 1, "resumed");
}

/// Promise 5: when a user logs out, the user's sessions end and their pages are told. Sessions of
/// other users continue.
pub async fn logging_out_ends_the_users_sessions(server: &Server) {
    let server = by_cookie(server).await;
    let open = server.hub.open_for("ada", echo);
    let waiting = server.hub.open_for("ada", echo);
    let others = [server.hub.open_for("eve", echo), server.hub.open(echo)];
    let mut page = raw_as(&server, &open, Some("user=ada")).await;
    page.say_hello(&credentials(&open), 1, 0, 1).await;
    page.welcome().await;

    let sessions = server.hub.sessions_of("ada");
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        session.abort("logged out");
    }
    let end = page.end().await;
    assert_eq!((end.code, end.text.as_str()), (Code::Ended as u64, "logged out"));
    for session in [open, waiting] {
        assert_eq!(end_of(&session).await, EndReason::Aborted("logged out".into()));
    }
    assert!(
        others
            .iter()
            .all(|session| session.state() == SessionState::Unconnected)
    );
    assert_eq!(server.hub.sessions_of("ada").len(), 0);
}

/// Promise 6: if the hub cannot determine users, a session of a user accepts nobody.
pub async fn a_session_of_a_user_accepts_nobody_if_users_cannot_be_identified(server: &Server) {
    let session = server.hub.open_for("ada", echo);
    assert_forbidden(server, &session, Some("user=ada")).await;
    let panics = Hub::builder().principal(|_| panic!("on purpose"));
    let server = server.with_hub(panics).await;
    let session = server.hub.open_for("ada", echo);
    assert_forbidden(&server, &session, Some("user=ada")).await;
    assert_eq!(session.state(), SessionState::Unconnected);
}
