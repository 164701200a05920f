//! Units: what the messages of a session contain. PROTOCOL.md lists them.

use bytes::Bytes;

use crate::failure::{FailureCode, LONGEST_TEXT, shortened};
use crate::rooms::Action;
use crate::value::Value;
use crate::varint;

/// A decoded unit. Names and texts borrow from the message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unit<'a> {
    Bytes(Bytes),
    Text(&'a str),
    Message(Value),
    Event {
        name: &'a str,
        value: Value,
    },
    Call {
        id: u64,
        credit: u64,
        name: &'a str,
        value: Value,
    },
    Answer {
        id: u64,
        value: Value,
    },
    Failure {
        id: u64,
        code: FailureCode,
        text: &'a str,
    },
    Cancel {
        id: u64,
    },
    Set {
        name: &'a str,
        number: u64,
        value: Value,
    },
    Item {
        id: u64,
        value: Value,
    },
    More {
        id: u64,
        count: u64,
    },
    Error(Value),
    Room {
        room: &'a str,
        action: Action,
        value: Value,
    },
    RoomEvent {
        room: &'a str,
        member: u64,
        name: &'a str,
        value: Value,
    },
}

/// What is wrong with a message that is not a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// The message is empty, or of a kind that the protocol does not have.
    #[error("the message is of an unknown kind")]
    UnknownKind,
    /// The message ends within a field, or goes on after its last one.
    #[error("the message has a wrong length")]
    WrongLength,
    /// A number is not encoded as the protocol says.
    #[error("a number in the message is malformed")]
    BadNumber,
    /// A name is empty or cut, or a name or text is not UTF-8.
    #[error("a name or text in the message is malformed")]
    BadText,
    /// A failure has an unknown code or too long a text.
    #[error("a failure in the message is malformed")]
    BadFailure,
}

impl<'a> Unit<'a> {
    /// Decodes a message. Values are not judged: they are decoded by whoever reads them.
    pub(crate) fn decode(message: &'a Bytes) -> Result<Self, UnitError> {
        let mut fields = Fields { message, at: 1 };
        let kind = message.first().and_then(|kind| Kind::from_byte(*kind));
        Ok(match kind.ok_or(UnitError::UnknownKind)? {
            Kind::Bytes => Self::Bytes(message.slice(1..)),
            Kind::Text => Self::Text(fields.text()?),
            Kind::Message => Self::Message(fields.value()),
            Kind::Event => Self::Event {
                name: fields.name()?,
                value: fields.value(),
            },
            Kind::Call => Self::Call {
                id: fields.number()?,
                credit: fields.number()?,
                name: fields.name()?,
                value: fields.value(),
            },
            Kind::Answer => Self::Answer {
                id: fields.number()?,
                value: fields.value(),
            },
            Kind::Failure => fields.failure()?,
            Kind::Cancel => fields.last(|fields| Ok(Self::Cancel { id: fields.number()? }))?,
            Kind::Set => Self::Set {
                name: fields.name()?,
                number: fields.number()?,
                value: fields.value(),
            },
            Kind::Item => Self::Item {
                id: fields.number()?,
                value: fields.value(),
            },
            Kind::More => fields.last(|fields| {
                let (id, count) = (fields.number()?, fields.number()?);
                Ok(Self::More { id, count })
            })?,
            Kind::Error => Self::Error(fields.value()),
            Kind::Room => Self::Room {
                room: fields.name()?,
                action: fields.action()?,
                value: fields.value(),
            },
            Kind::RoomEvent => Self::RoomEvent {
                room: fields.name()?,
                member: fields.number()?,
                name: fields.name()?,
                value: fields.value(),
            },
        })
    }
}

/// The kinds of unit, in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bytes,
    Text,
    Message,
    Event,
    Call,
    Answer,
    Failure,
    Cancel,
    Set,
    Item,
    More,
    Error,
    Room,
    RoomEvent,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Bytes,
        Self::Text,
        Self::Message,
        Self::Event,
        Self::Call,
        Self::Answer,
        Self::Failure,
        Self::Cancel,
        Self::Set,
        Self::Item,
        Self::More,
        Self::Error,
        Self::Room,
        Self::RoomEvent,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// Reads the fields of a message one after another.
struct Fields<'a> {
    message: &'a Bytes,
    at: usize,
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<u64, UnitError> {
        let rest = &self.message[self.at..];
        if rest.is_empty() {
            return Err(UnitError::WrongLength);
        }
        let (number, length) = varint::read(rest).ok_or(UnitError::BadNumber)?;
        self.at += length;
        Ok(number)
    }

    fn name(&mut self) -> Result<&'a str, UnitError> {
        let length = usize::from(*self.message.get(self.at).ok_or(UnitError::WrongLength)?);
        let start = self.at + 1;
        let name = self.message.get(start..start + length).filter(|name| !name.is_empty());
        self.at = start + length;
        str::from_utf8(name.ok_or(UnitError::BadText)?).map_err(|_| UnitError::BadText)
    }

    fn text(&self) -> Result<&'a str, UnitError> {
        str::from_utf8(&self.message[self.at..]).map_err(|_| UnitError::BadText)
    }

    fn value(&self) -> Value {
        Value::new(self.message.clone(), self.at)
    }

    fn failure(&mut self) -> Result<Unit<'a>, UnitError> {
        let id = self.number()?;
        let code = *self.message.get(self.at).ok_or(UnitError::WrongLength)?;
        self.at += 1;
        let code = FailureCode::from_byte(code).ok_or(UnitError::BadFailure)?;
        let text = self.text()?;
        if text.len() > LONGEST_TEXT {
            return Err(UnitError::BadFailure);
        }
        Ok(Unit::Failure { id, code, text })
    }

    fn action(&mut self) -> Result<Action, UnitError> {
        let action = *self.message.get(self.at).ok_or(UnitError::WrongLength)?;
        self.at += 1;
        Action::from_byte(action).ok_or(UnitError::UnknownKind)
    }

    /// Reads the last fields of a unit.
    fn last(&mut self, read: impl FnOnce(&mut Self) -> Result<Unit<'a>, UnitError>) -> Result<Unit<'a>, UnitError> {
        let unit = read(self)?;
        let is_whole = self.at == self.message.len();
        is_whole.then_some(unit).ok_or(UnitError::WrongLength)
    }
}

/// Begins a unit with its kind.
pub(crate) fn begin(kind: Kind) -> Vec<u8> {
    vec![kind as u8]
}

/// Begins a unit with its kind and the id of a call.
pub(crate) fn begin_with(kind: Kind, id: u64) -> Vec<u8> {
    let mut unit = begin(kind);
    varint::write(id, &mut unit);
    unit
}

/// Returns a unit of bytes or of text.
pub(crate) fn raw(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(1 + content.len());
    unit.push(kind as u8);
    unit.extend_from_slice(content);
    unit
}

/// Returns a failure, whose text is cut if it is too long.
pub(crate) fn failure(id: u64, code: FailureCode, text: &str) -> Vec<u8> {
    let mut unit = begin_with(Kind::Failure, id);
    unit.push(code as u8);
    unit.extend_from_slice(shortened(text).as_bytes());
    unit
}

/// Appends a name.
///
/// # Errors
/// Returns [`BadName`] unless it has 1 to 255 bytes.
pub(crate) fn write_name(name: &str, into: &mut Vec<u8>) -> Result<(), BadName> {
    match u8::try_from(name.len()) {
        Ok(length @ 1..) => into.push(length),
        _ => return Err(BadName),
    }
    into.extend_from_slice(name.as_bytes());
    Ok(())
}

/// A name is empty or has more than 255 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 255 bytes")]
pub struct BadName;
