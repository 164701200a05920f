//! The connections of a session: each registers, exchanges frames with the machine, and leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection_waker::ConnectionWaker;
use crate::session::batch::Batch;
use crate::session::host::Home;
use crate::session::shared::{Shared, Touched};
use crate::session::state::{Inner, Link};
use stillhere_proto::machine::{ConnectionKey, SessionMachine, Transmit};
use stillhere_proto::wire::{End, Frame, Hello, millis};

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
    pub(crate) fn register(&self, waker: Arc<ConnectionWaker>) -> ConnectionKey {
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
        let expected = self.machine.unsent();
        while !batch.is_full() {
            let Some(next) = self.machine.poll_transmit_ref(key, now) else {
                if self.queue_latest(key) {
                    continue;
                }
                return match self.machine.is_known(key) {
                    true => self.pause(key),
                    false => Next::Over,
                };
            };
            match next {
                Transmit::Frame(Frame::End(end)) => return Next::End(end),
                Transmit::Frame(frame) => batch.push(&frame),
                Transmit::Data(data) => {
                    batch.push_data(data, expected);
                    while !batch.is_full()
                        && let Some(data) = self.machine.poll_more_data()
                    {
                        batch.push_data(data, expected);
                    }
                }
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
