//! A call to the page, and its answer.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use stillhere::{SessionHandle, TrySendError};
use tokio::sync::oneshot;

use crate::call_error::CallError;
use crate::shared::{Answer, Pending, Shared};
use crate::unit::{self, Kind};

/// A call to the page that is about to be made: await it. Dropping it cancels the call, which the
/// page may have executed.
///
/// It waits as long as the session lives, also while no browser is connected, unless
/// [`Call::timeout`] bounds it. Over any number of lost connections it is executed once.
#[must_use = "a call is made when it is awaited"]
pub struct Call<A> {
    session: SessionHandle,
    shared: Arc<Shared>,
    id: u64,
    question: Result<Vec<u8>, CallError>,
    timeout: Option<Duration>,
    answer: PhantomData<fn() -> A>,
}

impl<A> std::fmt::Debug for Call<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut call = f.debug_struct("Call");
        call.field("id", &self.id).field("timeout", &self.timeout).finish()
    }
}

impl<A> Call<A> {
    pub(crate) fn new(
        session: SessionHandle,
        shared: Arc<Shared>,
        id: u64,
        question: Result<Vec<u8>, CallError>,
    ) -> Self {
        Self {
            session,
            shared,
            id,
            question,
            timeout: None,
            answer: PhantomData,
        }
    }

    /// Bounds the wait, from when the call is first awaited until it is answered. Default: no bound
    /// but the session's end.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }
}

impl<A: DeserializeOwned> IntoFuture for Call<A> {
    type Output = Result<A, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            session,
            shared,
            id,
            question,
            timeout,
            ..
        } = self;
        Box::pin(async move {
            let answered = ask(session, shared, id, question?);
            let value = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, answered)
                    .await
                    .unwrap_or(Err(CallError::TimedOut))?,
                None => answered.await?,
            };
            Ok(value.decode()?)
        })
    }
}

async fn ask(session: SessionHandle, shared: Arc<Shared>, id: u64, question: Vec<u8>) -> Answer {
    let (answer, receiver) = oneshot::channel();
    let mut waiting = Waiting::new(session, shared, id, Pending { answer, items: None })?;
    let mut receiver = std::pin::pin!(receiver);
    tokio::select! {
        biased;
        // It may fail before there is room for it.
        failed = receiver.as_mut() => return failed.unwrap_or(Err(CallError::SessionOver)),
        sent = waiting.session.send(question) => sent?,
    }
    waiting.is_sent = true;
    receiver.await.unwrap_or(Err(CallError::SessionOver))
}

/// A call that waits for its answer. If it is dropped before, the page is told to cancel it.
pub(crate) struct Waiting {
    pub(crate) session: SessionHandle,
    shared: Arc<Shared>,
    pub(crate) id: u64,
    pub(crate) is_sent: bool,
}

impl Waiting {
    pub(crate) fn new(
        session: SessionHandle,
        shared: Arc<Shared>,
        id: u64,
        pending: Pending,
    ) -> Result<Self, CallError> {
        {
            let mut state = shared.lock();
            if state.is_over {
                return Err(CallError::SessionOver);
            }
            if state.is_full(&shared.options) {
                return Err(CallError::Unread);
            }
            state.calls.insert(id, pending);
        }
        Ok(Self {
            session,
            shared,
            id,
            is_sent: false,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let is_given_up = self.shared.lock().calls.remove(&self.id).is_some() && self.is_sent;
        if !is_given_up {
            return;
        }
        let cancel = unit::begin_with(Kind::Cancel, self.id);
        if let Err(TrySendError::Full(_)) = self.session.try_send(cancel) {
            self.shared.lock().cancels.push(self.id);
            self.shared.work.notify_one();
        }
    }
}
