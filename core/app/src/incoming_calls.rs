//! Calls of the page: those that run, and those that wait for one to end.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;

use crate::failure::FailureCode;
use crate::options::AppOptions;
use crate::shared::{CallHandler, ENTRY_CHARGE};
use crate::unit;
use crate::value::Value;

/// Returns the id of a call and the unit that answers it.
type Running = Pin<Box<dyn Future<Output = (u64, Vec<u8>)> + Send>>;

pub(crate) struct IncomingCalls {
    running: FuturesUnordered<Running>,
    aborts: HashMap<u64, AbortHandle>,
    waiting: VecDeque<(u64, CallHandler, Value)>,
    waiting_charge: usize,
    most_running: usize,
    most_waiting: usize,
    most_charge: usize,
}

impl IncomingCalls {
    pub(crate) fn new(options: &AppOptions) -> Self {
        Self {
            running: FuturesUnordered::new(),
            aborts: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_charge: 0,
            most_running: options.running_calls.max(1),
            most_waiting: options.waiting_calls,
            most_charge: options.unread,
        }
    }

    /// Runs a call, now or later.
    ///
    /// # Errors
    /// Returns the code with which it fails, or `None` if another call has its id.
    pub(crate) fn push(&mut self, id: u64, handler: CallHandler, value: Value) -> Result<(), Option<FailureCode>> {
        if self.aborts.contains_key(&id) || self.waiting.iter().any(|(other, ..)| *other == id) {
            return Err(None);
        }
        if self.aborts.len() < self.most_running {
            self.start(id, &handler, value);
            return Ok(());
        }
        let charge = ENTRY_CHARGE + value.size();
        let fits = self.waiting.is_empty() || self.waiting_charge + charge <= self.most_charge;
        if self.waiting.len() >= self.most_waiting || !fits {
            return Err(Some(FailureCode::Busy));
        }
        self.waiting_charge += charge;
        self.waiting.push_back((id, handler, value));
        Ok(())
    }

    /// Cancels a call: it is dropped, and [`IncomingCalls::next`] returns the failure.
    pub(crate) fn cancel(&mut self, id: u64) {
        if let Some(abort) = self.aborts.get(&id) {
            abort.abort();
        } else if let Some(at) = self.waiting.iter().position(|(other, ..)| *other == id)
            && let Some((_, _, value)) = self.waiting.remove(at)
        {
            self.waiting_charge -= ENTRY_CHARGE + value.size();
            self.running.push(Box::pin(async move { (id, cancelled(id)) }));
        }
    }

    /// Waits for the next answer. Returns `None` if no call runs. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        let (id, answer) = self.running.next().await?;
        if self.aborts.remove(&id).is_some()
            && let Some((id, handler, value)) = self.waiting.pop_front()
        {
            self.waiting_charge -= ENTRY_CHARGE + value.size();
            self.start(id, &handler, value);
        }
        Some(answer)
    }

    fn start(&mut self, id: u64, handler: &CallHandler, value: Value) {
        let (abort, registration) = AbortHandle::new_pair();
        let work = Abortable::new(handler(id, value), registration);
        self.aborts.insert(id, abort);
        self.running.push(Box::pin(async move {
            let answered = work.await;
            (id, answered.unwrap_or_else(|_| cancelled(id)))
        }));
    }
}

fn cancelled(id: u64) -> Vec<u8> {
    unit::failure(id, FailureCode::Cancelled, "")
}
