//! The seats of a room by member. They lie in a row, because a large room is sent an event in half
//! the time if it is sent in the order in which its sessions were made.

use std::collections::HashMap;

use super::seat::Seat;

#[derive(Default)]
pub(super) struct Seats {
    row: Vec<(u64, Seat)>,
    /// The place of each member in the row.
    places: HashMap<u64, usize>,
}

impl Seats {
    pub(super) fn len(&self) -> usize {
        self.row.len()
    }

    /// Returns any of the seats.
    pub(super) fn first(&self) -> Option<&Seat> {
        self.row.first().map(|(_, seat)| seat)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Seat> {
        Some(&self.row[*self.places.get(&id)?].1)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Seat> {
        Some(&mut self.row[*self.places.get(&id)?].1)
    }

    /// Adds a seat for a member that has none.
    pub(super) fn insert(&mut self, id: u64, seat: Seat) {
        self.places.insert(id, self.row.len());
        self.row.push((id, seat));
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Seat> {
        let place = self.places.remove(&id)?;
        let (_, seat) = self.row.swap_remove(place);
        if let Some((moved, _)) = self.row.get(place) {
            self.places.insert(*moved, place);
        }
        Some(seat)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.row.iter().map(|(_, seat)| seat)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Seat)> {
        self.row.iter_mut().map(|(id, seat)| (*id, seat))
    }
}
