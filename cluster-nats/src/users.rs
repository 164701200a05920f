//! Tells the servers that have sessions of the same user of each other's, for a limit of sessions
//! for each user.
//!
//! A server subscribes to the subject of each user whose sessions it has. So it hears only from
//! servers that have sessions of the same user, and it knows no others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use futures_util::stream::{AbortHandle, Abortable, SelectAll, abortable};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stillhere::cluster::{UserSession, WeakHub};
use stillhere::{SessionId, SessionState};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::servers::Servers;

/// The users who have sessions here.
pub(crate) struct Users {
    servers: Servers,
    prefix: String,
    hub: WeakHub,
    changes: UnboundedReceiver<UserSession>,
    heard: SelectAll<Abortable<Subscriber>>,
    /// By the part of the subject that stands for the user.
    users: HashMap<String, User>,
}

struct User {
    principal: Arc<str>,
    own: HashMap<SessionId, Known>,
    others: HashMap<u64, HashMap<SessionId, Known>>,
    /// `None` if the client is closed.
    subscription: Option<AbortHandle>,
}

/// What servers tell each other of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    is_open: bool,
    /// Nanoseconds since 1970.
    opened: u64,
    since: u64,
}

/// What a server says of a user's sessions on it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct News {
    server: u64,
    /// Those that are not in `sessions` do not count any more.
    is_all: bool,
    /// The others should say what they have.
    asks: bool,
    sessions: Vec<(String, Option<Known>)>,
}

impl Users {
    pub(crate) fn new(servers: Servers, prefix: &str, hub: WeakHub, changes: UnboundedReceiver<UserSession>) -> Self {
        Self {
            servers,
            prefix: prefix.to_owned(),
            hub,
            changes,
            heard: SelectAll::new(),
            users: HashMap::new(),
        }
    }

    /// Runs until the hub is gone.
    pub(crate) async fn run(mut self) {
        let mut interruptions = self.servers.interruptions();
        let (mut lost, mut returned) = (self.servers.lost(), self.servers.returned());
        loop {
            tokio::select! {
                biased;
                change = self.changes.recv() => match change {
                    Some(change) => self.change(change).await,
                    None => return,
                },
                Some(message) = self.heard.next(), if !self.heard.is_empty() => self.hear(message).await,
                Ok(()) = lost.changed() => self.forget_lost(),
                // What was said meanwhile was not heard, by this server or by others.
                Ok(()) = interruptions.changed() => self.say_everything().await,
                Ok(()) = returned.changed() => self.say_everything().await,
            }
        }
    }

    /// Follows a change of a session of this server.
    async fn change(&mut self, change: UserSession) {
        let (token, known) = (token(&change.principal), Known::of(&change));
        if !self.users.contains_key(&token) {
            if known.is_none() {
                return;
            }
            let user = User {
                subscription: self.subscribe(&token).await,
                principal: Arc::clone(&change.principal),
                own: HashMap::new(),
                others: HashMap::new(),
            };
            self.users.insert(token.clone(), user);
        }
        let user = self.users.get_mut(&token).expect("it was put there");
        let is_first = user.own.is_empty();
        let before = match known {
            Some(known) => user.own.insert(change.session, known),
            None => user.own.remove(&change.session),
        };
        if before == known {
            return;
        }
        let is_last = user.own.is_empty();
        self.say(&token, is_first, [(change.session, known)]).await;
        if is_last && let Some(user) = self.users.remove(&token) {
            self.forget(&user.principal, user.others.into_values().flatten());
            if let Some(subscription) = user.subscription {
                subscription.abort();
            }
        }
    }

    async fn subscribe(&mut self, token: &str) -> Option<AbortHandle> {
        let subscriber = self.servers.client().subscribe(self.subject(token)).await;
        let subscriber = subscriber.inspect_err(|error| {
            tracing::error!(%error, "a user's sessions on other servers do not count");
        });
        let (subscriber, handle) = abortable(subscriber.ok()?);
        self.heard.push(subscriber);
        Some(handle)
    }

    /// Applies what another server says.
    async fn hear(&mut self, message: Message) {
        let Some(token) = message.subject.rsplit('.').next() else {
            return;
        };
        let Ok(news) = serde_json::from_slice::<News>(&message.payload) else {
            return tracing::warn!(subject = %message.subject, "cannot read what another server says of a user: do all servers have the same version?");
        };
        let Some(user) = self.users.get_mut(token).filter(|_| news.server != self.servers.id()) else {
            return;
        };
        self.servers.heard_of(news.server);
        let known = user.others.entry(news.server).or_default();
        let before = if news.is_all {
            std::mem::take(known)
        } else {
            HashMap::new()
        };
        let mut changed = Vec::new();
        for (id, is) in news.sessions {
            let Ok(id) = id.parse() else { continue };
            match is {
                Some(is) => known.insert(id, is),
                None => known.remove(&id),
            };
            changed.push((id, is));
        }
        let gone = before.into_keys().filter(|id| !known.contains_key(id));
        changed.extend(gone.map(|id| (id, None)));
        let principal = Arc::clone(&user.principal);
        self.tell(&principal, changed);
        if news.asks {
            self.say_all(token, false).await;
        }
    }

    /// The sessions of servers that have died do not count any more.
    fn forget_lost(&mut self) {
        let mut gone = Vec::new();
        for user in self.users.values_mut() {
            let lost = user.others.extract_if(|server, _| !self.servers.is_alive(*server));
            let sessions: Vec<_> = lost.flat_map(|(_, sessions)| sessions).collect();
            gone.push((Arc::clone(&user.principal), sessions));
        }
        for (principal, sessions) in gone {
            self.forget(&principal, sessions);
        }
    }

    fn forget(&self, principal: &Arc<str>, sessions: impl IntoIterator<Item = (SessionId, Known)>) {
        self.tell(principal, sessions.into_iter().map(|(id, _)| (id, None)));
    }

    /// Tells the hub of sessions on other servers.
    fn tell(&self, principal: &Arc<str>, sessions: impl IntoIterator<Item = (SessionId, Option<Known>)>) {
        let Some(hub) = self.hub.upgrade() else { return };
        for (id, known) in sessions {
            hub.observe_elsewhere(&user_session(id, principal, known));
        }
    }

    /// Says which sessions all users have here, and asks the other servers to.
    async fn say_everything(&mut self) {
        for token in self.users.keys().cloned().collect::<Vec<_>>() {
            self.say_all(&token, true).await;
        }
    }

    async fn say_all(&self, token: &str, asks: bool) {
        let Some(user) = self.users.get(token) else { return };
        let all: Vec<_> = user
            .own
            .iter()
            .map(|(id, known)| (id.to_string(), Some(*known)))
            .collect();
        let mut parts = all.chunks(SESSIONS_AT_A_TIME);
        let first = parts.next().unwrap_or_default();
        self.publish(token, first, true, asks).await;
        for part in parts {
            self.publish(token, part, false, false).await;
        }
    }

    async fn say(&self, token: &str, is_first: bool, sessions: [(SessionId, Option<Known>); 1]) {
        let sessions = sessions.map(|(id, known)| (id.to_string(), known));
        self.publish(token, &sessions, is_first, is_first).await;
    }

    async fn publish(&self, token: &str, sessions: &[(String, Option<Known>)], is_all: bool, asks: bool) {
        let news = News {
            server: self.servers.id(),
            is_all,
            asks,
            sessions: sessions.to_vec(),
        };
        let news = serde_json::to_vec(&news).expect("it is plain data");
        let _ = self.servers.client().publish(self.subject(token), news.into()).await;
    }

    fn subject(&self, token: &str) -> String {
        format!("{}.user.{token}", self.prefix)
    }
}

impl Known {
    /// Returns `None` if the session does not count.
    fn of(session: &UserSession) -> Option<Self> {
        let is_open = match session.state {
            SessionState::Open => true,
            SessionState::SoftClosed => false,
            _ => return None,
        };
        Some(Self {
            is_open,
            opened: nanoseconds(session.opened),
            since: nanoseconds(session.since),
        })
    }
}

fn user_session(id: SessionId, principal: &str, known: Option<Known>) -> UserSession {
    let Some(Known { is_open, opened, since }) = known else {
        return UserSession::new(id, principal, SessionState::Closed, UNIX_EPOCH);
    };
    let state = if is_open {
        SessionState::Open
    } else {
        SessionState::SoftClosed
    };
    let mut session = UserSession::new(id, principal, state, time(opened));
    session.since = time(since);
    session
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Returns the part of the subject that stands for a user: names may have any characters.
fn token(principal: &str) -> String {
    let hash = Sha256::digest(principal.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Most sessions in a message, which then has about 40 KiB.
const SESSIONS_AT_A_TIME: usize = 400;
