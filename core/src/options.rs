//! What one session may differ in from its hub's defaults.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;
use crate::machine::Timing;

/// What one session may differ in from its hub's defaults.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Sizes. See [`Limits`] for the defaults.
    pub limits: Limits,
    /// Waits. See [`Timing`] for the defaults.
    pub timing: Timing,
    /// Keep the session over a reload of its page, under this label. `None` (the default): a reload gets a fresh session.
    pub restore: Option<String>,
    /// Compress messages of at least this many bytes, when that saves something. `None` (the default): never.
    pub compress_from: Option<usize>,
    /// Whose session it is. Only connections of this user are let in, each time anew; see [`HubBuilder::principal`](crate::HubBuilder::principal).
    /// `None` (the default): whoever has the ticket.
    pub principal: Option<Arc<str>>,
}

impl SessionOptions {
    /// The same options with what would lead to overflow or to a busy loop brought back to sense.
    pub(crate) fn normalised(mut self) -> Self {
        self.limits = self.limits.normalised();
        let Timing {
            heartbeat,
            probe,
            hello,
            ending,
        } = self.timing;
        self.timing = Timing {
            heartbeat: heartbeat.clamp(SHORTEST_HEARTBEAT, LONGEST_WAIT),
            probe: probe.map(|probe| probe.min(LONGEST_WAIT)),
            hello: hello.min(LONGEST_WAIT),
            ending: ending.min(LONGEST_WAIT),
        };
        self
    }
}

/// As good as for ever, and can be added to any time without overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(1);
