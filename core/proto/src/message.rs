//! Messages of the application, and the lanes they travel on.

use std::fmt;
use std::ops::{Deref, Index, IndexMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One of the two independently ordered streams in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// For messages that people wait for. Sent first.
    Interactive,
    /// For large transfers, such as uploads and downloads. Delays the interactive lane by at most
    /// the window of the bulk lane.
    Bulk,
}

impl Lane {
    /// Both lanes, the interactive one first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];
}

/// A value for each lane. Indexed by [`Lane`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PerLane<T> {
    /// The value for the interactive lane.
    pub interactive: T,
    /// The value for the bulk lane.
    pub bulk: T,
}

impl<T> PerLane<T> {
    /// Creates a pair from a value for each lane.
    pub const fn new(interactive: T, bulk: T) -> Self {
        Self { interactive, bulk }
    }

    /// Calls `make` for each lane and collects the results.
    pub fn each(mut make: impl FnMut(Lane) -> T) -> Self {
        Self {
            interactive: make(Lane::Interactive),
            bulk: make(Lane::Bulk),
        }
    }
}

impl<T> Index<Lane> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: Lane) -> &T {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}

impl<T> IndexMut<Lane> for PerLane<T> {
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

/// A binary message. Clones share the payload, so cloning is cheap.
///
/// `Vec<u8>`, [`Bytes`], `String`, arrays, `&'static [u8]` and `&'static str` convert into a
/// message.
///
/// ```
/// use stillhere_proto::Message;
///
/// let message = Message::from("hello");
/// assert_eq!(&message[..], b"hello");
/// ```
#[derive(Clone)]
pub struct Message {
    pub(crate) payload: Bytes,
    pub(crate) compressed: bool,
    pub(crate) lane: Lane,
    pub(crate) shared: Option<Arc<SharedBytes>>,
}

impl Message {
    /// Creates a message with this payload.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            compressed: false,
            lane: Lane::Interactive,
            shared: None,
        }
    }

    /// Returns the message, marked as received on `lane`.
    #[must_use]
    pub fn on(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    /// Returns the lane on which the message was received.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Returns what the message shares with the outboxes of other sessions, if it was created for
    /// several sessions.
    pub fn shared_bytes(&self) -> Option<&SharedBytes> {
        self.shared.as_deref()
    }

    /// Returns the message for sending to several sessions, whose outboxes then share `bytes`.
    #[must_use]
    pub fn into_shared(self, bytes: Arc<SharedBytes>) -> Self {
        Self {
            shared: Some(bytes),
            ..self
        }
    }

    /// Returns the message, to be sent as `deflated`, which is its payload as a zlib stream.
    #[must_use]
    pub fn into_deflated(self, deflated: Bytes) -> Self {
        Self {
            payload: deflated,
            compressed: true,
            ..self
        }
    }

    /// Undoes [`Message::into_deflated`] with the function `inflate`. Returns other messages
    /// unchanged.
    #[must_use]
    pub fn into_inflated(self, inflate: impl FnOnce(&[u8]) -> Bytes) -> Self {
        if !self.compressed {
            return self;
        }
        Self {
            payload: inflate(&self.payload),
            compressed: false,
            ..self
        }
    }

    /// Returns a message with what [`Message::into_bytes`] and [`Message::is_compressed`] returned.
    pub fn from_parts(payload: Bytes, compressed: bool) -> Self {
        Self {
            compressed,
            ..Self::new(payload)
        }
    }

    /// Returns true if the payload is a zlib stream.
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Returns the payload without copying it.
    pub fn into_bytes(self) -> Bytes {
        self.payload
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.payload == other.payload && self.lane == other.lane
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes, {:?})", self.payload.len(), self.lane)
    }
}

macro_rules! from_bytes {
    ($($source:ty),*) => {$(
        impl From<$source> for Message {
            fn from(source: $source) -> Self {
                Self::new(source)
            }
        }
    )*};
}

from_bytes!(Bytes, &'static [u8], &'static str, Box<[u8]>);

/// Shrinks the vector to its length, because spare capacity would stay allocated while the message
/// waits.
impl From<Vec<u8>> for Message {
    fn from(source: Vec<u8>) -> Self {
        Self::new(source.into_boxed_slice())
    }
}

impl From<String> for Message {
    fn from(source: String) -> Self {
        source.into_bytes().into()
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(source: [u8; N]) -> Self {
        Self::new(Bytes::copy_from_slice(&source))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Message {
    fn from(source: &'static [u8; N]) -> Self {
        Self::new(&source[..])
    }
}

/// State that several outboxes share for one payload: it is counted once and compressed once while
/// any outbox holds it.
#[derive(Debug)]
pub struct SharedBytes {
    held: Arc<AtomicU64>,
    size: u64,
    /// The deflated payload, or `None` if compression saves too little. Set when the first session
    /// asks for it.
    deflated: OnceLock<Option<Bytes>>,
}

impl SharedBytes {
    /// Adds `size` bytes to `held`, and subtracts them when the last owner is dropped.
    pub fn new(held: Arc<AtomicU64>, size: u64) -> Arc<Self> {
        held.fetch_add(size, Ordering::Relaxed);
        Arc::new(Self {
            held,
            size,
            deflated: OnceLock::new(),
        })
    }

    /// Returns the deflated payload, or `None` if compression saves too little. Calls `deflate`
    /// only the first time.
    pub fn deflated(&self, deflate: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let deflated = self.deflated.get_or_init(|| {
            let deflated = deflate();
            self.held.fetch_add(len(deflated.as_ref()), Ordering::Relaxed);
            deflated
        });
        deflated.clone()
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        let deflated = self.deflated.get().and_then(Option::as_ref);
        self.held.fetch_sub(self.size + len(deflated), Ordering::Relaxed);
    }
}

fn len(bytes: Option<&Bytes>) -> u64 {
    bytes.map_or(0, |bytes| bytes.len() as u64)
}
