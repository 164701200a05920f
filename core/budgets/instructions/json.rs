//! A function that echoes JSON, by hand and with the typed messages of `stillhere-app`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stillhere::{Hub, Session};
use stillhere_app::app;

use crate::end::Kind;
use crate::page::Page;

/// With `serde_json` over the bytes of messages.
pub(crate) const BY_HAND: &str = "JSON echo, by hand";

/// With `stillhere-app`.
pub(crate) const WITH_APP: &str = "JSON echo, stillhere-app";

/// What a page sends: about 64 bytes.
const MESSAGE: &str = r#"{"user":"someone","x":103.25,"y":-4.5,"pressed":true,"sent":171}"#;

/// Kind of a unit with a message, and the format of a JSON value.
const UNIT: [u8; 2] = [2, 0];

#[derive(Serialize, Deserialize)]
struct Move {
    user: String,
    x: f64,
    y: f64,
    pressed: bool,
    sent: u64,
}

pub(crate) async fn echo(name: &str, rounds: usize) {
    let hub = Hub::new();
    let (session, message) = if name == WITH_APP {
        let unit = [&UNIT, MESSAGE.as_bytes()].concat();
        (hub.open(app(with_app)), Bytes::from(unit))
    } else {
        (hub.open(by_hand), Bytes::from_static(MESSAGE.as_bytes()))
    };
    let mut page = Page::connect(&hub, &session, Kind::Packets).await;
    for _ in 0..rounds {
        page.send_each(&message, 1).await;
        page.receive(1).await;
    }
}

async fn by_hand(mut session: Session) {
    while let Some(message) = session.recv().await {
        let moved: Move = serde_json::from_slice(&message).expect("the page sends moves");
        let answer = serde_json::to_vec(&moved).expect("a move is JSON");
        if session.send(answer).await.is_err() {
            return;
        }
    }
}

async fn with_app(mut session: stillhere_app::Session) {
    while let Some(moved) = session.recv_json::<Move>().await {
        if session.send_json(&moved.expect("the page sends moves")).await.is_err() {
            return;
        }
    }
}
