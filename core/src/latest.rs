//! Newest messages by key. They wait outside the outbox, so that a newer one can replace them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stillhere_proto::{Limits, Message};

/// The newest messages of a session that wait for a connection, and which are on their way.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    /// Keys of which a message waits or is on its way.
    keys: HashMap<Arc<str>, Key>,
    /// Keys of which a message waits, in the order in which they began to wait.
    waiting: VecDeque<Arc<str>>,
    /// Messages that were queued and are not acknowledged, oldest first.
    on_their_way: VecDeque<Queued>,
    /// How many keys ever began to wait.
    begun: u64,
    charge: u64,
    /// The part of the charge whose bytes are not shared with other sessions.
    owned: u64,
}

#[derive(Debug, Default)]
struct Key {
    waiting: Option<Waiting>,
    /// How many messages are on their way, and their charge.
    queued: usize,
    queued_charge: u64,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    charge: u64,
    /// The message is queued once the frames up to this sequence have been written.
    after: u64,
    /// The value of [`Latest::begun`] when the key began to wait.
    number: u64,
}

#[derive(Debug)]
struct Queued {
    key: Arc<str>,
    sequence: u64,
    charge: u64,
}

/// A message to be queued now.
pub(crate) struct Due {
    pub(crate) key: Arc<str>,
    pub(crate) charge: u64,
    pub(crate) message: Message,
}

impl Latest {
    /// Returns true if the key is in use, or there is room for another one.
    pub(crate) fn admits(&self, key: &str) -> bool {
        self.keys.len() < MOST_KEYS || self.keys.contains_key(key)
    }

    /// Sets the newest message of a key that [`Latest::admits`] has admitted. `after` is the last
    /// sequence that is queued. A message that replaces one keeps its place.
    pub(crate) fn set(&mut self, key: &str, message: Message, after: u64, limits: &Limits) {
        let charge = limits.charge(message.len());
        let known = self.keys.get_key_value(key).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| key.into());
        let waiting = self.take(&key);
        if waiting.is_none() {
            self.waiting.push_back(Arc::clone(&key));
            self.begun += 1;
        }
        self.charge += charge;
        if message.shared_bytes().is_none() {
            self.owned += charge;
        }
        let (after, number) = waiting.map_or((after, self.begun), |before| (before.after, before.number));
        self.keys.entry(key).or_default().waiting = Some(Waiting {
            message,
            charge,
            after,
            number,
        });
    }

    /// Takes the message that waits of a key.
    fn take(&mut self, key: &Arc<str>) -> Option<Waiting> {
        let waiting = self.keys.get_mut(key)?.waiting.take()?;
        self.charge -= waiting.charge;
        if waiting.message.shared_bytes().is_none() {
            self.owned -= waiting.charge;
        }
        Some(waiting)
    }

    /// Takes the next message that may be queued, now that the connection has written the frames up
    /// to `written`.
    pub(crate) fn poll(&mut self, written: u64) -> Option<Due> {
        let waiting = self.waiting.iter().map(|key| &self.keys[key]);
        let position = waiting
            .take_while(|key| !key.is_after(written))
            .position(|key| !key.is_full())?;
        let key = self.waiting.remove(position)?;
        let Waiting { message, charge, .. } = self.take(&key)?;
        Some(Due { key, charge, message })
    }

    /// Takes all messages, in order, because no later ones can replace them.
    pub(crate) fn take_all(&mut self) -> Vec<Message> {
        let waiting = std::mem::take(&mut self.waiting);
        let taken = waiting.iter().filter_map(|key| self.take(key));
        taken.map(|waiting| waiting.message).collect()
    }

    /// Records that a message was queued. `sequence` is that of its last frame.
    pub(crate) fn note_queued(&mut self, key: Arc<str>, charge: u64, sequence: u64) {
        let state = self.keys.entry(Arc::clone(&key)).or_default();
        state.queued += 1;
        state.queued_charge += charge;
        self.on_their_way.push_back(Queued { key, sequence, charge });
    }

    /// Forgets the messages that the browser has acknowledged.
    pub(crate) fn acknowledge(&mut self, acknowledged: u64) {
        while self
            .on_their_way
            .front()
            .is_some_and(|queued| queued.sequence <= acknowledged)
            && let Some(queued) = self.on_their_way.pop_front()
            && let Some(state) = self.keys.get_mut(&queued.key)
        {
            state.queued -= 1;
            state.queued_charge -= queued.charge;
            if state.queued == 0 && state.waiting.is_none() {
                self.keys.remove(&queued.key);
            }
        }
    }

    /// Places all messages that wait behind what is queued up to this sequence.
    pub(crate) fn postpone(&mut self, after: u64) {
        let waiting = self.keys.values_mut().filter_map(|key| key.waiting.as_mut());
        waiting.for_each(|waiting| waiting.after = after);
    }

    /// Returns true if nothing waits and nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns how many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many keys ever began to wait.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// Returns true if a key waits that was among the first `begun` to begin.
    pub(crate) fn waits_since(&self, begun: u64) -> bool {
        let first = self.waiting.front().and_then(|key| self.keys[key].waiting.as_ref());
        first.is_some_and(|waiting| waiting.number <= begun)
    }

    pub(crate) fn charge(&self) -> u64 {
        self.charge
    }

    pub(crate) fn owned(&self) -> u64 {
        self.owned
    }
}

impl Key {
    /// Returns true if the message waits for more than the frames up to `written`.
    fn is_after(&self, written: u64) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.after > written)
    }

    /// Returns true if so much is on its way that the next message has to wait for an
    /// acknowledgement.
    fn is_full(&self) -> bool {
        let charge = self.waiting.as_ref().map_or(0, |waiting| waiting.charge);
        self.queued >= MOST_QUEUED || self.queued > 0 && self.queued_charge + charge > MOST_QUEUED_CHARGE
    }
}

/// Keys of a session of which a message waits or is on its way.
pub(crate) const MOST_KEYS: usize = 1024;

/// Messages of a key that may be on their way. If the connection turns out to be lost, they are
/// sent again. A browser acknowledges after at most 200 ms, so a key changes up to 80 times a
/// second.
const MOST_QUEUED: usize = 16;

/// Charge in bytes of a key's messages that may be on their way, besides a single larger one.
const MOST_QUEUED_CHARGE: u64 = 64 * 1024;
