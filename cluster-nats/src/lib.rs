#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cluster;
mod directory;
mod hop;
mod links;
mod packets;
mod principals;
#[cfg(feature = "rooms")]
mod rooms;
mod servers;
mod store;

pub use cluster::{JoinClusterError, NatsCluster, NatsClusterOptions};
pub use principals::{NatsSessions, NatsSessionsOptions, Reached};
#[cfg(feature = "rooms")]
pub use rooms::{NatsRooms, NatsRoomsOptions, OrderError};
pub use servers::{Servers, ServersOptions};
pub use store::{NatsStore, NatsStoreOptions, OpenNatsStoreError};
