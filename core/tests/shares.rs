//! Limits on what one address or one user may hold, and what a client above them is told.

mod support;

use std::convert::Infallible;
use std::net::IpAddr;

use bytes::Bytes;
use futures_util::stream;
use stillhere::{Accepted, EndReason, Hub, HubBuilder, Session, SessionHandle, SessionRequest, SessionState, Share};

use support::settled;
use support::wire::{RawDocument, Wire};

async fn idle(session: Session) {
    session.ended().await;
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("the address is valid")
}

fn hub(share: Share) -> HubBuilder {
    Hub::builder().address_share(share).principal_share(share)
}

fn open(hub: &Hub, from: &str, principal: Option<&str>) -> SessionHandle {
    let mut options = hub.session_options();
    options.address = Some(address(from));
    options.principal = principal.map(Into::into);
    hub.open_with(options, idle)
}

/// Makes a request for the session from this peer, with this `X-Forwarded-For`.
fn ask(hub: &Hub, session: &SessionHandle, peer: Option<&str>, forwarded: &str, principal: Option<&str>) -> Accepted {
    let id = session.id().to_string();
    let headers = [
        ("sec-websocket-protocol", "stillhere.v1"),
        ("x-forwarded-for", forwarded),
    ];
    let request = SessionRequest::new(&id, headers.map(|(name, value)| (name, value.as_bytes())));
    let request = request.peer_address(peer.map(address)).principal(principal);
    hub.accept(&request).expect("our protocol was offered")
}

fn is_refused(accepted: &Accepted) -> bool {
    let shown = format!("{accepted:?}");
    assert_eq!(shown.contains("4202"), shown.contains("too many"), "{shown}");
    shown.contains("4202")
}

/// Returns the POST that opens a connection with a hello.
fn opening(token: u8, session: &SessionHandle) -> Bytes {
    let hello = stillhere::wire::Frame::Hello(RawDocument::new(session).hello()).to_bytes();
    let length = u32::try_from(hello.len()).expect("it is small").to_le_bytes();
    [&[1][..], &[token; 16], &1_000u32.to_le_bytes(), &length, &hello]
        .concat()
        .into()
}

#[tokio::test(start_paused = true)]
async fn of_one_address_or_user_with_too_many_waiting_sessions_the_oldest_ends_and_nobody_elses() {
    let hub = hub(Share {
        unconnected: 2,
        ..Share::default()
    })
    .build();
    let honest = open(&hub, "8.8.8.8", None);
    let flood: Vec<_> = (0..100).map(|_| open(&hub, "6.6.6.6", None)).collect();
    let of_ada: Vec<_> = ["1.1.1.1", "2.2.2.2", "3.3.3.3"]
        .map(|from| open(&hub, from, Some("ada")))
        .into();
    let (late, early) = (&flood[98..], &flood[..98]);
    assert!(early.iter().all(|session| session.state() == SessionState::Closed));
    assert!(
        late.iter()
            .chain([&honest])
            .all(|session| session.state() == SessionState::Unconnected)
    );
    assert_eq!(early[0].ended().await, EndReason::NeverConnected);
    let states = [0, 1, 2].map(|index| of_ada[index].state());
    assert_eq!(
        states,
        [
            SessionState::Closed,
            SessionState::Unconnected,
            SessionState::Unconnected
        ]
    );
    assert_eq!(hub.stats().unconnected, 5);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_pages_that_nobody_opens_leave_room_for_the_next_visitor() {
    let hub = Hub::new();
    let flood: Vec<_> = (0..10_100).map(|_| hub.open(idle)).collect();
    let honest = hub.open(idle);
    RawDocument::new(&honest).welcomed(&hub).await;
    assert_eq!(flood[0].state(), SessionState::Closed);
    assert_eq!((hub.stats().unconnected, hub.stats().sessions), (9_999, 10_000));
}

#[tokio::test(start_paused = true)]
async fn one_address_or_user_has_its_share_of_connections_and_hellos_and_others_have_theirs() {
    for share in [
        Share {
            connections: 2,
            ..Share::default()
        },
        Share {
            hellos: 2,
            ..Share::default()
        },
    ] {
        let hub = hub(share).build();
        let session = hub.open(idle);
        let of_ada = hub.open_for("ada", idle);
        let mut held: Vec<_> = (0..2).map(|_| ask(&hub, &session, Some("6.6.6.6"), "", None)).collect();
        held.extend(["1.1.1.1", "2.2.2.2"].map(|peer| ask(&hub, &of_ada, Some(peer), "", Some("ada"))));
        assert!(!held.iter().any(is_refused), "{held:?}");
        assert!(
            is_refused(&ask(&hub, &session, Some("6.6.6.6"), "8.8.8.8", None)),
            "its own claims are ignored"
        );
        assert!(is_refused(&ask(&hub, &of_ada, Some("3.3.3.3"), "", Some("ada"))));
        for other in [Some("8.8.8.8"), Some("127.0.0.1"), Some("10.0.0.1"), None] {
            let many: Vec<_> = (0..2).map(|_| ask(&hub, &session, other, "6.6.6.6", None)).collect();
            assert!(!many.iter().any(is_refused), "{other:?}");
        }
        drop(held);
        assert!(
            !is_refused(&ask(&hub, &session, Some("6.6.6.6"), "", None)),
            "the place is free again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_holds_its_place_until_it_ends_and_its_place_among_the_hellos_until_its_hello() {
    let one = |connections, hellos| {
        let share = Share {
            connections,
            hellos,
            ..Share::default()
        };
        hub(share).principal(|_| Some("ada".to_owned())).build()
    };
    let hub = one(1, 9);
    let session = hub.open_for("ada", idle);
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    let refused = RawDocument::new(&session).connect(&hub).end().await;
    assert_eq!((refused.code, refused.retry_after), (4202, 1000));
    drop(wire);
    settled().await;
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    session.abort("");
    assert_eq!(wire.end().await.code, 4102);

    let hub = one(9, 1);
    let session = hub.open_for("ada", idle);
    let (_first, _) = RawDocument::new(&session).welcomed(&hub).await;
    let silent = Wire::connect(&hub, &session.id().to_string());
    assert_eq!(RawDocument::new(&session).connect(&hub).end().await.code, 4202);
    drop(silent);
    settled().await;
    session.abort("");
    let silent = Wire::connect(&hub, &session.id().to_string());
    let refused = RawDocument::new(&session).connect(&hub).end().await;
    assert_eq!(refused.code, 4202, "connections of an ended session count too");
    drop(silent);
    settled().await;
    assert_eq!(RawDocument::new(&session).connect(&hub).end().await.code, 4102);
}

#[tokio::test(start_paused = true)]
async fn one_address_or_user_has_its_share_of_sessions_and_keeps_those_it_has() {
    let hub = hub(Share {
        sessions: 2,
        ..Share::default()
    })
    .build();
    for (peers, principal) in [(["6.6.6.6"; 3], None), (["1.1.1.1", "2.2.2.2", "3.3.3.3"], Some("ada"))] {
        let sessions = [0, 1, 2].map(|_| open(&hub, "9.9.9.9", principal));
        let asks = |index: usize| is_refused(&ask(&hub, &sessions[index], Some(peers[index]), "", principal));
        assert_eq!([0, 1, 2].map(asks), [false, false, true], "{principal:?}");
        assert_eq!(
            [0, 1, 2].map(asks),
            [false, false, true],
            "it may reconnect to sessions that it already has"
        );
        if principal.is_none() {
            let other = ask(&hub, &sessions[2], Some("8.8.8.8"), "", None);
            assert!(!is_refused(&other), "another address has its own share");
        } else {
            sessions[0].abort("");
            assert!(!asks(2), "there is room again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn behind_trusted_proxies_each_client_has_a_share_of_its_own() {
    let hub = hub(Share {
        hellos: 1,
        ..Share::default()
    })
    .trusted_hops(1)
    .build();
    let session = hub.open(idle);
    let first = ask(&hub, &session, Some("127.0.0.1"), "9.9.9.9, 6.6.6.6", None);
    assert!(!is_refused(&first));
    assert!(is_refused(&ask(
        &hub,
        &session,
        Some("127.0.0.1"),
        "1.2.3.4, 6.6.6.6",
        None
    )));
    assert!(!is_refused(&ask(
        &hub,
        &session,
        Some("127.0.0.1"),
        "6.6.6.6, 9.9.9.9",
        None
    )));
}

#[tokio::test(start_paused = true)]
async fn one_address_has_its_share_of_posts_and_is_told_when_to_retry() {
    let hub = hub(Share {
        posts: 1,
        ..Share::default()
    })
    .build();
    let session = hub.open(idle);
    let id = session.id().to_string();
    let headers = [("content-type", &b"application/stillhere.v1"[..])];
    let request = |peer| SessionRequest::new(&id, headers).peer_address(Some(address(peer)));
    let ours = request("6.6.6.6");
    let half = stream::pending::<Result<Bytes, Infallible>>();
    let mut waiting = Box::pin(hub.answer("POST", &ours, half));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());

    let whole = || stream::iter([Ok::<_, Infallible>(opening(1, &session))]);
    let refused = hub.answer("POST", &ours, whole()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains(&("retry-after", "1".to_owned())));
    let theirs = request("8.8.8.8");
    assert_eq!(hub.answer("POST", &theirs, whole()).await.status, 200);
    drop(waiting);
    settled().await;
    assert_ne!(hub.answer("POST", &ours, whole()).await.status, 429);
}
