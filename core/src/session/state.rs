//! What a session's lock guards.

use std::sync::Arc;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::cleanup::SessionState;
use crate::gate::Gate;
use crate::memory::Account;
use crate::session::restore::RestoreFunction;
use crate::session::shared::Application;
use stillhere_proto::EndReason;
use stillhere_proto::Lane;
use stillhere_proto::machine::{ConnectionKey, Event, Phase, SessionMachine};

pub(crate) struct Inner {
    pub(crate) machine: SessionMachine,
    /// The machine's version when the hub was last told.
    pub(crate) version: u64,
    pub(crate) function: Function,
    /// Nobody will read what is received.
    pub(crate) reader_is_gone: bool,
    pub(crate) connections: Vec<(ConnectionKey, Arc<AtomicWaker>)>,
    pub(crate) next_connection: u64,
    pub(crate) events: Option<broadcast::Sender<Event>>,
    pub(crate) on_restore: Option<RestoreFunction>,
    /// There while a restore function runs.
    pub(crate) gate: Option<Box<Gate>>,
    /// Messages that were still behind the gate at the end.
    pub(crate) undelivered: usize,
    pub(crate) account: Account,
    /// Bytes held for this session outside its machine: see [`Beside`](crate::session::Beside).
    pub(crate) beside: u64,
    /// As the application declared it.
    pub(crate) weight: u64,
    /// How often that has changed.
    pub(crate) weighings: u64,
    /// When the sweeper looks at this session next.
    pub(crate) scheduled: Option<Instant>,
    /// The sweeper looks at it soon.
    pub(crate) called_up: bool,
}

/// The application function of a session.
pub(crate) enum Function {
    /// Waits for the first browser.
    Unstarted(Application),
    /// Is about to be spawned.
    Starting,
    Running(AbortHandle),
    Returned,
}

/// What a change of a machine leads to outside the lock.
pub(crate) enum Effect {
    Start(Application),
    Restore(RestoreFunction, u64),
    Changed,
    Ended(Teardown),
}

/// What the hub needs to know of a session that has ended.
pub(crate) struct Teardown {
    pub(crate) reason: EndReason,
    /// Its function, if no browser ever came: to be dropped, and not under the lock.
    pub(crate) never_started: Option<Application>,
    pub(crate) task: Option<AbortHandle>,
    pub(crate) on_restore: Option<RestoreFunction>,
}

impl Inner {
    /// Grows with everything that a policy's decision may rest on, but not with what is buffered.
    pub(crate) fn version(&self) -> u64 {
        self.machine.version() + self.weighings
    }

    pub(crate) fn is_soft_closed(&self) -> bool {
        state_of(&self.machine).is_soft_closed()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.machine.phase(), Phase::Closed(_))
    }

    pub(crate) fn is_ending_or_over(&self) -> bool {
        matches!(self.machine.phase(), Phase::Ending(_) | Phase::Closed(_))
    }

    pub(crate) fn effect_of(&mut self, event: &Event) -> Option<Effect> {
        match event {
            // One that was closed before its browser came has no more use for its function.
            Event::Opened if matches!(self.machine.phase(), Phase::Open) => {
                match std::mem::replace(&mut self.function, Function::Starting) {
                    Function::Unstarted(application) => Some(Effect::Start(application)),
                    Function::Starting | Function::Running(_) | Function::Returned => None,
                }
            }
            Event::Restored { incarnation } => self.begin_restore(*incarnation),
            Event::Ended(reason) => Some(Effect::Ended(self.teardown(reason.clone()))),
            _ => None,
        }
    }

    /// From here to the return of the restore function nothing else is sent to this document, and nothing of it is read.
    pub(crate) fn begin_restore(&mut self, incarnation: u64) -> Option<Effect> {
        let restore = self.on_restore.clone()?;
        self.gate = Some(Box::new(Gate::new(incarnation)));
        Some(Effect::Restore(restore, incarnation))
    }

    pub(crate) fn teardown(&mut self, reason: EndReason) -> Teardown {
        self.undelivered = self.gate.take().map_or(0, |gate| gate.len());
        let (never_started, task) = match std::mem::replace(&mut self.function, Function::Returned) {
            Function::Unstarted(application) => (Some(application), None),
            Function::Running(task) => (None, Some(task)),
            function @ (Function::Starting | Function::Returned) => {
                self.function = function;
                (None, None)
            }
        };
        self.reader_is_gone |= never_started.is_some();
        Teardown {
            reason,
            never_started,
            task,
            on_restore: self.on_restore.take(),
        }
    }

    /// Under the lock, so that the events keep their order.
    pub(crate) fn publish(&mut self, event: Event) {
        let is_last = matches!(event, Event::Ended(_));
        if let Some(events) = &self.events {
            // Nobody listening any more is no error.
            let _ = events.send(event);
        }
        if is_last {
            self.events = None;
        }
    }

    pub(crate) fn close(&mut self, reason: EndReason, now: Instant) {
        self.empty_gate();
        self.machine.close(reason, now);
    }

    /// Lets what waits behind the gate follow. Where nothing more can be sent it would otherwise be lost.
    pub(crate) fn empty_gate(&mut self) {
        if self.is_ending_or_over() {
            return;
        }
        let queued = self.gate.as_mut().map(|gate| gate.take()).unwrap_or_default();
        for (lane, message) in queued {
            self.machine.send(lane, message);
        }
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        let queued = self.gate.as_ref().map_or(self.undelivered, |gate| gate.len());
        self.machine.unacknowledged() + queued
    }

    /// Everything that is held in either direction.
    pub(crate) fn buffered(&self) -> u64 {
        let machine = &self.machine;
        let lanes: u64 = Lane::ALL
            .iter()
            .map(|lane| machine.outgoing(*lane) + machine.incoming(*lane))
            .sum();
        lanes + machine.spare() + self.beside() + self.gate.as_ref().map_or(0, |gate| gate.charge())
    }

    /// Tells the hub what this session holds now.
    pub(crate) fn settle_account(&mut self) {
        self.account.set(self.owned());
    }

    /// The part of [`Inner::buffered`] that no other session shares: what its end would free.
    pub(crate) fn owned(&self) -> u64 {
        self.machine.owned() + self.beside() + self.gate.as_ref().map_or(0, |gate| gate.owned())
    }

    /// Once the session is over who holds it is told to let go, which must not cost other sessions their place meanwhile.
    fn beside(&self) -> u64 {
        if self.is_over() { 0 } else { self.beside }
    }

    /// The connections' wakers, to be woken without the lock. Hardly ever more than one.
    pub(crate) fn wakers(&self, except: Option<ConnectionKey>) -> impl Iterator<Item = Arc<AtomicWaker>> + use<> {
        let mut wakers = self
            .connections
            .iter()
            .filter(|(key, _)| Some(*key) != except)
            .map(|(_, waker)| Arc::clone(waker));
        let first = wakers.next();
        let others: Vec<_> = wakers.collect();
        first.into_iter().chain(others)
    }
}

pub(crate) fn state_of(machine: &SessionMachine) -> SessionState {
    match machine.phase() {
        Phase::Unconnected => SessionState::Unconnected,
        Phase::Open => SessionState::Open,
        Phase::SoftClosed(_) => SessionState::SoftClosed,
        Phase::Ending(_) if machine.has_connection() => SessionState::Ending,
        Phase::Ending(_) if machine.has_document() => SessionState::EndingSoftClosed,
        Phase::Ending(_) => SessionState::Unconnected,
        Phase::Closed(_) => SessionState::Closed,
    }
}
