//! Calls of the page: those that run, and those that wait for one to end.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;

use crate::failure::FailureCode;
use crate::items::Credit;
use crate::options::AppOptions;
use crate::shared::{CallHandler, ENTRY_CHARGE, Question};
use crate::unit;

/// Returns the id of a call and the unit that answers it.
type Running = Pin<Box<dyn Future<Output = (u64, Vec<u8>)> + Send>>;

pub(crate) struct IncomingCalls {
    running: FuturesUnordered<Running>,
    /// How to abort each running call, and the credit of its stream.
    aborts: HashMap<u64, (AbortHandle, Option<Credit>)>,
    waiting: VecDeque<(CallHandler, Question)>,
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
    pub(crate) fn push(&mut self, handler: CallHandler, question: Question) -> Result<(), Option<FailureCode>> {
        let id = question.id;
        if self.aborts.contains_key(&id) || self.waiting.iter().any(|(_, other)| other.id == id) {
            return Err(None);
        }
        if self.aborts.len() < self.most_running {
            self.start(&handler, question);
            return Ok(());
        }
        let charge = charge(&question);
        let fits = self.waiting.is_empty() || self.waiting_charge + charge <= self.most_charge;
        if self.waiting.len() >= self.most_waiting || !fits {
            return Err(Some(FailureCode::Busy));
        }
        self.waiting_charge += charge;
        self.waiting.push_back((handler, question));
        Ok(())
    }

    /// Cancels a call: it is dropped, and [`IncomingCalls::next`] returns the failure.
    pub(crate) fn cancel(&mut self, id: u64) {
        if let Some((abort, _)) = self.aborts.get(&id) {
            abort.abort();
        } else if let Some(at) = self.waiting.iter().position(|(_, other)| other.id == id)
            && let Some((_, question)) = self.waiting.remove(at)
        {
            self.waiting_charge -= charge(&question);
            self.running.push(Box::pin(async move { (id, cancelled(id)) }));
        }
    }

    /// Lets the handler of a call send more items of its stream.
    pub(crate) fn add_credit(&self, id: u64, count: u64) {
        let running = self.aborts.get(&id).and_then(|(_, credit)| credit.as_ref());
        let waiting = self.waiting.iter().find(|(_, question)| question.id == id);
        let waiting = waiting.and_then(|(_, question)| question.credit.as_ref());
        if let Some(credit) = running.or(waiting) {
            credit.add(count);
        }
    }

    /// Waits for the next answer. Returns `None` if no call runs. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        let (id, answer) = self.running.next().await?;
        if self.aborts.remove(&id).is_some()
            && let Some((handler, question)) = self.waiting.pop_front()
        {
            self.waiting_charge -= charge(&question);
            self.start(&handler, question);
        }
        Some(answer)
    }

    fn start(&mut self, handler: &CallHandler, question: Question) {
        let id = question.id;
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(id, (abort, question.credit.clone()));
        let work = Abortable::new(handler(question), registration);
        self.running.push(Box::pin(async move {
            let answered = work.await;
            (id, answered.unwrap_or_else(|_| cancelled(id)))
        }));
    }
}

fn charge(question: &Question) -> usize {
    ENTRY_CHARGE + question.value.size()
}

fn cancelled(id: u64) -> Vec<u8> {
    unit::failure(id, FailureCode::Cancelled, "")
}
