//! Things to do: one list, which every page shows and changes.

use serde::Serialize;
use stillhere::Hub;
use stillhere_app::{Session, SharedObservable, app};

/// Something to do.
#[derive(Debug, Clone, Serialize)]
pub struct Todo {
    /// What.
    pub text: String,
    /// Whether it is done.
    pub done: bool,
}

/// The list. It is encoded once for all pages.
pub type Todos = SharedObservable<Vec<Todo>>;

/// Returns the page, with a session of its own.
pub fn page(hub: &Hub, todos: &Todos) -> String {
    let todos = todos.clone();
    let tag = hub.open(app(|session| work(session, todos))).app_script_tag();
    format!("{BODY}{tag}<script>{SCRIPT}</script>")
}

/// Shows the page the list, and lets it add and tick off.
pub async fn work(session: Session, todos: Todos) {
    session.share(&todos);
    let list = todos.clone();
    session.handle("add", move |text: String| {
        let is_good = (1..=100).contains(&text.trim().len());
        if is_good {
            list.update(|list| list.push(Todo { text, done: false }));
        }
        async move { is_good.then_some(()).ok_or("say it in 1 to 100 letters") }
    });
    session.on("tick", move |(number, done): (usize, bool)| {
        todos.update(|list| list.iter_mut().skip(number).take(1).for_each(|todo| todo.done = done));
        async {}
    });
    session.ended().await;
}

const BODY: &str = "<!doctype html><meta name=viewport content='width=device-width'><title>To do</title>
    <input id=add placeholder='what to do'> <output id=error></output><ul id=list></ul>";

const SCRIPT: &str = "
    const { session } = stillhere;
    session.observable('todos', []).subscribe((todos) => list.replaceChildren(...todos.map(({ text, done }, number) => {
      const [item, box] = ['li', 'input'].map((tag) => document.createElement(tag));
      Object.assign(box, { type: 'checkbox', checked: done, onchange: () => session.emit('tick', [number, box.checked]) });
      item.append(box, text);
      return item;
    })));
    add.onchange = () => session.call('add', add.value).then(
      () => { add.value = error.value = ''; },
      ({ message }) => { error.value = message; },
    );
";
