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
use tokio::time::MissedTickBehavior;

use crate::directory::TAKING;
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
    /// NATS takes nothing at present. Everything is said again when it can be reached.
    is_behind: bool,
}

struct User {
    principal: Arc<str>,
    own: HashMap<SessionId, Known>,
    others: HashMap<u64, HashMap<SessionId, Known>>,
    /// `None` until NATS has taken it.
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
            is_behind: false,
        }
    }

    /// Runs until the hub is gone.
    pub(crate) async fn run(mut self) {
        let mut interruptions = self.servers.interruptions();
        let (mut lost, mut returned) = (self.servers.lost(), self.servers.returned());
        let mut retries = tokio::time::interval(self.servers.interval());
        retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                _ = retries.tick(), if self.is_behind => self.catch_up().await,
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
                subscription: None,
                principal: Arc::clone(&change.principal),
                own: HashMap::new(),
                others: HashMap::new(),
            };
            self.users.insert(token.clone(), user);
            self.subscribe(&token).await;
        }
        let user = self.users.get_mut(&token).expect("it was put there");
        let is_first = user.own.is_empty();
        let before = match known {
            Some(known) => user.own.insert(change.session, known),
            None => user.own.remove(&change.session),
        };
        if known.is_none()
            && let Some(user) = self.users.get(&token)
            && user.elsewhere(&change.session).is_some()
        {
            // Another server has taken it over. The hub believed that it was here still.
            self.tell(user, [change.session]);
        }
        if before == known {
            return;
        }
        let user = &self.users[&token];
        let is_last = user.own.is_empty();
        self.say(&token, is_first, [(change.session, known)]).await;
        if is_last && let Some(mut user) = self.users.remove(&token) {
            let others = std::mem::take(&mut user.others);
            self.tell(&user, others.into_values().flat_map(HashMap::into_keys));
            if let Some(subscription) = user.subscription {
                subscription.abort();
            }
        }
    }

    async fn subscribe(&mut self, token: &str) {
        let subscribing = self.servers.client().subscribe(self.subject(token));
        let subscription = match in_time(subscribing, self.is_behind).await {
            Some(Ok(subscriber)) => {
                let (subscriber, handle) = abortable(subscriber);
                self.heard.push(subscriber);
                Some(handle)
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a user's sessions on other servers do not count");
                None
            }
            None => {
                self.is_behind = true;
                None
            }
        };
        if let Some(user) = self.users.get_mut(token) {
            user.subscription = subscription;
        }
    }

    /// Subscribes to what is missing and says everything, if NATS can be reached again.
    async fn catch_up(&mut self) {
        if !self.servers.reaches_nats() {
            return;
        }
        self.is_behind = false;
        let missing = self.users.iter().filter(|(_, user)| user.subscription.is_none());
        let missing: Vec<_> = missing.map(|(token, _)| token.clone()).collect();
        for token in missing {
            self.subscribe(&token).await;
        }
        self.say_everything().await;
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
        let mut changed: Vec<_> = before.into_keys().collect();
        for (id, is) in news.sessions {
            let Ok(id) = id.parse() else { continue };
            match is {
                Some(is) => known.insert(id, is),
                None => known.remove(&id),
            };
            changed.push(id);
        }
        if let Some(user) = self.users.get(token) {
            self.tell(user, changed);
        }
        if news.asks {
            self.say_all(token, false).await;
        }
    }

    /// The sessions of servers that have died do not count any more, unless others have taken them
    /// over.
    fn forget_lost(&mut self) {
        let mut gone = Vec::new();
        for (token, user) in &mut self.users {
            let lost = user.others.extract_if(|server, _| !self.servers.is_alive(*server));
            let sessions: Vec<_> = lost.flat_map(|(_, sessions)| sessions.into_keys()).collect();
            if !sessions.is_empty() {
                gone.push((token.clone(), sessions));
            }
        }
        for (token, sessions) in gone {
            if let Some(user) = self.users.get(&token) {
                self.tell(user, sessions);
            }
        }
    }

    /// Tells the hub of sessions that other servers have or had.
    fn tell(&self, user: &User, sessions: impl IntoIterator<Item = SessionId>) {
        let Some(hub) = self.hub.upgrade() else { return };
        for id in sessions {
            hub.observe_elsewhere(&user_session(id, &user.principal, user.elsewhere(&id)));
        }
    }

    /// Says which sessions all users have here, and asks the other servers to.
    async fn say_everything(&mut self) {
        for token in self.users.keys().cloned().collect::<Vec<_>>() {
            self.say_all(&token, true).await;
        }
    }

    async fn say_all(&mut self, token: &str, asks: bool) {
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

    async fn say(&mut self, token: &str, is_first: bool, sessions: [(SessionId, Option<Known>); 1]) {
        let sessions = sessions.map(|(id, known)| (id.to_string(), known));
        self.publish(token, &sessions, is_first, is_first).await;
    }

    async fn publish(&mut self, token: &str, sessions: &[(String, Option<Known>)], is_all: bool, asks: bool) {
        let news = News {
            server: self.servers.id(),
            is_all,
            asks,
            sessions: sessions.to_vec(),
        };
        let news = serde_json::to_vec(&news).expect("it is plain data");
        let publishing = self.servers.client().publish(self.subject(token), news.into());
        if in_time(publishing, self.is_behind).await.is_none() {
            self.is_behind = true;
        }
    }

    fn subject(&self, token: &str) -> String {
        format!("{}.user.{token}", self.prefix)
    }
}

impl User {
    /// Returns the state of a session on another server. While it moves, two may say that they have
    /// it.
    fn elsewhere(&self, session: &SessionId) -> Option<Known> {
        let known = self.others.values().filter_map(|sessions| sessions.get(session));
        known.max_by_key(|known| known.since).copied()
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

/// Returns `None` if NATS does not take this in time, or `is_behind`: then it is not tried.
async fn in_time<T>(giving: impl Future<Output = T>, is_behind: bool) -> Option<T> {
    if is_behind {
        return None;
    }
    tokio::time::timeout(TAKING, giving).await.ok()
}

/// Returns the part of the subject that stands for a user: names may have any characters.
fn token(principal: &str) -> String {
    let hash = Sha256::digest(principal.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Most sessions in a message, which then has about 40 KiB.
const SESSIONS_AT_A_TIME: usize = 400;
