//! A chat: who is there, and what they say, also while somebody's connection is gone.

use axum::extract::State;
use stillhere_app::{PageRights, Session, app};
use stillhere_axum::{Hub, Page};

pub(crate) async fn page(State(hub): State<Hub>) -> Page<String> {
    let tag = hub.open(app(chat)).app_script_tag();
    Page(format!("{BODY}{tag}<script>{SCRIPT}</script>"))
}

async fn chat(session: Session) {
    let Ok(lobby) = session.room("lobby") else { return };
    let rights = PageRights::default().state().event("said"); // what a page sends, all others get
    let Ok(_member) = lobby.join_with(&session, &"somebody", rights) else {
        return;
    };
    session.ended().await; // then the member leaves
}

const BODY: &str = "<input id=me placeholder='your name'> <input id=say placeholder='say something'>
    <p id=who></p><ul id=log></ul>";

const SCRIPT: &str = "
    const lobby = stillhere.session.room('lobby');
    const write = (line, from) => {
      const item = document.createElement('li');
      item.textContent = `${from ? from.state : 'somebody who left'}: ${line}`;
      log.append(item);
    };
    lobby.on('said', write);
    lobby.watch((members) => { // now, and after each change
      const names = members.map(({ state, away }) => (away ? `${state} (away)` : state));
      who.textContent = names.sort().join(', ');
    });
    me.onchange = () => lobby.setState(me.value);
    say.onchange = () => { lobby.send('said', say.value); write(say.value, lobby.me); say.value = ''; };
";
