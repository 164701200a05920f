//! Subscribes to a subject for each session of this server, so that NATS knows which server has it.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use futures_util::stream::{AbortHandle, Abortable, SelectAll, abortable};
use stillhere::SessionId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::servers::Servers;

/// A change of the sessions of this server.
#[derive(Debug)]
pub(crate) enum Change {
    Entered(SessionId),
    Left {
        session: SessionId,
        is_ended: bool,
    },
    /// This server has a connection over HTTP to a session.
    ExchangeOpened(SessionId),
    ExchangeClosed(SessionId),
}

/// Subscribes to the subjects of this server's sessions.
pub(crate) struct Directory {
    servers: Servers,
    prefix: String,
    changes: UnboundedReceiver<Change>,
    asked: SelectAll<Abortable<Subscriber>>,
    /// The sessions of this server.
    sessions: HashMap<SessionId, Subscription>,
    /// Sessions that have connections over HTTP at this server, and how many each has.
    exchanges: HashMap<SessionId, (usize, Subscription)>,
    /// Ended sessions, by the time at which they are forgotten.
    ended: VecDeque<(Instant, AbortHandle)>,
    /// NATS takes nothing at present, and is tried again at this time. What is missing is
    /// subscribed to then: waiting would let `changes` grow.
    behind: Option<Instant>,
}

/// `None` until NATS has taken it.
type Subscription = Option<AbortHandle>;

impl Directory {
    pub(crate) fn new(servers: Servers, prefix: &str, changes: UnboundedReceiver<Change>) -> Self {
        Self {
            servers,
            prefix: prefix.to_owned(),
            changes,
            asked: SelectAll::new(),
            sessions: HashMap::new(),
            exchanges: HashMap::new(),
            ended: VecDeque::new(),
            behind: None,
        }
    }

    /// Returns the next message for a session of this server, or `None` when its hub is gone.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let first_end = self.ended.front().map(|(at, _)| *at);
            tokio::select! {
                biased;
                change = self.changes.recv() => self.change(change?).await,
                Some(message) = self.asked.next(), if !self.asked.is_empty() => return Some(message),
                () = until(first_end) => self.forget_ended(),
                () = until(self.behind) => self.catch_up().await,
            }
        }
    }

    async fn change(&mut self, change: Change) {
        match change {
            Change::Entered(session) => {
                let subscription = self.subscribe(session_subject(&self.prefix, &session)).await;
                if let Some(Some(replaced)) = self.sessions.insert(session, subscription) {
                    replaced.abort();
                }
            }
            Change::ExchangeOpened(session) => {
                let known = self.exchanges.remove(&session);
                let (count, subscription) = match known {
                    Some(known) => known,
                    None => (0, self.subscribe(post_subject(&self.prefix, &session)).await),
                };
                self.exchanges.insert(session, (count + 1, subscription));
            }
            Change::ExchangeClosed(session) => {
                let Some((count, subscription)) = self.exchanges.remove(&session) else {
                    return;
                };
                match (count - 1, subscription) {
                    (0, Some(subscription)) => subscription.abort(),
                    (0, None) => {}
                    (count, subscription) => drop(self.exchanges.insert(session, (count, subscription))),
                }
            }
            Change::Left { session, is_ended } => {
                let Some(Some(subscription)) = self.sessions.remove(&session) else {
                    return;
                };
                if !is_ended {
                    return subscription.abort();
                }
                self.ended.push_back((Instant::now() + ENDED_KEEP, subscription));
                if self.ended.len() > MOST_ENDED {
                    self.forget_ended();
                }
            }
        }
    }

    fn forget_ended(&mut self) {
        if let Some((_, subscription)) = self.ended.pop_front() {
            subscription.abort();
        }
    }

    async fn subscribe(&mut self, subject: String) -> Subscription {
        if self.behind.is_some() {
            return None;
        }
        let subscribing = self.servers.client().subscribe(subject);
        let Ok(subscriber) = tokio::time::timeout(TAKING, subscribing).await else {
            self.fall_behind();
            return None;
        };
        let subscriber = subscriber.inspect_err(|error| {
            tracing::error!(%error, "other servers cannot reach a session");
        });
        let (subscriber, handle) = abortable(subscriber.ok()?);
        self.asked.push(subscriber);
        Some(handle)
    }

    fn fall_behind(&mut self) {
        self.behind = Some(Instant::now() + self.servers.interval());
    }

    /// Subscribes to what is missing, if NATS can be reached again.
    async fn catch_up(&mut self) {
        if !self.servers.reaches_nats() {
            return self.fall_behind();
        }
        self.behind = None;
        let missing = self.sessions.iter().filter(|(_, subscription)| subscription.is_none());
        let missing: Vec<_> = missing.map(|(session, _)| *session).collect();
        for session in missing {
            let subscription = self.subscribe(session_subject(&self.prefix, &session)).await;
            self.sessions.insert(session, subscription);
        }
        let missing = self
            .exchanges
            .iter()
            .filter(|(_, (_, subscription))| subscription.is_none());
        let missing: Vec<_> = missing.map(|(session, (count, _))| (*session, *count)).collect();
        for (session, count) in missing {
            let subscription = self.subscribe(post_subject(&self.prefix, &session)).await;
            self.exchanges.insert(session, (count, subscription));
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// Returns the subject on which other servers ask for a session.
pub(crate) fn session_subject(prefix: &str, session: &SessionId) -> String {
    format!("{prefix}.session.{session}")
}

/// Returns the subject for POSTs to the server that has a session's connection over HTTP.
pub(crate) fn post_subject(prefix: &str, session: &SessionId) -> String {
    format!("{prefix}.{POST}.{session}")
}

/// Returns true if messages on this subject carry POSTs.
pub(crate) fn is_post(prefix: &str, subject: &str) -> bool {
    let rest = subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    rest.is_some_and(|rest| rest.starts_with(POST))
}

const POST: &str = "post";

/// How long the server of an ended session can still tell a page why it has ended.
const ENDED_KEEP: Duration = Duration::from_secs(120);

/// Most ended sessions that have a subscription, each of which costs some 8 KiB.
const MOST_ENDED: usize = 10_000;

/// How long the client of NATS may have no room: it takes nothing more while it cannot connect.
pub(crate) const TAKING: Duration = Duration::from_secs(1);
