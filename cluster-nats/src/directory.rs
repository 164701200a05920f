//! The sessions of this server, each a subscription to its own subject: NATS knows who has which.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use futures_util::stream::{AbortHandle, Abortable, SelectAll, abortable};
use stillhere::SessionId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// A change of the sessions of this server.
#[derive(Debug)]
pub(crate) enum Change {
    Entered(SessionId),
    Left { session: SessionId, is_ended: bool },
}

/// Subscribes to the subjects of this server's sessions.
pub(crate) struct Directory {
    client: Client,
    prefix: String,
    changes: UnboundedReceiver<Change>,
    asked: SelectAll<Abortable<Subscriber>>,
    subscribed: HashMap<SessionId, AbortHandle>,
    /// Ended sessions, by the time at which they are forgotten.
    ended: VecDeque<(Instant, AbortHandle)>,
}

impl Directory {
    pub(crate) fn new(client: Client, prefix: &str, changes: UnboundedReceiver<Change>) -> Self {
        Self {
            client,
            prefix: prefix.to_owned(),
            changes,
            asked: SelectAll::new(),
            subscribed: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// Returns the next question for a session of this server, or `None` when its hub is gone.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let first_end = self.ended.front().map(|(at, _)| *at);
            tokio::select! {
                biased;
                change = self.changes.recv() => self.change(change?).await,
                Some(message) = self.asked.next(), if !self.asked.is_empty() => return Some(message),
                () = until(first_end) => {
                    if let Some((_, subscription)) = self.ended.pop_front() {
                        subscription.abort();
                    }
                }
            }
        }
    }

    async fn change(&mut self, change: Change) {
        match change {
            Change::Entered(session) => {
                let subject = session_subject(&self.prefix, &session);
                match self.client.subscribe(subject).await {
                    Ok(subscriber) => {
                        let (subscriber, handle) = abortable(subscriber);
                        self.asked.push(subscriber);
                        self.subscribed.insert(session, handle);
                    }
                    Err(error) => tracing::error!(%session, %error, "other servers cannot reach a session"),
                }
            }
            Change::Left { session, is_ended } => {
                let Some(subscription) = self.subscribed.remove(&session) else {
                    return;
                };
                if is_ended {
                    self.ended.push_back((Instant::now() + ENDED_KEEP, subscription));
                } else {
                    subscription.abort();
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// Returns the subject on which the server of a session is asked for it.
pub(crate) fn session_subject(prefix: &str, session: &SessionId) -> String {
    format!("{prefix}.session.{session}")
}

/// How long the server of an ended session answers why it has ended.
const ENDED_KEEP: Duration = Duration::from_secs(120);
