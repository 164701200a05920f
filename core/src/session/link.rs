//! The connections of a session: each registers, exchanges frames with the machine, and leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use smallvec::SmallVec;

use crate::session::host::Home;
use crate::session::shared::{Shared, Touched};
use crate::session::state::{Inner, Link};
use stillhere_proto::machine::{ConnectionKey, SessionMachine};
use stillhere_proto::wire::{End, Frame, Hello, millis};

/// Frames for a connection to write together.
pub(crate) type Batch = SmallVec<[Frame; 16]>;

/// What a connection does after it has written a batch of frames.
pub(crate) enum Next {
    /// Fetches more frames.
    More,
    /// Waits until something changes, or until this time.
    Pause { until: Option<Instant> },
    /// Writes this end. The batch before it contains at most an acknowledgement.
    End(End),
    /// The connection no longer has a part in the session.
    Over,
}

impl Shared {
    /// Adds a connection. `waker` is woken when it may have something to write.
    pub(crate) fn register(&self, waker: Arc<AtomicWaker>) -> ConnectionKey {
        let mut inner = self.lock();
        let key = ConnectionKey(inner.next_connection.into());
        inner.next_connection = inner.next_connection.wrapping_add(1);
        let others = std::mem::take(&mut inner.connections);
        let link = Link {
            key,
            waker,
            is_awake: true,
        };
        inner.connections = others.into_iter().chain([link]).collect();
        key
    }

    /// Removes a connection and reports its end to the machine.
    pub(crate) fn unregister(self: &Arc<Self>, key: ConnectionKey) {
        self.change(|inner, now| {
            let connections = std::mem::take(&mut inner.connections);
            inner.connections = connections.into_iter().filter(|link| link.key != key).collect();
            inner.machine.handle_closed(key, now);
        });
    }

    /// Handles the first frame of a connection. A function that starts runs in this home.
    pub(crate) fn handle_hello(self: &Arc<Self>, key: ConnectionKey, hello: &Hello, home: Home) {
        let keep = self.keep();
        if self.lock().takes_hello() {
            self.start_again(home);
        }
        self.touch_at(home, |inner| {
            if inner.takes_hello() {
                inner.machine.handle_hello(key, hello, keep, crate::clock::now());
            }
            ((), Touched::Machine { awake: None })
        });
    }

    /// Does the same as [`Shared::update`], but does not wake the connection `key`: the caller is
    /// that connection and polls the machine afterwards.
    pub(crate) fn update_from(self: &Arc<Self>, key: ConnectionKey, change: impl FnOnce(&mut SessionMachine, Instant)) {
        self.touch(|inner| {
            change(&mut inner.machine, crate::clock::now());
            ((), Touched::Machine { awake: Some(key) })
        });
    }

    /// Takes the next frames that the connection should write out of the machine. This affects
    /// nobody but this connection.
    pub(crate) fn poll_transmit(&self, key: ConnectionKey, now: Instant, batch: &mut Batch) -> Next {
        self.lock().poll_transmit(key, now, batch)
    }

    /// Does the same for a connection that accepts no data at present. It only learns why it ends.
    pub(crate) fn poll_blocked(&self, key: ConnectionKey, now: Instant, batch: &mut Batch) -> Next {
        let mut inner = self.lock();
        if inner.machine.is_departing(key) {
            inner.poll_transmit(key, now, batch)
        } else {
            inner.pause(key)
        }
    }

    /// Returns how long the session is kept without a connection, in milliseconds, as browsers are
    /// told.
    pub(super) fn keep(&self) -> u64 {
        let host = self.common.host.upgrade();
        host.map_or(0, |host| millis(host.keep(&self.snapshot())))
    }

    /// Returns how long a connection may take to send its hello.
    pub(crate) fn hello_deadline(&self) -> Duration {
        self.options.timing.hello
    }
}

impl Inner {
    fn poll_transmit(&mut self, key: ConnectionKey, now: Instant, batch: &mut Batch) -> Next {
        let mut size = 0;
        while size <= BATCH {
            match self.machine.poll_transmit(key, now) {
                Some(Frame::End(end)) => return Next::End(end),
                Some(frame @ Frame::Ack(_)) if size >= LARGE => batch.insert(start_of_data(batch), frame),
                Some(frame) => {
                    size += size_of(&frame);
                    batch.push(frame);
                }
                None if self.queue_latest(key) => {}
                None if self.machine.is_known(key) => return self.pause(key),
                None => return Next::Over,
            }
        }
        Next::More
    }

    /// Lets a connection wait.
    fn pause(&mut self, key: ConnectionKey) -> Next {
        self.note_waiting(key);
        Next::Pause {
            until: self.machine.poll_timeout(),
        }
    }
}

/// Returns the index at which the data at the end of the batch begins.
fn start_of_data(batch: &[Frame]) -> usize {
    let is_data = |frame: &&Frame| matches!(frame, Frame::Data(_));
    batch.len() - batch.iter().rev().take_while(is_data).count()
}

/// Bytes from which an acknowledgement goes before the data that it rides with. A transport writes
/// large data at once, and an acknowledgement behind it would cost a write of its own.
const LARGE: usize = 8 * 1024;

/// Returns the memory that a frame takes, without that of its message's owner.
fn size_of(frame: &Frame) -> usize {
    match frame {
        Frame::Data(data) => std::mem::size_of::<Frame>() + data.payload.len(),
        _ => std::mem::size_of::<Frame>(),
    }
}

/// Bytes after which a batch is large enough: one of the largest fragments.
const BATCH: usize = 64 * 1024;
