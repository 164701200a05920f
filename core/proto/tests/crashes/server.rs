//! A process of the server: the session's machine, its ledger, and its function.

use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use stillhere_proto::machine::{ConnectionKey, Ledger, Phase, Saved, SessionMachine, Timing, Turns};
use stillhere_proto::wire::{Frame, Hello};
use stillhere_proto::{Lane, Limits, Message, PerLane};

use crate::random::Random;
use crate::store::Record;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Written when the process is told to stop.
    Restart,
    /// Written before it counts.
    Crash,
}

/// The state of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// The document that the numbers are for.
    pub(crate) incarnation: u64,
    /// The last number taken.
    pub(crate) taken: PerLane<u64>,
    /// The last number sent.
    pub(crate) sent: PerLane<u64>,
}

pub(crate) struct Server {
    durability: Durability,
    pub(crate) machine: SessionMachine,
    ledger: Ledger,
    pub(crate) state: State,
    committed: State,
    /// A commit that the store may or may not have carried out.
    pub(crate) committing: Option<Turns>,
}

impl Server {
    pub(crate) fn start(durability: Durability, limits: Limits, record: &mut Record, seed: u64, now: Instant) -> Self {
        record.saved.generation += 1;
        let machine = SessionMachine::new(limits, Timing::default(), seed, now)
            .into_durable(durability == Durability::Crash)
            .reopen(&record.saved, record.rows.clone(), now);
        let state = State::decode(record.state.clone());
        Self {
            durability,
            ledger: Ledger::reopen(&machine, &record.saved),
            machine,
            state,
            committed: state,
            committing: None,
        }
    }

    pub(crate) fn hello(&mut self, key: ConnectionKey, hello: &Hello, now: Instant) {
        self.machine.handle_hello(key, hello, 60_000, now);
        self.follow();
    }

    pub(crate) fn frame(&mut self, key: ConnectionKey, bytes: Bytes, now: Instant) {
        self.machine.handle_frame(key, bytes, now);
        self.follow();
    }

    fn follow(&mut self) {
        if self.durability == Durability::Crash {
            self.ledger.follow(&self.machine);
        }
        while self.machine.poll_event().is_some() {}
    }

    /// The function reads: its turn ends.
    pub(crate) fn end_turn(&mut self, now: Instant) {
        match self.durability {
            Durability::Restart => {
                let saved = Saved {
                    incarnation: self.machine.incarnation(),
                    lanes: self.machine.save(),
                    ..Default::default()
                };
                self.machine.handle_counted(&saved, now);
            }
            Durability::Crash => {
                let changed = (self.state != self.committed).then(|| self.state.encode());
                self.committed = self.state;
                self.ledger.end_turn(changed, &self.machine);
            }
        }
    }

    /// The function takes a message, if there is one, and sends some.
    pub(crate) fn turn(&mut self, random: &mut Random, most: u64, now: Instant) -> Result<(), String> {
        let taken = self.machine.take(now);
        if let Some((lane, received)) = taken {
            self.begin_document(received.incarnation);
            let (incarnation, number) = decode(received.into_bytes());
            if incarnation != self.state.incarnation || number != self.state.taken[lane] + 1 {
                return Err(format!(
                    "the function took {number} of document {incarnation} on {lane:?} with {:?}",
                    self.state
                ));
            }
            self.state.taken[lane] = number;
        } else if self.machine.next_incarnation().is_none() {
            self.begin_document(self.machine.incarnation());
        }
        for _ in 0..random.upto(most) {
            let lane = random.pick(&Lane::ALL);
            let most = self.machine.limits().message.min(700) - HEADER as u64;
            let size = random.upto(most) as usize;
            if self.state.incarnation != self.machine.incarnation() || self.is_full(lane, size) {
                break;
            }
            self.state.sent[lane] += 1;
            let message = encode(self.state.incarnation, self.state.sent[lane], size);
            match self.durability {
                Durability::Restart => self.machine.send(lane, message),
                Durability::Crash => self.ledger.push(lane, message),
            }
        }
        Ok(())
    }

    fn begin_document(&mut self, incarnation: u64) {
        if incarnation > self.state.incarnation {
            self.state = State {
                incarnation,
                ..State::default()
            };
        }
    }

    fn is_full(&self, lane: Lane, size: usize) -> bool {
        let size = size + HEADER;
        match self.durability {
            Durability::Restart => !self.machine.admits(lane, size),
            Durability::Crash => !self.ledger.admits(lane, size, self.machine.outgoing(lane)),
        }
    }

    pub(crate) fn begin_commit(&mut self) {
        if let Some(turns) = self.ledger.poll_commit(&self.machine) {
            self.committing = Some(turns);
        }
    }

    pub(crate) fn committed(&mut self, now: Instant) {
        self.committing = None;
        self.ledger.handle_committed(&mut self.machine, now);
        self.follow();
    }

    pub(crate) fn commit_failed(&mut self) {
        if let Some(turns) = self.committing.take() {
            self.ledger.handle_failed(turns);
        }
    }

    /// Saves everything, because another process goes on.
    pub(crate) fn hand_over(&mut self, record: &mut Record, now: Instant) {
        self.end_turn(now);
        match self.durability {
            Durability::Restart => {
                record.state = self.state.encode();
                record.rows = self.machine.rows();
                record.saved = Saved {
                    document: self.machine.document(),
                    incarnation: self.machine.incarnation(),
                    generation: record.saved.generation,
                    lanes: self.machine.save(),
                    queued: self.machine.queued_charge(),
                };
            }
            Durability::Crash => {
                self.commit_failed();
                self.begin_commit();
                if let Some(turns) = &self.committing {
                    record.commit(turns, self.machine.acknowledged());
                    self.committed(now);
                }
            }
        }
    }

    pub(crate) fn poll(&mut self, key: ConnectionKey, now: Instant) -> Option<Frame> {
        self.machine.poll_transmit(key, now)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        match self.machine.phase() {
            Phase::Closed(reason) => Err(format!("the session has ended: {reason}")),
            _ => Ok(()),
        }
    }
}

const HEADER: usize = 16;

pub(crate) fn encode(incarnation: u64, number: u64, padding: usize) -> Message {
    let mut bytes = BytesMut::new();
    bytes.put_u64(incarnation);
    bytes.put_u64(number);
    bytes.put_bytes(7, padding);
    Message::new(bytes.freeze())
}

pub(crate) fn decode(mut bytes: Bytes) -> (u64, u64) {
    (bytes.get_u64(), bytes.get_u64())
}

impl State {
    fn encode(&self) -> Bytes {
        let numbers = [
            self.incarnation,
            self.taken.interactive,
            self.taken.bulk,
            self.sent.interactive,
            self.sent.bulk,
        ];
        numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect::<Vec<_>>()
            .into()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        Self {
            incarnation: bytes.get_u64(),
            taken: PerLane::new(bytes.get_u64(), bytes.get_u64()),
            sent: PerLane::new(bytes.get_u64(), bytes.get_u64()),
        }
    }
}
