//! Encodes what pages are told of a room. PROTOCOL.md lists it.

use serde::Serialize;

use super::member::Member;
use crate::codec::{Codec, EncodeError};
use crate::unit::{self, BadName, Kind};
use crate::varint;

/// What a unit about a room says, in the order of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Members,
    Member,
    Left,
    Missed,
    Out,
    Join,
    State,
    Leave,
    Changes,
}

impl Action {
    const ALL: [Self; 9] = [
        Self::Members,
        Self::Member,
        Self::Left,
        Self::Missed,
        Self::Out,
        Self::Join,
        Self::State,
        Self::Leave,
        Self::Changes,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// All members, or some of them if it is not the last unit.
#[derive(Serialize)]
pub(super) struct Members<'a> {
    pub(super) version: u64,
    /// The member that the page is. Only the last unit of a list needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) you: Option<u64>,
    /// How many states of its own the server has received from the page; with `you`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u64>,
    #[serde(rename = "first")]
    pub(super) is_first: bool,
    #[serde(rename = "last")]
    pub(super) is_last: bool,
    pub(super) members: &'a [&'a Member],
}

/// How a member has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    Joined,
    Away,
    Back,
    State,
}

#[derive(Serialize)]
pub(super) struct Changed<'a> {
    pub(super) version: u64,
    pub(super) change: Change,
    pub(super) member: &'a Member,
    /// As in [`Members`], for the page of this member, which ignores a change without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Left {
    pub(super) version: u64,
    pub(super) id: u64,
}

/// One of several changes in a unit.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Told<'a> {
    Changed(Changed<'a>),
    Left(Left),
}

/// Why a page is not a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reason {
    /// The server has ended the membership, or the page has left.
    Left,
    /// It has not kept up.
    Lagged,
    /// It may not join.
    Refused,
}

#[derive(Serialize)]
pub(super) struct Out<'a> {
    pub(super) reason: Reason,
    pub(super) text: &'a str,
}

/// Returns a unit about a room.
pub(super) fn room_unit<T: Serialize + ?Sized>(
    codec: Codec,
    room: &str,
    action: Action,
    value: &T,
) -> Result<Vec<u8>, EncodeError> {
    let mut head = unit::begin(Kind::Room);
    unit::write_name(room, &mut head).expect("the name was checked");
    head.push(action as u8);
    codec.write(value, head)
}

/// Returns an event of a room. `from` is the member that sends it, or 0 for the server.
pub(super) fn event_unit<T: Serialize + ?Sized>(
    codec: Codec,
    room: &str,
    from: u64,
    name: &str,
    value: &T,
) -> Result<Result<Vec<u8>, EncodeError>, BadName> {
    let mut head = unit::begin(Kind::RoomEvent);
    unit::write_name(room, &mut head).expect("the name was checked");
    varint::write(from, &mut head);
    unit::write_name(name, &mut head)?;
    Ok(codec.write(value, head))
}
