//! Sends each page's messages to all pages.

use axum::extract::State;
use stillhere_axum::{Hub, Message, Page, Session};

pub(crate) async fn page(State(hub): State<Hub>) -> Page<String> {
    let everybody = hub.clone();
    let session = hub.open(|session| chat(session, everybody));
    Page(format!(
        "<input id=say><pre id=log></pre>{}<script>{SCRIPT}</script>",
        session.script_tag()
    ))
}

async fn chat(mut session: Session, hub: Hub) {
    while let Some(line) = session.recv().await {
        let line: Message = hub.share(line.into_bytes()); // one copy for all pages
        for page in hub.sessions() {
            // Never waits: a page whose outbox is full misses this line but delays no other page.
            let _ = page.try_send(line.clone());
        }
    }
}

const SCRIPT: &str = "
    const session = stillhere.session;
    session.onmessage = (data) => { log.textContent += new TextDecoder().decode(data) + '\\n'; };
    say.onchange = () => { session.send(new TextEncoder().encode(say.value)); say.value = ''; };
";
