//! A plot of 10,000 points, 20 times a second, on warp. The README says what to try.

mod signal;

use std::env;
use std::time::Duration;

use stillhere_app::{Array, Codec, HubBuilderExt as _, Observable, Session, app};
use stillhere_warp::{Hub, Page, SessionState, stop_signal};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use warp::Filter;

use crate::signal::Signal;

const FRAME: Duration = Duration::from_millis(50);

fn page(hub: &Hub) -> Page<String> {
    let mut options = hub.session_options();
    options.restore = Some("plot".to_owned()); // F5 keeps the session
    let session = hub.open_with(options, app(plot));
    // Scripts and styles run only with this page's nonce. The id of a session is random.
    let nonce = session.id().to_string();
    let html = include_str!("../page.html").replace("{{nonce}}", &nonce);
    Page(html.replace("{{session}}", &session.app_script_tag_with_nonce(&nonce)))
}

/// Draws for one page, until its session ends.
async fn plot(session: Session) {
    let [frequency, sharpness, noise]: [Observable<f32>; 3] = [
        session.observable("frequency", 3.0),
        session.observable("sharpness", 0.3),
        session.observable("noise", 0.1),
    ];
    let is_running = session.observable("running", true);
    // The newest frame is sent once the page has the one before. A page that was away gets one.
    let points = session.observable("points", Array::<f32>::default());
    let page = session.to_handle();
    drop(session); // it would keep messages, which nobody reads here

    let mut signal = Signal::default();
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = page.ended() => return,
            _ = frames.tick() => {}
        }
        // While nobody looks, nothing is drawn.
        if is_running.get() && page.core().state() == SessionState::Open {
            points.set(signal.next(frequency.get(), sharpness.get(), noise.get()).into());
        }
    }
}

/// Usage: `live-plot [ADDRESS]`, by default 127.0.0.1:3000.
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let hub = Hub::builder()
        .allow_host("localhost")
        .codec(Codec::MessagePack) // for everything that the server sends
        .build();
    let hub_of_page = hub.clone();
    let index = warp::path::end().map(move || page(&hub_of_page));
    let app = stillhere_warp::routes(&hub).or(index);
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = warp::serve(app)
        .incoming(listener)
        .graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.run());
    stop_signal().await;
    hub.shutdown(Duration::from_secs(5)).await;
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok(())
}
