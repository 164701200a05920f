//! The settings of a hub.

use std::sync::Arc;
use std::time::Duration;

use crate::options::SessionOptions;
use crate::peer::Share;
use crate::request::SessionRequest;
use stillhere_proto::{EndReason, SessionId};

/// Called once for each session after its end.
pub(super) type EndHook = Box<dyn Fn(&SessionId, &EndReason) + Send + Sync>;

/// Returns the user who makes a request.
pub(super) type PrincipalHook = Box<dyn Fn(&SessionRequest<'_>) -> Option<String> + Send + Sync>;

/// The values that [`HubBuilder`](crate::HubBuilder) sets.
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
