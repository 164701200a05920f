//! What a hub is set to.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::base_url::base_url;
use crate::cleanup::CleanupPolicy;
use crate::hub::Hub;
use crate::hub::inner::HubInner;
use crate::hub::kinds::Kinds;
use crate::hub::pending_hello::PendingHellos;
use crate::hub::reach::Reach;
use crate::hub::warnings::Warnings;
use crate::lock::Lock;
use crate::memory::Memory;
use crate::options::{Renewal, SessionOptions};
use crate::origin::host_name;
use crate::peer::Share;
use crate::request::SessionRequest;
use crate::sweeper::Sweeper;
use stillhere_proto::EndReason;
use stillhere_proto::SessionId;

/// Settings of a [`Hub`]; every one has a default.
#[must_use]
pub struct HubBuilder {
    pub(super) config: Config,
    pub(super) policy: Arc<dyn CleanupPolicy>,
    pub(super) runtime: Option<Handle>,
    pub(super) on_end: Option<EndHook>,
    pub(super) principal: Option<PrincipalHook>,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    /// The path under which the adapter's routes are mounted; `/` is the root. Default `/stillhere`.
    pub fn mount(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.config.mount = if path.is_empty() {
            "".into()
        } else {
            format!("/{path}").into()
        };
        self
    }

    /// Where browsers find the mount, if not at the mount itself. Default: the mount.
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
    /// If it is none of these. A browser would look for `live.example.com/stillhere`, for example,
    /// below the page.
    #[track_caller]
    pub fn public_url(mut self, url: &str) -> Self {
        self.config.public_url = Some(base_url(url).into());
        self
    }

    /// Also accept connections from pages of this origin (`https://example.com`, with its port unless it is the default). Default: same host only.
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.config
            .origins
            .push(origin.trim_end_matches('/').to_ascii_lowercase());
        self
    }

    /// Only serve sessions to requests for this host, on any port, and for other hosts that are
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

    /// Decides which sessions are freed. Default [`DefaultCleanupPolicy`](crate::DefaultCleanupPolicy).
    pub fn cleanup_policy(mut self, policy: impl CleanupPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// What sessions get that are opened without options of their own.
    pub fn session_options(mut self, options: SessionOptions) -> Self {
        self.config.defaults = options;
        self
    }

    /// After how much quiet the server pings; twice as long is silence. Default 15 s.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.config.defaults.timing.heartbeat = interval;
        self
    }

    /// The most wire bytes of a message, in either direction. Default 1 MiB.
    pub fn message_limit(mut self, bytes: u64) -> Self {
        self.config.defaults.limits.message = bytes;
        self
    }

    /// How much may wait unacknowledged in each lane of a session's outbox. Default 4 MiB.
    pub fn outbox_limit(mut self, bytes: u64) -> Self {
        self.config.defaults.limits.outbox = bytes;
        self
    }

    /// Keep sessions over a reload of their page, under this label. Default: a reload gets a fresh session.
    pub fn restore_on_reload(mut self, label: &str) -> Self {
        self.config.defaults.restore = Some(label.to_owned());
        self
    }

    /// Where pages get a new ticket if their own is not accepted. Default: from the page itself,
    /// fetched again.
    pub fn renewal(mut self, renewal: Renewal) -> Self {
        self.config.defaults.renewal = renewal;
        self
    }

    /// Compress messages of at least this many bytes, and accept compressed messages. Default:
    /// neither. Below about 1 KiB compression costs more than it saves.
    pub fn compress_from(mut self, bytes: usize) -> Self {
        self.config.defaults.compress_from = Some(bytes);
        self
    }

    /// How many sessions there may be. Default 100,000.
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.config.max_sessions = count;
        self
    }

    /// How many sessions may wait for their first browser; crawlers, too, open sessions. Beyond
    /// this the session that has waited longest ends, as
    /// [`NeverConnected`](EndReason::NeverConnected). Default 10,000.
    pub fn max_unconnected(mut self, count: usize) -> Self {
        self.config.max_unconnected = count;
        self
    }

    /// How many connections may wait for their hello. Default 10,000.
    pub fn max_pending_hellos(mut self, count: usize) -> Self {
        self.config.max_hellos = count;
        self
    }

    /// How much one address may hold of what all share. Default: a tenth; see [`Share`].
    pub fn address_share(mut self, share: Share) -> Self {
        self.config.address_share = share;
        self
    }

    /// How much one user may hold of what all share. Default: a tenth; see [`Share`].
    pub fn principal_share(mut self, share: Share) -> Self {
        self.config.principal_share = share;
        self
    }

    /// How many of your own proxies each request passes through. The client's address is then taken
    /// from `X-Forwarded-For`, to which each of them appends the address that called it. Default 0:
    /// the header is ignored, because anybody can send it.
    pub fn trusted_hops(mut self, proxies: usize) -> Self {
        self.config.trusted_hops = proxies;
        self
    }

    /// How many bytes all sessions may buffer together, in both directions, half-sent POSTs of the fallback included. Default 512 MiB.
    ///
    /// Beyond it sessions end as [`EndReason::MemoryPressure`], whether they are connected or not.
    /// Those that hold most end first; of those that hold about the same (within a power of two),
    /// the one that was soft-closed first. A session that holds no more than a fair share, the
    /// limit divided by the number of sessions, is never ended for memory. A connection's own
    /// buffers (at most two packets and 64 KiB) are not included.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.config.memory = bytes;
        self
    }

    /// How long an application function may go on after its session's end. Default 10 s; then its task is aborted.
    pub fn function_grace(mut self, grace: Duration) -> Self {
        self.config.function_grace = grace;
        self
    }

    /// Called once for each session's end, with its reason. Must not block.
    pub fn on_end(mut self, hook: impl Fn(&SessionId, &EndReason) + Send + Sync + 'static) -> Self {
        self.on_end = Some(Box::new(hook));
        self
    }

    /// Tells who makes a request, usually by its login cookie; `None` is nobody. Must not block.
    ///
    /// Asked for every connection to a session of [`Hub::open_for`], at each reconnect anew: somebody else's is refused as `Forbidden`, and the
    /// session goes on without it. Without this hook such sessions can only be reached by routes that say themselves who it is.
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

    /// The runtime on which sessions live. Default: the one [`HubBuilder::build`] is called on.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The hub. Its sessions live on the runtime this is called on, whatever thread opens them later.
    ///
    /// # Panics
    /// When called outside a tokio runtime without [`HubBuilder::runtime`].
    pub fn build(self) -> Hub {
        let runtime = self.runtime.unwrap_or_else(Handle::current);
        let sweeper = Sweeper::new();
        let woken = sweeper.woken();
        let memory = Arc::new(Memory::new(self.config.memory, Arc::clone(&woken)));
        let inner = Arc::new_cyclic(|itself| HubInner {
            itself: Weak::clone(itself),
            base: self
                .config
                .public_url
                .clone()
                .unwrap_or_else(|| Arc::clone(&self.config.mount)),
            defaults: Arc::new(self.config.defaults.clone().normalised()),
            config: self.config,
            policy: Lock::new(self.policy),
            runtime: runtime.clone(),
            on_end: self.on_end,
            principal: self.principal,
            kinds: Kinds::default(),
            sessions: Lock::default(),
            hellos: PendingHellos::default(),
            connections_of: Arc::default(),
            sessions_of: Arc::default(),
            posts: Arc::default(),
            connections: TaskTracker::new(),
            exchanges: Arc::default(),
            memory,
            sweeper,
            warnings: Warnings::default(),
            told_uncounted: Once::new(),
            reach: Reach::default(),
            draining: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            evaluations: AtomicU64::new(0),
        });
        runtime.spawn(Sweeper::run(Arc::downgrade(&inner), woken));
        Hub { inner }
    }
}

pub(super) type EndHook = Box<dyn Fn(&SessionId, &EndReason) + Send + Sync>;

pub(super) type PrincipalHook = Box<dyn Fn(&SessionRequest<'_>) -> Option<String> + Send + Sync>;

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) mount: Arc<str>,
    pub(super) public_url: Option<Arc<str>>,
    pub(crate) origins: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(super) defaults: SessionOptions,
    pub(super) max_sessions: usize,
    pub(super) max_unconnected: usize,
    pub(super) max_hellos: usize,
    pub(super) address_share: Share,
    pub(super) principal_share: Share,
    pub(super) trusted_hops: usize,
    pub(super) memory: u64,
    pub(super) function_grace: Duration,
    pub(super) ended_kept: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mount: "/stillhere".into(),
            public_url: None,
            origins: Vec::new(),
            hosts: Vec::new(),
            defaults: SessionOptions::default(),
            max_sessions: 100_000,
            max_unconnected: 10_000,
            max_hellos: 10_000,
            address_share: Share::default(),
            principal_share: Share::default(),
            trusted_hops: 0,
            memory: 512 * 1024 * 1024,
            function_grace: Duration::from_secs(10),
            ended_kept: 100_000,
        }
    }
}
