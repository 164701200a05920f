//! A streamed answer of the page.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use stillhere::SessionHandle;
use tokio::sync::{mpsc, oneshot};

use crate::call::Waiting;
use crate::call_error::CallError;
use crate::shared::{Answer, Pending, Shared};
use crate::unit::{self, Kind};
use crate::value::Value;
use crate::varint;

/// The items of a page's answer, which come only as fast as they are taken. Dropping it cancels the
/// call.
///
/// The call is made by the first [`PageStream::next`]. The items go on over any number of lost
/// connections. A reload of the page ends them, as it does calls.
#[must_use = "the page is asked when the first item is"]
pub struct PageStream<T> {
    stage: Stage,
    /// Items taken since the page was last told.
    taken: u64,
    item: PhantomData<fn() -> T>,
}

enum Stage {
    Asking(SessionHandle, Arc<Shared>, u64, Result<Vec<u8>, CallError>),
    /// The question waits for room in the outbox.
    Sending(Running, stillhere::Message),
    Running(Running),
    Answered(Value),
    Over,
}

struct Running {
    items: mpsc::Receiver<Value>,
    answer: oneshot::Receiver<Answer>,
    call: Waiting,
}

impl<T> std::fmt::Debug for PageStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageStream").finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> PageStream<T> {
    pub(crate) fn new(
        session: SessionHandle,
        shared: Arc<Shared>,
        id: u64,
        question: Result<Vec<u8>, CallError>,
    ) -> Self {
        Self {
            stage: Stage::Asking(session, shared, id, question),
            taken: 0,
            item: PhantomData,
        }
    }

    /// Waits for the next item. Returns `None` when the page has answered, and after an error of
    /// the call. Cancel safe.
    ///
    /// # Errors
    /// Returns the errors of a [`Call`](crate::Call). [`CallError::UndecodableAnswer`] is about
    /// this item only; others may follow it.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        match self.next_value().await {
            Ok(value) => Some(value?.decode().map_err(CallError::from)),
            Err(error) => {
                self.stage = Stage::Over;
                Some(Err(error))
            }
        }
    }

    /// Returns the answer after the items. Items that were not taken are taken and dropped.
    ///
    /// # Errors
    /// Returns the errors of a [`Call`](crate::Call), and [`CallError::Cancelled`] if
    /// [`PageStream::next`] has returned the error already.
    pub async fn answer<A: DeserializeOwned>(mut self) -> Result<A, CallError> {
        while self.next_value().await?.is_some() {}
        match &self.stage {
            Stage::Answered(answer) => Ok(answer.decode()?),
            _ => Err(CallError::Cancelled),
        }
    }

    async fn next_value(&mut self) -> Result<Option<Value>, CallError> {
        self.start()?;
        if let Stage::Sending(running, question) = &mut self.stage {
            tokio::select! {
                biased;
                // It may fail before there is room for it.
                failed = &mut running.answer => return Err(ended(failed).err().unwrap_or(CallError::SessionOver)),
                sent = running.call.session.send(question.clone()) => sent?,
            }
            running.call.is_sent = true;
            let Stage::Sending(running, _) = std::mem::replace(&mut self.stage, Stage::Over) else {
                unreachable!("it was sending")
            };
            self.stage = Stage::Running(running);
        }
        let Stage::Running(running) = &mut self.stage else {
            return Ok(None);
        };
        if self.taken * 2 >= CREDIT {
            let mut more = unit::begin_with(Kind::More, running.call.id);
            varint::write(self.taken, &mut more);
            running.call.session.send(more).await?;
            self.taken = 0;
        }
        if let Some(item) = running.items.recv().await {
            self.taken += 1;
            return Ok(Some(item));
        }
        let answer = ended((&mut running.answer).await)?;
        self.stage = Stage::Answered(answer);
        Ok(None)
    }

    fn start(&mut self) -> Result<(), CallError> {
        if !matches!(self.stage, Stage::Asking(..)) {
            return Ok(());
        }
        let Stage::Asking(session, shared, id, question) = std::mem::replace(&mut self.stage, Stage::Over) else {
            unreachable!("it was asking")
        };
        let question = question?;
        let (sender, items) = mpsc::channel(CREDIT as usize);
        let (answer, receiver) = oneshot::channel();
        let pending = Pending {
            answer,
            items: Some(sender),
        };
        let call = Waiting::new(session, shared, id, pending)?;
        let running = Running {
            items,
            answer: receiver,
            call,
        };
        self.stage = Stage::Sending(running, question.into());
        Ok(())
    }
}

fn ended(answer: Result<Answer, oneshot::error::RecvError>) -> Answer {
    answer.unwrap_or(Err(CallError::SessionOver))
}

/// Items that may be on their way or wait to be taken.
pub(crate) const CREDIT: u64 = 16;
