#![doc = include_str!("../README.md")]

mod cluster;
mod directory;
mod flow;
mod hop;
mod links;
mod packets;
mod principals;
mod rooms;
mod servers;
mod store;
mod users;

pub use cluster::{NatsCluster, NatsClusterOptions};
pub use principals::{NatsSessions, NatsSessionsOptions, Reached};
pub use rooms::{NatsRooms, NatsRoomsOptions, OrderError};
pub use servers::{Servers, ServersOptions};
pub use store::{NatsStore, NatsStoreOptions, OpenNatsStoreError};
