//! Durable sessions on a real server of NATS.

#[path = "../../../core/tests/support/store_contract.rs"]
mod store_contract;
#[path = "../support/mod.rs"]
mod support;

mod contract;
mod damage;
mod expiry;
mod hubs;
mod outages;
mod proxy;

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Stream};
use bytes::Bytes;
use stillhere::SessionId;
use stillhere::durable::{Commit, Record, Store as _};
use stillhere::machine::{Row, Taken};
use stillhere_nats::{NatsStore, NatsStoreOptions};
use support::NatsServer;

const STREAM: &str = "stillhere_sessions";

async fn client(server: &NatsServer) -> Client {
    let options = async_nats::ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(10));
    options.connect(server.url()).await.expect("the server is there")
}

async fn open(server: &NatsServer) -> NatsStore {
    open_with(server, NatsStoreOptions::default()).await
}

async fn open_with(server: &NatsServer, options: NatsStoreOptions) -> NatsStore {
    let opened = NatsStore::new(client(server).await, options).await;
    opened.expect("the store opens")
}

/// Returns the stream, to look at what a store does with it.
async fn stream(server: &NatsServer) -> Stream {
    let context = async_nats::jetstream::new(client(server).await);
    context.get_stream(STREAM).await.expect("there is a stream")
}

/// Creates the stream with other limits than a store would.
async fn create_stream(server: &NatsServer, change: impl FnOnce(&mut Config)) {
    let mut config = Config {
        name: STREAM.to_owned(),
        subjects: vec!["stillhere.sessions.>".to_owned()],
        discard: DiscardPolicy::New,
        allow_rollup: true,
        ..Config::default()
    };
    change(&mut config);
    let context = async_nats::jetstream::new(client(server).await);
    context.create_stream(config).await.expect("the stream is created");
}

/// Returns the sequences and the payloads' sizes of a session's messages.
async fn messages(stream: &Stream, id: SessionId) -> Vec<(u64, usize)> {
    let (mut found, mut from) = (Vec::new(), 1);
    let subject = format!("stillhere.sessions.{id}");
    while let Ok(message) = {
        let request = stream.raw_message_builder().sequence(from);
        request.next_by_subject(subject.as_str()).send().await
    } {
        from = message.sequence + 1;
        found.push((message.sequence, message.payload.len()));
    }
    found
}

async fn load(store: &NatsStore, id: SessionId) -> Record {
    let loaded = store.load(id).await.expect("it can be read");
    loaded.expect("it is there")
}

/// Returns `length` bytes that say where they are from.
fn filled(length: usize, seed: u64) -> Bytes {
    let bytes = (0..length as u64).map(|at| (at.wrapping_mul(31).wrapping_add(seed.wrapping_mul(17)) % 251) as u8);
    bytes.collect::<Vec<_>>().into()
}

fn large_row(sequence: u64, length: usize) -> Row {
    Row {
        before: Taken {
            sequence: sequence - 1,
            charge: 7 * sequence,
        },
        last: sequence,
        compressed: false,
        payload: filled(length, sequence),
    }
}

/// Returns a commit that adds one message.
fn adding(id: SessionId, replaces: u64, row: Row) -> Commit {
    let head = store_contract::head(&format!("up to {}", row.last));
    let mut commit = Commit::new(id, replaces, head, store_contract::HOUR);
    commit.rows.interactive = vec![row];
    commit
}
