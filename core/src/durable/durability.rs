//! Which stops of the process a session survives.

use serde::{Deserialize, Serialize};

/// Which stops of its process a session survives: with its state, and with every message in both
/// directions exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Durability {
    /// The session survives [`Hub::shutdown`](crate::Hub::shutdown). It is kept in memory and
    /// written then. After a crash its page is told that the session is unknown.
    Restart,
    /// The session also survives that its process is killed at any moment. Each turn is written
    /// before anybody sees what it has sent.
    Crash,
}
