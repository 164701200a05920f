//! The state that the clones of a hub share.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
#[cfg(feature = "durable")]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, Once};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
#[cfg(feature = "cluster")]
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
#[cfg(feature = "cluster")]
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(feature = "cluster")]
use crate::cleanup::SessionSnapshot;
use crate::cleanup::{CleanupPolicy, SessionState};
use crate::exchange::Exchanges;
use crate::guard::guarded;
#[cfg(feature = "durable")]
use crate::hub::absent::{Absent, Finder};
#[cfg(feature = "cluster")]
use crate::hub::cluster::Cluster;
use crate::hub::config::{Config, EndHook, PrincipalHook};
use crate::hub::ended_session::EndedSession;
#[cfg(feature = "cluster")]
use crate::hub::id_hasher::IdMap;
use crate::hub::kinds::Kinds;
use crate::hub::pending_hello::{PendingHello, PendingHellos};
use crate::hub::places::Places;
use crate::hub::reach::Reach;
#[cfg(feature = "durable")]
use crate::hub::records::Records;
use crate::hub::registry::{Found, Registry};
use crate::hub::schedule::Schedule;
use crate::hub::sessions::TABLES;
use crate::hub::warnings::Warnings;
use crate::lock::Lock;
use crate::memory::{Account, Memory};
use crate::options::SessionOptions;
use crate::peer::{Peer, Share, client_address, why_uncounted};
use crate::request::SessionRequest;
#[cfg(feature = "durable")]
use crate::session::Opening;
use crate::session::{Application, Common, Host, SessionHandle, Shared, Teardown};
use stillhere_proto::EndReason;
use stillhere_proto::SessionId;
use stillhere_proto::code::Code;
use stillhere_proto::wire::End;

pub(crate) struct HubInner {
    /// What its sessions have in common. They do not keep the hub alive.
    pub(super) common: Arc<Common>,
    pub(crate) config: Config,
    /// `config.defaults`, clamped to valid values. All sessions without options of their own share
    /// it.
    pub(super) defaults: Arc<SessionOptions>,
    pub(super) policy: Lock<Arc<dyn CleanupPolicy>>,
    pub(super) runtime: Handle,
    /// The application has chosen the runtime.
    pub(crate) has_own_runtime: bool,
    pub(super) on_end: Option<EndHook>,
    pub(super) principal: Option<PrincipalHook>,
    pub(super) kinds: Kinds,
    #[cfg(feature = "durable")]
    pub(super) records: Option<Box<Records>>,
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<Arc<dyn Cluster>>,
    /// The sessions of users on other servers, as far as this server was told of them.
    #[cfg(feature = "cluster")]
    pub(super) elsewhere: Lock<IdMap<SessionSnapshot>>,
    /// Cancelled when the hub begins to shut down, and passes no more packets on.
    #[cfg(feature = "cluster")]
    pub(crate) leaving: CancellationToken,
    /// Limits the large POSTs that are read for other servers.
    #[cfg(feature = "cluster")]
    pub(crate) large_posts: Arc<Semaphore>,
    #[cfg(feature = "cluster")]
    pub(crate) large_posts_of: Arc<Places>,
    pub(super) registry: Lock<Registry>,
    pub(super) hellos: PendingHellos,
    pub(crate) connections_of: Arc<Places>,
    pub(super) sessions_of: Arc<Places>,
    pub(crate) posts: Arc<Places>,
    pub(crate) connections: TaskTracker,
    pub(crate) exchanges: Arc<Exchanges>,
    pub(super) memory: Arc<Memory>,
    pub(super) schedule: Schedule,
    pub(crate) warnings: Warnings,
    /// Makes sure that the reason why requests count for no address is logged only once.
    pub(super) told_uncounted: Once,
    pub(crate) reach: Reach,
    pub(super) draining: AtomicBool,
    pub(super) opened: AtomicU64,
    pub(super) evaluations: AtomicU64,
}

impl HubInner {
    pub(super) fn open(&self, options: Arc<SessionOptions>, application: Application) -> SessionHandle {
        let now = crate::clock::now();
        let place = (self.number(), now);
        let session = Shared::new(Arc::clone(&self.common), options, application, self.account(), place);
        self.admit(session, now)
    }

    #[cfg(feature = "durable")]
    pub(super) fn open_durable(
        &self,
        options: Arc<SessionOptions>,
        application: Application,
        opening: Opening,
    ) -> SessionHandle {
        let now = crate::clock::now();
        let (place, parts) = ((self.number(), now), (application, opening));
        let session = Shared::new_durable(Arc::clone(&self.common), options, parts, self.account(), place);
        self.admit(session, now)
    }

    pub(super) fn number(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a new session into the registry, or closes it if there is no room.
    fn admit(&self, session: Arc<Shared>, now: Instant) -> SessionHandle {
        self.announce(&session);
        match self.enter(&session) {
            Ok(crowded_out) => {
                self.end_unconnected(&crowded_out, now);
                self.session_changed(&session, now);
            }
            Err(reason) => {
                self.withdraw(&session, false);
                if reason == EndReason::Full
                    && let Some(count) = self.warnings.full.count(now)
                {
                    let no_waiting = self.config.max_unconnected == 0;
                    let limit = if no_waiting { "max_unconnected" } else { "max_sessions" };
                    tracing::warn!(
                        count,
                        "refused new sessions: the hub is full; HubBuilder::{limit} sets the limit"
                    );
                }
                session.abort(reason);
            }
        }
        SessionHandle::new(session)
    }

    /// Enters the session into the registry. Returns the sessions that must end to make room for
    /// it.
    fn enter(&self, session: &Arc<Shared>) -> Result<Vec<Arc<Shared>>, EndReason> {
        let options = &session.options;
        let address = options
            .address
            .and_then(|address| Peer::address(address, self.config.trusted_hops));
        let peers: Vec<_> = address
            .into_iter()
            .chain(options.principal.as_deref().map(Peer::principal))
            .collect();
        let mut registry = self.registry();
        if self.is_draining() {
            return Err(EndReason::Draining);
        }
        if registry.sessions.len() >= self.config.max_sessions || self.config.max_unconnected == 0 {
            return Err(EndReason::Full);
        }
        let crowded_out = registry
            .unconnected
            .make_room(&peers, self.config.max_unconnected, |peer| self.share_of(peer));
        registry.unconnected.insert(session.number, session.id, peers);
        let crowded_out = crowded_out
            .iter()
            .filter_map(|id| registry.sessions.get(id).cloned())
            .collect();
        registry.sessions.insert(Arc::clone(session));
        Ok(crowded_out)
    }

    /// Ends these sessions, unless a browser has connected by now.
    fn end_unconnected(&self, sessions: &[Arc<Shared>], now: Instant) {
        for session in sessions {
            let snapshot = session.snapshot();
            if snapshot.state == SessionState::Unconnected
                && session.abort_if_unchanged(snapshot.version, Some(EndReason::NeverConnected))
                && let Some(count) = self.warnings.unconnected_ended.count(now)
            {
                let waited = now.saturating_duration_since(snapshot.opened);
                tracing::warn!(
                    count,
                    ?waited,
                    "ended sessions before their first browser connected: too many wait, in total (HubBuilder::max_unconnected) or for one address or user (address_share, principal_share)"
                );
            }
        }
    }

    /// Counts a session for the peers that are the first to connect to it, until it ends. Returns
    /// false if one of them has too many.
    pub(crate) fn hold(&self, session: &Shared, peers: &[Peer]) -> bool {
        if peers.is_empty() || self.registry().sessions.has_place(&session.id) {
            return true;
        }
        let Some(place) = self.sessions_of.take(peers, |peer| self.share_of(peer).sessions) else {
            return false;
        };
        let surplus = self.registry().sessions.set_place(&session.id, place);
        // Not under the lock, because this takes another one.
        drop(surplus);
        true
    }

    /// Returns the peers of a request to the session.
    pub(crate) fn peers(&self, request: &SessionRequest<'_>, principal: Option<&str>) -> Vec<Peer> {
        let hops = self.config.trusted_hops;
        let peers = self.peers_of(client_address(request, hops), principal);
        let is_counted = peers.iter().any(|peer| matches!(peer, Peer::Address(_)));
        if let Some(reason) = (!is_counted).then(|| why_uncounted(request, hops)).flatten() {
            self.told_uncounted
                .call_once(|| tracing::info!("the limits per address are not enforced: {reason}"));
        }
        peers
    }

    /// Returns the peers of a client with this address.
    pub(crate) fn peers_of(&self, address: Option<IpAddr>, principal: Option<&str>) -> Vec<Peer> {
        let address = address.and_then(|address| Peer::address(address, self.config.trusted_hops));
        address.into_iter().chain(principal.map(Peer::principal)).collect()
    }

    pub(crate) fn share_of(&self, peer: &Peer) -> Share {
        match peer {
            Peer::Address(_) => self.config.address_share,
            Peer::Principal(_) => self.config.principal_share,
        }
    }

    /// Returns an account for memory that belongs to no session.
    pub(crate) fn account(&self) -> Account {
        Account::new(Arc::clone(&self.memory))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(crate) fn policy(&self) -> Arc<dyn CleanupPolicy> {
        Arc::clone(&self.policy.lock())
    }

    pub(crate) fn count_evaluation(&self) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Refuses new sessions from now on.
    pub(crate) fn begin_drain(&self) {
        let registry = self.registry();
        self.draining.store(true, Ordering::Release);
        drop(registry);
        #[cfg(feature = "cluster")]
        self.leaving.cancel();
    }

    /// Tells connections that still wait for their hello to reconnect within `spread`, because all
    /// sessions have ended.
    pub(crate) fn end_drain(&self, spread: Duration) {
        self.hellos.drain(spread);
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    pub(crate) fn find(&self, id: &SessionId) -> Option<Arc<Shared>> {
        self.registry().sessions.get(id).cloned()
    }

    /// Returns all live sessions. Those that open meanwhile may be missing: the lock is released
    /// from time to time, so that nobody waits for a million sessions to be copied.
    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        let mut all = Vec::with_capacity(self.registry().sessions.len());
        for number in 0..TABLES {
            all.extend(self.registry().sessions.of_table(number).cloned());
        }
        all
    }

    /// Returns the session with this id, or its record after its end.
    pub(crate) fn look_up(&self, id: &SessionId) -> Option<Found> {
        self.registry().find(id)
    }

    /// Returns how long the hello of a connection to an ended session may take.
    pub(crate) fn hello_deadline(&self) -> Duration {
        self.defaults.timing.hello
    }

    /// Returns true if `owner` makes this request.
    pub(crate) fn is_principal(&self, session: &SessionId, owner: &str, request: &SessionRequest<'_>) -> bool {
        if let Some(known) = request.known_principal() {
            return known == Some(owner);
        }
        let Some(hook) = &self.principal else {
            self.note_missing_hook(session);
            return false;
        };
        let principal = guarded(session, "the principal hook", || hook(request)).flatten();
        principal.as_deref() == Some(owner)
    }

    pub(super) fn note_missing_hook(&self, session: &SessionId) {
        if let Some(count) = self.warnings.no_principal_hook.count(crate::clock::now()) {
            tracing::error!(
                %session,
                count,
                "refused connections to a user's session: the hub cannot determine users; set HubBuilder::principal, or mount the adapter's routes_for"
            );
        }
    }

    /// Logs that another user asked for a session, and returns the answer.
    pub(crate) fn not_its_user(&self, session: &SessionId) -> End {
        if let Some(count) = self.warnings.not_its_user.count(crate::clock::now()) {
            tracing::warn!(
                %session,
                count,
                "refused connections to a user's session: the visitor is another user or not logged in"
            );
        }
        let text = "this session belongs to another user: log in as the user who opened the page, or reload the page";
        End::connection(Code::Forbidden, text)
    }

    /// Returns the session that a request leads to if it is on another server or in the store,
    /// which its hello will show.
    #[cfg(feature = "durable")]
    pub(crate) fn look_up_absent(self: &Arc<Self>, id: &SessionId, request: &SessionRequest<'_>) -> Option<Found> {
        if !self.looks_elsewhere() {
            return None;
        }
        let known = request.known_principal().map(|known| known.map(str::to_owned));
        let principal = known.or_else(|| {
            let hook = self.principal.as_ref()?;
            Some(guarded(id, "the principal hook", || hook(request)).flatten())
        });
        let peers = self.peers(request, principal.as_ref().and_then(|known| known.as_deref()));
        let hub: Weak<dyn Finder> = Arc::downgrade(&(Arc::clone(self) as Arc<dyn Finder>));
        Some(Found::Absent(Box::new(Absent {
            id: *id,
            hub,
            has_no_hook: principal.is_none(),
            principal: principal.flatten(),
            #[cfg(feature = "cluster")]
            address: client_address(request, self.config.trusted_hops),
            peers,
        })))
    }

    /// Returns true if a session may be found that is not here.
    #[cfg(feature = "durable")]
    fn looks_elsewhere(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            return true;
        }
        self.records.is_some()
    }

    #[cfg(not(feature = "durable"))]
    pub(crate) fn look_up_absent(self: &Arc<Self>, _id: &SessionId, _request: &SessionRequest<'_>) -> Option<Found> {
        None
    }

    /// Limits what another server must know that takes a connection to the session.
    #[cfg(feature = "cluster")]
    pub(super) fn within_cluster(&self, mut options: SessionOptions) -> SessionOptions {
        if self.cluster.is_some() && options.plain.is_none() {
            options.limits.fragment = options.limits.fragment.min(self.defaults.limits.fragment);
        }
        options
    }

    #[cfg(not(feature = "cluster"))]
    pub(super) fn within_cluster(&self, options: SessionOptions) -> SessionOptions {
        options
    }

    /// Returns the size of a fragment that a session may have which is not here.
    #[cfg(feature = "durable")]
    pub(crate) fn session_fragment(&self) -> u64 {
        self.defaults.limits.fragment
    }

    #[cfg(not(feature = "cluster"))]
    pub(crate) fn make_reachable(&self, _session: &str) {}

    /// Removes a session that another process goes on with.
    pub(super) fn forget(&self, session: &Shared) {
        // Before it can be opened here again.
        self.withdraw(session, false);
        let place = self.registry().remove(session);
        drop(place);
    }

    /// Takes a place among the connections that wait for their hello.
    pub(crate) fn admit_hello(&self, peers: &[Peer]) -> Option<PendingHello> {
        let share = |peer: &Peer| self.share_of(peer).hellos;
        self.hellos.admit(self.config.max_hellos, peers, share)
    }

    /// Moves a session from the live ones to the ended ones.
    pub(super) fn record_end(&self, session: &Shared, reason: &EndReason) {
        self.withdraw(session, true);
        let ended = EndedSession::new(session, reason);
        let mut registry = self.registry();
        // A session that was never admitted is not there.
        let Some(place) = registry.remove(session) else { return };
        registry.keep(session.id, ended, self.config.ended_kept);
        drop(registry);
        drop(place);
    }

    /// Tells the other servers of a session, before anybody can end it.
    #[cfg(feature = "cluster")]
    pub(super) fn announce(&self, session: &Shared) {
        if let Some(cluster) = self.cluster.as_ref().filter(|_| session.plain.is_none()) {
            cluster.entered(&session.id);
        }
    }

    #[cfg(not(feature = "cluster"))]
    pub(super) fn announce(&self, _session: &Shared) {}

    /// Tells the other servers that a session is no longer here, or has ended.
    #[cfg(feature = "cluster")]
    fn withdraw(&self, session: &Shared, is_ended: bool) {
        if let Some(cluster) = self.cluster.as_ref().filter(|_| session.plain.is_none()) {
            cluster.left(&session.id, is_ended);
        }
    }

    #[cfg(not(feature = "cluster"))]
    fn withdraw(&self, _session: &Shared, _is_ended: bool) {}
}

impl fmt::Debug for HubInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Drop for HubInner {
    fn drop(&mut self) {
        for session in self.all() {
            session.abort_on(self, EndReason::Aborted("the hub was dropped".into()));
            // Over already, but nobody was left to whom that could be reported.
            if self.find(&session.id).is_some()
                && let Some(reason) = session.end_reason()
            {
                self.session_ended(&session, Teardown::of(reason), crate::clock::now());
            }
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            cluster.stop();
        }
        let tasks = self.schedule.close();
        if !tasks.is_empty() {
            let grace = self.config.function_grace;
            self.runtime.spawn(async move {
                tokio::time::sleep(grace).await;
                tasks.iter().for_each(AbortHandle::abort);
            });
        }
    }
}
