//! Durable sessions: pages whose server stops, is killed, and starts again on the same store.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod hand_over;
mod histories;
mod owners;

mod server;
mod turns;
