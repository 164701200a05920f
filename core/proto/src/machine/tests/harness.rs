//! A page for the tests: the document's machine, a virtual clock, and a record of what the machine
//! has sent and reported.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::code::{Code, EndReason};
use crate::id::{DocumentId, Secret};
use crate::limits::Limits;
use crate::machine::{Action, DocumentEvent, DocumentMachine, DocumentOptions, DocumentPhase, SendRefused};
use crate::message::{Lane, PerLane};
use crate::wire::{Counts, Data, End, Frame, Hello, Welcome};

pub(super) const LIMITS: Limits = Limits {
    fragment: 100,
    message: 1000,
    inflated: 10_000,
    window: 2000,
    bulk_window: 1000,
    outbox: 4_000_000,
};
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
pub(super) const KEEP: Duration = Duration::from_secs(120);
/// More credit than any test uses.
pub(super) const PLENTY: PerLane<u64> = PerLane::new(100_000, 100_000);
pub(super) const NOTHING: PerLane<u64> = PerLane::new(0, 0);

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn bytes(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}

pub(super) fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

pub(super) fn text(payload: &'static str) -> Bytes {
    Bytes::from_static(payload.as_bytes())
}

/// Returns an interactive data frame that holds a whole message.
pub(super) fn data(sequence: u64, payload: impl Into<Bytes>) -> Data {
    Data {
        lane: Lane::Interactive,
        sequence,
        more: false,
        compressed: false,
        payload: payload.into(),
    }
}

/// Returns a fragment that another fragment follows.
pub(super) fn fragment(sequence: u64) -> Data {
    Data {
        more: true,
        ..data(sequence, bytes(100))
    }
}

pub(super) fn bulk(data: Data) -> Data {
    Data {
        lane: Lane::Bulk,
        ..data
    }
}

pub(super) fn counts(received: [u64; 2], credit: PerLane<u64>) -> Counts {
    Counts {
        received: PerLane::new(received[0], received[1]),
        credit,
    }
}

pub(super) fn ack(received: [u64; 2]) -> Frame {
    Frame::Ack(counts(received, PLENTY))
}

pub(super) fn ping(nonce: u64) -> Frame {
    Frame::Ping {
        nonce,
        counts: counts([0, 0], PLENTY),
    }
}

pub(super) fn pong(nonce: u64) -> Frame {
    Frame::Pong {
        nonce,
        counts: counts([0, 0], PLENTY),
    }
}

pub(super) fn end(code: Code) -> End {
    End {
        code: code as u64,
        reason: 0,
        retry_after: 0,
        text: String::new(),
    }
}

pub(super) fn end_of_session(reason: &EndReason) -> End {
    End {
        code: reason.code() as u64,
        reason: reason.number(),
        retry_after: 0,
        text: String::new(),
    }
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        incarnation: 1,
        epoch: 1,
        counts: counts([0, 0], PLENTY),
        heartbeat: HEARTBEAT.as_millis() as u64,
        keep: KEEP.as_millis() as u64,
        limits: Limits { outbox: 0, ..LIMITS },
    }
}

/// Returns only the data frames.
pub(super) fn data_of(frames: Vec<Frame>) -> Vec<Data> {
    let data = frames.into_iter().filter_map(|frame| {
        if let Frame::Data(data) = frame {
            Some(data)
        } else {
            None
        }
    });
    data.collect()
}

pub(super) fn sequences(frames: Vec<Frame>) -> Vec<u64> {
    data_of(frames).iter().map(|data| data.sequence).collect()
}

/// Returns lane, sequence, *more* flag and size of each data frame.
pub(super) fn shapes(frames: Vec<Frame>) -> Vec<(Lane, u64, bool, usize)> {
    data_of(frames)
        .iter()
        .map(|data| (data.lane, data.sequence, data.more, data.payload.len()))
        .collect()
}

pub(super) struct Page {
    pub(super) machine: DocumentMachine,
    pub(super) now: Instant,
    /// The connection that the newest connect action asked for.
    pub(super) connection: u64,
    pub(super) bulk_allowed: bool,
    frames: Vec<Frame>,
    actions: Vec<Action>,
    events: Vec<DocumentEvent>,
}

impl Page {
    pub(super) fn idle(limits: Limits, seed: u64) -> Self {
        let now = Instant::now();
        let options = DocumentOptions {
            secret: secret(),
            document: DocumentId([1; 16]),
            limits,
            seed,
        };
        Self {
            machine: DocumentMachine::new(options, now),
            now,
            connection: 0,
            bulk_allowed: true,
            frames: Vec::new(),
            actions: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Returns a page that is opening its first connection.
    pub(super) fn started() -> Self {
        let mut page = Self::idle(LIMITS, 1);
        page.machine.start(page.now);
        page.pump();
        page
    }

    /// Returns a page that was welcomed on its first connection, with all output already consumed.
    pub(super) fn connected() -> Self {
        Self::connected_with(LIMITS, welcome())
    }

    pub(super) fn connected_with(limits: Limits, welcome: Welcome) -> Self {
        Self::connected_from(
            Self::idle(limits, 1),
            Welcome {
                limits: Limits { outbox: 0, ..limits },
                ..welcome
            },
        )
    }

    pub(super) fn connected_from(mut page: Self, welcome: Welcome) -> Self {
        page.machine.start(page.now);
        page.open();
        page.receive(Frame::Welcome(welcome));
        page.forget();
        page
    }

    /// Transmits frames and collects actions and events, as a driver does.
    pub(super) fn pump(&mut self) {
        loop {
            if let Some(frame) = self.machine.poll_transmit(self.connection, self.bulk_allowed, self.now) {
                self.frames.push(frame);
                continue;
            }
            let Some(action) = self.machine.poll_action() else {
                break;
            };
            if let Action::Connect(connection) = action {
                self.connection = connection;
            }
            self.actions.push(action);
        }
        self.events.extend(std::iter::from_fn(|| self.machine.poll_event()));
    }

    pub(super) fn frames(&mut self) -> Vec<Frame> {
        self.pump();
        std::mem::take(&mut self.frames)
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        self.pump();
        std::mem::take(&mut self.actions)
    }

    pub(super) fn events(&mut self) -> Vec<DocumentEvent> {
        self.pump();
        std::mem::take(&mut self.events)
    }

    /// Returns the frame sent since the last call, which must be the only one.
    pub(super) fn frame(&mut self) -> Frame {
        only(self.frames())
    }

    pub(super) fn action(&mut self) -> Action {
        only(self.actions())
    }

    pub(super) fn event(&mut self) -> DocumentEvent {
        only(self.events())
    }

    pub(super) fn hello(&mut self) -> Hello {
        match self.frame() {
            Frame::Hello(hello) => hello,
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    /// Returns the counts in the only frame sent since the last call.
    pub(super) fn counts(&mut self) -> Counts {
        match self.frame() {
            Frame::Ack(counts) | Frame::Ping { counts, .. } | Frame::Pong { counts, .. } => counts,
            other => panic!("expected counts, got {other:?}"),
        }
    }

    pub(super) fn forget(&mut self) {
        self.pump();
        self.frames.clear();
        self.actions.clear();
        self.events.clear();
    }

    pub(super) fn assert_quiet(&mut self) {
        assert_eq!((self.frames(), self.actions(), self.events()), (vec![], vec![], vec![]));
    }

    pub(super) fn open(&mut self) {
        self.pump();
        self.machine.handle_open(self.connection, self.now);
        self.pump();
    }

    pub(super) fn receive(&mut self, frame: impl Into<Frame>) {
        self.machine
            .handle_frame(self.connection, frame.into().to_bytes(), self.now);
        self.pump();
    }

    pub(super) fn receive_all(&mut self, frames: impl IntoIterator<Item = Data>) {
        for frame in frames {
            self.machine
                .handle_frame(self.connection, Frame::Data(frame).to_bytes(), self.now);
        }
        self.pump();
    }

    pub(super) fn close(&mut self, code: u64) {
        self.machine.handle_close(self.connection, code, self.now);
        self.pump();
    }

    /// Loses the connection and starts to open another.
    pub(super) fn lose(&mut self) {
        self.close(1006);
        if self.phase() == DocumentPhase::Waiting {
            self.wait();
        }
    }

    /// Loses the connection and is welcomed on another.
    pub(super) fn resume(&mut self, received: [u64; 2]) {
        self.lose();
        self.open();
        self.receive(Frame::Welcome(Welcome {
            counts: counts(received, PLENTY),
            ..welcome()
        }));
    }

    pub(super) fn send(&mut self, payload: impl Into<Bytes>) {
        self.try_send(Lane::Interactive, payload).expect("there is room");
    }

    pub(super) fn send_bulk(&mut self, payload: impl Into<Bytes>) {
        self.try_send(Lane::Bulk, payload).expect("there is room");
    }

    pub(super) fn try_send(&mut self, lane: Lane, payload: impl Into<Bytes>) -> Result<(), SendRefused> {
        self.machine.send(lane, payload.into())
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.machine
            .take(Lane::Interactive)
            .map(crate::machine::Received::into_bytes)
    }

    pub(super) fn release(&mut self) {
        self.machine.release(Lane::Interactive, self.now);
    }

    /// Takes all messages of a lane and releases their credit.
    pub(super) fn take_all(&mut self, lane: Lane) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while let Some(received) = self.machine.take(lane) {
            taken.push(received.into_bytes());
            self.machine.release(lane, self.now);
        }
        taken
    }

    pub(super) fn phase(&self) -> DocumentPhase {
        self.machine.phase()
    }

    /// Advances the clock and fires every timeout on the way.
    pub(super) fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.pump();
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.pump();
        }
        self.now = until;
    }

    /// Advances the clock to the next timeout.
    pub(super) fn wait(&mut self) {
        let at = self.machine.poll_timeout().expect("something is due");
        self.advance(at.saturating_duration_since(self.now));
    }

    /// Asserts that the page treated the last input as a protocol violation: it sent `leave`,
    /// closed with this code and ended.
    pub(super) fn assert_violated(&mut self, code: Code) {
        let connection = self.connection;
        assert_eq!(self.frames().last(), Some(&Frame::Leave));
        assert_eq!(self.actions().last(), Some(&Action::Close(connection, code as u64)));
        let reason = match code {
            Code::TooLarge => EndReason::TooLarge,
            Code::Flood => EndReason::Flood,
            _ => EndReason::Malformed,
        };
        match self.events().last() {
            Some(DocumentEvent::Ended {
                code: told,
                reason: because,
                ..
            }) => {
                assert_eq!((*told, *because), (code as u64, reason.number()));
            }
            other => panic!("expected the end, got {other:?}"),
        }
        assert_eq!(self.phase(), DocumentPhase::Over);
    }
}

pub(super) fn only<T: std::fmt::Debug>(mut items: Vec<T>) -> T {
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0)
}

impl From<Data> for Frame {
    fn from(data: Data) -> Self {
        Self::Data(data)
    }
}

impl From<End> for Frame {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}
