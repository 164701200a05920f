//! The state of a session that its lock guards.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::cleanup::SessionState;
use crate::connection_waker::ConnectionWaker;
use crate::gate::Gate;
use crate::latest::Latest;
use crate::memory::Account;
use crate::session::Session;
#[cfg(feature = "durable")]
use crate::session::durable::Turns;
use crate::session::restore::RestoreFunction;
use stillhere_proto::machine::{ConnectionKey, Event, Phase, SessionMachine};
use stillhere_proto::{EndReason, Lane};

/// The application function, not yet called. Making its future calls nothing of the application:
/// that happens when the future is first polled.
pub(crate) type Application = Box<dyn FnOnce(Session) -> ApplicationFuture + Send>;

pub(crate) type ApplicationFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Inner {
    pub(crate) machine: SessionMachine,
    /// The machine's version when the hub was last notified.
    version: u64,
    pub(crate) function: Function,
    /// True once the application has dropped its `Session`, so that nobody reads messages.
    pub(crate) reader_is_gone: bool,
    /// A slice instead of a vector, because it rarely has more than one element and is often empty.
    pub(crate) connections: Box<[Link]>,
    /// Small, so that a session without a connection takes less than a kilobyte.
    pub(crate) next_connection: u32,
    pub(crate) events: Option<broadcast::Sender<Event>>,
    pub(crate) on_restore: Option<RestoreFunction>,
    /// Present while a restore function runs.
    pub(crate) gate: Option<Box<Gate>>,
    /// Present while the newest message of a key waits or is on its way.
    pub(crate) latest: Option<Box<Latest>>,
    /// Present if the session is durable.
    #[cfg(feature = "durable")]
    pub(super) turns: Option<Box<Turns>>,
    account: Account,
    /// Bytes held for this session outside its machine: see [`Beside`](crate::session::Beside).
    pub(crate) beside: u64,
    /// Weight in bytes, as the application declared it.
    pub(crate) weight: u64,
    /// Number of changes of the weight.
    pub(crate) weighings: u64,
    /// When the sweeper judges this session next.
    pub(crate) scheduled: Option<Instant>,
    /// True while the sweeper's queue contains this session.
    pub(crate) is_queued: bool,
}

/// A connection of a session, as the session knows it.
pub(crate) struct Link {
    pub(crate) key: ConnectionKey,
    pub(crate) waker: Arc<ConnectionWaker>,
    /// True if the connection asks the machine what to write before it waits again. So it need not
    /// be woken for another change.
    pub(crate) is_awake: bool,
}

/// The application function of a session.
pub(crate) enum Function {
    /// Not started: no browser has connected yet.
    Unstarted(Application),
    /// About to be spawned.
    Starting,
    Running(AbortHandle),
    Returned,
}

/// A consequence of a change, to be carried out after the lock is released.
pub(crate) enum Effect {
    Start(Application),
    Restore(RestoreFunction, u64),
    Changed,
    Ended(Teardown),
}

/// The remains of an ended session. The hub reports the reason and drops the rest.
pub(crate) struct Teardown {
    pub(crate) reason: EndReason,
    /// The function, if it never started. Dropping it may run code of the application, so it must
    /// not be dropped under the lock.
    pub(crate) never_started: Option<Application>,
    pub(crate) task: Option<AbortHandle>,
    pub(crate) on_restore: Option<RestoreFunction>,
}

impl Teardown {
    /// Creates the teardown of a session whose function and task have already been dropped.
    pub(crate) fn of(reason: EndReason) -> Self {
        Self {
            reason,
            never_started: None,
            task: None,
            on_restore: None,
        }
    }
}

impl Inner {
    pub(crate) fn new(machine: SessionMachine, application: Application, account: Account) -> Self {
        Self {
            version: machine.version(),
            machine,
            function: Function::Unstarted(application),
            reader_is_gone: false,
            connections: Box::default(),
            next_connection: 0,
            events: None,
            on_restore: None,
            gate: None,
            latest: None,
            #[cfg(feature = "durable")]
            turns: None,
            account,
            beside: 0,
            weight: 0,
            weighings: 0,
            scheduled: None,
            is_queued: false,
        }
    }

    /// Returns a number that increases with every change that may affect a policy's decision,
    /// except changes of buffers.
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

    /// Updates the rest of the state after a change of the machine. Returns the effects to carry
    /// out after the lock is released.
    pub(crate) fn settle(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            effects.extend(self.effect_of(&event));
            self.publish(event);
        }
        if self.machine.version() != self.version {
            self.version = self.machine.version();
            if !self.is_over() {
                effects.push(Effect::Changed);
            }
        }
        if self.reader_is_gone && self.is_ending_or_over() {
            self.machine.discard_received();
        }
        if self.latest.is_some() {
            self.release_latest();
        }
        self.follow_document();
        self.count_memory();
        effects
    }

    /// Reports the memory that the session holds.
    pub(crate) fn count_memory(&mut self) {
        self.account.set(self.owned());
    }

    fn effect_of(&mut self, event: &Event) -> Option<Effect> {
        match event {
            // A session that was closed before its browser connected does not need its function.
            Event::Opened if matches!(self.machine.phase(), Phase::Open) => {
                match std::mem::replace(&mut self.function, Function::Starting) {
                    Function::Unstarted(application) => Some(Effect::Start(application)),
                    Function::Starting | Function::Running(_) | Function::Returned => None,
                }
            }
            Event::Restored { incarnation } => {
                self.latest = None;
                self.begin_restore(*incarnation)
            }
            Event::Ended(reason) => {
                self.note_end(reason);
                Some(Effect::Ended(self.teardown(reason.clone())))
            }
            _ => None,
        }
    }

    /// Closes the gate: until the restore function returns, nothing else is sent to this document
    /// and nothing from it is read.
    pub(crate) fn begin_restore(&mut self, incarnation: u64) -> Option<Effect> {
        let restore = self.on_restore.clone()?;
        self.gate = Some(Box::new(Gate::new(incarnation)));
        Some(Effect::Restore(restore, incarnation))
    }

    fn teardown(&mut self, reason: EndReason) -> Teardown {
        let behind_the_gate = self.gate.take().map_or(0, |gate| gate.len());
        let latest = self.latest.take().map_or(0, |latest| latest.len());
        let in_the_ledger = self.clear_ledger();
        self.machine.count_undelivered(behind_the_gate + latest + in_the_ledger);
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
            never_started,
            task,
            on_restore: self.on_restore.take(),
            ..Teardown::of(reason)
        }
    }

    /// Runs under the lock, so that subscribers get the events in order.
    fn publish(&mut self, event: Event) {
        let is_last = matches!(event, Event::Ended(_));
        if let Some(events) = &self.events {
            // Sending fails if there are no subscribers, which is fine.
            let _ = events.send(event);
        }
        if is_last {
            self.events = None;
        }
    }

    pub(crate) fn close(&mut self, reason: EndReason, now: Instant) {
        self.queue_all();
        self.machine.close(reason, now);
    }

    /// Queues everything that waits outside the outbox, because the session is about to close and
    /// nothing can be queued afterwards.
    pub(crate) fn queue_all(&mut self) {
        self.empty_gate();
        if !self.is_ending_or_over() {
            self.queue_all_latest();
        }
    }

    /// Queues the messages that wait behind the gate.
    pub(crate) fn empty_gate(&mut self) {
        if self.is_ending_or_over() {
            return;
        }
        let queued = self.gate.as_mut().map(|gate| gate.take()).unwrap_or_default();
        for (lane, message) in queued {
            self.queue(lane, message);
        }
        if let Some(latest) = &mut self.latest {
            // Newest messages do not overtake what was sent before them.
            latest.postpone(self.machine.queued().interactive);
        }
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        let queued = self.gate.as_ref().map_or(0, |gate| gate.len());
        let latest = self.latest.as_ref().map_or(0, |latest| latest.len());
        self.machine.unacknowledged() + queued + latest + self.ledger_len()
    }

    /// Returns the number of bytes held in both directions.
    pub(crate) fn buffered(&self) -> u64 {
        let machine = &self.machine;
        let lanes: u64 = Lane::ALL
            .iter()
            .map(|lane| machine.outgoing(*lane) + machine.incoming(*lane))
            .sum();
        lanes + machine.spare() + self.beside() + self.outside(Gate::charge, Latest::charge)
    }

    /// Returns a sum over the messages that wait outside the outbox.
    fn outside(&self, gate: impl FnOnce(&Gate) -> u64, latest: impl FnOnce(&Latest) -> u64) -> u64 {
        self.gate.as_deref().map_or(0, gate) + self.latest.as_deref().map_or(0, latest) + self.ledger_charge()
    }

    /// Returns the part of [`Inner::buffered`] that the end of this session would free, because it
    /// is not shared with other sessions.
    pub(crate) fn owned(&self) -> u64 {
        self.machine.owned() + self.beside() + self.outside(Gate::owned, Latest::owned)
    }

    /// Returns the bytes held outside the machine, or 0 once the session has ended. Their holders
    /// drop them soon, and until then they must not take room from other sessions.
    fn beside(&self) -> u64 {
        if self.is_over() { 0 } else { self.beside }
    }

    /// Returns true if a connection waits, except for one.
    #[inline]
    pub(crate) fn has_waiting(&self, except: Option<ConnectionKey>) -> bool {
        let mut links = self.connections.iter();
        links.any(|link| !link.is_awake && Some(link.key) != except)
    }

    /// Returns the wakers of all connections that wait, except for one, to be woken without the
    /// lock.
    pub(crate) fn wakers(&mut self, except: Option<ConnectionKey>) -> SmallVec<[Arc<ConnectionWaker>; 1]> {
        let mut wakers = SmallVec::new();
        for link in &mut self.connections {
            if !link.is_awake && Some(link.key) != except {
                link.is_awake = true;
                wakers.push(Arc::clone(&link.waker));
            }
        }
        wakers
    }

    /// Notes that a connection is about to wait, so that the next change wakes it.
    pub(crate) fn note_waiting(&mut self, key: ConnectionKey) {
        for link in &mut self.connections {
            link.is_awake &= link.key != key;
        }
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
