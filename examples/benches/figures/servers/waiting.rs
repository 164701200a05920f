//! Sessions whose page was connected and has gone. They are made within the server, because a
//! million WebSockets take many minutes.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::connection::Packet;
use stillhere::wire::{Counts, Frame, SUBPROTOCOL};
use stillhere::{FRAME_CHARGE, Hub, PairEnd, SessionHandle, SessionRequest, connection_pair, run_connection_loop};
use stillhere_client::Ticket;

use crate::client::Document;

/// The message that is echoed: type, sequence and 64 bytes.
const MESSAGE: [u8; 66] = {
    let mut message = [b'a'; 66];
    message[0] = 0x40;
    message[1] = 1;
    message
};

/// Connects a page to each session, which echoes one message, and closes it once it has
/// acknowledged the echo.
pub(super) async fn soft_close(hub: &Hub, sessions: impl Iterator<Item = SessionHandle>) {
    for session in sessions {
        let name = session.id().to_string();
        let request = SessionRequest::new(&name, [("sec-websocket-protocol", SUBPROTOCOL.as_bytes())]);
        let accepted = hub.accept(&request).expect("the protocol is ours");
        let (page, server) = connection_pair(4);
        let ticket = Ticket::parse(&session.ticket_json()).expect("a ticket");
        tokio::join!(run_connection_loop(accepted, server), visit(page, &ticket));
    }
}

async fn visit(mut page: PairEnd, ticket: &Ticket) {
    let mut document = Document::new(ticket);
    say(&mut page, document.hello().to_bytes()).await;
    document.handle_welcome(&hear(&mut page).await);
    say(&mut page, MESSAGE.to_vec().into()).await;
    while hear(&mut page).await[0] != MESSAGE[0] {}
    let mut counts = Counts::default();
    counts.received.interactive = 1;
    counts.credit.interactive = ticket.limits.window + 64 + FRAME_CHARGE;
    counts.credit.bulk = ticket.limits.bulk_window;
    say(&mut page, Frame::Ack(counts).to_bytes()).await;
}

async fn say(page: &mut PairEnd, frame: Bytes) {
    page.send(Packet::Binary(frame)).await.expect("the server reads");
}

async fn hear(page: &mut PairEnd) -> Bytes {
    match page.next().await {
        Some(Ok(Packet::Binary(frame))) => frame,
        other => panic!("expected a frame, got {other:?}"),
    }
}
