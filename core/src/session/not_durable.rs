//! Sessions that are not durable, in builds without the feature `durable`: every turn counts at
//! once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::session::host::Home;
use crate::session::receive::Taken;
use crate::session::shared::Shared;
use crate::session::state::Inner;
use stillhere_proto::{EndReason, Lane, Message};

impl Shared {
    #[inline]
    pub(super) fn begin_read(self: &Arc<Self>) {}

    #[inline]
    pub(super) fn read_is_over(&self) {}

    #[inline]
    pub(super) fn end_outside_turn(self: &Arc<Self>) {}

    #[inline]
    pub(super) fn close_with_turn(
        self: &Arc<Self>,
        _reason: &EndReason,
        _retry_after: Duration,
        _wait: Duration,
    ) -> bool {
        false
    }

    #[inline]
    pub(crate) fn has_left(&self) -> bool {
        false
    }
}

impl Inner {
    #[inline]
    pub(super) fn follow_document(&mut self) {}

    #[inline]
    pub(super) fn note_end(&mut self, _reason: &EndReason) {}

    #[inline]
    pub(super) fn note_started(&mut self) {}

    #[inline]
    pub(super) fn leave(&mut self, _reason: &EndReason, _now: Instant) -> bool {
        false
    }

    #[inline]
    pub(super) fn is_to_commit(&mut self) -> bool {
        false
    }

    #[inline]
    pub(super) fn end_turn_at_once(&mut self) -> (bool, bool) {
        (false, false)
    }

    #[inline]
    pub(super) fn is_held(&self) -> bool {
        false
    }

    #[inline]
    pub(super) fn begin_turn(&mut self, _taken: Option<&Taken>) {}

    #[inline]
    pub(super) fn note_greeted(&mut self, _incarnation: u64) {}

    #[inline]
    pub(super) fn admits(&self, lane: Lane, size: usize) -> bool {
        self.machine.admits(lane, size)
    }

    #[inline]
    pub(super) fn queue(&mut self, lane: Lane, message: Message) {
        self.machine.send(lane, message);
    }

    #[inline]
    pub(super) fn refusal(&self) -> Option<EndReason> {
        None
    }

    #[inline]
    pub(super) fn is_frozen(&self) -> bool {
        false
    }

    #[inline]
    pub(super) fn has_ledger(&self) -> bool {
        false
    }

    #[inline]
    pub(super) fn latest_may_leave(&self) -> bool {
        false
    }

    #[inline]
    pub(super) fn ledger_charge(&self) -> u64 {
        0
    }

    #[inline]
    pub(super) fn ledger_len(&self) -> usize {
        0
    }

    #[inline]
    pub(super) fn clear_ledger(&mut self) -> usize {
        0
    }
}

impl Inner {
    #[inline]
    pub(super) fn known_document(&self) -> u64 {
        1
    }

    #[inline]
    pub(super) fn takes_hello(&self) -> bool {
        true
    }
}

impl Shared {
    #[inline]
    pub(crate) fn start_again(self: &Arc<Self>, _home: Home) {}

    #[inline]
    pub(crate) fn is_durable(&self) -> bool {
        false
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        false
    }
}
