//! A list that React and Svelte show. TypeScript knows its types, which are generated from these.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use stillhere_app::{Session, app};
use stillhere_axum::{Hub, Ticket};

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Item {
    text: String,
    done: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Check {
    index: usize,
    done: bool,
}

pub(crate) async fn ticket(State(hub): State<Hub>) -> Json<Ticket> {
    let mut options = hub.session_options();
    options.restore = Some("list".to_owned()); // F5 keeps the list
    Json(hub.open_with(options, app(list)).ticket())
}

async fn list(session: Session) {
    let items = session.observable("items", Vec::<Item>::new());
    let added = items.clone();
    session.handle("add", move |text: String| {
        let items = added.clone();
        async move {
            if text.trim().is_empty() {
                return Err("an item needs a text");
            }
            items.update(|items| items.push(Item { text, done: false }));
            Ok(items.get().len())
        }
    });
    session.handle("check", move |Check { index, done }: Check| {
        let items = items.clone();
        async move {
            let mut is_there = false;
            items.update(|items| {
                if let Some(item) = items.get_mut(index) {
                    (item.done, is_there) = (done, true);
                }
            });
            if is_there { Ok(()) } else { Err("there is no such item") }
        }
    });
    let handle = session.to_handle();
    drop(session); // it would keep messages, which nobody reads here
    handle.ended().await;
}

#[cfg(test)]
mod tests {
    use ts_rs::{Config, TS as _};

    use super::*;

    #[test]
    fn the_types_in_typescript_are_generated_from_these() {
        let config = Config::new();
        let types = [Item::decl(&config), Check::decl(&config)].map(|declared| format!("export {declared}\n"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/typed/types.ts");
        if std::env::var_os("WRITE_TYPES").is_some() {
            std::fs::write(path, types.concat()).expect("the file can be written");
        }
        let written = std::fs::read_to_string(path).expect("the file is there");
        assert!(written == types.concat(), "run the tests with WRITE_TYPES=1");
    }
}
