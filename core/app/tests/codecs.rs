//! The format of values: a hub chooses it once for its sessions and rooms.

mod support;

use std::collections::BTreeMap;

use stillhere::Hub;
use stillhere_app::{AppOptions, Codec, HubBuilderExt as _, HubExt as _, Items, PageRights, Session, app, app_with};
use support::{Page, call, number, take_number};

/// The kinds of units that have a value (PROTOCOL.md).
const KINDS: [u8; 8] = [2, 3, 4, 5, 8, 9, 12, 13];

/// A function that sends something of every kind.
async fn everything(session: Session) {
    session.observable("count", 1);
    session.handle_stream("up", async |to: u8, items: Items<u8>| {
        items.send(&to).await.map_err(|error| error.to_string())?;
        Ok::<_, String>("done")
    });
    session.on_restore(|page| async move {
        page.send_json(&"again").await.expect("the page takes over");
    });
    let room = session.room("board").expect("there is room");
    let _member = room.join(&session, &"Ada").expect("there is room");
    session.send_json(&"text").await.expect("the session is open");
    session.emit("moved", &(1, 2)).await.expect("the session is open");
    room.emit("drawn", &[1, 2]).expect("numbers");
    let answer = session.call::<_, u8>("double", &2).await;
    assert_eq!(answer.expect("the page answers"), 4);
    session.ended().await;
}

/// Opens a session of the function above, and its page.
fn open(hub: &Hub, own: Option<AppOptions>) -> (stillhere::SessionHandle, Page) {
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let session = match own {
        None => hub.open_with(options, app(everything)),
        Some(own) => hub.open_with(options, app_with(own, everything)),
    };
    let page = Page::open(hub, &session);
    (session, page)
}

/// Returns the format of a unit's value.
fn format_of(unit: &[u8]) -> u8 {
    let (kind, mut rest) = unit.split_first().expect("a unit has a kind");
    let name = |rest: &mut &[u8]| *rest = &rest[1 + usize::from(rest[0])..];
    match kind {
        2 => {}
        3 => name(&mut rest),
        4 => {
            take_number(&mut rest);
            take_number(&mut rest);
            name(&mut rest);
        }
        5 | 9 => drop(take_number(&mut rest)),
        8 => {
            name(&mut rest);
            take_number(&mut rest);
        }
        12 => {
            name(&mut rest);
            rest = &rest[1..];
        }
        13 => {
            name(&mut rest);
            take_number(&mut rest);
            name(&mut rest);
        }
        other => panic!("kind {other}"),
    }
    rest[0]
}

/// Receives until the page has a unit of each of these kinds, and returns their formats. Answers
/// calls.
async fn formats(page: &Page, kinds: &[u8]) -> BTreeMap<u8, u8> {
    let mut formats = BTreeMap::new();
    while formats.len() < kinds.len() {
        let unit = page.recv_for(&format!("{kinds:?} besides {formats:?}")).await;
        let format = format_of(&unit);
        assert_eq!(*formats.entry(unit[0]).or_insert(format), format, "kind {}", unit[0]);
        if unit[0] == 4 {
            let id = take_number(&mut &unit[1..]);
            let mut answer = vec![5];
            number(id, &mut answer);
            // A page may use either format: here it is the other one.
            answer.extend(if format == 0 { &b"\x01\x04"[..] } else { b"\x004" });
            page.send(answer).await;
        }
    }
    formats
}

async fn has_format(hub: &Hub, own: Option<AppOptions>, format: u8, room_format: u8) {
    let (session, page) = open(hub, own);
    let mut stream = call(1, "up", "7");
    stream[2] = 8; // its credit
    page.send(stream).await;
    let of_kind = |kind| if kind >= 12 { room_format } else { format };
    assert_eq!(
        formats(&page, &KINDS).await,
        KINDS.map(|kind| (kind, of_kind(kind))).into()
    );
    drop(page);
    let page = Page::open(hub, &session);
    let restored = [2, 8, 12];
    let expected = restored.map(|kind| (kind, of_kind(kind))).into();
    assert_eq!(formats(&page, &restored).await, expected);
    session.abort("enough");
    session.ended().await;
}

#[tokio::test(start_paused = true)]
async fn all_sessions_and_rooms_of_a_hub_send_in_its_codec() {
    for (codec, format) in [(Codec::Json, 0), (Codec::MessagePack, 1)] {
        let hub = Hub::builder().codec(codec).build();
        has_format(&hub, None, format, format).await;
        // It holds on top of other options, in any order.
        let hub = Hub::builder().codec(codec).app_options(AppOptions::default()).build();
        assert_eq!(hub.app_options().codec, codec);
        has_format(&hub, None, format, format).await;
    }
    has_format(&Hub::new(), None, 0, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_may_have_a_codec_of_its_own() {
    let hub = Hub::builder().codec(Codec::MessagePack).build();
    let mut own = hub.app_options();
    own.codec = Codec::Json;
    has_format(&hub, Some(own), 0, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_page_does_is_the_same_in_both_codecs() {
    for codec in [Codec::Json, Codec::MessagePack] {
        let hub = Hub::builder().codec(codec).build();
        let open = || {
            stillhere_app::testing::Page::open(&hub, async |session: Session| {
                session.on_join(|_| Some(PageRights::default().event("draw").state()));
                session.handle("sum", async |numbers: Vec<i64>| {
                    Ok::<_, String>(numbers.iter().sum::<i64>())
                });
                session.ended().await;
            })
        };
        let (ada, ben) = (open(), open());
        assert_eq!(ada.call("sum", &[1_i64, i64::MAX - 1]).await, Ok(i64::MAX));
        ada.join("board", "Ada").await;
        ben.join("board", &("Ben", 0.5)).await;
        let members = ada.wait_for_members("board", |members| members.len() == 2).await;
        assert_eq!(members[1].state, serde_json::json!(["Ben", 0.5]));
        ben.emit_in("board", "draw", &[7, 8]).await;
        assert_eq!(ada.room_event("board", "draw").await, (members[1].id, [7, 8]));
    }
}
