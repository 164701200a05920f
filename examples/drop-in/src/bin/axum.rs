//! An application on axum with a login and one page with a durable session. What was added for the
//! session is marked `stillhere`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use stillhere_axum::{Hub, Page, stop_signal}; // stillhere
use stillhere_example_drop_in::{ABOUT_PAGE, LOGIN, LOGIN_PAGE, Notes, STATIC, Settings};
use tower_http::compression::CompressionLayer;
use tower_http::services::ServeDir;
use tower_http::trace::TraceLayer;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

#[derive(Clone)]
struct Application {
    notes: Notes,
    hub: Hub, // stillhere
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let settings = Settings::read();
    let notes = Notes::default();
    let hub = hub(&settings); // stillhere
    // There is no TLS here, so the cookie is not `Secure`.
    let sessions = SessionManagerLayer::new(MemoryStore::default()).with_secure(false);
    let app = Router::new()
        .route("/", get(notes_page))
        .route("/login", get(Html(LOGIN_PAGE)).post(log_in))
        .route("/logout", post(log_out))
        .route("/about", get(Html(ABOUT_PAGE)))
        .nest_service("/static", ServeDir::new(STATIC))
        .merge(stillhere_axum::routes_for(&hub, user)) // stillhere
        .layer(sessions)
        .layer(CompressionLayer::new())
        .layer(TraceLayer::new_for_http())
        .with_state(Application {
            notes,
            hub: hub.clone(),
        });
    let listener = tokio::net::TcpListener::bind(&settings.address).await?;
    println!("notes on http://{}", listener.local_addr()?);
    let stopped = async move {
        stop_signal().await;
        hub.shutdown(Duration::from_secs(5)).await; // stillhere
    };
    let app = app.into_make_service_with_connect_info::<SocketAddr>(); // stillhere
    axum::serve(listener, app).with_graceful_shutdown(stopped).await
}

// stillhere: who connects, as for every other route
async fn user(User(user): User) -> Option<String> {
    Some(user)
}

// stillhere
fn hub(settings: &Settings) -> Hub {
    Hub::builder()
        .restore_on_reload("notes")
        .public_url(&format!("{}/stillhere", settings.under))
        .trusted_hops(settings.proxies)
        .heartbeat(settings.heartbeat)
        .build()
}

async fn notes_page(User(user): User, State(Application { notes, hub }): State<Application>) -> Page<String> {
    // stillhere
    let (author, shared) = (user.clone(), notes.clone());
    let session = hub.open_for(&user, |session| shared.run(author, session));
    Page(notes.page(&user, &session.script_tag()))
}

#[derive(serde::Deserialize)]
struct Login {
    name: String,
}

async fn log_in(
    State(Application { notes, .. }): State<Application>,
    session: Session,
    Form(Login { name }): Form<Login>,
) -> Redirect {
    let Some(login) = notes.log_in(&name) else {
        return Redirect::to("login");
    };
    session.insert(LOGIN, login).await.expect("the store has room");
    Redirect::to("./")
}

async fn log_out(User(user): User, State(Application { notes, hub }): State<Application>) -> Redirect {
    notes.log_out(&user);
    // stillhere
    for session in hub.sessions_of(&user) {
        session.abort("logged out");
    }
    Redirect::to("login")
}

/// The user who is logged in. Others are redirected to the login.
struct User(String);

impl FromRequestParts<Application> for User {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, application: &Application) -> Result<Self, Redirect> {
        let session = Session::from_request_parts(parts, application).await;
        let login = match session {
            Ok(session) => session.get::<String>(LOGIN).await.ok().flatten(),
            Err(_) => None,
        };
        let user = login.and_then(|login| application.notes.user(&login));
        user.map(Self).ok_or_else(|| Redirect::to("login"))
    }
}
