//! A chat: everybody sees who comes, who goes and what they say.

use stillhere::Hub;
use stillhere_app::{PageRights, Session, app};

/// Returns the page, with a session of its own.
pub fn page(hub: &Hub) -> String {
    let tag = hub.open(app(chat)).app_script_tag();
    format!("{BODY}{tag}<script>{SCRIPT}</script>")
}

/// Lets the page into the lobby under a name of its choice, until the session ends.
pub async fn chat(session: Session) {
    let rights = PageRights::default().event("said"); // what a page sends, all others get
    session.on_join(move |name| (name == "lobby").then(|| rights.clone()));
    session.ended().await; // then it leaves
}

const BODY: &str = "<!doctype html><meta name=viewport content='width=device-width'><title>Chat</title>
    <input id=me placeholder='your name'> <input id=say placeholder='say something' disabled>
    <p id=who></p><ul id=log></ul>";

const SCRIPT: &str = "
    const lobby = stillhere.session.room('lobby');
    const write = (line) => { const item = document.createElement('li'); item.textContent = line; log.append(item); };
    me.onchange = async () => {
      await lobby.join(me.value);
      me.disabled = !(say.disabled = false);
    };
    say.onchange = () => { lobby.send('said', say.value); write(`${me.value}: ${say.value}`); say.value = ''; };
    lobby.on('said', (line, from) => write(`${from?.state}: ${line}`));
    lobby.watch((members, change, member) => { // now, and after each change
      who.textContent = members.map(({ state, away }) => (away ? `${state} (away)` : state)).join(', ');
      if (change === 'joined' || change === 'left') write(`${member.state} ${change}`);
    });
";
