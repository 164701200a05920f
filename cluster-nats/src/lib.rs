#![doc = include_str!("../README.md")]

mod cluster;
mod directory;
mod hop;
mod links;
mod packets;
mod store;

pub use cluster::{JoinClusterError, NatsCluster, NatsClusterOptions};
pub use store::{NatsStore, NatsStoreOptions, OpenNatsStoreError};
