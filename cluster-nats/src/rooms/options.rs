//! Options of rooms over several servers.

use std::time::Duration;

/// Options of [`NatsRooms`](super::NatsRooms). The first four must be the same on all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsRoomsOptions {
    /// Begins all subjects, and names the JetStream stream, with `_` for each dot. Applications
    /// that share a NATS account need one each, and so do several hubs of one application. Default
    /// `stillhere.rooms`.
    pub prefix: String,
    /// How long NATS keeps what happens, for a server that was out of reach. A server that was out
    /// of reach for more than half of it misses events, and tells its pages how many. At least 10
    /// seconds. Default 60 seconds.
    pub kept_for: Duration,
    /// Most bytes that NATS keeps, in memory. Default 256 MiB.
    pub kept_bytes: u64,
    /// On how many servers of a NATS cluster they are kept, 1 to 5. Default 1.
    pub replicas: usize,
    /// Most that waits for NATS in each room, as a count. Default 1,024.
    pub waiting: usize,
    /// Most bytes that wait for NATS in each room. Default 4 MiB.
    pub waiting_bytes: usize,
    /// Most bytes that wait for NATS in all rooms together. Default 64 MiB.
    pub all_waiting_bytes: usize,
}

impl Default for NatsRoomsOptions {
    fn default() -> Self {
        Self {
            prefix: "stillhere.rooms".into(),
            kept_for: Duration::from_secs(60),
            kept_bytes: 256 * 1024 * 1024,
            replicas: 1,
            waiting: 1024,
            waiting_bytes: 4 * 1024 * 1024,
            all_waiting_bytes: 64 * 1024 * 1024,
        }
    }
}
