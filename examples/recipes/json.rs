//! JSON messages, parsed and checked by serde.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use stillhere_axum::{Hub, Page, Session};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Request {
    Add { text: String },
    Remove { index: usize },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Answer<'a> {
    Items { items: &'a [String] },
    Error { text: String },
}

pub(crate) async fn page(State(hub): State<Hub>) -> Page<String> {
    let session = hub.open(list);
    Page(format!(
        "<ul id=list></ul><input id=add>{}<script>{SCRIPT}</script>",
        session.script_tag()
    ))
}

async fn list(mut session: Session) {
    let mut items: Vec<String> = Vec::new();
    while let Some(message) = session.recv().await {
        let answer = match serde_json::from_slice(&message) {
            Ok(Request::Add { text }) => {
                items.push(text);
                Answer::Items { items: &items }
            }
            Ok(Request::Remove { index }) if index < items.len() => {
                items.remove(index);
                Answer::Items { items: &items }
            }
            Ok(Request::Remove { index }) => Answer::Error {
                text: format!("there is no item {index}"),
            },
            Err(error) => Answer::Error {
                text: error.to_string(),
            }, // messages from the page are untrusted: never unwrap
        };
        let answer = serde_json::to_vec(&answer).expect("strings are valid JSON");
        if session.send(answer).await.is_err() {
            return;
        }
    }
}

const SCRIPT: &str = "
    const session = stillhere.session;
    const send = (value) => session.send(new TextEncoder().encode(JSON.stringify(value)));
    session.onmessage = (data) => {
      const answer = JSON.parse(new TextDecoder().decode(data));
      if (answer.type === 'error') return alert(answer.text);
      list.replaceChildren(...answer.items.map((text, index) => {
        const item = Object.assign(document.createElement('li'), { textContent: text });
        item.onclick = () => send({ type: 'remove', index });
        return item;
      }));
    };
    add.onchange = () => { send({ type: 'add', text: add.value }); add.value = ''; };
";
