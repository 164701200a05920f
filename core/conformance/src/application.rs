//! Application functions for the sessions of the cases.

use std::future::Future;

use bytes::Bytes;
use stillhere::{Incoming, Lane, Session};
use tokio::sync::mpsc;

use crate::patience::within;

/// Sends every message back on the lane on which it arrived.
pub async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        let sent = match message.lane() {
            Lane::Interactive => session.send(message.into_bytes()).await,
            Lane::Bulk => session.send_bulk(message.into_bytes()).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Reads nothing, and returns when the session ends.
pub async fn never_reads(session: Session) {
    session.ended().await;
}

/// Creates an application function that forwards everything it receives, and returns when the
/// session ends.
pub fn handing_on() -> (
    impl FnOnce(Session) -> Handing + Send + 'static,
    mpsc::UnboundedReceiver<Incoming>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let application = move |mut session: Session| -> Handing {
        Box::pin(async move {
            while let Some(incoming) = session.next().await {
                if sender.send(incoming).is_err() {
                    return;
                }
            }
        })
    };
    (application, receiver)
}

/// The future of an application function from [`handing_on`].
pub type Handing = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Returns the next item that [`handing_on`] forwarded, which must be a message.
///
/// # Panics
/// Panics if it is something else, or if nothing arrives.
pub async fn next_message(incoming: &mut mpsc::UnboundedReceiver<Incoming>) -> Bytes {
    match within("a message for the application", incoming.recv()).await {
        Some(Incoming::Message(message)) => message.into_bytes(),
        other => panic!("expected a message, got {other:?}"),
    }
}
