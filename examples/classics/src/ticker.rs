//! A ticker, which server-sent events are often used for: a value that the server changes and all
//! pages show.

use std::time::Duration;

use stillhere::Hub;
use stillhere_app::{Session, app};
use tokio::sync::watch;
use tokio::time::interval;

/// Counts the seconds, as long as anybody watches.
pub fn start() -> watch::Receiver<u64> {
    let (seconds, watched) = watch::channel(0);
    tokio::spawn(async move {
        let mut clock = interval(Duration::from_secs(1));
        while !seconds.is_closed() {
            clock.tick().await;
            seconds.send_modify(|seconds| *seconds += 1);
        }
    });
    watched
}

/// Returns the page, with a session of its own.
pub fn page(hub: &Hub, seconds: &watch::Receiver<u64>) -> String {
    let seconds = seconds.clone();
    let tag = hub.open(app(|session| tick(session, seconds))).app_script_tag();
    format!("{BODY}{tag}<script>{SCRIPT}</script>")
}

/// Shows the page the newest value. One that was away gets that, and none that it missed.
pub async fn tick(session: Session, seconds: watch::Receiver<u64>) {
    session.follow("seconds", seconds);
    session.ended().await;
}

const BODY: &str = "<!doctype html><meta name=viewport content='width=device-width'><title>Ticker</title>
    <p>The server has run for <output id=seconds>0</output> seconds.</p>";

const SCRIPT: &str = "
    stillhere.session.observable('seconds', 0).subscribe((now) => { seconds.value = now; });
";
