#![doc = include_str!("../README.md")]

mod cluster;
mod directory;
mod hop;
mod links;
mod packets;

pub use cluster::{JoinClusterError, NatsCluster, NatsClusterOptions};
