//! Builds a hub from its settings.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
#[cfg(feature = "cluster")]
use tokio::sync::Semaphore;
#[cfg(feature = "cluster")]
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base_url::base_url;
use crate::cleanup::{CleanupPolicy, DefaultCleanupPolicy};
#[cfg(feature = "durable")]
use crate::durable::store::Store;
use crate::extensions::Extensions;
use crate::hub::Hub;
#[cfg(feature = "cluster")]
use crate::hub::cluster::Cluster;
use crate::hub::config::{Config, EndHook, PrincipalHook};
#[cfg(feature = "durable")]
use crate::hub::durable::run_expiry;
use crate::hub::inner::HubInner;
use crate::hub::kinds::Kinds;
use crate::hub::pending_hello::PendingHellos;
use crate::hub::reach::Reach;
#[cfg(feature = "durable")]
use crate::hub::records::Records;
use crate::hub::schedule::Schedule;
use crate::hub::sweep::run_sweep;
use crate::hub::warnings::Warnings;
use crate::lock::Lock;
use crate::memory::Memory;
use crate::options::{Renewal, SessionOptions};
use crate::origin::host_name;
use crate::peer::Share;
use crate::request::SessionRequest;
use crate::session::Common;
use stillhere_proto::EndReason;
use stillhere_proto::SessionId;

/// The settings of a [`Hub`]. Each has a default, and the order of the calls does not matter.
#[must_use]
pub struct HubBuilder {
    config: Config,
    /// Changes to the default session options, in the order in which they were set.
    changes: Vec<OptionChange>,
    policy: Arc<dyn CleanupPolicy>,
    runtime: Option<Handle>,
    on_end: Option<EndHook>,
    principal: Option<PrincipalHook>,
    extensions: Extensions,
    #[cfg(feature = "durable")]
    store: Option<Arc<dyn Store>>,
    #[cfg(feature = "cluster")]
    cluster: Option<Arc<dyn Cluster>>,
}

/// A change to one session option.
type OptionChange = Box<dyn FnOnce(&mut SessionOptions) + Send + Sync>;

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// Creates a hub with default settings, on the current runtime.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a hub with settings of its own.
    pub fn builder() -> HubBuilder {
        HubBuilder {
            config: Config::default(),
            changes: Vec::new(),
            policy: Arc::new(DefaultCleanupPolicy::default()),
            runtime: None,
            on_end: None,
            principal: None,
            extensions: Extensions::default(),
            #[cfg(feature = "durable")]
            store: None,
            #[cfg(feature = "cluster")]
            cluster: None,
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl HubBuilder {
    /// Sets the path under which the adapter's routes are mounted; `/` is the root. Default
    /// `/stillhere`.
    pub fn mount(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.config.mount = if path.is_empty() {
            "".into()
        } else {
            format!("/{path}").into()
        };
        self
    }

    /// Sets where browsers find the mount, if it is not at the same path for them. Default: the
    /// mount.
    ///
    /// - Behind a proxy that adds a prefix: `/app/stillhere`.
    /// - Behind a proxy whose prefix the application does not know: `./stillhere`. It is relative
    ///   to the page, and therefore right for pages beside the mount. A deeper page needs its own
    ///   [`ConnectionSetup::url`](crate::ConnectionSetup::url) (`../stillhere`).
    /// - On another origin: `https://live.example.com/stillhere`, whose hub must
    ///   [allow](Self::allow_origin) the page's origin. The client's files may be loaded from any
    ///   origin: as a script with or without `crossorigin`, as a module, and by a page with
    ///   `Cross-Origin-Embedder-Policy: require-corp`.
    ///
    /// # Panics
    /// Panics if the URL is none of these, such as `live.example.com/stillhere`, which a browser
    /// would resolve relative to the page.
    #[track_caller]
    pub fn public_url(mut self, url: &str) -> Self {
        self.config.public_url = Some(base_url(url).into());
        self
    }

    /// Also accepts connections from pages of this origin (`https://example.com`, with its port
    /// unless that is the default port). Default: only pages of the same host.
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.config
            .origins
            .push(origin.trim_end_matches('/').to_ascii_lowercase());
        self
    }

    /// Serves sessions only to requests for this host, on any port, and for other hosts that are
    /// allowed. `localhost` stands for every name and address of loopback. Default: any host.
    ///
    /// A server on a developer's own machine, or in a private network, should allow the names that
    /// browsers use for it. Otherwise a foreign page can make its own name resolve to this server's
    /// address (*DNS rebinding*), and then counts as the same host. Behind a proxy that keeps
    /// `Host`, allow the names under which browsers know the proxy. This guards sessions only;
    /// guard your own pages yourself.
    pub fn allow_host(mut self, host: &str) -> Self {
        self.config.hosts.push(host_name(host));
        self
    }

    /// Sets the policy that decides which sessions are freed. Default
    /// [`DefaultCleanupPolicy`](crate::DefaultCleanupPolicy).
    pub fn cleanup_policy(mut self, policy: impl CleanupPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Sets the options of sessions that are opened without options of their own. The setters for
    /// single options ([`heartbeat`](Self::heartbeat), [`message_limit`](Self::message_limit) and
    /// so on) apply on top of these, whether they are called before or after.
    pub fn session_options(mut self, options: SessionOptions) -> Self {
        self.config.defaults = options;
        self
    }

    /// Sets after how much silence the server pings a browser. After twice that
    /// time it gives up the connection. Default 15 s.
    pub fn heartbeat(self, interval: Duration) -> Self {
        self.change_option(move |options| options.timing.heartbeat = interval)
    }

    /// Sets the maximum size of a message in bytes on the wire, in either direction. Default 1 MiB.
    pub fn message_limit(self, bytes: u64) -> Self {
        self.change_option(move |options| options.limits.message = bytes)
    }

    /// Sets how many bytes may wait unacknowledged in each lane of a session's outbox. Default 4
    /// MiB.
    pub fn outbox_limit(self, bytes: u64) -> Self {
        self.change_option(move |options| options.limits.outbox = bytes)
    }

    /// Keeps sessions when their page is reloaded, under this label. Default: a reloaded page gets
    /// a new session.
    pub fn restore_on_reload(self, label: &str) -> Self {
        let label = label.to_owned();
        self.change_option(move |options| options.restore = Some(label))
    }

    /// Sets where pages get a new ticket if their own is not accepted. Default: the client fetches
    /// the page again and takes the ticket out of it.
    pub fn renewal(self, renewal: Renewal) -> Self {
        self.change_option(move |options| options.renewal = renewal)
    }

    /// Compresses messages of at least this many bytes, and accepts compressed messages. Default:
    /// neither. Below about 1 KiB compression costs more than it saves.
    pub fn compress_from(self, bytes: usize) -> Self {
        self.change_option(move |options| options.compress_from = Some(bytes))
    }

    /// Sets the maximum number of sessions. Default 100,000.
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.config.max_sessions = count;
        self
    }

    /// Sets the maximum number of sessions to which no browser has connected yet; crawlers also
    /// open such sessions. Beyond it, the oldest of them ends as
    /// [`NeverConnected`](EndReason::NeverConnected). Default 10,000.
    pub fn max_unconnected(mut self, count: usize) -> Self {
        self.config.max_unconnected = count;
        self
    }

    /// Sets the maximum number of connections that have not sent their hello. Default 10,000.
    pub fn max_pending_hellos(mut self, count: usize) -> Self {
        self.config.max_hellos = count;
        self
    }

    /// Sets how much of the limits one address may use. Default: a tenth; see [`Share`].
    pub fn address_share(mut self, share: Share) -> Self {
        self.config.address_share = share;
        self
    }

    /// Sets how much of the limits one user may use. Default: a tenth; see [`Share`].
    pub fn principal_share(mut self, share: Share) -> Self {
        self.config.principal_share = share;
        self
    }

    /// Sets how many of your own proxies each request passes through. The hub then takes the
    /// client's address from `X-Forwarded-For`, to which each proxy appends the address that called
    /// it. Default 0: the hub ignores the header, because anybody can send it.
    pub fn trusted_hops(mut self, proxies: usize) -> Self {
        self.config.trusted_hops = proxies;
        self
    }

    /// Sets how many bytes all sessions together may buffer, in both directions, including POSTs of
    /// the fallback that have arrived in part. Default 512 MiB.
    ///
    /// Beyond it, sessions end as [`EndReason::MemoryPressure`], whether they are connected or not.
    /// Those that hold the most end first; among those that hold about the same (within a power of
    /// two), the one that was soft-closed first. A session that holds no more than its fair share
    /// (the limit divided by the number of sessions) is never ended for memory. The limit does not
    /// include a connection's own buffers (at most two packets and 64 KiB).
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.config.memory = bytes;
        self
    }

    /// Sets how long an application function may continue after the end of its session. Its task is
    /// then aborted. Default 10 s.
    pub fn function_grace(mut self, grace: Duration) -> Self {
        self.config.function_grace = grace;
        self
    }

    /// Calls `hook` once when a session ends, with the reason. It must not block.
    pub fn on_end(mut self, hook: impl Fn(&SessionId, &EndReason) + Send + Sync + 'static) -> Self {
        self.on_end = Some(Box::new(hook));
        self
    }

    /// Sets the function that finds the user who makes a request, usually by a login cookie. It
    /// returns `None` if nobody is logged in. It must not block.
    ///
    /// The hub calls it for every connection to a session of [`Hub::open_for`], and again at each
    /// reconnect. It refuses a connection of another user as `Forbidden`; the session continues.
    /// Without this hook, such sessions accept connections only from routes that provide the user
    /// themselves.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use stillhere::Hub;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let logins = HashMap::from([("6f1c".to_owned(), "ada".to_owned())]);
    /// let hub = Hub::builder()
    ///     .principal(move |request| logins.get(request.cookie("login")?).cloned())
    ///     .build();
    /// # }
    /// ```
    pub fn principal(mut self, hook: impl Fn(&SessionRequest<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        self.principal = Some(Box::new(hook));
        self
    }

    /// Sets the runtime on which the functions of sessions run. Default: the runtime on which
    /// [`HubBuilder::build`] is called, except that a function may run
    /// [where its first connection is](crate::Accepted::on_local_set), as it does with actix-web.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Changes the value of this type that is kept with the hub, for
    /// [`Hub::extension`]. It begins as its default.
    pub fn extension<T: Default + Any + Send + Sync>(mut self, change: impl FnOnce(&mut T)) -> Self {
        self.extensions.change(change);
        self
    }

    /// Sets where [durable sessions](Hub::durable) are kept.
    #[cfg(feature = "durable")]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Connects this server with others, so that each takes the connections of any page. Its
    /// sessions then have at most the [`Limits::fragment`](crate::Limits::fragment) of the hub,
    /// because the server that a page reaches does not know theirs.
    #[cfg(feature = "cluster")]
    pub fn cluster(mut self, cluster: impl Cluster) -> Self {
        self.cluster = Some(Arc::new(cluster));
        self
    }

    fn change_option(mut self, change: impl FnOnce(&mut SessionOptions) + Send + Sync + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Builds the hub. Whichever thread opens its sessions, they run on this runtime or the one
    /// that [`HubBuilder::runtime`] has set.
    ///
    /// # Panics
    /// Panics outside a tokio runtime, unless [`HubBuilder::runtime`] was called.
    pub fn build(mut self) -> Hub {
        for change in self.changes {
            change(&mut self.config.defaults);
        }
        let has_own_runtime = self.runtime.is_some();
        let runtime = self.runtime.unwrap_or_else(Handle::current);
        let schedule = Schedule::default();
        let woken = schedule.woken();
        let memory = Arc::new(Memory::new(self.config.memory, Arc::clone(&woken)));
        let base = self.config.public_url.as_ref().unwrap_or(&self.config.mount).clone();
        let defaults = Arc::new(self.config.defaults.clone().normalised());
        let inner = Arc::new_cyclic(|itself| HubInner {
            common: Arc::new(Common::new(
                Weak::<HubInner>::clone(itself),
                base,
                &defaults,
                self.extensions,
            )),
            defaults,
            config: self.config,
            policy: Lock::new(self.policy),
            runtime: runtime.clone(),
            has_own_runtime,
            on_end: self.on_end,
            principal: self.principal,
            kinds: Kinds::default(),
            #[cfg(feature = "durable")]
            records: self.store.map(|store| Box::new(Records::new(store))),
            #[cfg(feature = "cluster")]
            cluster: self.cluster,
            #[cfg(feature = "cluster")]
            elsewhere: Default::default(),
            #[cfg(feature = "cluster")]
            leaving: CancellationToken::new(),
            #[cfg(feature = "cluster")]
            large_posts: Arc::new(Semaphore::new(LARGE_POSTS)),
            #[cfg(feature = "cluster")]
            large_posts_of: Arc::default(),
            registry: Lock::default(),
            hellos: PendingHellos::default(),
            connections_of: Arc::default(),
            sessions_of: Arc::default(),
            posts: Arc::default(),
            connections: TaskTracker::new(),
            exchanges: Arc::default(),
            memory,
            schedule,
            warnings: Warnings::default(),
            told_uncounted: Once::new(),
            reach: Reach::default(),
            draining: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            evaluations: AtomicU64::new(0),
        });
        #[cfg(feature = "durable")]
        if inner.records.is_some() {
            runtime.spawn(run_expiry(Arc::downgrade(&inner)));
        }
        runtime.spawn(run_sweep(Arc::downgrade(&inner), woken));
        let hub = Hub { inner };
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &hub.inner.cluster {
            cluster.start(hub.downgrade());
        }
        hub
    }
}

/// Most large POSTs that are read at once for connections of other servers.
#[cfg(feature = "cluster")]
const LARGE_POSTS: usize = 64;
