//! The server's side of a session.

mod documents;
mod durable;
mod end;
mod frames;
mod time;

use std::time::Duration;

use crate::code::EndReason;
use crate::machine::tests::host::{Host, hello};
use crate::machine::{ConnectionKey, Event, Phase};
use crate::wire::Frame;

const HEARTBEAT: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(2);
const TEN_SECONDS: Duration = Duration::from_secs(10);

fn closed(text: &str) -> EndReason {
    EndReason::Closed(text.into())
}

/// Returns a session with document 1 that has lost its connection.
fn soft_closed() -> Host {
    let (mut host, key) = Host::open();
    host.close(key);
    host.events();
    host
}

/// Returns a session with document 1 connected while document 2 asks for the session, the keys of
/// both connections, and the nonce of the probe.
fn probed() -> (Host, ConnectionKey, ConnectionKey, u64) {
    let (mut host, incumbent) = Host::open();
    let newcomer = host.hello(&hello(2, 1));
    let nonce = host.ping(incumbent);
    (host, incumbent, newcomer, nonce)
}

/// Returns a session that document 2 has taken over from document 1.
fn restored() -> (Host, ConnectionKey) {
    let mut host = soft_closed();
    let key = host.hello(&hello(2, 1));
    host.frames(key);
    host.receive(key, Frame::Confirm);
    host.welcome(key);
    host.events();
    (host, key)
}

fn assert_ended(host: &mut Host, key: ConnectionKey, reason: &EndReason) {
    let Some(Frame::End(end)) = host.frames(key).pop() else {
        panic!("expected an end on the connection")
    };
    assert_eq!((end.code, end.reason), (reason.code() as u64, reason.number()));
    assert_eq!(host.phase(), &Phase::Closed(reason.clone()));
    assert_eq!(host.events().last(), Some(&Event::Ended(reason.clone())));
}
