//! Events that wait for their handlers, which run one after another.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::shared::{ENTRY_CHARGE, EventHandler, EventWork};
use crate::trouble::Trouble;
use crate::value::Value;

#[derive(Default)]
pub(crate) struct EventQueue {
    waiting: VecDeque<Event>,
    /// The handler of the first event, once it runs.
    work: Option<EventWork>,
}

struct Event {
    name: Box<str>,
    handler: EventHandler,
    value: Value,
    charge: usize,
}

/// An event whose handler has returned.
pub(crate) struct Handled {
    pub(crate) charge: usize,
    pub(crate) trouble: Option<Trouble>,
}

impl EventQueue {
    /// Adds an event, and returns what it counts as unread.
    pub(crate) fn push(&mut self, name: &str, handler: EventHandler, value: Value) -> usize {
        let charge = ENTRY_CHARGE + value.size();
        self.waiting.push_back(Event {
            name: name.into(),
            handler,
            value,
            charge,
        });
        charge
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits until the next event has been handled, or for ever if there is none. Cancel safe.
    pub(crate) async fn next(&mut self) -> Handled {
        let Some(first) = self.waiting.front() else {
            return std::future::pending().await;
        };
        let work = self.work.get_or_insert_with(|| (first.handler)(first.value.clone()));
        let done = AssertUnwindSafe(work).catch_unwind().await;
        self.work = None;
        let event = self.waiting.pop_front().expect("the event was first");
        let name = || event.name.to_string();
        let trouble = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Trouble::Event { name: name(), error }),
            Err(_) => Some(Trouble::EventPanicked(name())),
        };
        Handled {
            charge: event.charge,
            trouble,
        }
    }
}
