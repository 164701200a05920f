//! Reads a session's messages and gives each to whom it is for, within the task of the session's
//! function.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use stillhere::Incoming;

use crate::call_error::CallError;
use crate::event_queue::{EventQueue, Handled};
use crate::failure::FailureCode;
use crate::handle::SessionHandle;
use crate::incoming_calls::IncomingCalls;
use crate::items::Credit;
use crate::newest::send_newest;
use crate::rooms;
use crate::shared::{Question, Received, Shared};
use crate::trouble::{PageError, PageErrorLimit, Trouble, TroubleLog};
use crate::unit::{self, Kind, Unit, UnitError};
use crate::value::Value;

/// Sends a unit that must not wait in the pump.
type Reply = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Pump {
    core: stillhere::Session,
    shared: Arc<Shared>,
    calls: IncomingCalls,
    events: EventQueue,
    replies: FuturesUnordered<Reply>,
    log: TroubleLog,
    page_errors: PageErrorLimit,
}

impl Pump {
    pub(crate) fn new(core: stillhere::Session, handle: &SessionHandle) -> Self {
        let shared = Arc::clone(&handle.shared);
        Self {
            core,
            calls: IncomingCalls::new(&shared.options),
            events: EventQueue::default(),
            replies: FuturesUnordered::new(),
            log: TroubleLog::default(),
            page_errors: PageErrorLimit::default(),
            shared,
        }
    }

    /// Runs until the session is over and everything received has been handed on.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            // A page that sends without pause must not keep the function from running.
            tokio::task::consume_budget().await;
            self.send_cancels();
            send_newest(&self.core, &shared);
            let reads = self.may_read();
            tokio::select! {
                biased;
                () = shared.work.notified() => {}
                Some(answer) = self.calls.next() => self.reply(answer),
                Some(()) = self.replies.next() => {}
                handled = self.events.next() => self.finish(handled),
                incoming = self.core.next(), if reads => match incoming {
                    None => break,
                    Some(Incoming::Message(message)) => self.dispatch(&message.into_bytes()),
                    Some(Incoming::Restored) => self.begin_document(),
                    Some(_) => {}
                }
            }
        }
        // What waits here cannot be answered, but events that have arrived are handled.
        shared.end_calls();
        while !self.events.is_empty() {
            let handled = self.events.next().await;
            self.finish(handled);
        }
    }

    fn finish(&mut self, handled: Handled) {
        self.shared.lock().unread_charge -= handled.charge;
        if let Some(trouble) = handled.trouble {
            self.report(&trouble);
        }
    }

    /// All that is read from now on comes from a new document.
    fn begin_document(&self) {
        self.shared.fail_calls(|| CallError::Replaced);
        let (observables, rooms): (Vec<_>, Vec<_>) = {
            let state = self.shared.lock();
            (
                state.observables.values().cloned().collect(),
                state.rooms.values().cloned().collect(),
            )
        };
        rooms.iter().for_each(|seated| seated.begin_document());
        for observed in observables {
            if observed.begin_document() {
                self.shared.queue(observed);
            }
        }
    }

    fn set(&mut self, name: &str, number: u64, value: &Value) {
        let observed = self.shared.lock().observables.get(name).cloned();
        let Some(observed) = observed else { return };
        match observed.receive(number, value) {
            Ok(false) => {}
            Ok(true) => self.shared.queue(observed),
            Err(error) => {
                self.shared.queue(observed);
                let name = name.to_owned();
                self.report(&Trouble::Set { name, error });
            }
        }
    }

    /// Returns true unless too much is unread. Then calls to the page fail, because their answers
    /// would wait behind what nobody reads.
    fn may_read(&self) -> bool {
        let is_full = {
            let state = &mut *self.shared.lock();
            let is_full = state.is_full(&self.shared.options);
            if is_full {
                state.cancels.extend(state.calls.keys());
            }
            is_full
        };
        if is_full {
            self.shared.fail_calls(|| CallError::Unread);
        }
        !is_full && self.replies.len() <= MOST_REPLIES
    }

    fn dispatch(&mut self, message: &Bytes) {
        match Unit::decode(message) {
            Ok(unit) => self.dispatch_unit(unit),
            Err(error) => self.report(&error.into()),
        }
    }

    fn dispatch_unit(&mut self, unit: Unit<'_>) {
        match unit {
            Unit::Bytes(bytes) => self.shared.keep(Received::Bytes(bytes)),
            Unit::Text(text) => self.shared.keep(Received::Text(text.to_owned())),
            Unit::Message(value) => self.shared.keep(Received::Value(value)),
            Unit::Event { name, value } => self.event(name, value),
            Unit::Call {
                id,
                credit,
                name,
                value,
            } => {
                let credit = Credit::new(credit);
                self.call(name, Question { id, value, credit });
            }
            Unit::Answer { id, value } => self.answer(id, Ok(value)),
            Unit::Failure { id, code, text } => self.answer(id, Err(CallError::from_page(code, text))),
            Unit::Cancel { id } => self.calls.cancel(id),
            Unit::Error(value) => self.page_error(&value),
            Unit::Set { name, number, value } => self.set(name, number, &value),
            Unit::More { id, count } => self.calls.add_credit(id, count),
            Unit::Item { id, value } => self.shared.item(id, value),
            Unit::Room { room, action, value } => {
                let answer = rooms::receive(&self.handle(), room, action, &value);
                answer.into_iter().for_each(|unit| self.reply(unit));
            }
            Unit::RoomEvent {
                room,
                member,
                name,
                value,
            } => {
                if let Err(trouble) = rooms::receive_event(&self.handle(), room, member, name, value.unit()) {
                    self.report(&trouble);
                }
            }
        }
    }

    fn page_error(&mut self, value: &Value) {
        if !self.page_errors.takes(value.size()) {
            return tracing::debug!(session = %self.core.id(), "ignored an error of a page that reports too many");
        }
        match value.decode::<PageError>() {
            Ok(mut error) => {
                error.clip();
                self.report(&Trouble::Page(error));
            }
            Err(_) => self.report(&UnitError::BadText.into()),
        }
    }

    fn handle(&self) -> SessionHandle {
        SessionHandle {
            core: self.core.handle(),
            shared: Arc::clone(&self.shared),
        }
    }

    fn event(&mut self, name: &str, value: Value) {
        let handler = self.shared.lock().event_handlers.get(name).cloned();
        match handler {
            Some(handler) => {
                let charge = self.events.push(name, handler, value);
                self.shared.lock().unread_charge += charge;
            }
            None => tracing::debug!(session = %self.core.id(), name, "ignored an event without a handler"),
        }
    }

    fn call(&mut self, name: &str, question: Question) {
        let id = question.id;
        let handler = self.shared.lock().call_handlers.get(name).cloned();
        let pushed = match handler {
            Some(handler) => self.calls.push(handler, question),
            None => Err(Some(FailureCode::Missing)),
        };
        match pushed {
            Ok(()) => {}
            Err(Some(code)) => self.reply(unit::failure(id, code, "")),
            Err(None) => self.report(&Trouble::DuplicateCall),
        }
    }

    fn answer(&self, id: u64, answer: crate::shared::Answer) {
        let call = self.shared.lock().calls.remove(&id);
        if let Some(call) = call {
            let _ = call.answer.send(answer);
        }
    }

    fn send_cancels(&mut self) {
        let cancels = std::mem::take(&mut self.shared.lock().cancels);
        for id in cancels {
            self.reply(unit::begin_with(Kind::Cancel, id));
        }
    }

    /// Sends a unit at once or, if the outbox is full, when there is room.
    fn reply(&self, unit: Vec<u8>) {
        use stillhere::TrySendError;
        match self.core.try_send(unit) {
            Ok(()) | Err(TrySendError::Ended { .. }) => {}
            Err(TrySendError::Full(message)) => {
                let session = self.core.handle();
                self.replies.push(Box::pin(async move {
                    let _ = session.send(message).await;
                }));
            }
            Err(TrySendError::TooLarge { message, .. }) => {
                if let Ok(Unit::Answer { id, .. }) = Unit::decode(&message.into_bytes()) {
                    self.reply(unit::failure(id, FailureCode::Failed, "the answer is too large"));
                }
            }
            Err(_) => {}
        }
    }

    fn report(&mut self, trouble: &Trouble) {
        self.log.log(self.core.id(), trouble);
        let hook = self.shared.lock().trouble_hook.clone();
        if let Some(hook) = hook {
            let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(trouble)));
            if called.is_err() {
                tracing::error!(session = %self.core.id(), "the function that learns of troubles panicked");
            }
        }
    }
}

/// So many answers may wait for room in the outbox before nothing more is read from the page.
const MOST_REPLIES: usize = 64;
