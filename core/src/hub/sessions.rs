//! The live sessions by their ids.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::hub::id_hasher::{IdMap, IdSet};
use crate::hub::places::Place;
use crate::hub::shrink::shrink_to;
use crate::session::Shared;
use stillhere_proto::SessionId;

/// Live sessions, and the places that they hold for the peers that first connected to them.
///
/// They are spread over many tables by their ids, which are random. A table moves all its entries
/// when it grows or shrinks, while the registry is locked. With a million sessions, one table would
/// stop the hub for tens of milliseconds.
pub(super) struct Sessions {
    tables: [Table; TABLES],
    len: usize,
}

#[derive(Default)]
struct Table {
    sessions: IdSet<ById>,
    places: IdMap<Place>,
}

/// A session that its id finds. So the table does not contain the id a second time.
struct ById(Arc<Shared>);

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<&Arc<Shared>> {
        let ById(session) = self.table(id).sessions.get(id)?;
        Some(session)
    }

    pub(super) fn insert(&mut self, session: Arc<Shared>) {
        let table = &mut self.tables[number(&session.id)];
        self.len += usize::from(table.sessions.insert(ById(session)));
    }

    /// Removes a session. Returns its place, if it counts for a peer, or `None` if the session is
    /// not here.
    pub(super) fn remove(&mut self, id: &SessionId) -> Option<Option<Place>> {
        let table = &mut self.tables[number(id)];
        table.sessions.take(id)?;
        self.len -= 1;
        let place = table.places.remove(id);
        if let Some(capacity) = shrink_to(table.sessions.len(), table.sessions.capacity(), KEPT_CAPACITY) {
            table.sessions.shrink_to(capacity);
        }
        if let Some(capacity) = shrink_to(table.places.len(), table.places.capacity(), KEPT_CAPACITY) {
            table.places.shrink_to(capacity);
        }
        Some(place)
    }

    pub(super) fn has_place(&self, id: &SessionId) -> bool {
        self.table(id).places.contains_key(id)
    }

    /// Keeps the place of a live session. Returns the place that is not needed: the one that the
    /// session had before, or this one if the session is not here.
    pub(super) fn set_place(&mut self, id: &SessionId, place: Place) -> Option<Place> {
        let table = &mut self.tables[number(id)];
        if table.sessions.contains(id) {
            table.places.insert(*id, place)
        } else {
            Some(place)
        }
    }

    /// Returns the sessions of one table.
    pub(super) fn of_table(&self, number: usize) -> impl Iterator<Item = &Arc<Shared>> {
        self.tables[number].sessions.iter().map(|ById(session)| session)
    }

    fn table(&self, id: &SessionId) -> &Table {
        &self.tables[number(id)]
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            tables: std::array::from_fn(|_| Table::default()),
            len: 0,
        }
    }
}

impl Borrow<SessionId> for ById {
    fn borrow(&self) -> &SessionId {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

fn number(id: &SessionId) -> usize {
    usize::from(id.as_bytes()[0]) % TABLES
}

/// With a million sessions, a table has about 8,000, which move in less than a millisecond.
pub(super) const TABLES: usize = 128;

/// The capacity that a table keeps even when it is empty.
const KEPT_CAPACITY: usize = 16;
