//! Counts how much each peer holds of a limited resource.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use crate::lock::Lock;
use crate::peer::Peer;

/// Counts what peers hold.
#[derive(Debug, Default)]
pub(crate) struct Places(Lock<HashMap<Peer, usize>>);

/// One place that these peers hold, released on drop.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    peers: Vec<Peer>,
}

impl Places {
    /// Takes a place for these peers. Returns `None` if one of them is already at its limit.
    pub(crate) fn take(self: &Arc<Self>, peers: &[Peer], most: impl Fn(&Peer) -> usize) -> Option<Place> {
        let mut held = self.lock();
        let has_room = |peer: &Peer| held.get(peer).is_none_or(|held| *held < most(peer)) && most(peer) > 0;
        if !peers.iter().all(has_room) {
            return None;
        }
        for peer in peers {
            *held.entry(peer.clone()).or_default() += 1;
        }
        Some(Place {
            places: Arc::clone(self),
            peers: peers.to_vec(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.0.lock()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        for peer in &self.peers {
            if let Some(count) = held.get_mut(peer) {
                *count -= 1;
                if *count == 0 {
                    held.remove(peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_place_is_free_again_and_its_peer_is_forgotten() {
        let (places, ada) = (Arc::new(Places::default()), Peer::principal("ada"));
        let both = [ada.clone(), Peer::principal("bob")];
        let first = places.take(&both, |_| 2);
        let second = places.take(&both[..1], |_| 2);
        assert!(places.take(&both, |_| 2).is_none() && places.take(&both[1..], |_| 2).is_some());
        drop((first, second));
        assert!(places.lock().is_empty());
        assert!(places.take(&both, |_| 0).is_none() && places.take(&[], |_| 0).is_some());
    }
}
