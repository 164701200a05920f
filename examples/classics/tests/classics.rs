//! The sessions of the classics, each with pages within the process.

use serde_json::Value;
use stillhere::Hub;
use stillhere_app::testing::{Page, PageCallError};
use stillhere_example_classics::todos::Todos;
use stillhere_example_classics::{chat, ticker, todos};

#[tokio::test(start_paused = true)]
async fn a_chat_shows_who_is_there_and_what_they_say() {
    let hub = Hub::new();
    let [ada, ben] = [(); 2].map(|()| Page::open(&hub, chat::chat));
    ada.join("lobby", "Ada").await;
    ada.wait_for_members("lobby", |members| members.len() == 1).await;
    ben.join("lobby", "Ben").await;
    let members = ben.wait_for_members("lobby", |members| members.len() == 2).await;
    ada.go_away();
    ben.wait_for_members("lobby", |members| members[0].is_away).await;
    ben.emit_in("lobby", "said", "hello").await;
    ada.come_back();
    let said = ada.room_event::<String>("lobby", "said").await;
    assert_eq!(said, (members[1].id, "hello".to_owned()));
    ben.join("cellar", "Ben").await;
    assert_eq!(ben.wait_for_out("cellar").await, "refused");
}

#[tokio::test(start_paused = true)]
async fn every_page_shows_and_changes_the_same_list() {
    let (hub, list) = (Hub::new(), Todos::new("todos", Vec::new()));
    let open = || {
        let list = list.clone();
        Page::open(&hub, |session| todos::work(session, list))
    };
    let (ada, ben) = (open(), open());
    assert_eq!(ada.call("add", "milk").await, Ok(()));
    assert_eq!(
        ben.call::<()>("add", " ").await,
        Err(PageCallError::Rejected("say it in 1 to 100 letters".to_owned()))
    );
    ben.wait_for("todos", |todos: &Value| todos[0]["text"] == "milk").await;
    ben.emit("tick", &(0, true)).await;
    ben.emit("tick", &(7, true)).await;
    ada.wait_for("todos", |todos: &Value| todos[0]["done"] == true).await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_away_shows_the_newest_second() {
    let (hub, seconds) = (Hub::new(), ticker::start());
    let page = Page::open(&hub, |session| ticker::tick(session, seconds));
    page.wait_for("seconds", |seconds: &u64| *seconds == 3).await;
    page.go_away();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    page.come_back();
    page.wait_for("seconds", |seconds: &u64| *seconds > 60).await;
}
