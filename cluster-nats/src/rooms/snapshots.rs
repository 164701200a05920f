//! Asks another server what a room is like, and answers.

use std::time::Duration;

use async_nats::{Client, StatusCode, Subscriber};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use stillhere_app::{ServerId, Snapshot};
use tokio::time::timeout;

use super::batch::Mark;

/// What a server knows of a room, and up to where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) position: Position,
    /// The number of the last batch of each server.
    pub(super) numbers: Vec<(ServerId, u64)>,
    pub(super) room: Snapshot,
}

/// A place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    /// What is at this place, if anything has been.
    pub(super) mark: Option<Mark>,
}

/// Asks the servers that use the room, of which one answers. Returns `None` if there is none, or if
/// it does not answer in time.
pub(super) async fn ask(client: &Client, subject: &str) -> Option<Known> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.ok()?;
    let asked = client.publish_with_reply(subject.to_owned(), inbox, Bytes::new());
    asked.await.ok()?;
    let mut whole = BytesMut::new();
    loop {
        let mut part = timeout(PATIENCE, answers.next()).await.ok()??;
        if part.status == Some(StatusCode::NO_RESPONDERS) {
            return None;
        }
        let left = part.payload.try_get_u32_le().ok()?;
        whole.extend_from_slice(&part.payload);
        if left == 0 {
            return serde_json::from_slice(&whole)
                .inspect_err(|error| tracing::error!(%error, "another server's answer about a room cannot be read"))
                .ok();
        }
        if whole.len() > MOST {
            tracing::error!(subject, "another server knows too much of a room");
            return None;
        }
    }
}

/// Subscribes to the questions of other servers. Only one server gets each.
pub(super) async fn questions(client: &Client, subject: &str) -> Option<Subscriber> {
    let questions = client.queue_subscribe(subject.to_owned(), GROUP.to_owned());
    questions.await.ok()
}

/// Answers a question, in parts.
pub(super) async fn answer(client: &Client, question: &async_nats::Message, known: &Known) {
    let Some(inbox) = &question.reply else { return };
    let whole = serde_json::to_vec(known).expect("members can be written as JSON");
    let parts = whole.chunks(PART.min(client.max_payload() / 2).max(1));
    for (part, left) in parts.clone().zip((0..parts.len()).rev()) {
        let mut bytes = BytesMut::with_capacity(4 + part.len());
        bytes.put_u32_le(u32::try_from(left).unwrap_or(u32::MAX));
        bytes.put_slice(part);
        if client.publish(inbox.clone(), bytes.freeze()).await.is_err() {
            return;
        }
    }
}

const GROUP: &str = "stillhere";

/// How long a server may take for each part of an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of a part. NATS takes 1 MiB unless it is configured otherwise.
const PART: usize = 128 * 1024;

/// Most bytes of an answer: as many as 10,000 members with the largest states have, and as much
/// again.
const MOST: usize = 96 * 1024 * 1024;
