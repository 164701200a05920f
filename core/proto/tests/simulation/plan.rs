//! The parameters of a schedule, which its seed determines.

use std::time::Duration;

use stillhere_proto::Limits;
use stillhere_proto::machine::Timing;

use crate::pipe::Time;
use crate::random::Random;

pub(crate) const MS: Time = 1_000;
pub(crate) const SECOND: Time = 1_000 * MS;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    Stall,
    Blackhole,
    Reload,
    Duplicate,
    Freeze,
    PauseServer,
    Hide,
    Wake,
    HidePage,
    StickServer,
    StickPage,
    SoftClose,
    Close,
    Abort,
}

pub(crate) const FAULTS: [Fault; 15] = [
    Fault::Cut,
    Fault::Stall,
    Fault::Blackhole,
    Fault::Reload,
    Fault::Duplicate,
    Fault::Freeze,
    Fault::PauseServer,
    Fault::Hide,
    Fault::Wake,
    Fault::HidePage,
    Fault::StickServer,
    Fault::StickPage,
    Fault::SoftClose,
    Fault::Close,
    Fault::Abort,
];

/// Parameters of a schedule, scaled down so that every limit is reached often.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) limits: Limits,
    pub(crate) timing: Timing,
    /// How long a session is kept without a connection.
    pub(crate) keep: Time,
    /// How long faults are injected.
    pub(crate) trouble: Time,
    pub(crate) fault_every: Time,
    pub(crate) weights: [u64; FAULTS.len()],
    /// Percentage of connections that are cut after some bytes.
    pub(crate) fuses: u64,
    /// Most bytes that such a connection carries.
    pub(crate) fuse: u64,
    /// Percentage of connections whose hello is so late that the page already has another
    /// connection.
    pub(crate) late_hellos: u64,
    /// Percentage of data frames that arrive twice.
    pub(crate) repeats: u64,
    /// Percentage of connections that do not open.
    pub(crate) dead_ends: u64,
    /// Percentage of cuts that one side never notices.
    pub(crate) unnoticed: u64,
    pub(crate) latency: Time,
    pub(crate) slowest: u64,
    /// Capacity of the server's socket buffer in bytes.
    pub(crate) socket: u64,
    /// A browser writes bulk frames only while it has buffered less than this.
    pub(crate) bulk_room: u64,
    pub(crate) write_every: Time,
    /// Most messages that each side writes while faults are injected.
    pub(crate) messages: u64,
    /// Longest time an application takes to process a message.
    pub(crate) think: Time,
    /// Percentage of messages whose size is close to some limit.
    pub(crate) large: u64,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let fragment = random.between(8, 64);
        let least = 4 * (fragment + 64);
        let message = fragment * random.between(1, 30) + random.upto(fragment - 1);
        let limits = Limits {
            fragment,
            message,
            inflated: 8 * message,
            window: least + random.pick(&[0, 0, 100, 500]),
            bulk_window: least + random.pick(&[0, 0, 100, 500]),
            outbox: random.between(64, 2500),
        };
        let timing = Timing {
            heartbeat: Duration::from_millis(random.between(600, 1400)),
            probe: (!random.percent(10)).then(|| Duration::from_millis(random.between(300, 2000))),
            hello: Duration::from_millis(random.between(1000, 10_000)),
            ending: Duration::from_millis(random.pick(&[1000, 5000, 20_000])),
        };
        let mut weights = FAULTS.map(|fault| match fault {
            Fault::Cut => random.pick(&[0, 4, 20]),
            Fault::Reload | Fault::Freeze | Fault::PauseServer | Fault::Duplicate => random.pick(&[0, 0, 4]),
            Fault::Close | Fault::Abort => u64::from(random.percent(8)),
            Fault::SoftClose => random.pick(&[0, 0, 0, 1]),
            _ => random.pick(&[0, 0, 2]),
        });
        weights[0] += 1;
        Self {
            limits,
            timing,
            keep: if random.percent(12) {
                random.between(1, 15) * SECOND
            } else {
                600 * SECOND
            },
            trouble: random.between(2, 30) * SECOND,
            fault_every: random.pick(&[200, 600, 2000]) * MS,
            weights,
            fuses: random.pick(&[0, 30, 60, 90]),
            fuse: random.pick(&[100, 300, 1500]),
            late_hellos: random.pick(&[0, 10]),
            repeats: random.pick(&[0, 0, 5]),
            dead_ends: random.pick(&[0, 0, 15, 40]),
            unnoticed: random.pick(&[0, 20, 60]),
            latency: random.pick(&[0, 20, 150, 400]) * MS,
            slowest: random.pick(&[0, 5, 100, 1000]),
            socket: random.pick(&[1, 150, 1000, 5000]),
            bulk_room: random.pick(&[1, 200, 1000]),
            write_every: random.pick(&[20, 200, 800]) * MS,
            messages: random.between(5, 150),
            think: random.pick(&[0, 0, 50, 400]) * MS,
            large: random.pick(&[5, 30]),
        }
    }

    /// Returns a message size: zero, small, or close to a size at which some rule applies.
    pub(crate) fn size(&self, random: &mut Random) -> usize {
        let Limits {
            fragment,
            message,
            window,
            bulk_window,
            outbox,
            ..
        } = self.limits;
        let size = if random.percent(self.large) {
            let edge = random.pick(&[message, 2 * fragment, window, bulk_window, outbox, message / 2]);
            edge + random.upto(2) - 1
        } else {
            random.pick(&[0, 1, 8, fragment - 1, fragment, fragment + 1])
        };
        size.min(message) as usize
    }

    /// Returns the largest charge that a lane's inbox may hold.
    pub(crate) fn inbox_bound(&self, window: u64) -> u64 {
        window + self.charge(self.limits.message)
    }

    /// Returns the largest charge that a lane's outbox may hold.
    pub(crate) fn outbox_bound(&self) -> u64 {
        self.limits.outbox.max(self.charge(self.limits.message))
    }

    fn charge(&self, size: u64) -> u64 {
        size + size.div_ceil(self.limits.fragment).max(1) * 64
    }

    pub(crate) fn probe(&self) -> Option<Time> {
        self.timing.probe.map(|probe| probe.as_micros() as Time)
    }

    pub(crate) fn heartbeat(&self) -> Time {
        self.timing.heartbeat.as_micros() as Time
    }
}
