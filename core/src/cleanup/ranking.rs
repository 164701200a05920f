//! Sessions in the order in which a policy ends them.

use std::collections::{BTreeMap, BTreeSet};

use stillhere_proto::SessionId;

/// Sessions in groups, ordered by rank within each group. The collections are trees because trees
/// free memory as they shrink.
#[derive(Debug)]
pub(super) struct Ranking<G, R> {
    groups: BTreeMap<G, BTreeSet<(R, SessionId)>>,
    ranks: BTreeMap<SessionId, R>,
}

impl<G, R> Default for Ranking<G, R> {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            ranks: BTreeMap::new(),
        }
    }
}

impl<G: Ord + Clone, R: Ord + Copy> Ranking<G, R> {
    /// Sets the rank of a session of this group, or removes the session. Returns its rank before.
    pub(super) fn set(&mut self, group: &G, id: SessionId, rank: Option<R>) -> Option<R> {
        let before = match rank {
            Some(rank) => self.ranks.insert(id, rank),
            None => self.ranks.remove(&id),
        };
        if before == rank {
            return before;
        }
        let sessions = self.groups.entry(group.clone()).or_default();
        if let Some(before) = before {
            sessions.remove(&(before, id));
        }
        sessions.extend(rank.map(|rank| (rank, id)));
        if sessions.is_empty() {
            self.groups.remove(group);
        }
        before
    }

    /// Returns the session of this group with the lowest rank.
    pub(super) fn first(&self, group: &G) -> Option<(R, SessionId)> {
        self.groups.get(group)?.first().copied()
    }

    /// Returns the number of sessions in this group.
    pub(super) fn len(&self, group: &G) -> usize {
        self.groups.get(group).map_or(0, BTreeSet::len)
    }
}
