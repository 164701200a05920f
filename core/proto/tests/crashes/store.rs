//! The store: what survives a process.

use bytes::Bytes;
use stillhere_proto::machine::{Row, Saved, Turns};
use stillhere_proto::{Lane, PerLane};

/// The record of the session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) state: Bytes,
    pub(crate) saved: Saved,
    pub(crate) rows: PerLane<Vec<Row>>,
}

impl Record {
    /// Replaces the record in one step. `acknowledged` is what the browser is known to have.
    pub(crate) fn commit(&mut self, turns: &Turns, acknowledged: PerLane<u64>) {
        if let Some(state) = &turns.state {
            self.state = state.clone();
        }
        self.saved = turns.saved.clone();
        for lane in Lane::ALL {
            if turns.clears_rows {
                self.rows[lane].clear();
            } else {
                self.rows[lane].retain(|row| row.last > acknowledged[lane]);
            }
            self.rows[lane].extend(turns.rows[lane].iter().cloned());
        }
    }
}
