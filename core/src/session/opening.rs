//! Opens durable sessions, and opens them again from their records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::durable::durability::Durability;
use crate::durable::head::Fixed;
use crate::durable::state::{AnyState, EncodeError, Which};
use crate::durable::store::Store;
use crate::memory::Account;
use crate::options::SessionOptions;
use crate::session::durable::{Closing, Durable, Reopened, Turns, state_of};
use crate::session::host::Home;
use crate::session::shared::{Common, Shared, seed_of};
use crate::session::state::{Application, Function, Inner};
use stillhere_proto::machine::Row;
use stillhere_proto::{EndReason, PerLane, Secret, SessionId};

/// What a durable session is opened with.
pub(crate) struct Opening {
    /// The name of its kind.
    pub(crate) kind: Box<str>,
    pub(crate) durability: Durability,
    pub(crate) state: Arc<dyn AnyState>,
    pub(crate) state_version: u32,
    pub(crate) store: Arc<dyn Store>,
}

impl Opening {
    /// Returns the parts of the session, and its first state.
    fn parts(self, secret: &Secret, options: &SessionOptions) -> (Durable, Result<Bytes, EncodeError>) {
        let mut encoded = Ok(None);
        self.state.end_turn(Which::Every, &mut |state| {
            encoded = state;
            true
        });
        let durable = Durable {
            durability: self.durability,
            fixed: Fixed::new(&self.kind, self.durability, secret, options).encode(),
            state: self.state,
            state_version: self.state_version,
            store: self.store,
        };
        (durable, encoded.map(Option::unwrap_or_default))
    }
}

impl Shared {
    /// Creates a durable session.
    pub(crate) fn new_durable(
        common: Arc<Common>,
        options: Arc<SessionOptions>,
        (application, opening): (Application, Opening),
        account: Account,
        (number, now): (u64, Instant),
    ) -> Arc<Self> {
        let (id, secret) = (SessionId::random(), Secret::random());
        let machine = common
            .machine(&options, seed_of(&id), now)
            .into_durable(opening.durability == Durability::Crash);
        let (durable, state) = opening.parts(&secret, &options);
        let (state, error) = match state {
            Ok(state) => (state, None),
            Err(error) => (Bytes::new(), Some(error)),
        };
        let turns = Turns::new(durable.durability, &machine, state, None);
        let mut inner = Inner::new(machine, application, account);
        inner.turns = Some(Box::new(turns));
        let session = Self::with_inner(
            common,
            (id, secret),
            options,
            Some(Box::new(durable)),
            inner,
            (number, now),
        );
        if let Some(error) = error {
            let reason = state_of(&id, Err(error)).expect_err("it is an error");
            session.lock().machine.abort(reason, now);
        }
        Arc::new(session)
    }

    /// Opens a durable session again, from its record.
    pub(crate) fn reopen(
        common: Arc<Common>,
        (id, secret): (SessionId, Secret),
        options: Arc<SessionOptions>,
        (application, opening): (Application, Opening),
        (reopened, rows): (Reopened, PerLane<Vec<Row>>),
        (account, number): (Account, u64),
    ) -> Arc<Self> {
        let now = crate::clock::now();
        let machine = common
            .machine(&options, seed_of(&id), now)
            .into_durable(opening.durability == Durability::Crash)
            .reopen(&reopened.saved, rows, now);
        let (durable, state) = opening.parts(&secret, &options);
        let turns = Turns::new(
            durable.durability,
            &machine,
            state.expect("a state that was read can be written"),
            Some(reopened),
        );
        let mut inner = Inner::new(machine, application, account);
        inner.turns = Some(Box::new(turns));
        let durable = Some(Box::new(durable));
        Arc::new(Self::with_inner(
            common,
            (id, secret),
            options,
            durable,
            inner,
            (number, now),
        ))
    }

    /// Closes a session that was closing when its process stopped. Its function has returned.
    pub(crate) fn close_reopened(self: &Arc<Self>, reason: EndReason) {
        let application = self.change(|inner, now| {
            let function = std::mem::replace(&mut inner.function, Function::Returned);
            inner.reader_is_gone = true;
            if let Some(turns) = &mut inner.turns {
                // It stays so in the record.
                turns.closing = Some(Closing {
                    reason: reason.clone(),
                    retry_after: Duration::ZERO,
                    wait: Duration::ZERO,
                });
            }
            inner.machine.close(reason, now);
            function
        });
        // Not under the lock, because it may run code of the application.
        drop(application);
    }

    /// Starts the function of a session that was opened again, unless it has started.
    pub(crate) fn start_again(self: &Arc<Self>, home: Home) {
        if self.durable.is_none() {
            return;
        }
        let application = {
            let mut inner = self.lock();
            let has_document = inner.machine.has_document();
            match &inner.function {
                Function::Unstarted(_) if has_document && !inner.is_over() => {
                    match std::mem::replace(&mut inner.function, Function::Starting) {
                        Function::Unstarted(application) => Some(application),
                        Function::Starting | Function::Running(_) | Function::Returned => None,
                    }
                }
                _ => None,
            }
        };
        if let Some(application) = application
            && let Some(host) = self.common.host.upgrade()
        {
            self.start(&*host, home, application);
        }
    }
}
