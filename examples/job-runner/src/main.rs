//! Long jobs that a page starts and watches, on actix-web. The README says what to try.

mod jobs;
mod primes;

use std::env;
use std::time::Duration;

use actix_web::{App, HttpServer, get, web};
use stillhere_actix::{DefaultCleanupPolicy, Hub, Page, stop_signal};
use stillhere_app::{Items, Session, app};

use crate::jobs::Jobs;

/// How long a closed laptop finds its session again. The jobs do not depend on sessions.
const AWAY: Duration = Duration::from_secs(12 * 60 * 60);

#[get("/")]
async fn page(hub: web::Data<Hub>, jobs: web::Data<Jobs>) -> Page<String> {
    let jobs = Jobs::clone(&jobs);
    let mut options = hub.session_options();
    options.restore = Some("jobs".to_owned()); // F5 keeps the session
    let session = hub.open_with(options, app(|session| watch(session, jobs)));
    // Scripts and styles run only with this page's nonce. The id of a session is random.
    let nonce = session.id().to_string();
    let html = include_str!("../page.html").replace("{{nonce}}", &nonce);
    Page(html.replace("{{session}}", &session.app_script_tag_with_nonce(&nonce)))
}

/// Shows the jobs to one page, until its session ends.
async fn watch(session: Session, jobs: Jobs) {
    let starting = jobs.clone();
    session.handle("start", move |limit: u64| {
        let jobs = starting.clone();
        async move { jobs.start(limit) }
    });
    let cancelling = jobs.clone();
    session.handle("cancel", move |id: u64| {
        let jobs = cancelling.clone();
        async move { jobs.cancel(id) }
    });
    let logging = jobs.clone();
    session.handle_stream("log", move |id: u64, lines: Items<String>| {
        send_log(logging.clone(), id, lines)
    });

    session.follow("jobs", jobs.list()); // encoded once for all pages
    let handle = session.to_handle();
    drop(session); // it would keep messages, which nobody reads here
    handle.ended().await;
}

/// Sends the log from its start, as fast as the page takes it, until the job is over.
async fn send_log(jobs: Jobs, id: u64, lines: Items<String>) -> Result<(), String> {
    let mut changes = jobs.list();
    let mut sent = 0;
    loop {
        changes.mark_unchanged();
        let (log, is_running) = jobs.log(id, sent).ok_or("there is no such job")?;
        for line in &log {
            lines.send(line).await.map_err(|error| error.to_string())?;
        }
        sent += log.len();
        if !is_running {
            return Ok(());
        }
        changes.changed().await.map_err(|error| error.to_string())?;
    }
}

/// Usage: `job-runner [ADDRESS [PAUSE]]`, by default 127.0.0.1:3000, and 60 ms between two parts of
/// a job.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let pause = arguments.next().and_then(|pause| pause.parse().ok()).unwrap_or(60);
    let policy = DefaultCleanupPolicy {
        soft_closed: AWAY,
        ..DefaultCleanupPolicy::default()
    };
    let hub = Hub::builder().allow_host("localhost").cleanup_policy(policy).build();
    let jobs = Jobs::new(Duration::from_millis(pause));
    let hub_of_app = hub.clone();
    let app = move || {
        App::new()
            .app_data(web::Data::new(hub_of_app.clone()))
            .app_data(web::Data::new(jobs.clone()))
            .service(page)
            .configure(stillhere_actix::routes(&hub_of_app))
    };
    let drain = async move {
        stop_signal().await;
        hub.shutdown(Duration::from_secs(5)).await;
    };
    let server = HttpServer::new(app).tcp_nodelay(true).h1_allow_half_closed(false);
    let server = server.shutdown_signal(drain).shutdown_timeout(1).bind(address)?;
    for address in server.addrs() {
        println!("http://{address}");
    }
    server.run().await
}
