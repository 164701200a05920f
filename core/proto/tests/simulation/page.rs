//! A page load: a document and the application in it.

use bytes::Bytes;
use stillhere_proto::machine::DocumentPhase;
use stillhere_proto::{Lane, PerLane};

use crate::browser::Browser;
use crate::ledger::Stream;
use crate::pipe::Time;

/// A message that an application wants to send, and that may have to wait for room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) lane: Lane,
    pub(crate) size: usize,
}

/// When an application reads and writes.
#[derive(Debug, Default)]
pub(crate) struct Application {
    pub(crate) stuck_until: Time,
    pub(crate) read_at: Option<Time>,
    pub(crate) write_at: Time,
    pub(crate) written: u64,
    pub(crate) wanted: Option<Wanted>,
    /// There may be room once less than this is buffered.
    pub(crate) waits_below: u64,
}

/// The last outcome that a page was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused {
        code: u64,
    },
    Ended {
        reason: u64,
        unacknowledged: usize,
        was_connected: bool,
    },
}

pub(crate) struct Page {
    pub(crate) browser: Box<dyn Browser>,
    pub(crate) is_alive: bool,
    pub(crate) died_at: Time,
    pub(crate) frozen_until: Time,
    /// Time until which the page is in the back/forward cache.
    pub(crate) shown_at: Option<Time>,
    pub(crate) is_hidden: bool,
    pub(crate) application: Application,
    pub(crate) release_at: PerLane<Option<Time>>,
    pub(crate) connection: Option<usize>,
    pub(crate) last_welcomed: u64,
    pub(crate) incarnation: Option<usize>,
    /// Whether the server has read a confirm from this page.
    pub(crate) has_confirmed: bool,
    /// Incarnation with which the server last welcomed this page.
    pub(crate) served: Option<u64>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) sent: PerLane<Stream>,
    /// Sequence of the last frame of each message that has been written completely.
    pub(crate) last_frames: PerLane<Vec<u64>>,
    /// Last sequence that the server has acknowledged to this page.
    pub(crate) acknowledged: PerLane<u64>,
    /// Whether something has happened since the document's outputs were polled.
    pub(crate) is_dirty: bool,
    /// Whether there may be a message that the application has not seen.
    pub(crate) has_news: bool,
    pub(crate) timeouts_in_a_row: u32,
}

impl Page {
    pub(crate) fn new(browser: Box<dyn Browser>, write_at: Time) -> Self {
        Self {
            browser,
            is_alive: true,
            died_at: Time::MAX,
            frozen_until: 0,
            shown_at: None,
            is_hidden: false,
            application: Application {
                write_at,
                ..Application::default()
            },
            release_at: PerLane::default(),
            connection: None,
            last_welcomed: 0,
            incarnation: None,
            has_confirmed: false,
            served: None,
            verdict: None,
            sent: PerLane::default(),
            last_frames: PerLane::default(),
            acknowledged: PerLane::default(),
            is_dirty: true,
            has_news: false,
            timeouts_in_a_row: 0,
        }
    }

    pub(crate) fn is_awake(&self, now: Time) -> bool {
        self.is_alive && self.frozen_until <= now
    }

    pub(crate) fn phase(&self) -> DocumentPhase {
        self.browser.phase()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase() == DocumentPhase::Over
    }

    /// Returns how many messages of a lane the server has acknowledged completely.
    pub(crate) fn acknowledged_messages(&self, lane: Lane) -> usize {
        self.last_frames[lane].partition_point(|last| *last <= self.acknowledged[lane])
    }

    pub(crate) fn holds_messages(&self) -> bool {
        self.browser.incoming() > 0 || Lane::ALL.iter().any(|lane| self.release_at[*lane].is_some())
    }

    /// Takes one message from each lane whose application is not busy. If it takes time to process,
    /// its credit is returned later.
    pub(crate) fn read(&mut self, think: impl Fn() -> Time, now: Time) -> Vec<(Lane, Bytes)> {
        let mut read = Vec::new();
        for lane in Lane::ALL {
            if self.release_at[lane].is_some_and(|at| at <= now) {
                self.release_at[lane] = None;
                self.browser.release(lane, now);
                self.has_news = true;
            }
            if self.release_at[lane].is_some() {
                continue;
            }
            let think = think();
            if let Some(payload) = self.browser.take(lane, think > 0, now) {
                self.release_at[lane] = (think > 0).then_some(now + think);
                read.push((lane, payload));
            }
        }
        read
    }
}
