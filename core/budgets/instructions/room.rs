//! An event of a room, which is a broadcast with the layer of `stillhere-app`.

use stillhere::Hub;
use stillhere_app::{Membership, Room, Rooms, SessionHandle, app};
use tokio::sync::oneshot;

use crate::load::PAGES;
use crate::page::Page;

pub(crate) const NAME: &str = "room of 100 pages";

/// About as many bytes as a raw broadcast has.
const EVENT: &str = "an event of fifty bytes, more or less, in a room";

pub(crate) async fn broadcast(rounds: usize) {
    let hub = Hub::new();
    let room = Rooms::new().room("board").expect("it is the first");
    let mut members = Vec::new();
    for _ in 0..PAGES {
        members.push(join(&hub, &room).await);
    }
    for (number, (page, _)) in members.iter_mut().enumerate() {
        // The members when it joined, and each that joined later.
        page.receive(PAGES - number).await;
        page.send(0).await;
    }
    for _ in 0..rounds {
        room.emit("said", EVENT).expect("a text can be encoded");
        for (page, _) in &mut members {
            page.receive(1).await;
            page.send(0).await;
        }
    }
}

async fn join(hub: &Hub, room: &Room) -> (Page, Membership) {
    let (sender, handle) = oneshot::channel::<SessionHandle>();
    let session = hub.open(app(async move |session| {
        let _ = sender.send(stillhere_app::Session::to_handle(&session));
        session.ended().await;
    }));
    let page = Page::connect(hub, &session).await;
    let handle = handle.await.expect("the function starts");
    let membership = room.join(&handle, &()).expect("there is room");
    (page, membership)
}
