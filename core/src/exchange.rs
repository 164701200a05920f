//! The state that the HTTP requests of one fallback connection share.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use crate::lock::Lock;
use crate::session::Shared;

/// Identifies a connection: 16 random bytes that the client generates and nobody else knows.
pub(crate) type Token = [u8; 16];

/// The open connections over HTTP, by token.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(Lock<HashMap<Token, Arc<Exchange>>>);

/// The state that the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) leads_to: LeadsTo,
    pub(crate) down: Arc<Down>,
    up: Lock<Up>,
    /// Limits large POSTs to two: the one that a client sends, and perhaps its repetition.
    pub(crate) large: Arc<Semaphore>,
}

/// Where the packets of an exchange go.
#[derive(Debug, Clone)]
pub(crate) enum LeadsTo {
    Session(Arc<Shared>),
    /// To a session that is looked for as soon as the hello has arrived.
    #[cfg(feature = "durable")]
    Elsewhere,
    /// To a session that has ended: the client is only told why.
    Nowhere,
}

#[derive(Debug)]
struct Up {
    /// The number of the last POST whose packets were taken.
    taken: u32,
    bodies: Sender<Bytes>,
}

impl Exchanges {
    /// Keeps the exchange until the returned registration is dropped. Returns `None` if the token
    /// is already in use.
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
    pub(crate) fn new(leads_to: LeadsTo, bodies: Sender<Bytes>) -> Self {
        Self {
            leads_to,
            down: Arc::default(),
            up: Lock::new(Up { taken: 0, bodies }),
            large: Arc::new(Semaphore::new(2)),
        }
    }

    /// Takes the packets of the next POST as soon as there is room for them. Returns false if the
    /// connection has ended.
    ///
    /// A browser may send a POST twice. The packets of the second one are dropped. If the answer to
    /// the first carried packets (`is_polled`), they may be lost, so the connection ends.
    pub(crate) async fn take(&self, number: u32, packets: Bytes, is_polled: bool) -> bool {
        let bodies = self.lock_up().bodies.clone();
        let Ok(room) = bodies.reserve().await else { return false };
        let mut up = self.lock_up();
        if number <= up.taken {
            return !is_polled;
        }
        // A client sends one POST at a time, so it skips no number.
        if number - 1 != up.taken {
            return false;
        }
        up.taken = number;
        room.send(packets);
        true
    }

    /// Completes when the connection has ended and accepts no more packets.
    pub(crate) async fn over(&self) {
        let bodies = self.lock_up().bodies.clone();
        bodies.closed().await;
    }

    fn lock_up(&self) -> MutexGuard<'_, Up> {
        self.up.lock()
    }
}

/// Keeps an exchange registered, so that POSTs find it by its token.
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

/// A pipe of packets, each preceded by its length, from the session to the answers that carry them.
#[derive(Debug, Default)]
pub(crate) struct Down(Lock<State>);

#[derive(Debug, Default)]
struct State {
    written: BytesMut,
    /// True once the session writes no more.
    is_finished: bool,
    /// True once the client has stopped reading.
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
        // The pipe is full, so the answer must take its content before a flush.
        wake(answer);
        Poll::Pending
    }

    pub(crate) fn push(&self, packet: &[u8]) {
        let length = u32::try_from(packet.len()).expect("a packet is within its limit");
        let mut state = self.lock();
        state.written.extend_from_slice(&length.to_le_bytes());
        state.written.extend_from_slice(packet);
    }

    /// Completes as soon as an answer has taken everything that was written.
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

    /// Ends the pipe, because the session writes no more.
    pub(crate) fn finish(&self) {
        let answer = {
            let mut state = self.lock();
            state.is_finished = true;
            state.answer.take()
        };
        wake(answer);
    }

    /// Closes the pipe, because the client has stopped reading.
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

    /// Returns everything that was written, or `None` at the end.
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

/// Number of bytes in the pipe from which the session waits.
const ROOM: usize = 64 * 1024;
