//! One direction of a connection: the bytes in transit.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::random::Random;

/// Microseconds since the start of the schedule.
pub(crate) type Time = u64;

/// Overhead of a frame in bytes, as over a WebSocket.
const HEADER: u64 = 4;

#[derive(Debug)]
pub(crate) enum Item {
    Frame(Bytes),
    /// The other side closed the connection with this code.
    Close(u64),
}

#[derive(Debug)]
struct InFlight {
    item: Item,
    bytes: u64,
    departs: Time,
    arrives: Time,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    items: VecDeque<InFlight>,
    latency: Time,
    /// Microseconds for each byte.
    per_byte: u64,
    free_at: Time,
    /// Whether the pipe is dead: what is written stays in the sender's buffer.
    dead: bool,
    stuck: u64,
    written: u64,
    /// Whether a writer waits for room.
    pub(crate) blocked: bool,
}

impl Pipe {
    pub(crate) fn new(latency: Time, per_byte: u64) -> Self {
        Self {
            items: VecDeque::new(),
            latency,
            per_byte,
            free_at: 0,
            dead: false,
            stuck: 0,
            written: 0,
            blocked: false,
        }
    }

    pub(crate) fn write(&mut self, item: Item, now: Time) {
        let bytes = match &item {
            Item::Frame(frame) => frame.len() as u64 + HEADER,
            Item::Close(_) => HEADER,
        };
        self.written += bytes;
        if self.dead {
            self.stuck += bytes;
            return;
        }
        let departs = self.free_at.max(now) + bytes * self.per_byte;
        self.free_at = departs;
        let arrives = self
            .items
            .back()
            .map_or(0, |last| last.arrives)
            .max(departs + self.latency);
        self.items.push_back(InFlight {
            item,
            bytes,
            departs,
            arrives,
        });
    }

    /// Returns the longest time that `bytes` may take from end to end if no fault occurs.
    pub(crate) fn delay(&self, bytes: u64, now: Time) -> Time {
        self.latency + (self.buffered(now) + bytes) * self.per_byte
    }

    /// Returns the number of bytes written so far, whether or not they have arrived.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the number of bytes that have not left the sender.
    pub(crate) fn buffered(&self, now: Time) -> u64 {
        self.stuck
            + self
                .items
                .iter()
                .rev()
                .take_while(|item| item.departs > now)
                .map(|item| item.bytes)
                .sum::<u64>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns when the next item arrives.
    pub(crate) fn arrival(&self) -> Option<Time> {
        self.items.front().map(|item| item.arrives)
    }

    /// Returns when the next bytes leave the sender, if a writer waits for that.
    pub(crate) fn drain(&self, now: Time) -> Option<Time> {
        let mut departs = self.items.iter().map(|item| item.departs);
        if self.blocked {
            departs.find(|departs| *departs > now)
        } else {
            None
        }
    }

    pub(crate) fn receive(&mut self, now: Time) -> Option<Item> {
        let arrived = self.items.front().is_some_and(|item| item.arrives <= now);
        if arrived {
            self.items.pop_front().map(|item| item.item)
        } else {
            None
        }
    }

    /// Blocks all bytes for a while.
    pub(crate) fn stall(&mut self, wait: Time, now: Time) {
        self.free_at = self.free_at.max(now) + wait;
        for item in &mut self.items {
            item.arrives += wait;
            if item.departs > now {
                item.departs += wait;
            }
        }
    }

    /// Cuts the pipe at any byte. Frames that are not complete before that byte are lost, and so is
    /// everything written later.
    pub(crate) fn cut(&mut self, late: Time, random: &mut Random) {
        if std::mem::replace(&mut self.dead, true) {
            return;
        }
        let on_its_way = self.items.iter().map(|item| item.bytes).sum();
        let mut passing = match random.upto(3) {
            0 => 0,
            1 => on_its_way,
            _ => random.upto(on_its_way),
        };
        let whole = self.items.iter().take_while(|item| {
            let passes = item.bytes <= passing && matches!(item.item, Item::Frame(_));
            passing = passing.saturating_sub(item.bytes);
            passes
        });
        let whole = whole.count();
        self.stuck += self.items.drain(whole..).map(|item| item.bytes).sum::<u64>();
        self.items.iter_mut().for_each(|item| item.arrives += late);
    }
}
