//! The members of a room, in the order in which they have joined.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::member::Member;

#[derive(Default)]
pub(super) struct Roster {
    /// When each member has joined, as a count of joins.
    joined: HashMap<u64, u64>,
    by_joining: BTreeMap<u64, Member>,
    joins: u64,
    /// The members as a list, if one has been made since the last change.
    list: Option<Arc<[Member]>>,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.joined.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Member> {
        self.by_joining.get(self.joined.get(&id)?)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.list = None;
        self.by_joining.get_mut(self.joined.get(&id)?)
    }

    /// Adds a member as the last one.
    pub(super) fn insert(&mut self, member: Member) {
        self.remove(member.id);
        self.joins += 1;
        self.joined.insert(member.id, self.joins);
        self.by_joining.insert(self.joins, member);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Member> {
        self.list = None;
        self.by_joining.remove(&self.joined.remove(&id)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_joining.values()
    }

    /// Returns the members as a list, which is made once between two changes.
    pub(super) fn list(&mut self) -> Arc<[Member]> {
        let by_joining = &self.by_joining;
        let list = self.list.get_or_insert_with(|| by_joining.values().cloned().collect());
        Arc::clone(list)
    }
}
