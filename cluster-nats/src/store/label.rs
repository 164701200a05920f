//! What a message of the stream says about itself, in a header.

use std::fmt;
use std::time::Duration;

use stillhere::SessionId;

/// The header of a message that holds its label.
pub(super) const HEADER: &str = "Stillhere-Record";

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// What a message says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) kind: Kind,
    /// The commit that the message belongs to.
    pub(super) commit: CommitId,
    /// The revision that the record had before; 0 if there was none.
    pub(super) replaces: u64,
    /// The sequence of the message with which the whole record begins that this one changes; 0 if
    /// this message is itself the beginning.
    pub(super) base: u64,
    /// The number of this part, from 1, and of all parts of the commit.
    pub(super) part: (u32, u32),
    /// How long the record is kept.
    pub(super) keep: Duration,
    /// Checksum of the payload.
    pub(super) payload: u32,
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole record.
    Whole,
    /// Changes of the record that the messages before it make.
    Changes,
    /// Nothing: the record was removed.
    Removal,
}

/// Identifies one commit of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CommitId {
    /// A random number of the store.
    pub(super) writer: u64,
    /// The number of the commit within the store.
    pub(super) number: u64,
}

/// Why a label cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    Damaged,
    Newer,
}

impl Label {
    /// Returns true if the commit counts with this message.
    pub(super) fn is_last_part(&self) -> bool {
        self.part.0 == self.part.1
    }

    pub(super) fn is_first_part(&self) -> bool {
        self.part.0 == 1
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        crc32fast::hash(payload) == self.payload
    }

    /// Returns the text of the header. A checksum over it and the session ends it.
    pub(super) fn encode(&self, id: &SessionId) -> String {
        let text = format!("{FORMAT} {self}");
        let sum = checksum(id, &text);
        format!("{text} {sum:08x}")
    }

    /// Undoes [`Label::encode`].
    pub(super) fn decode(id: &SessionId, header: &str) -> Result<Self, Unreadable> {
        let (format, _) = header.split_once(' ').ok_or(Unreadable::Damaged)?;
        match format.parse::<u32>() {
            Ok(FORMAT) => Self::decode_fields(id, header).ok_or(Unreadable::Damaged),
            Ok(newer) if newer > FORMAT => Err(Unreadable::Newer),
            _ => Err(Unreadable::Damaged),
        }
    }

    fn decode_fields(id: &SessionId, header: &str) -> Option<Self> {
        let (text, sum) = header.rsplit_once(' ')?;
        if u32::from_str_radix(sum, 16).ok()? != checksum(id, text) {
            return None;
        }
        let mut fields = text.split(' ').skip(1);
        let kind = Kind::of(fields.next()?)?;
        let writer = u64::from_str_radix(fields.next()?, 16).ok()?;
        let mut number = || fields.next()?.parse::<u64>().ok();
        let label = Self {
            kind,
            commit: CommitId {
                writer,
                number: number()?,
            },
            replaces: number()?,
            base: number()?,
            part: (number()?.try_into().ok()?, number()?.try_into().ok()?),
            keep: Duration::from_millis(number()?),
            payload: number()?.try_into().ok()?,
        };
        let is_whole = fields.next().is_none() && (1..=label.part.1).contains(&label.part.0);
        is_whole.then_some(label)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            commit: CommitId { writer, number },
            replaces,
            base,
            part: (part, parts),
            keep,
            payload,
        } = self;
        let (kind, keep) = (kind.name(), keep.as_millis());
        write!(
            f,
            "{kind} {writer:016x} {number} {replaces} {base} {part} {parts} {keep} {payload}"
        )
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Changes => "changes",
            Self::Removal => "removal",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Whole, Self::Changes, Self::Removal]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

fn checksum(id: &SessionId, text: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            kind: Kind::Changes,
            commit: CommitId {
                writer: u64::MAX,
                number: 7,
            },
            replaces: 41,
            base: 40,
            part: (2, 3),
            keep: Duration::from_millis(61_500),
            payload: crc32fast::hash(b"payload"),
        }
    }

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let id = SessionId::from_bytes([3; 16]);
        assert_eq!(Label::decode(&id, &label().encode(&id)), Ok(label()));
        assert!(label().fits(b"payload") && !label().fits(b"Payload"));
    }

    #[test]
    fn a_label_with_one_changed_character_is_damaged() {
        let id = SessionId::from_bytes([3; 16]);
        let text = label().encode(&id);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).expect("it is ASCII");
            assert!(Label::decode(&id, &changed).is_err(), "{changed}");
        }
        let other = SessionId::from_bytes([4; 16]);
        assert_eq!(Label::decode(&other, &text), Err(Unreadable::Damaged));
        assert_eq!(Label::decode(&id, ""), Err(Unreadable::Damaged));
        assert_eq!(Label::decode(&id, "2 anything"), Err(Unreadable::Newer));
    }
}
