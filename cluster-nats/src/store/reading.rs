//! Makes a record of the messages of a session.

use stillhere::SessionId;
use stillhere::durable::{Record, StoreError};

use crate::store::content::Content;
use crate::store::label::{CommitId, Kind, Label, Unreadable};
use crate::store::stream::{Stored, Stream};

/// What the last message of a session says about its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The sequence of the last message; 0 if there is none.
    pub(super) tail: u64,
    /// The revision of the record; 0 if there is none.
    pub(super) revision: u64,
    /// What wrote the last message.
    pub(super) last: Option<Written>,
}

/// Who wrote a message, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) commit: CommitId,
    pub(super) kind: Kind,
    pub(super) part: u32,
    pub(super) is_last_part: bool,
    /// The sequence of the message with which the whole record begins.
    pub(super) base: u64,
}

/// A record, and how it is stored.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) record: Record,
    pub(super) tail: u64,
    /// The sequence of the message with which the whole record begins.
    pub(super) base: u64,
    /// The size of the whole record, and of its changes, in bytes.
    pub(super) sizes: (usize, usize),
    /// How many changes there are.
    pub(super) changes: u32,
}

impl Place {
    pub(super) fn of(last: Option<&Stored>) -> Result<Self, Unreadable> {
        let Some(stored) = last else {
            return Ok(Self {
                tail: 0,
                revision: 0,
                last: None,
            });
        };
        let label = stored.label.as_ref().map_err(|error| *error)?;
        Ok(Self {
            tail: stored.sequence,
            revision: revision_of(label, stored.sequence),
            last: Some(Written {
                commit: label.commit,
                kind: label.kind,
                part: label.part.0,
                is_last_part: label.is_last_part(),
                base: base_of(label, stored.sequence),
            }),
        })
    }

    /// Returns true if the record was removed, or never was there.
    pub(super) fn is_vacant(&self) -> bool {
        self.last.is_none_or(|last| last.kind == Kind::Removal)
    }
}

/// Returns the revision of a record whose last message has this label.
pub(super) fn revision_of(label: &Label, sequence: u64) -> u64 {
    match label.kind {
        Kind::Removal => 0,
        // Parts count only when all are there.
        _ if !label.is_last_part() => label.replaces,
        Kind::Whole | Kind::Changes => sequence,
    }
}

fn base_of(label: &Label, sequence: u64) -> u64 {
    if label.base == 0 { sequence } else { label.base }
}

/// Reads a record. One that is damaged is set aside.
pub(super) async fn read(stream: &Stream, id: &SessionId) -> Result<Option<Read>, StoreError> {
    for _ in 0..ATTEMPTS {
        let Some(last) = stream.last(id).await? else {
            return Ok(None);
        };
        let tail = last.sequence;
        let damage = match assemble(stream, id, last).await {
            Ok(read) => return Ok(read),
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Unreadable(damage)) => damage,
        };
        // Messages are missing too when somebody replaces the record while it is read.
        if stream.last(id).await?.is_none_or(|last| last.sequence != tail) {
            continue;
        }
        match damage {
            Unreadable::Newer => {
                return Err(StoreError::Failed(
                    "the record was written by a newer version of stillhere: run that version".to_owned(),
                ));
            }
            Unreadable::Damaged => {
                tracing::error!(session = %id, sequence = tail, "set a damaged record aside: its session is lost");
                set_aside(stream, id, tail).await?;
                return Ok(None);
            }
        }
    }
    Err(StoreError::Failed(
        "other processes replace the record while it is read".to_owned(),
    ))
}

enum Failure {
    Store(StoreError),
    Unreadable(Unreadable),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

async fn assemble(stream: &Stream, id: &SessionId, last: Stored) -> Result<Option<Read>, Failure> {
    let place = Place::of(Some(&last))?;
    if place.revision == 0 {
        return Ok(None);
    }
    let end = if place.revision == last.sequence {
        last
    } else {
        message_at(stream, id, place.revision).await?
    };
    let label = end.label.as_ref().map_err(|error| *error)?;
    let (end_at, base) = (end.sequence, base_of(label, end.sequence));
    let mut assembly = Assembly::default();
    let mut from = base;
    while from < end_at {
        let next = stream.next(id, from).await?.ok_or(Unreadable::Damaged)?;
        if next.sequence >= end_at {
            break;
        }
        from = next.sequence + 1;
        assembly.push(next)?;
    }
    assembly.push(end)?;
    let read = assembly.read;
    if read.record.revision != end_at || read.base != base {
        return Err(Unreadable::Damaged.into());
    }
    Ok(Some(Read {
        tail: place.tail,
        ..read
    }))
}

async fn message_at(stream: &Stream, id: &SessionId, sequence: u64) -> Result<Stored, Failure> {
    match stream.next(id, sequence).await? {
        Some(stored) if stored.sequence == sequence => Ok(stored),
        _ => Err(Unreadable::Damaged.into()),
    }
}

/// Puts messages together.
#[derive(Debug, Default)]
struct Assembly {
    read: Read,
    group: Option<Group>,
}

/// The parts of a commit so far.
#[derive(Debug)]
struct Group {
    label: Label,
    /// The sequence of the first part.
    begin: u64,
    payload: Vec<u8>,
}

impl Assembly {
    fn push(&mut self, stored: Stored) -> Result<(), Unreadable> {
        let label = stored.label?;
        if !label.fits(&stored.payload) {
            return Err(Unreadable::Damaged);
        }
        let group = match self.group.take() {
            _ if label.is_first_part() => Group {
                begin: stored.sequence,
                payload: stored.payload.into(),
                label,
            },
            Some(mut group) if group.is_continued_by(&label) => {
                group.payload.extend_from_slice(&stored.payload);
                group.label = label;
                group
            }
            _ => return Err(Unreadable::Damaged),
        };
        if group.label.is_last_part() {
            self.apply(&group, stored.sequence)
        } else {
            self.group = Some(group);
            Ok(())
        }
    }

    fn apply(&mut self, group: &Group, sequence: u64) -> Result<(), Unreadable> {
        let size = group.payload.len();
        match group.label.kind {
            Kind::Whole => {
                self.read = Read {
                    base: group.begin,
                    sizes: (size, 0),
                    ..Read::default()
                };
            }
            // Each change names the one before it, so that a missing one is noticed.
            Kind::Changes if group.label.replaces == self.read.record.revision => {
                self.read.sizes.1 += size;
                self.read.changes += 1;
            }
            Kind::Changes | Kind::Removal => return Err(Unreadable::Damaged),
        }
        let content = Content::decode(&group.payload).ok_or(Unreadable::Damaged)?;
        content.apply_to(&mut self.read.record, sequence);
        Ok(())
    }
}

impl Group {
    fn is_continued_by(&self, label: &Label) -> bool {
        label.commit == self.label.commit && label.part == (self.label.part.0 + 1, self.label.part.1)
    }
}

/// Moves the messages of a session up to this one out of the way.
async fn set_aside(stream: &Stream, id: &SessionId, tail: u64) -> Result<(), StoreError> {
    let (mut from, mut is_first) = (1, true);
    while let Some(message) = stream.next(id, from).await? {
        if message.sequence > tail {
            break;
        }
        from = message.sequence + 1;
        stream
            .set_aside(id, message, std::mem::replace(&mut is_first, false))
            .await?;
    }
    stream.purge_before(id, tail + 1).await
}

/// How often a record is read again that others replace at the same time.
const ATTEMPTS: usize = 5;
