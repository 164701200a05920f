//! A page's view of a room, as PROTOCOL.md describes it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stillhere_client::Lane;

use super::{Page, number, take_number};

/// What a page knows of a room.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) you: u64,
    /// The members' states by id, with the version of their last change, and whether they are away.
    pub(crate) members: BTreeMap<u64, (u64, bool, Value)>,
    /// Members of a list that is not complete yet.
    partial: Vec<Value>,
    version: u64,
    /// How many states the page has set, and the last one.
    set: (u64, Value),
    /// Changes in order, as `joined 3`.
    pub(crate) changes: Vec<String>,
    pub(crate) events: Vec<(u64, String, Value)>,
    pub(crate) missed: u64,
    pub(crate) out: Option<String>,
}

impl View {
    /// Returns the version of the last list.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Takes everything that has arrived at the page.
    pub(crate) fn take(&mut self, page: &Page) {
        while let Some(unit) = page.client.try_recv(Lane::Interactive) {
            self.receive(&unit);
        }
    }

    pub(crate) fn receive(&mut self, unit: &[u8]) {
        let (kind, mut rest) = unit.split_first().expect("a unit has a kind");
        let room = take_name(&mut rest);
        assert_eq!(room, "board");
        if *kind == 13 {
            let from = take_number(&mut rest);
            let name = take_name(&mut rest);
            return self.events.push((from, name, read_json(rest)));
        }
        assert_eq!(*kind, 12, "a unit about a room");
        let value = read_json(&rest[1..]);
        match rest[0] {
            0 => self.list(&value),
            1 => self.change(&value),
            2 => self.leave(&value),
            3 => self.missed += value.as_u64().expect("a count"),
            4 => {
                let out = value["reason"].as_str().map(str::to_owned);
                *self = Self {
                    out,
                    changes: std::mem::take(&mut self.changes),
                    events: std::mem::take(&mut self.events),
                    missed: self.missed,
                    ..Self::default()
                };
            }
            8 => {
                for change in value.as_array().expect("several changes") {
                    if change["change"].is_null() {
                        self.leave(change);
                    } else {
                        self.change(change);
                    }
                }
            }
            other => panic!("action {other}"),
        }
    }

    fn list(&mut self, list: &Value) {
        if list["first"] == true {
            self.partial.clear();
        }
        self.partial
            .extend(list["members"].as_array().expect("a list").iter().cloned());
        self.out = None;
        if list["last"] == true {
            self.you = list["you"].as_u64().expect("an id");
            self.version = list["version"].as_u64().expect("a version");
            self.members.clear();
            for member in std::mem::take(&mut self.partial) {
                self.put(self.version, &member, &list["number"]);
            }
        }
    }

    /// `number` is how many of the page's states the server has received.
    fn put(&mut self, version: u64, member: &Value, number: &Value) -> u64 {
        let id = member["id"].as_u64().expect("an id");
        let is_away = member["away"].as_bool().expect("whether it is away");
        let is_newer = id == self.you && self.set.0 > 0 && *number != self.set.0;
        let state = if is_newer { &self.set.1 } else { &member["state"] };
        self.members.insert(id, (version, is_away, state.clone()));
        id
    }

    fn change(&mut self, changed: &Value) {
        let (version, change) = (changed["version"].as_u64().expect("a version"), &changed["change"]);
        let id = changed["member"]["id"].as_u64().expect("an id");
        if id == self.you && changed["number"].is_null() {
            return;
        }
        let known = self.members.get(&id);
        let is_late = known.map_or(change == "state", |known| version <= known.0);
        if !is_late && version > self.version {
            let id = self.put(version, &changed["member"], &changed["number"]);
            self.changes.push(format!("{} {id}", change.as_str().expect("a text")));
        }
    }

    fn leave(&mut self, left: &Value) {
        let id = left["id"].as_u64().expect("an id");
        if left["version"].as_u64().expect("a version") > self.version && self.members.remove(&id).is_some() {
            self.changes.push(format!("left {id}"));
        }
    }

    /// Returns what the page sends to set its state.
    pub(crate) fn set_state(&mut self, state: Value) -> Vec<u8> {
        self.set = (self.set.0 + 1, state.clone());
        let unit = ask(
            6,
            &json!({"number": self.set.0, "version": self.version, "state": state}),
        );
        if let Some(own) = self.members.get_mut(&self.you) {
            own.2 = state;
        }
        unit
    }

    /// Returns an event that the page sends.
    pub(crate) fn event(&self, name: &str, value: &Value) -> Vec<u8> {
        let mut unit = b"\x0d\x05board".to_vec();
        number(self.you, &mut unit);
        unit.push(name.len() as u8);
        [unit, name.into(), b"\0".to_vec(), value.to_string().into_bytes()].concat()
    }
}

/// Returns what a page says about the room.
pub(crate) fn ask(action: u8, value: &Value) -> Vec<u8> {
    [
        b"\x0c\x05board".to_vec(),
        vec![action, 0],
        value.to_string().into_bytes(),
    ]
    .concat()
}

fn take_name(rest: &mut &[u8]) -> String {
    let (length, after) = rest.split_first().expect("a name");
    let (name, after) = after.split_at(usize::from(*length));
    *rest = after;
    String::from_utf8(name.into()).expect("UTF-8")
}

fn read_json(value: &[u8]) -> Value {
    serde_json::from_slice(value.strip_prefix(b"\0").expect("JSON")).expect("JSON")
}
