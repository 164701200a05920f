//! Bounds what is on its way to each other server, because NATS ends the connection of a server for
//! which it would have to hold too much.
//!
//! After some bytes a server sends a *mark*, which the other server returns. What was sent before
//! the mark has then arrived or is lost, since NATS keeps the order.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::PollSemaphore;

use crate::packets::NO_LINK;

/// What is on its way to each other server.
#[derive(Debug, Default)]
pub(crate) struct Flows(Mutex<HashMap<u64, Arc<Flow>>>);

/// What is on its way to one other server, over all hops.
#[derive(Debug)]
pub(crate) struct Flow {
    /// This server.
    from: u64,
    /// Most bytes on their way.
    window: u32,
    room: Arc<Semaphore>,
    /// How many bytes were sent.
    sent: AtomicU64,
    /// The position of the last mark in what was sent.
    marked: AtomicU64,
    passed: Mutex<Passed>,
}

#[derive(Debug, Default)]
struct Passed {
    /// The position up to which all has arrived, or is lost.
    position: u64,
    /// What `position` was at the first check that saw it, and when that was.
    checked: Option<(u64, Instant)>,
}

/// A hop's place in the queue for room.
pub(crate) struct FlowSender {
    flow: Arc<Flow>,
    room: PollSemaphore,
}

/// What servers tell each other about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// This server has sent so many bytes.
    Mark { from: u64, position: u64 },
    /// So many bytes have reached this server.
    Passed { at: u64, position: u64 },
}

impl Flows {
    /// Returns what is on its way to a server. `max_payload` is the limit of NATS for a message.
    pub(crate) fn to(&self, server: u64, from: u64, max_payload: usize) -> Arc<Flow> {
        let mut flows = self.lock();
        let flow = flows
            .entry(server)
            .or_insert_with(|| Arc::new(Flow::new(from, max_payload)));
        Arc::clone(flow)
    }

    /// Notes that so many bytes have reached a server.
    pub(crate) fn passed(&self, server: u64, position: u64) {
        let flow = self.lock().get(&server).cloned();
        if let Some(flow) = flow {
            flow.passed(position);
        }
    }

    /// Forgets the flows to servers for which `is_kept` returns false. Makes room again where no
    /// mark comes back. To be called often.
    pub(crate) fn check(&self, is_kept: impl Fn(u64) -> bool) {
        let mut flows = self.lock();
        flows.retain(|server, _| is_kept(*server));
        let flows: Vec<_> = flows.values().cloned().collect();
        let now = Instant::now();
        flows.iter().for_each(|flow| flow.check(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Flow>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn new(from: u64, max_payload: usize) -> Self {
        let window = u32::try_from(max_payload / 4).unwrap_or(u32::MAX).max(SMALLEST_WINDOW);
        Self {
            from,
            window,
            room: Arc::new(Semaphore::new(window as usize)),
            sent: AtomicU64::default(),
            marked: AtomicU64::default(),
            passed: Mutex::default(),
        }
    }

    /// Returns how many bytes a message should have at most.
    pub(crate) fn largest_message(&self) -> usize {
        (self.window / 2 - MESSAGE) as usize
    }

    fn charge(&self, message: &Bytes) -> u32 {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        length.saturating_add(MESSAGE).min(self.window)
    }

    /// Returns a mark if one should be sent now.
    fn mark(&self) -> Option<Bytes> {
        let marked = self.marked.load(Ordering::Relaxed);
        let position = self.sent.load(Ordering::Relaxed);
        if position.saturating_sub(marked) < u64::from(self.window / MARKS) {
            return None;
        }
        // Another hop may do it at the same time.
        let marking = self
            .marked
            .compare_exchange(marked, position, Ordering::Relaxed, Ordering::Relaxed);
        let from = self.from;
        marking.is_ok().then(|| Notice::Mark { from, position }.encode())
    }

    fn passed(&self, position: u64) {
        let mut passed = self.lock();
        let position = position.min(self.sent.load(Ordering::Relaxed));
        let more = position.saturating_sub(passed.position);
        passed.position += more;
        drop(passed);
        self.room
            .add_permits(usize::try_from(more).expect("it is at most the window"));
    }

    /// Takes what is on its way for lost if nothing has passed for some time. It may also have been
    /// too little for a mark, or a hop was dropped before it used its room.
    fn check(&self, now: Instant) {
        let sent = self.sent.load(Ordering::Relaxed);
        let mut passed = self.lock();
        let position = passed.position;
        match passed.checked {
            Some((checked, since)) if checked == position && sent > position => {
                drop(passed);
                if now.duration_since(since) > PATIENCE {
                    self.passed(sent);
                }
            }
            _ => passed.checked = Some((position, now)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FlowSender {
    pub(crate) fn new(flow: Arc<Flow>) -> Self {
        let room = PollSemaphore::new(Arc::clone(&flow.room));
        Self { flow, room }
    }

    /// Waits until a message may be sent, first come, first served.
    pub(crate) fn poll_room(&mut self, message: &Bytes, context: &mut Context<'_>) -> Poll<()> {
        let charge = self.flow.charge(message);
        if let Some(room) = ready!(self.room.poll_acquire_many(context, charge)) {
            room.forget();
        }
        self.flow.sent.fetch_add(u64::from(charge), Ordering::Relaxed);
        Poll::Ready(())
    }

    /// Returns a mark if one should be sent now.
    pub(crate) fn mark(&self) -> Option<Bytes> {
        self.flow.mark()
    }
}

impl fmt::Debug for FlowSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowSender")
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

impl Notice {
    /// Returns a message for the subject of a server.
    pub(crate) fn encode(self) -> Bytes {
        let (kind, server, position) = match self {
            Self::Mark { from, position } => (MARK, from, position),
            Self::Passed { at, position } => (PASSED, at, position),
        };
        let mut message = BytesMut::with_capacity(25);
        message.put_u64_le(NO_LINK);
        message.put_u8(kind);
        message.put_u64_le(server);
        message.put_u64_le(position);
        message.freeze()
    }

    /// Reads a message without its link. Returns `None` if it is malformed.
    pub(crate) fn decode(mut message: Bytes) -> Option<Self> {
        let kind = message.try_get_u8().ok()?;
        let server = message.try_get_u64_le().ok()?;
        let position = message.try_get_u64_le().ok()?;
        match kind {
            MARK => Some(Self::Mark { from: server, position }),
            PASSED => Some(Self::Passed { at: server, position }),
            _ => None,
        }
    }
}

const MARK: u8 = 0;
const PASSED: u8 = 1;

/// How many marks are sent within a window.
const MARKS: u32 = 4;

/// Approximate bytes of a message beside its payload, at NATS.
const MESSAGE: u32 = 128;

const SMALLEST_WINDOW: u32 = 1024;

/// How long a mark may take to come back before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use tokio::task::coop::unconstrained;

    use super::*;

    const MAX_PAYLOAD: usize = 64 * 1024;

    /// Sends a message if there is room. Returns whether there was.
    fn send(sender: &mut FlowSender, length: usize) -> bool {
        let message = Bytes::from(vec![0; length]);
        let room = poll_fn(|context| sender.poll_room(&message, context));
        unconstrained(room).now_or_never().is_some()
    }

    fn position(mark: Bytes) -> u64 {
        let mut mark = mark;
        assert_eq!(mark.get_u64_le(), NO_LINK);
        match Notice::decode(mark) {
            Some(Notice::Mark { from: 1, position }) => position,
            other => panic!("{other:?}"),
        }
    }

    /// Sends until there is no room. Returns the positions of the marks, and how much was sent.
    fn fill(sender: &mut FlowSender, length: usize) -> (Vec<u64>, usize) {
        let (mut marks, mut count) = (Vec::new(), 0);
        while send(sender, length) {
            count += 1;
            marks.extend(sender.mark().map(position));
        }
        (marks, count * length)
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_on_its_way_than_the_window_and_marks_make_room() {
        let flows = Flows::default();
        for length in [0, 10, 1000, 7000, flows.to(2, 1, MAX_PAYLOAD).largest_message()] {
            let flows = Flows::default();
            let mut sender = FlowSender::new(flows.to(2, 1, MAX_PAYLOAD));
            let (marks, sent) = fill(&mut sender, length);
            assert!(sent <= MAX_PAYLOAD / 4, "{length}: {sent}");
            assert!(!marks.is_empty(), "{length}");
            for mark in marks {
                flows.passed(2, mark);
                flows.passed(2, mark);
                assert!(send(&mut sender, length), "{length}");
            }
            assert!(fill(&mut sender, length).1 <= MAX_PAYLOAD / 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_one_hop_waits_for_is_not_taken_by_others_and_comes_with_a_mark() {
        let flows = Flows::default();
        let flow = flows.to(2, 1, MAX_PAYLOAD);
        let [mut first, mut second, mut third] = [(); 3].map(|()| FlowSender::new(Arc::clone(&flow)));
        let (marks, _) = fill(&mut first, 1000);
        let large = Bytes::from(vec![0; 8000]);
        let mut waiting = Box::pin(poll_fn(|context| second.poll_room(&large, context)));
        assert!(waiting.as_mut().now_or_never().is_none());
        flows.passed(2, marks[0]);
        assert!(waiting.as_mut().now_or_never().is_none() && !send(&mut third, 10));
        flows.passed(2, *marks.last().expect("there are marks"));
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_makes_room_after_a_while() {
        let flows = Flows::default();
        let mut sender = FlowSender::new(flows.to(2, 1, MAX_PAYLOAD));
        let (_, first) = fill(&mut sender, 1000);
        flows.check(|_| true);
        tokio::time::advance(PATIENCE / 2).await;
        flows.check(|_| true);
        assert!(!send(&mut sender, 1000));
        tokio::time::advance(PATIENCE * 2).await;
        flows.check(|_| true);
        let (marks, second) = fill(&mut sender, 1000);
        assert_eq!(first, second);
        // A wrong position gives no more room than there is.
        flows.passed(2, u64::MAX);
        flows.passed(2, marks[0]);
        assert_eq!(fill(&mut sender, 1000).1, first);
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_is_not_used_comes_back() {
        let flows = Flows::default();
        let flow = flows.to(2, 1, MAX_PAYLOAD);
        // Hops that are dropped before they send.
        while send(&mut FlowSender::new(Arc::clone(&flow)), 1000) {}
        flows.check(|_| true);
        tokio::time::advance(PATIENCE * 2).await;
        flows.check(|_| true);
        assert!(send(&mut FlowSender::new(flow), 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_is_not_lost_while_marks_come_back() {
        let flows = Flows::default();
        let mut sender = FlowSender::new(flows.to(2, 1, MAX_PAYLOAD));
        let (marks, _) = fill(&mut sender, 1000);
        flows.check(|_| true);
        for mark in &marks[..2] {
            tokio::time::advance(PATIENCE * 3 / 4).await;
            flows.passed(2, *mark);
            flows.check(|_| true);
        }
        let room = fill(&mut sender, 1000).1 as u64;
        assert!(room <= marks[1], "{room} {marks:?}");
        flows.check(|server| server != 2);
        assert_eq!(flows.lock().len(), 0);
    }

    #[test]
    fn notices_are_read_as_they_were_written() {
        for notice in [
            Notice::Mark { from: 3, position: 4 },
            Notice::Passed {
                at: u64::MAX,
                position: 1,
            },
        ] {
            let mut message = notice.encode();
            assert_eq!(message.get_u64_le(), NO_LINK);
            for length in 0..message.len() {
                assert_eq!(Notice::decode(message.slice(..length)), None);
            }
            assert_eq!(Notice::decode(message), Some(notice));
        }
        assert_eq!(Notice::decode(Bytes::from_static(&[9; 17])), None);
    }
}
