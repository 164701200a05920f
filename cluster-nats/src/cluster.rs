//! A server of a cluster.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Message, Request, StatusCode, Subject, SubscribeError, Subscriber};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use stillhere::cluster::{
    BoxConnection, Cluster, ClusterError, ClusterFuture, PostOutcome, UserSession, Visitor, WeakHub,
};
use stillhere::{SessionId, run_connection_loop};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::directory::{Change, Directory, TAKING, is_post, post_subject, session_subject};
use crate::flow::{Flows, Notice};
use crate::hop::{FarEnd, Hop};
use crate::links::{Arrivals, Links};
use crate::packets::{NO_LINK, link_of};
use crate::servers::{Servers, ServersOptions};
use crate::users::Users;

/// The settings of a [`NatsCluster`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NatsClusterOptions {
    /// The first part of all subjects. Servers with the same prefix are one cluster. Default
    /// `stillhere`.
    pub prefix: String,
    /// Time between two heartbeats of this server, at least 50 ms. Default 300 ms. Connections that
    /// are passed on to a server are cut after four times as long without one, and it is
    /// [lost](Servers) after seven times as long.
    pub heartbeat: Duration,
}

impl Default for NatsClusterOptions {
    fn default() -> Self {
        Self {
            prefix: "stillhere".to_owned(),
            heartbeat: Duration::from_millis(300),
        }
    }
}

/// This server as a member of a cluster, for
/// [`HubBuilder::cluster`](stillhere::HubBuilder::cluster). It is cheap to clone.
///
/// Any server then takes the connection of any page. While NATS cannot be reached, pages that have
/// reached the server of their session are not affected, and others are told to wait.
///
/// ```no_run
/// use stillhere::Hub;
/// use stillhere_nats::{NatsCluster, NatsClusterOptions};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let client = async_nats::connect("nats://127.0.0.1:4222").await?;
/// let cluster = NatsCluster::new(client, NatsClusterOptions::default()).await?;
/// let hub = Hub::builder().cluster(cluster.clone()).build();
/// // For the readiness check:
/// assert!(cluster.is_ready());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct NatsCluster(Arc<Node>);

struct Node {
    client: Client,
    options: NatsClusterOptions,
    servers: Servers,
    links: Arc<Links>,
    flows: Flows,
    changes: UnboundedSender<Change>,
    user_sessions: UnboundedSender<UserSession>,
    hub: OnceLock<WeakHub>,
    /// What the tasks need that begin when the hub has been built. `None` from then on.
    start: Mutex<Option<Start>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct Start {
    changes: UnboundedReceiver<Change>,
    user_sessions: UnboundedReceiver<UserSession>,
    packets: Subscriber,
}

/// The question to the server of a session: whether it takes a connection.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    server: u64,
    link: u64,
    principal: Option<String>,
    address: Option<IpAddr>,
}

/// The answer of the server that has the session.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    server: u64,
    link: u64,
}

impl NatsCluster {
    /// Joins the cluster on this NATS server. The other servers can reach this one once a hub has
    /// been built with it.
    ///
    /// # Errors
    /// Returns an error if the prefix is not valid or the client is closed.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub async fn new(client: Client, options: NatsClusterOptions) -> Result<Self, SubscribeError> {
        let heartbeats = ServersOptions {
            subject: format!("{}.servers", options.prefix),
            interval: options.heartbeat,
            ..ServersOptions::default()
        };
        let servers = Servers::join(client.clone(), heartbeats).await?;
        let packets = client.subscribe(node_subject(&options.prefix, servers.id())).await?;
        // The subscription should be sent before other servers ask this one.
        let _ = client.flush().await;
        let (changes, changes_here) = mpsc::unbounded_channel();
        let (user_sessions, user_sessions_here) = mpsc::unbounded_channel();
        Ok(Self(Arc::new(Node {
            client,
            options,
            links: Arc::new(Links::new(servers.id())),
            flows: Flows::default(),
            servers,
            changes,
            user_sessions,
            hub: OnceLock::new(),
            start: Mutex::new(Some(Start {
                changes: changes_here,
                user_sessions: user_sessions_here,
                packets,
            })),
            tasks: Mutex::default(),
        })))
    }

    /// Returns true if this server reaches NATS: it has heard a heartbeat of its own within the
    /// time of four. For readiness checks. It is false before a hub has been built with it.
    pub fn is_ready(&self) -> bool {
        self.0.hub.get().is_some() && self.0.servers.reaches_nats()
    }

    /// Returns the servers of the cluster, for [`NatsRooms`](crate::NatsRooms) and
    /// [`NatsSessions`](crate::NatsSessions).
    pub fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// Returns how many hops end at this server: connections that it passes on, and connections
    /// that others pass on to it.
    pub fn hops(&self) -> usize {
        self.0.links.len()
    }
}

impl fmt::Debug for NatsCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsCluster")
            .field("id", &self.0.servers.id())
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Cluster for NatsCluster {
    fn start(&self, hub: WeakHub) {
        let start = lock(&self.0.start).take();
        let Some(Start {
            changes,
            user_sessions,
            packets,
        }) = start
        else {
            tracing::error!("a NatsCluster serves one hub: build each hub with its own");
            return;
        };
        let Some(runtime) = hub.upgrade().map(|hub| hub.runtime()) else {
            return;
        };
        let _ = self.0.hub.set(hub.clone());
        let node = &self.0;
        let users = Users::new(node.servers.clone(), &node.options.prefix, hub, user_sessions);
        let directory = Directory::new(node.servers.clone(), &node.options.prefix, changes);
        let tasks = [
            runtime
                .spawn(answer_questions(Arc::clone(node), directory))
                .abort_handle(),
            runtime.spawn(deliver(Arc::clone(node), packets)).abort_handle(),
            runtime.spawn(watch_servers(Arc::clone(node))).abort_handle(),
            runtime.spawn(users.run()).abort_handle(),
        ];
        lock(&node.tasks).extend(tasks);
    }

    fn entered(&self, session: &SessionId) {
        let _ = self.0.changes.send(Change::Entered(*session));
    }

    fn left(&self, session: &SessionId, is_ended: bool) {
        let session = *session;
        let _ = self.0.changes.send(Change::Left { session, is_ended });
    }

    fn connect(&self, visitor: Visitor) -> ClusterFuture<'_, Option<BoxConnection>> {
        Box::pin(self.0.connect(visitor))
    }

    fn exchange_opened(&self, session: &SessionId) {
        let _ = self.0.changes.send(Change::ExchangeOpened(*session));
    }

    fn exchange_closed(&self, session: &SessionId) {
        let _ = self.0.changes.send(Change::ExchangeClosed(*session));
    }

    fn pass_post(&self, session: SessionId, body: Bytes) -> ClusterFuture<'_, Option<PostOutcome>> {
        Box::pin(self.0.pass_post(session, body))
    }

    fn user_session_changed(&self, session: &UserSession) {
        let _ = self.0.user_sessions.send(session.clone());
    }

    fn stop(&self) {
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
        self.0.links.cut(|_| true);
    }
}

impl Node {
    async fn connect(&self, visitor: Visitor) -> Result<Option<BoxConnection>, ClusterError> {
        let Some(runtime) = self.hub.get().and_then(WeakHub::upgrade).map(|hub| hub.runtime()) else {
            return Ok(None);
        };
        if !self.servers.reaches_nats() {
            return Err(away());
        }
        let arrivals = self.links.open(None);
        let ask = Ask {
            server: self.servers.id(),
            link: arrivals.number,
            principal: visitor.principal,
            address: visitor.address,
        };
        let Some(answer) = self.ask(&visitor.session, &ask).await? else {
            return Ok(None);
        };
        self.servers.heard_of(answer.server);
        self.links.set_peer(arrivals.number, answer.server);
        let hop = self.hop(runtime, (answer.server, answer.link), arrivals);
        Ok(Some(Box::pin(hop)))
    }

    /// Asks for the server of a session. It asks again if nobody has it, because NATS may not know
    /// yet of one that has just begun, and because a server may have lost its connection to NATS a
    /// moment ago: it is back when it is heard. It asks twice if nobody answers, because the
    /// question may have been lost.
    async fn ask(&self, session: &SessionId, ask: &Ask) -> Result<Option<Answer>, ClusterError> {
        let subject = session_subject(&self.options.prefix, session);
        let question = serde_json::to_vec(ask).expect("a question is plain data");
        let began = Instant::now();
        let (mut asked, mut unanswered) = (0, 0);
        loop {
            let is_certain = asked > 0 && self.servers.have_been_heard_since(began);
            let is_last = is_certain || began.elapsed() >= NOBODY_TIME;
            asked += 1;
            // With an inbox of its own: the client never forgets a request to its common one that
            // nobody answers.
            let request = Request::new()
                .payload(question.clone().into())
                .inbox(self.client.new_inbox())
                .timeout(None);
            let asking = self.client.send_request(subject.clone(), request);
            let error = match tokio::time::timeout(ANSWER_TIME, asking).await {
                Ok(Ok(message)) => match serde_json::from_slice(&message.payload) {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(error) => return Err(ClusterError::Away(format!("an answer cannot be read: {error}"))),
                },
                Ok(Err(error)) => error,
                Err(_) if unanswered == 0 => {
                    unanswered += 1;
                    continue;
                }
                Err(_) if self.servers.reaches_nats() => return Err(ClusterError::Silent),
                Err(_) => return Err(away()),
            };
            match error.kind() {
                RequestErrorKind::NoResponders if !is_last => tokio::time::sleep(PAUSE).await,
                RequestErrorKind::NoResponders if self.servers.is_settled() => return Ok(None),
                // Its server may be slower to come back than this one.
                RequestErrorKind::NoResponders => {
                    return Err(ClusterError::Away("servers may still be reconnecting".to_owned()));
                }
                _ => return Err(ClusterError::Away(error.to_string())),
            }
        }
    }

    async fn pass_post(&self, session: SessionId, body: Bytes) -> Result<Option<PostOutcome>, ClusterError> {
        if body.len() > self.client.max_payload() {
            tracing::warn!(%session, bytes = body.len(), "NATS takes no POST of this size: lower Limits::fragment or raise max_payload");
            return Ok(None);
        }
        if !self.servers.reaches_nats() {
            return Err(away());
        }
        let subject = Subject::from(post_subject(&self.options.prefix, &session));
        for pause in [Some(PAUSE), None] {
            let inbox = Subject::from(self.client.new_inbox());
            let asking = async {
                let answers = self.client.subscribe(inbox.clone()).await.map_err(closed)?;
                let asking = self.client.publish_with_reply(subject.clone(), inbox, body.clone());
                asking.await.map(|()| answers).map_err(closed)
            };
            let asked = tokio::time::timeout(TAKING, asking).await;
            let mut answers = asked.map_err(|_| away())??;
            // The server that has the connection says so at once, and answers when it can. Others
            // do not answer. If nobody does, the POST may have been taken: the connection must end.
            let mut until = Instant::now() + ANSWER_TIME;
            let mut is_taken = false;
            let mut nobody = false;
            while let Ok(Some(message)) = tokio::time::timeout_at(until, answers.next()).await {
                nobody = message.status == Some(StatusCode::NO_RESPONDERS);
                if nobody {
                    break;
                }
                let mut packets = message.payload;
                match packets.try_get_u8() {
                    Ok(TAKEN) if !is_taken => {
                        is_taken = true;
                        until = Instant::now() + POST_TIME;
                    }
                    Ok(ANSWERED) => return Ok(Some(PostOutcome::Answered(packets))),
                    _ => return Ok(Some(PostOutcome::Gone)),
                }
            }
            match pause {
                Some(pause) if nobody => tokio::time::sleep(pause).await,
                _ => break,
            }
        }
        Ok(None)
    }

    /// Takes a POST that has reached another server, if its connection is here.
    async fn take_post(self: Arc<Self>, message: Message) {
        let Some(reply) = message.reply else { return };
        let Some(hub) = self.hub.get().and_then(WeakHub::upgrade) else {
            return;
        };
        // Another server may have another connection of the same session.
        let Some(outcome) = hub.take_post(message.payload) else {
            return;
        };
        drop(hub);
        let _ = self.client.publish(reply.clone(), Bytes::from_static(&[TAKEN])).await;
        let mut answer = match outcome.await {
            PostOutcome::Answered(packets) => [&[ANSWERED], &packets[..]].concat(),
            PostOutcome::Gone => vec![GONE],
        };
        if answer.len() > self.client.max_payload() {
            tracing::warn!(
                bytes = answer.len(),
                "NATS takes no answer of this size: lower Limits::fragment or raise max_payload"
            );
            answer = vec![GONE];
        }
        let _ = self.client.publish(reply, answer.into()).await;
    }

    /// Takes a connection that has reached another server.
    async fn admit(&self, message: Message) {
        let Some(reply) = message.reply else { return };
        let Some(hub) = self.hub.get().and_then(WeakHub::upgrade) else {
            return;
        };
        let session = message.subject.rsplit('.').next().and_then(|id| id.parse().ok());
        let ask = serde_json::from_slice::<Ask>(&message.payload);
        let (Some(session), Ok(ask)) = (session, ask) else {
            return tracing::warn!(subject = %message.subject, "cannot read a question: do all servers have the same version?");
        };
        let mut visitor = Visitor::new(session);
        visitor.principal = ask.principal;
        visitor.address = ask.address;
        // The session has just left: the question is asked again.
        let Some(accepted) = hub.accept_visitor(&visitor) else {
            return;
        };
        self.servers.heard_of(ask.server);
        let arrivals = self.links.open(Some(ask.server));
        let answer = Answer {
            server: self.servers.id(),
            link: arrivals.number,
        };
        let runtime = hub.runtime();
        let hop = self.hop(runtime.clone(), (ask.server, ask.link), arrivals);
        runtime.spawn(run_connection_loop(accepted, hop));
        let answer = serde_json::to_vec(&answer).expect("an answer is plain data");
        // Later, nobody waits for it any more.
        let _ = tokio::time::timeout(ANSWER_TIME, self.client.publish(reply, answer.into())).await;
    }

    /// Makes a connection of what arrives over a hop. Its link must know its server already.
    fn hop(&self, runtime: Handle, (server, link): (u64, u64), arrivals: Arrivals) -> Hop {
        let flow = self.flows.to(server, self.servers.id(), self.client.max_payload());
        let subject = node_subject(&self.options.prefix, server).into();
        Hop::new(self.client.clone(), runtime, FarEnd { subject, link }, flow, arrivals)
    }

    /// Handles what another server says about a flow.
    async fn notice(&self, notice: Notice) {
        match notice {
            Notice::Mark { from, position } => {
                let at = self.servers.id();
                let passed = Notice::Passed { at, position }.encode();
                let returning = self.client.publish(node_subject(&self.options.prefix, from), passed);
                // The other server does not wait for ever.
                let _ = tokio::time::timeout(MARK_TIME, returning).await;
            }
            Notice::Passed { at, position } => self.flows.passed(at, position),
        }
    }
}

/// Answers the questions of other servers about the sessions of this one.
async fn answer_questions(node: Arc<Node>, mut directory: Directory) {
    while let Some(message) = directory.next().await {
        if is_post(&node.options.prefix, &message.subject) {
            tokio::spawn(Arc::clone(&node).take_post(message));
        } else {
            node.admit(message).await;
        }
    }
}

/// Passes each message that arrives to its hop, or handles it if it is about a flow.
async fn deliver(node: Arc<Node>, mut packets: Subscriber) {
    while let Some(message) = packets.next().await {
        let mut payload = message.payload;
        match link_of(&mut payload) {
            Some(NO_LINK) => {
                if let Some(notice) = Notice::decode(payload) {
                    node.notice(notice).await;
                }
            }
            Some(number) => node.links.give(number, payload),
            None => {}
        }
    }
}

/// Cuts the hops to servers that are silent, and all hops if NATS cannot be reached, or could not:
/// what was under way is lost.
async fn watch_servers(node: Arc<Node>) {
    let mut interruptions = node.servers.interruptions();
    let mut checks = tokio::time::interval(node.servers.interval() / CHECKS);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // The flows first: a hop whose flow is forgotten must be cut too, or it might wait for
            // room that never comes.
            Ok(()) = interruptions.changed() => {
                node.flows.check(|_| false);
                node.links.cut(|_| true);
            }
            _ = checks.tick() => {
                let audible = node.servers.audible();
                let is_silent = |server| !audible.contains(&server);
                node.flows.check(|server| !is_silent(server));
                node.links.cut(|peer| audible.is_empty() || peer.is_some_and(is_silent));
            }
        }
    }
}

fn closed(error: impl fmt::Display) -> ClusterError {
    ClusterError::Away(error.to_string())
}

fn away() -> ClusterError {
    ClusterError::Away("NATS does not answer".to_owned())
}

fn node_subject(prefix: &str, server: u64) -> String {
    format!("{prefix}.node.{server:016x}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often within a heartbeat a server looks for others that are silent, so that it notices a
/// death soon after it may.
const CHECKS: u32 = 3;

/// How long the server of a session may take to answer a question.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// How long the server of a connection may take to answer a POST: longer than it waits for
/// something to send.
const POST_TIME: Duration = Duration::from_secs(25);

/// First byte of the answer to a POST that its connection has taken.
const ANSWERED: u8 = 0;
/// Says that the connection is here, and that an answer follows.
const TAKEN: u8 = 2;
/// The answer if the connection has ended.
const GONE: u8 = 1;

/// How long the client of NATS may have no room for a mark that is returned.
const MARK_TIME: Duration = Duration::from_millis(100);

/// How long to wait before asking again, if nobody had the session.
const PAUSE: Duration = Duration::from_millis(150);

/// How long a server that is not heard may still have a session that nobody has: a client of NATS
/// whose connection is lost connects to another server of NATS within this time. A page should
/// learn within a second that its server has died.
const NOBODY_TIME: Duration = Duration::from_millis(600);
