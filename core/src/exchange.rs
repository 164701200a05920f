//! What the HTTP requests of one connection share (the fallback).

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use crate::lock::Lock;
use crate::session::Shared;

/// Names a connection: 16 random bytes that the client draws for it and nobody else knows.
pub(crate) type Token = [u8; 16];

/// The connections over HTTP that are open.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(Lock<HashMap<Token, Arc<Exchange>>>);

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Whose connection it is; `None` if that has ended, and it is only to be told so.
    pub(crate) session: Option<Arc<Shared>>,
    pub(crate) down: Arc<Down>,
    up: Lock<Up>,
    /// For POSTs that are large: a client has one under way, and perhaps its repetition.
    pub(crate) large: Arc<Semaphore>,
}

#[derive(Debug)]
struct Up {
    /// The number of the last POST whose packets were taken.
    taken: u32,
    bodies: Sender<Bytes>,
}

impl Exchanges {
    /// Keeps the exchange for as long as what is returned lives; `None` if the token is not new.
    pub(crate) fn insert(self: &Arc<Self>, token: Token, exchange: &Arc<Exchange>) -> Option<Registration> {
        let mut exchanges = self.lock();
        if exchanges.contains_key(&token) {
            return None;
        }
        exchanges.insert(token, Arc::clone(exchange));
        Some(Registration {
            exchanges: Arc::clone(self),
            token,
        })
    }

    pub(crate) fn find(&self, token: &Token) -> Option<Arc<Exchange>> {
        self.lock().get(token).cloned()
    }

    fn remove(&self, token: &Token) {
        self.lock().remove(token);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Arc<Exchange>>> {
        self.0.lock()
    }
}

impl Exchange {
    pub(crate) fn new(session: Option<Arc<Shared>>, bodies: Sender<Bytes>) -> Self {
        Self {
            session,
            down: Arc::default(),
            up: Lock::new(Up { taken: 0, bodies }),
            large: Arc::new(Semaphore::new(2)),
        }
    }

    /// Takes the packets of the next POST, once there is room for them. Whether the connection goes
    /// on.
    ///
    /// A browser may send a POST twice: then its packets are dropped. If its answer had something
    /// to carry (`is_polled`), that may be lost, and the connection is over.
    pub(crate) async fn take(&self, number: u32, packets: Bytes, is_polled: bool) -> bool {
        let bodies = self.lock_up().bodies.clone();
        let Ok(room) = bodies.reserve().await else { return false };
        let mut up = self.lock_up();
        if number <= up.taken {
            return !is_polled;
        }
        // One is under way at a time, so no number is skipped.
        if number - 1 != up.taken {
            return false;
        }
        up.taken = number;
        room.send(packets);
        true
    }

    /// Ready when the connection is over, and takes no packets.
    pub(crate) async fn over(&self) {
        let bodies = self.lock_up().bodies.clone();
        bodies.closed().await;
    }

    fn lock_up(&self) -> MutexGuard<'_, Up> {
        self.up.lock()
    }
}

/// Keeps an exchange among those that POSTs find.
#[derive(Debug)]
pub(crate) struct Registration {
    exchanges: Arc<Exchanges>,
    token: Token,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.exchanges.remove(&self.token);
    }
}

/// A pipe of packets, each behind its length, from the session's end to whichever answer is there
/// to carry them.
#[derive(Debug, Default)]
pub(crate) struct Down(Lock<State>);

#[derive(Debug, Default)]
struct State {
    written: BytesMut,
    /// The session has no more to say.
    is_finished: bool,
    /// Nobody is there to hear it.
    is_gone: bool,
    answer: Option<Waker>,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

/// The client has dropped the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was dropped")]
pub(crate) struct Gone;

impl Down {
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let answer = {
            let mut state = self.lock();
            if state.is_gone {
                return Poll::Ready(Err(Gone));
            }
            if state.written.len() < ROOM {
                return Poll::Ready(Ok(()));
            }
            state.writer = Some(context.waker().clone());
            state.answer.take()
        };
        // What fills the room is not flushed yet.
        wake(answer);
        Poll::Pending
    }

    pub(crate) fn push(&self, packet: &[u8]) {
        let length = u32::try_from(packet.len()).expect("a packet is within its limit");
        let mut state = self.lock();
        state.written.extend_from_slice(&length.to_le_bytes());
        state.written.extend_from_slice(packet);
    }

    /// Ready once an answer has carried off all that was written.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let answer = {
            let mut state = self.lock();
            if state.written.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if state.is_gone {
                return Poll::Ready(Err(Gone));
            }
            state.writer = Some(context.waker().clone());
            state.answer.take()
        };
        wake(answer);
        Poll::Pending
    }

    /// The session has no more to say.
    pub(crate) fn finish(&self) {
        let answer = {
            let mut state = self.lock();
            state.is_finished = true;
            state.answer.take()
        };
        wake(answer);
    }

    /// Nobody is there to hear it.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut state = self.lock();
            state.is_gone = true;
            [state.writer.take(), state.reader.take(), state.answer.take()]
        };
        wakers.into_iter().for_each(wake);
    }

    pub(crate) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_gone {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// All that is written, or `None` when no more is to come.
    pub(crate) fn poll_chunk(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if !state.written.is_empty() {
            let chunk = std::mem::take(&mut state.written).freeze();
            let writer = state.writer.take();
            drop(state);
            wake(writer);
            return Poll::Ready(Some(chunk));
        }
        if state.is_finished || state.is_gone {
            return Poll::Ready(None);
        }
        state.answer = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// How much may be written before somebody takes it.
const ROOM: usize = 64 * 1024;
