//! Sessions that wait for their first browser, ordered by age.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::peer::{Peer, Share};
use stillhere_proto::SessionId;

/// Sessions ordered by their numbers, which increase with each session.
#[derive(Debug, Default)]
pub(super) struct Unconnected {
    by_age: BTreeMap<u64, (SessionId, Vec<Peer>)>,
    of_peer: HashMap<Peer, BTreeSet<u64>>,
}

impl Unconnected {
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn insert(&mut self, number: u64, id: SessionId, peers: Vec<Peer>) {
        for peer in &peers {
            self.of_peer.entry(peer.clone()).or_default().insert(number);
        }
        self.by_age.insert(number, (id, peers));
    }

    /// Removes the session, if it was waiting.
    pub(super) fn remove(&mut self, number: u64) -> Option<SessionId> {
        let (id, peers) = self.by_age.remove(&number)?;
        for peer in peers {
            if let Some(numbers) = self.of_peer.get_mut(&peer) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.of_peer.remove(&peer);
                }
            }
        }
        Some(id)
    }

    /// Removes the sessions that must end to make room for one more of these peers: the oldest of
    /// each peer that is at its limit, and the oldest of all if `most` are waiting.
    pub(super) fn make_room(
        &mut self,
        peers: &[Peer],
        most: usize,
        share_of: impl Fn(&Peer) -> Share,
    ) -> Vec<SessionId> {
        let mut oldest = Vec::new();
        for peer in peers {
            if let Some(numbers) = self.of_peer.get(peer)
                && numbers.len() >= share_of(peer).unconnected
            {
                oldest.extend(numbers.first().copied().and_then(|number| self.remove(number)));
            }
        }
        if self.len() >= most {
            let first = self.by_age.first_key_value().map(|(number, _)| *number);
            oldest.extend(first.and_then(|number| self.remove(number)));
        }
        oldest
    }
}
