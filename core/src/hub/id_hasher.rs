//! Hashes the ids of sessions for the tables of the registry.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use stillhere_proto::SessionId;

/// A table by the ids of sessions.
pub(super) type IdMap<V> = HashMap<SessionId, V, BuildHasherDefault<IdHasher>>;

/// A set of what the ids of sessions find.
pub(super) type IdSet<T> = HashSet<T, BuildHasherDefault<IdHasher>>;

/// Takes half of an id as its hash, because ids are random already.
///
/// The server draws each id that is in a table, so nobody can choose ids that collide.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The first byte chooses the table, so it says nothing within one.
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_be_bytes(*last);
        }
    }

    /// The length comes first, and all ids are equally long.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, Hash};

    #[test]
    fn ids_differ_in_their_hashes_in_high_and_low_bits() {
        let hash = |id: SessionId| BuildHasherDefault::<IdHasher>::default().hash_one(id);
        let hashes: HashSet<_> = (0..1000).map(|_| hash(SessionId::random())).collect();
        assert_eq!(hashes.len(), 1000);
        // A table uses the lowest bits for the place and the highest seven for a first comparison.
        let low: HashSet<_> = hashes.iter().map(|hash| hash % 256).collect();
        let high: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 200 && high.len() > 100, "{} {}", low.len(), high.len());
    }

    #[test]
    fn the_hash_is_the_last_half_of_an_id() {
        let id = SessionId::random();
        let mut hasher = IdHasher::default();
        id.hash(&mut hasher);
        let last = id.as_bytes().last_chunk::<8>().expect("an id has 16 bytes");
        assert_eq!(hasher.finish(), u64::from_be_bytes(*last));
    }
}
