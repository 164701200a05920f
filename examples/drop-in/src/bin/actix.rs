//! An application on actix-web with a login and one page with a durable session. What was added for
//! the session is marked `stillhere`.

use std::future::{Ready, ready};
use std::time::Duration;

use actix_files::Files;
use actix_session::storage::CookieSessionStore;
use actix_session::{Session, SessionExt as _, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::dev::Payload;
use actix_web::error::InternalError;
use actix_web::http::header::LOCATION;
use actix_web::middleware::{Compress, Logger};
use actix_web::web::{self, Data, Form, Html};
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, HttpServer};
use stillhere_actix::{Hub, Page, stop_signal}; // stillhere
use stillhere_example_drop_in::{ABOUT_PAGE, LOGIN, LOGIN_PAGE, Notes, STATIC, Settings};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let settings = Settings::read();
    let notes = Notes::default();
    let hub = hub(&settings); // stillhere
    let key = Key::generate();
    let app = {
        let hub = hub.clone();
        move || {
            App::new()
                .app_data(Data::new(notes.clone()))
                .app_data(Data::new(hub.clone())) // stillhere
                .wrap(sessions(key.clone()))
                .wrap(Compress::default())
                .wrap(Logger::default())
                .route("/", web::get().to(notes_page))
                .route("/login", web::get().to(async || Html::new(LOGIN_PAGE)))
                .route("/login", web::post().to(log_in))
                .route("/logout", web::post().to(log_out))
                .route("/about", web::get().to(async || Html::new(ABOUT_PAGE)))
                .configure(stillhere_actix::routes_for(&hub, user)) // stillhere
                .service(Files::new("/static", STATIC))
        }
    };
    let listener = std::net::TcpListener::bind(&settings.address)?;
    println!("notes on http://{}", listener.local_addr()?);
    let stopped = async move {
        stop_signal().await;
        hub.shutdown(Duration::from_secs(5)).await; // stillhere
    };
    HttpServer::new(app)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false) // stillhere
        .client_disconnect_timeout(Duration::ZERO) // stillhere
        .shutdown_signal(stopped)
        .shutdown_timeout(5)
        .listen(listener)?
        .run()
        .await
}

/// Keeps the data of a browser's session in an encrypted cookie. There is no TLS here, so the
/// cookie is not `Secure`.
fn sessions(key: Key) -> SessionMiddleware<CookieSessionStore> {
    SessionMiddleware::builder(CookieSessionStore::default(), key)
        .cookie_secure(false)
        .build()
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

async fn notes_page(User(user): User, notes: Data<Notes>, hub: Data<Hub>) -> Page<String> {
    // stillhere
    let (author, shared) = (user.clone(), Notes::clone(&notes));
    let session = hub.open_for(&user, |session| shared.run(author, session));
    Page(notes.page(&user, &session.script_tag()))
}

#[derive(serde::Deserialize)]
struct Login {
    name: String,
}

async fn log_in(notes: Data<Notes>, session: Session, form: Form<Login>) -> HttpResponse {
    let Some(login) = notes.log_in(&form.name) else {
        return to_login();
    };
    session.insert(LOGIN, login).expect("text serializes to JSON");
    HttpResponse::SeeOther().insert_header((LOCATION, "./")).finish()
}

async fn log_out(User(user): User, notes: Data<Notes>, hub: Data<Hub>) -> HttpResponse {
    notes.log_out(&user);
    // stillhere
    for session in hub.sessions_of(&user) {
        session.abort("logged out");
    }
    to_login()
}

fn to_login() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "login")).finish()
}

/// The user who is logged in. Others are redirected to the login.
struct User(String);

impl FromRequest for User {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let notes = request.app_data::<Data<Notes>>();
        let login = request.get_session().get::<String>(LOGIN).ok().flatten();
        let user = login.and_then(|login| notes?.user(&login));
        ready(
            user.map(Self)
                .ok_or_else(|| InternalError::from_response("not logged in", to_login()).into()),
        )
    }
}
