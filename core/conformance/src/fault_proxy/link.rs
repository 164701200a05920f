//! The bytes of one direction, in transit from one socket to the other.

use std::collections::VecDeque;
use std::future::pending;
use std::io;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Settings;
use super::ending::Ending;
use super::orders::Mode;

/// What one step of a [`Link`] did.
pub(super) enum Event {
    Nothing,
    Received(Bytes),
    Passed(usize),
    Finished,
}

/// The bytes of one direction, from one socket over the delay to the other. Each step may be
/// dropped without loss.
pub(super) struct Link<'a> {
    settings: &'a watch::Sender<Settings>,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    /// Bytes that were read and not yet passed on, each with the time when that may happen.
    queue: VecDeque<(Instant, Bytes)>,
    queued_bytes: usize,
    /// How the source ended, and when the destination may be told. Nothing is read afterwards.
    end: Option<(Instant, SourceEnd)>,
    /// How many more bytes the link may pass.
    pub(super) allowance: Option<u64>,
}

#[derive(Clone, Copy)]
enum SourceEnd {
    Closed,
    Broken,
}

impl<'a> Link<'a> {
    pub(super) fn new(settings: &'a watch::Sender<Settings>, from: ReadHalf<'a>, to: WriteHalf<'a>) -> Self {
        Self {
            settings,
            from,
            to,
            queue: VecDeque::new(),
            queued_bytes: 0,
            end: None,
            allowance: None,
        }
    }

    pub(super) async fn step(&mut self, mode: Mode) -> Result<Event, Ending> {
        match mode {
            Mode::Stalled(until) if Instant::now() < until => {
                sleep_until(until).await;
                Ok(Event::Nothing)
            }
            Mode::Passing | Mode::Stalled(_) => self.pass().await,
            Mode::BlackHole => self.swallow().await,
            Mode::Silent | Mode::Cut | Mode::Reset | Mode::Closed => pending().await,
        }
    }

    async fn pass(&mut self) -> Result<Event, Ending> {
        let due = self.queue.front().map(|(due, _)| *due).or(self.end.map(|(due, _)| due));
        select! {
            _ = self.from.readable(), if self.has_room() => Ok(self.receive()),
            () = deliverable(&self.to, due) => self.deliver().await,
        }
    }

    fn has_room(&self) -> bool {
        let delayed = !self.settings.borrow().delay.is_zero();
        let room = if delayed {
            self.queued_bytes < MAX_QUEUED_BYTES && self.queue.len() < MAX_QUEUED_CHUNKS
        } else {
            self.queue.is_empty()
        };
        room && self.end.is_none()
    }

    fn receive(&mut self) -> Event {
        let Some(bytes) = self.read() else {
            return Event::Nothing;
        };
        self.queue.push_back((self.due(), bytes.clone()));
        self.queued_bytes += bytes.len();
        Event::Received(bytes)
    }

    fn read(&mut self) -> Option<Bytes> {
        let mut buffer = [0; CHUNK_BYTES];
        match self.from.try_read(&mut buffer) {
            Ok(0) => self.end = Some((self.due(), SourceEnd::Closed)),
            Ok(length) => return Some(Bytes::copy_from_slice(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.end = Some((self.due(), SourceEnd::Broken)),
        }
        None
    }

    fn due(&self) -> Instant {
        Instant::now() + self.settings.borrow().delay
    }

    async fn deliver(&mut self) -> Result<Event, Ending> {
        match (self.queue.is_empty(), self.end) {
            (false, _) => self.write_front(),
            (true, Some((_, SourceEnd::Closed))) => {
                self.to.shutdown().await.map_err(|_| Ending::Reset)?;
                Ok(Event::Finished)
            }
            (true, Some((_, SourceEnd::Broken))) => Err(Ending::Reset),
            (true, None) => Ok(Event::Nothing),
        }
    }

    fn write_front(&mut self) -> Result<Event, Ending> {
        let Some((_, front)) = self.queue.front_mut() else {
            return Ok(Event::Nothing);
        };
        let allowed = front.len().min(self.allowance.map_or(usize::MAX, saturating_usize));
        let length = match self.to.try_write(&front[..allowed]) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Event::Nothing),
            Err(_) => return Err(Ending::Reset),
        };
        front.advance(length);
        if front.is_empty() {
            self.queue.pop_front();
        }
        self.queued_bytes -= length;
        self.allowance = self.allowance.map(|allowance| allowance - length as u64);
        Ok(Event::Passed(length))
    }

    async fn swallow(&mut self) -> Result<Event, Ending> {
        self.queue.clear();
        self.queued_bytes = 0;
        if self.end.is_some() {
            return pending().await;
        }
        if self.from.readable().await.is_ok() {
            self.read();
        }
        Ok(Event::Nothing)
    }
}

/// Completes when data is due and the destination takes bytes or is broken. Never completes if no
/// data is due.
async fn deliverable(to: &WriteHalf<'_>, due: Option<Instant>) {
    let Some(due) = due else { return pending().await };
    if Instant::now() < due {
        sleep_until(due).await;
    }
    // The write finds the same error, and handles it.
    let _ = to.writable().await;
}

pub(super) fn saturating_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Most bytes that one read takes.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;
/// Most bytes in transit in one direction while there is a delay.
pub(super) const MAX_QUEUED_BYTES: usize = 1024 * 1024;
/// Bounds the cost of small reads, each of which has its own entry.
const MAX_QUEUED_CHUNKS: usize = 4096;
