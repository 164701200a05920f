//! The application's unit: a message, and the lane it travels on.

use std::fmt;
use std::ops::{Deref, Index, IndexMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// One of the two ordered streams of each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// For what people wait for. Goes first.
    Interactive,
    /// For what is large: uploads, downloads. Never delays the interactive lane by more than its window.
    Bulk,
}

impl Lane {
    /// Both lanes, the interactive one first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];
}

/// A value for each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerLane<T> {
    /// The interactive lane's.
    pub interactive: T,
    /// The bulk lane's.
    pub bulk: T,
}

impl<T> PerLane<T> {
    /// One value for each lane.
    pub const fn new(interactive: T, bulk: T) -> Self {
        Self { interactive, bulk }
    }

    /// The value that `make` gives for each lane.
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

/// A binary message. Cheap to clone: clones share their bytes.
///
/// Anything that holds bytes turns into one: `Vec<u8>`, [`Bytes`], `String`, arrays, `&'static [u8]` and `&'static str`.
#[derive(Clone)]
pub struct Message {
    pub(crate) payload: Bytes,
    pub(crate) compressed: bool,
    pub(crate) lane: Lane,
    pub(crate) shared: Option<Arc<SharedBytes>>,
}

impl Message {
    /// A message with these bytes.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            compressed: false,
            lane: Lane::Interactive,
            shared: None,
        }
    }

    /// The same message, as it came on `lane`.
    #[must_use]
    pub fn on(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    /// The lane it came on.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// What it shares with the outboxes of other sessions, if it was made for many.
    pub fn shared_bytes(&self) -> Option<&SharedBytes> {
        self.shared.as_deref()
    }

    /// The same message for many sessions, whose outboxes share `bytes`.
    #[must_use]
    pub fn into_shared(self, bytes: Arc<SharedBytes>) -> Self {
        Self {
            shared: Some(bytes),
            ..self
        }
    }

    /// The same message, to be sent as these bytes, which are its own deflated.
    #[must_use]
    pub fn into_deflated(self, deflated: Bytes) -> Self {
        Self {
            payload: deflated,
            compressed: true,
            ..self
        }
    }

    /// Replaces the bytes of [`Message::into_deflated`] by what `inflate` makes of them. A message
    /// that is not deflated stays as it is.
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

    /// The bytes, without copying.
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

/// What it was allocated for and does not use is given back: it would wait with the message.
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

/// What many outboxes share: counts a payload once, and compresses it once, for as long as any of them holds it.
#[derive(Debug)]
pub struct SharedBytes {
    held: Arc<AtomicU64>,
    size: u64,
    /// The payload deflated, or that it is not worth it; filled when the first session asks.
    deflated: OnceLock<Option<Bytes>>,
}

impl SharedBytes {
    /// Counts `size` in `held`, in bytes, until the last holder drops it.
    pub fn new(held: Arc<AtomicU64>, size: u64) -> Arc<Self> {
        held.fetch_add(size, Ordering::Relaxed);
        Arc::new(Self {
            held,
            size,
            deflated: OnceLock::new(),
        })
    }

    /// The payload deflated, or `None` if that is not worth it: what `deflate` gave the first time.
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
