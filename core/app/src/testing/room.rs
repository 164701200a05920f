//! A room, as a test's page knows it.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;

use crate::rooms::{Action, Member};
use crate::value::Value;

/// What a page knows of a room (PROTOCOL.md).
#[derive(Default)]
pub(super) struct RoomView {
    /// The page's own member, or 0.
    pub(super) you: u64,
    version: u64,
    /// It has left, and was not told so yet.
    pub(super) is_leaving: bool,
    /// In the order of joining, each with the version of its last change.
    members: Vec<(u64, Member)>,
    /// Members of a list that is not complete yet.
    partial: Vec<Member>,
    /// How many states the page has set, and the last one.
    number: u64,
    state: serde_json::Value,
    /// Events by name, with their senders.
    pub(super) events: HashMap<String, VecDeque<(u64, Value)>>,
    pub(super) missed: u64,
    /// Why the page is no member.
    pub(super) out: Option<String>,
}

#[derive(Deserialize)]
struct Members {
    version: u64,
    #[serde(default)]
    you: u64,
    #[serde(default)]
    number: u64,
    first: bool,
    last: bool,
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Changed {
    version: u64,
    change: String,
    member: Member,
    number: Option<u64>,
}

#[derive(Deserialize)]
struct Left {
    version: u64,
    id: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Change {
    Changed(Changed),
    Left(Left),
}

#[derive(Deserialize)]
struct Out {
    reason: String,
}

impl RoomView {
    pub(super) fn receive(&mut self, action: Action, value: &Value) {
        match action {
            Action::Members => self.list(read(value)),
            Action::Member => self.change(read(value)),
            Action::Left => self.leave(&read(value)),
            Action::Missed => self.missed += read::<u64>(value),
            Action::Out => {
                let Out { reason } = read(value);
                *self = Self {
                    out: Some(reason),
                    events: std::mem::take(&mut self.events),
                    ..Self::default()
                };
            }
            Action::Changes => {
                for change in read::<Vec<Change>>(value) {
                    match change {
                        Change::Changed(changed) => self.change(changed),
                        Change::Left(left) => self.leave(&left),
                    }
                }
            }
            other => panic!("the server sent {other:?}, which only a page says of a room"),
        }
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.members.iter().map(|(_, member)| member.clone()).collect()
    }

    /// Changes the page's own state. Returns its number, and the version of the page's list.
    pub(super) fn set_state(&mut self, state: serde_json::Value) -> (u64, u64) {
        self.number += 1;
        self.state = state.clone();
        let you = self.you;
        if let Some((_, own)) = self.members.iter_mut().find(|(_, member)| member.id == you) {
            own.state = state;
        }
        (self.number, if self.is_leaving { 0 } else { self.version })
    }

    fn list(&mut self, list: Members) {
        if list.first {
            self.partial.clear();
        }
        self.partial.extend(list.members);
        self.out = None;
        if list.last {
            self.you = list.you;
            self.version = list.version;
            let members = std::mem::take(&mut self.partial).into_iter();
            let members = members.map(|member| (list.version, self.with_own_state(member, Some(list.number))));
            self.members = members.collect();
        }
    }

    fn change(&mut self, changed: Changed) {
        // The page has set this state itself.
        if changed.member.id == self.you && changed.number.is_none() {
            return;
        }
        let member = self.with_own_state(changed.member, changed.number);
        let known = self.members.iter_mut().find(|(_, known)| known.id == member.id);
        match known {
            Some(known) if changed.version > known.0 => *known = (changed.version, member),
            None if changed.version > self.version && changed.change != "state" => {
                self.members.push((changed.version, member));
            }
            _ => {}
        }
    }

    fn leave(&mut self, left: &Left) {
        if left.version > self.version {
            self.members.retain(|(_, member)| member.id != left.id);
        }
    }

    /// Keeps the state that the page has set, unless the server has received it.
    fn with_own_state(&self, mut member: Member, number: Option<u64>) -> Member {
        if member.id == self.you && self.number > 0 && number != Some(self.number) {
            member.state = self.state.clone();
        }
        member
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    let read = value.decode();
    read.unwrap_or_else(|error| panic!("what the server says of a room: {error}"))
}
