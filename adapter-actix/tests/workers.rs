//! On which thread a session's function runs, and what becomes of the session when its worker
//! stops.

use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use stillhere_actix::{EndReason, Hub, Session, SessionHandle, SessionState, routes};
use stillhere_conformance::browser::Browser;
use stillhere_conformance::http;
use stillhere_conformance::patience::within;
use tokio::runtime::Handle;

/// Starts a server with one worker, whose thread is named at `/thread`.
fn serve(hub: &Hub) -> (SocketAddr, ServerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let hub = hub.clone();
    let app = move || {
        App::new()
            .configure(routes(&hub))
            .route("/thread", web::get().to(async || this_thread()))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .listen(listener)
        .expect("the listener listens")
        .run();
    let handle = server.handle();
    tokio::spawn(server);
    (address, handle)
}

fn this_thread() -> String {
    format!("{:?}", thread::current().id())
}

async fn worker_at(address: SocketAddr) -> String {
    String::from_utf8(http::get(address, "/thread", &[]).await.body).expect("a name is text")
}

async fn send_thread(session: Session) {
    session.send(this_thread()).await.expect("the session is open");
    pending::<()>().await;
}

/// Opens a session and returns the thread on which its function runs.
async fn thread_of(session: &SessionHandle, address: SocketAddr) -> (Browser, String) {
    let browser = Browser::connect(address, &session.ticket_json());
    let thread = browser.recv().await.payload;
    (browser, String::from_utf8(thread.to_vec()).expect("a name is text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_runs_on_the_worker_of_its_first_connection() {
    let hub = Hub::new();
    let (address, _handle) = serve(&hub);
    let (_browser, thread) = thread_of(&hub.open(send_thread), address).await;
    assert_eq!(thread, worker_at(address).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_with_a_runtime_of_its_own_keeps_its_functions_there() {
    let hub = Hub::builder().runtime(Handle::current()).build();
    let (address, handle) = serve(&hub);
    let session = hub.open(send_thread);
    let (_browser, thread) = thread_of(&session, address).await;
    assert_ne!(thread, worker_at(address).await);

    let mut events = session.events();
    handle.stop(false).await;
    within("the soft close", events.next()).await;
    assert_eq!(session.state(), SessionState::SoftClosed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_the_worker_that_runs_its_function() {
    let hub = Hub::new();
    let dropped = Arc::new(());
    let (address, handle) = serve(&hub);
    let of_function = Arc::clone(&dropped);
    let session = hub.open(|session| async move {
        let _held = of_function;
        send_thread(session).await;
    });
    let (_browser, _) = thread_of(&session, address).await;

    handle.stop(false).await;
    let reason = within("the end", session.ended()).await;
    assert_eq!(
        reason,
        EndReason::Aborted("the runtime of its function has shut down".into())
    );
    assert_eq!(Arc::strong_count(&dropped), 1, "the function is gone");
}
