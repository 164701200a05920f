//! A counter that survives a reload.

use axum::extract::State;
use stillhere_axum::{Hub, Incoming, Page, Session};

pub(crate) async fn page(State(hub): State<Hub>) -> Page<String> {
    let mut options = hub.session_options();
    options.restore = Some("counter".to_owned()); // the tab keeps this page's session across reloads
    let session = hub.open_with(options, counter);
    Page(format!(
        "<button id=b>0</button>{}<script>{SCRIPT}</script>",
        session.script_tag()
    ))
}

async fn counter(mut session: Session) {
    let mut clicks = 0u64;
    while let Some(incoming) = session.next().await {
        // Any other item means that the page was reloaded. It gets the count below.
        if let Incoming::Message(_) = incoming {
            clicks += 1;
        }
        if session.send(clicks.to_string()).await.is_err() {
            return;
        }
    }
}

const SCRIPT: &str = "
    const button = document.getElementById('b');
    stillhere.session.onmessage = (data) => { button.textContent = new TextDecoder().decode(data); };
    button.onclick = () => stillhere.session.send(new Uint8Array([1]));
";
