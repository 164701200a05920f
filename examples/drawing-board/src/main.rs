//! A drawing board for many people, on axum. The README says what to try.

mod drawing;

use std::env;
use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::{Router, extract::State, routing::get};
use serde::Serialize;
use stillhere_app::{HubExt as _, PageRights, Room, Session, app};
use stillhere_axum::{Hub, Page, SessionId, stop_signal};
use tokio::net::TcpListener;

use crate::drawing::{Drawing, Refused, Segment};

/// The board that everybody draws on.
#[derive(Clone)]
struct Board {
    room: Room,
    drawing: Arc<Mutex<Drawing>>,
}

impl Board {
    fn drawing(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is on the board, for one page.
    fn copy(&self) -> Drawing {
        self.drawing().clone()
    }
}

/// What a member of the room says of itself. Its page changes the name, the colour and the cursor.
#[derive(Serialize)]
struct Person {
    name: String,
    colour: &'static str,
    cursor: Option<(f32, f32)>,
}

impl Person {
    /// Returns who somebody is until they choose a name.
    fn new(id: &SessionId) -> Self {
        let [animal, colour, ..] = *id.as_bytes();
        Self {
            name: ANIMALS[usize::from(animal) % ANIMALS.len()].into(),
            colour: COLOURS[usize::from(colour) % COLOURS.len()],
            cursor: None,
        }
    }
}

/// Draws for one page, until its session ends.
async fn draw(session: Session, board: Board) {
    let person = Person::new(session.id());
    let Ok(membership) = board.room.join_with(&session, &person, PageRights::default().state()) else {
        return; // too many people
    };
    let membership = Arc::new(membership);
    let page = session.to_handle();

    let (to, on, me) = (page.clone(), board.clone(), Arc::clone(&membership));
    session.on("stroke", move |segment: Segment| {
        let added = {
            let mut drawing = on.drawing();
            // Within the lock, so that everybody gets the strokes in the order of the drawing.
            drawing.add(&segment).map(|()| me.emit("stroke", &segment))
        };
        let to = to.clone();
        async move {
            if matches!(added, Err(Refused::Full)) {
                let _ = to.emit("full", &()).await;
            }
        }
    });
    let on = board.clone();
    session.on("clear", move |(): ()| {
        let mut drawing = on.drawing();
        drawing.clear();
        let _ = on.room.emit("clear", &drawing.round);
        async {}
    });
    let (to, on) = (page.clone(), board.clone());
    session.on("look", move |(): ()| {
        let (to, drawing) = (to.clone(), on.copy());
        async move { drop(to.emit("drawing", &drawing).await) }
    });
    let on = board.clone();
    session.on_restore(move |page| {
        let drawing = on.copy();
        async move { drop(page.emit("drawing", &drawing).await) } // F5
    });
    let drawing = board.copy();
    drop(session); // it would keep messages, which nobody reads here
    if page.emit("drawing", &drawing).await.is_ok() {
        page.ended().await;
    }
}

async fn page(State((hub, board)): State<(Hub, Board)>) -> Page<String> {
    let mut options = hub.session_options();
    options.restore = Some("board".to_owned()); // F5 keeps the session
    let session = hub.open_with(options, app(move |session| draw(session, board)));
    // Scripts and styles run only with this page's nonce. The id of a session is random.
    let nonce = session.id().to_string();
    let html = include_str!("../page.html").replace("{{nonce}}", &nonce);
    Page(html.replace("{{session}}", &session.app_script_tag_with_nonce(&nonce)))
}

/// Usage: `drawing-board [ADDRESS]`, by default 127.0.0.1:3000.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let hub = Hub::builder().allow_host("localhost").build();
    let board = Board {
        room: hub.room("board").expect("it is the first room"),
        drawing: Arc::default(),
    };
    let app = Router::new()
        .route("/", get(page))
        .merge(stillhere_axum::routes(&hub))
        .with_state((hub.clone(), board))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());
    stop_signal().await;
    hub.shutdown(Duration::from_secs(5)).await;
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok(())
}

const ANIMALS: [&str; 16] = [
    "Badger", "Beaver", "Crane", "Dolphin", "Fox", "Hare", "Heron", "Ibex", "Koala", "Lynx", "Marten", "Otter", "Owl",
    "Panda", "Seal", "Wren",
];

const COLOURS: [&str; 8] = [
    "#e03131", "#e8590c", "#2f9e44", "#0c8599", "#1971c2", "#6741d9", "#c2255c", "#5f3dc4",
];
