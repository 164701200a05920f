//! The members of a room, in the order in which they have joined.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::engine::ServerId;
use super::member::Member;

#[derive(Default)]
pub(super) struct Roster {
    positions: HashMap<u64, u64>,
    by_position: BTreeMap<(u64, u64), Placed>,
    /// The members as a list, if one has been made since the last change.
    list: Option<Arc<[Member]>>,
}

/// A member with its server and its place among the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) member: Member,
    /// The server that has its session.
    pub(super) home: ServerId,
    /// Members are ordered by this number and their id.
    pub(super) position: u64,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Member> {
        self.placed(id).map(|placed| &placed.member)
    }

    pub(super) fn placed(&self, id: u64) -> Option<&Placed> {
        self.by_position.get(&(*self.positions.get(&id)?, id))
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.list = None;
        let placed = self.by_position.get_mut(&(*self.positions.get(&id)?, id));
        placed.map(|placed| &mut placed.member)
    }

    /// Returns a position behind all members.
    pub(super) fn end(&self) -> u64 {
        self.by_position.last_key_value().map_or(0, |(key, _)| key.0 + 1)
    }

    /// Adds a member, or moves it if it is in the room.
    pub(super) fn insert(&mut self, placed: Placed) {
        let id = placed.member.id;
        self.remove(id);
        self.positions.insert(id, placed.position);
        self.by_position.insert((placed.position, id), placed);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Member> {
        self.list = None;
        let removed = self.by_position.remove(&(self.positions.remove(&id)?, id));
        removed.map(|placed| placed.member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.all().map(|placed| &placed.member)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Placed> {
        self.by_position.values()
    }

    /// Returns the ids of the members of a server.
    pub(super) fn of(&self, home: ServerId) -> Vec<u64> {
        let of = self.all().filter(|placed| placed.home == home);
        of.map(|placed| placed.member.id).collect()
    }

    /// Returns the members as a list, which is made once between two changes.
    pub(super) fn list(&mut self) -> Arc<[Member]> {
        let by_position = &self.by_position;
        let members = || by_position.values().map(|placed| placed.member.clone());
        Arc::clone(self.list.get_or_insert_with(|| members().collect()))
    }
}
