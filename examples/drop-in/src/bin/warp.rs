//! An application on warp with a login and one page with a durable session. What was added for the
//! session is marked `stillhere`.

use std::convert::Infallible;
use std::future::ready;
use std::sync::LazyLock;
use std::time::Duration;

use cookie::{Cookie, CookieJar, Key, SameSite};
use stillhere_example_drop_in::{ABOUT_PAGE, LOGIN, LOGIN_PAGE, Notes, STATIC, Settings};
use stillhere_warp::{Hub, Page, stop_signal}; // stillhere
use warp::http::StatusCode;
use warp::http::header::{LOCATION, SET_COOKIE};
use warp::reject::Reject;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let settings = Settings::read();
    let notes = Notes::default();
    let hub = hub(&settings); // stillhere
    let listener = tokio::net::TcpListener::bind(&settings.address).await?;
    println!("notes on http://{}", listener.local_addr()?);
    let stopped = {
        let hub = hub.clone();
        async move {
            stop_signal().await;
            hub.shutdown(Duration::from_secs(5)).await; // stillhere
        }
    };
    let user = user(notes.clone()).map(Some); // stillhere
    // warp's compression applies to everything that it wraps, compressed or not, so it wraps only
    // the pages and the static files.
    let app = pages(notes, hub.clone())
        .with(warp::compression::gzip())
        .or(stillhere_warp::routes_for(&hub, user)) // stillhere
        .recover(to_login)
        .with(warp::trace::request());
    warp::serve(app).incoming(listener).graceful(stopped).run().await;
    Ok(())
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

/// The routes of the application other than those of the sessions.
fn pages(notes: Notes, hub: Hub) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync {
    let user = user(notes.clone());
    let (notes, hub) = (with(notes), with(hub));
    let session = user.and(notes.clone()).and(hub);
    let home = warp::path::end().and(warp::get()).and(session.clone());
    let login_page = warp::path!("login").and(warp::get());
    let log_in = warp::path!("login").and(warp::post()).and(notes);
    let log_out = warp::path!("logout").and(warp::post()).and(session);
    let about_page = warp::path!("about").and(warp::get());
    home.map(notes_page)
        .or(login_page.map(|| warp::reply::html(LOGIN_PAGE)))
        .or(log_in.and(warp::body::form()).map(self::log_in))
        .or(log_out.map(self::log_out))
        .or(about_page.map(|| warp::reply::html(ABOUT_PAGE)))
        .or(warp::path("static").and(warp::fs::dir(STATIC)))
}

fn with<T: Clone + Send + Sync>(value: T) -> impl Filter<Extract = (T,), Error = Infallible> + Clone + Send + Sync {
    warp::any().map(move || value.clone())
}

fn notes_page(user: String, notes: Notes, hub: Hub) -> Page<String> {
    // stillhere
    let (author, shared) = (user.clone(), notes.clone());
    let session = hub.open_for(&user, |session| shared.run(author, session));
    Page(notes.page(&user, &session.script_tag()))
}

#[derive(serde::Deserialize)]
struct Login {
    name: String,
}

fn log_in(notes: Notes, Login { name }: Login) -> Response {
    match notes.log_in(&name) {
        Some(login) => warp::reply::with_header(see_other("./"), SET_COOKIE, signed(login)).into_response(),
        None => see_other("login"),
    }
}

fn log_out(user: String, notes: Notes, hub: Hub) -> Response {
    notes.log_out(&user);
    // stillhere
    for session in hub.sessions_of(&user) {
        session.abort("logged out");
    }
    see_other("login")
}

fn see_other(location: &'static str) -> Response {
    warp::reply::with_header(StatusCode::SEE_OTHER, LOCATION, location).into_response()
}

/// Extracts the user who is logged in. Others are redirected to the login.
fn user(notes: Notes) -> impl Filter<Extract = (String,), Error = Rejection> + Clone + Send + Sync {
    warp::cookie::optional(LOGIN).and_then(move |cookie: Option<String>| {
        let login = cookie.and_then(verified);
        let user = login.and_then(|login| notes.user(&login));
        ready(user.ok_or_else(|| warp::reject::custom(NotLoggedIn)))
    })
}

/// The key that signs the cookie of a login.
static KEY: LazyLock<Key> = LazyLock::new(Key::generate);

/// Returns the cookie for a login.
fn signed(login: String) -> String {
    let cookie = Cookie::build((LOGIN, login)).http_only(true).same_site(SameSite::Lax);
    let mut jar = CookieJar::new();
    jar.signed_mut(&KEY).add(cookie);
    jar.get(LOGIN).expect("it was added").to_string()
}

/// Returns the login in a cookie, if its signature is valid.
fn verified(value: String) -> Option<String> {
    let mut jar = CookieJar::new();
    jar.add_original(Cookie::new(LOGIN, value));
    let cookie = jar.signed(&KEY).get(LOGIN)?;
    Some(cookie.value().to_owned())
}

#[derive(Debug)]
struct NotLoggedIn;

impl Reject for NotLoggedIn {}

async fn to_login(rejection: Rejection) -> Result<Response, Rejection> {
    match rejection.find::<NotLoggedIn>() {
        Some(NotLoggedIn) => Ok(see_other("login")),
        None => Err(rejection),
    }
}
