//! The sessions of a user on all servers.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use stillhere::{Hub, SessionId};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::servers::Servers;

/// Options of [`NatsSessions`]. They must be the same on all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsSessionsOptions {
    /// The subject on which servers ask each other. Default `stillhere.principals`.
    pub subject: String,
    /// How long the other servers may take to answer. Default 500 ms.
    pub patience: Duration,
}

impl Default for NatsSessionsOptions {
    fn default() -> Self {
        Self {
            subject: "stillhere.principals".into(),
            patience: Duration::from_millis(500),
        }
    }
}

/// Finds and ends the sessions of a user on all servers. It is cheap to clone, and this server
/// answers the others until the last clone is dropped.
///
/// ```no_run
/// use stillhere::Hub;
/// use stillhere_nats::{NatsSessions, NatsSessionsOptions, Servers, ServersOptions};
///
/// # async fn log_out(hub: Hub) -> Result<(), Box<dyn std::error::Error>> {
/// let client = async_nats::connect("nats://127.0.0.1").await?;
/// let servers = Servers::join(client, ServersOptions::default()).await?;
/// let sessions = NatsSessions::start(&servers, &hub, NatsSessionsOptions::default()).await?;
/// let ended = sessions.abort_sessions_of("ada", "logged out").await;
/// println!("{} sessions ended; {} servers did not answer", ended.found, ended.silent);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct NatsSessions {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Servers,
    hub: Hub,
    options: NatsSessionsOptions,
    task: AbortHandle,
}

/// What the servers that answered in time have found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached<T> {
    /// The result from this server and from all that answered.
    pub found: T,
    /// How many servers did not answer in time, so that `found` may lack their sessions. A server
    /// that is lost, by default after about 2 seconds of silence, is not counted.
    pub silent: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    principal: String,
    /// Ends the sessions, with this text for their pages.
    abort: Option<String>,
}

/// Some of the sessions that a server has.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    server: u64,
    sessions: Vec<String>,
    /// More answers of this server follow.
    more: bool,
}

impl fmt::Debug for NatsSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSessions")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NatsSessions {
    /// Answers for the sessions of this hub from now on.
    ///
    /// # Errors
    /// Returns an error if the subject is not valid or the client is closed.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub async fn start(servers: &Servers, hub: &Hub, options: NatsSessionsOptions) -> Result<Self, SubscribeError> {
        let client = servers.client();
        let questions = client.subscribe(options.subject.clone()).await?;
        let task = tokio::spawn(answer_all(servers.id(), client.clone(), hub.clone(), questions));
        let inner = Inner {
            servers: servers.clone(),
            hub: hub.clone(),
            options,
            task: task.abort_handle(),
        };
        Ok(Self { inner: inner.into() })
    }

    /// Returns the ids of the sessions that were opened for this user and have not ended, on all
    /// servers, in no order. Takes as long as the slowest server, and at most
    /// [`NatsSessionsOptions::patience`].
    pub async fn sessions_of(&self, principal: &str) -> Reached<Vec<SessionId>> {
        self.ask(principal, None).await
    }

    /// Ends all sessions of this user on all servers at once, tells their pages `text`, and returns
    /// how many there were. Takes as long as the slowest server, and at most
    /// [`NatsSessionsOptions::patience`].
    ///
    /// A server that does not answer may be cut off from NATS and still have sessions of the user.
    /// Let a check on each server, such as [`WhileAuthenticated`](stillhere::WhileAuthenticated),
    /// end those.
    pub async fn abort_sessions_of(&self, principal: &str, text: &str) -> Reached<usize> {
        let Reached { found, silent } = self.ask(principal, Some(text)).await;
        Reached {
            found: found.len(),
            silent,
        }
    }

    async fn ask(&self, principal: &str, abort: Option<&str>) -> Reached<Vec<SessionId>> {
        let Inner {
            servers, hub, options, ..
        } = &*self.inner;
        let question = Question {
            principal: principal.to_owned(),
            abort: abort.map(str::to_owned),
        };
        let mut missing: HashSet<u64> = servers.others().into_iter().collect();
        // This server's own sessions need no NATS.
        let mut found = take(hub, &question);
        let until = Instant::now() + options.patience;
        let client = servers.client();
        let gathering = gather(
            client,
            &options.subject,
            &question,
            &mut missing,
            &mut found,
            servers.id(),
        );
        let _ = timeout_at(until, gathering).await;
        Reached {
            found,
            silent: missing.len(),
        }
    }
}

/// Asks, and collects answers until none is missing. Servers that are not known yet may answer too.
async fn gather(
    client: &Client,
    subject: &str,
    question: &Question,
    missing: &mut HashSet<u64>,
    found: &mut Vec<SessionId>,
    own: u64,
) {
    let inbox = client.new_inbox();
    let Ok(mut answers) = client.subscribe(inbox.clone()).await else {
        return;
    };
    let question = serde_json::to_vec(question).expect("texts can be written as JSON");
    let asked = client.publish_with_reply(subject.to_owned(), inbox, question.into());
    if let Err(error) = asked.await {
        return tracing::error!(%error, "cannot ask other servers about the sessions of a user");
    }
    while !missing.is_empty()
        && let Some(answer) = answers.next().await
    {
        let Ok(answer) = serde_json::from_slice::<Answer>(&answer.payload) else {
            continue;
        };
        if answer.server != own {
            found.extend(answer.sessions.iter().filter_map(|id| id.parse::<SessionId>().ok()));
        }
        if !answer.more {
            missing.remove(&answer.server);
        }
    }
}

async fn answer_all(server: u64, client: Client, hub: Hub, mut questions: Subscriber) {
    while let Some(message) = questions.next().await {
        if let Err(error) = answer(server, &client, &hub, &message).await {
            tracing::warn!(%error, "cannot tell another server about the sessions of a user");
        }
    }
}

async fn answer(server: u64, client: &Client, hub: &Hub, message: &Message) -> Result<(), async_nats::Error> {
    let question: Question = serde_json::from_slice(&message.payload)?;
    let sessions = take(hub, &question);
    let Some(inbox) = &message.reply else { return Ok(()) };
    let sessions: Vec<_> = sessions.iter().map(SessionId::to_string).collect();
    let mut parts = sessions.chunks(SESSIONS_AT_A_TIME).peekable();
    loop {
        let sessions = parts.next().unwrap_or_default().to_vec();
        let more = parts.peek().is_some();
        let answer = Answer { server, sessions, more };
        client
            .publish(inbox.clone(), serde_json::to_vec(&answer)?.into())
            .await?;
        if !more {
            return Ok(());
        }
    }
}

/// Returns the ids of the user's sessions on this server, and ends them if the question says so.
fn take(hub: &Hub, question: &Question) -> Vec<SessionId> {
    let sessions = hub.sessions_of(&question.principal);
    if let Some(text) = &question.abort {
        sessions.iter().for_each(|session| session.abort(text));
    }
    sessions.iter().map(|session| *session.id()).collect()
}

/// Most sessions in an answer, which then has about 10 KiB.
const SESSIONS_AT_A_TIME: usize = 400;
