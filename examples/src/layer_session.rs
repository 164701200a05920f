//! The session of the page that uses `stillhere-app`: it has one of everything that the layer can
//! do, for the tests in a browser.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use stillhere::SessionState;
use stillhere_app::{AppOptions, Array, CallError, Items, Observable, Received, SendError, Session, SessionHandle};

/// Observables are set so often while the page is away.
const SETS: i64 = 1_000;

pub(crate) fn options() -> AppOptions {
    let mut options = AppOptions::default();
    options.waiting_calls = 8;
    options
}

/// Runs until the session ends. What it has is durable: counts, observables and handlers.
pub(crate) async fn run_layer_session(session: Session) {
    let page = session.to_handle();
    session.on_restore(|page| async move {
        let _ = page.emit("restored", &"the event follows the values").await;
    });
    handle_arrays(&page);
    handle_integers(&page);
    handle_failing_calls(&page);
    handle_calls_back(&page);
    handle_streams(&page);
    handle_page_streams(&page);
    handle_deep_values(&page);
    observe(&page);
    keep_troubles(&page);
    handle_events(&page);
    let _ = echo(session).await;
}

/// Sends back what comes as a message.
async fn echo(mut session: Session) -> Result<(), SendError> {
    while let Some(received) = session.recv().await {
        match received {
            Received::Bytes(bytes) => session.send(bytes).await?,
            Received::Text(text) => session.send_text(text).await?,
            Received::Value(value) => match value.decode::<Value>() {
                Ok(value) => session.send_json(&value).await?,
                Err(error) => session.send_text(error.to_string()).await?,
            },
            _ => {}
        }
    }
    Ok(())
}

fn handle_arrays(page: &SessionHandle) {
    macro_rules! arrays {
        ($($number:ident)*) => {
            $(page.handle(
                concat!(stringify!($number), "[]"),
                async |numbers: Array<$number>| Ok::<_, Infallible>(numbers),
            );)*
        };
    }
    arrays!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);
}

fn handle_integers(page: &SessionHandle) {
    page.handle("i64", async |number: i64| Ok::<_, Infallible>(number));
    page.handle("u64", async |number: u64| Ok::<_, Infallible>(number));
    page.handle("extremes", async |(): ()| {
        Ok::<_, Infallible>(json!([i64::MIN, i64::MAX, u64::MAX, 1_u64 << 53, -0.5]))
    });
}

/// Calls of the page: `next` counts how often it is executed, the others fail, each in its way.
fn handle_failing_calls(page: &SessionHandle) {
    let executed = Arc::new(AtomicU64::new(0));
    page.handle("next", move |(): ()| {
        let executed = Arc::clone(&executed);
        async move { Ok::<_, Infallible>(executed.fetch_add(1, Ordering::Relaxed) + 1) }
    });
    page.handle("rejects", async |(): ()| Err::<(), _>("not today"));
    // JSON has no maps with such keys.
    page.handle("fails", async |(): ()| {
        Ok::<_, Infallible>(HashMap::from([((1, 2), 3)]))
    });
    let waiting = Tally::default();
    let of_call = waiting.clone();
    page.handle("waits", move |(): ()| {
        let one = of_call.add_one();
        async move {
            let _one = one;
            std::future::pending::<Result<(), Infallible>>().await
        }
    });
    page.handle("waiting", move |(): ()| {
        let count = waiting.count();
        async move { Ok::<_, Infallible>(count) }
    });
}

/// What the page asks this side to ask the page.
#[derive(Deserialize)]
struct Ask {
    name: String,
    #[serde(default)]
    question: Value,
    /// In milliseconds.
    timeout: Option<u64>,
    #[serde(default)]
    times: u64,
}

fn handle_calls_back(page: &SessionHandle) {
    let asking = page.clone();
    page.handle("ask", move |ask: Ask| {
        let page = asking.clone();
        async move { Ok::<_, Infallible>(outcome(ask_once::<Value>(&page, &ask).await)) }
    });
    let asking = page.clone();
    page.handle("ask-number", move |ask: Ask| {
        let page = asking.clone();
        async move { Ok::<_, Infallible>(outcome(ask_once::<u64>(&page, &ask).await)) }
    });
    let asking = page.clone();
    page.handle("ask-often", move |ask: Ask| {
        let page = asking.clone();
        async move {
            let mut answers = Vec::new();
            for _ in 0..ask.times {
                answers.push(ask_once::<u64>(&page, &ask).await.map_err(|error| error.to_string())?);
            }
            Ok::<_, String>(answers)
        }
    });
    let kept = Arc::new(Mutex::new(None::<String>));
    let asking = (page.clone(), Arc::clone(&kept));
    page.on("ask-later", move |ask: Ask| {
        let (page, kept) = asking.clone();
        async move {
            // A handler of an event would hold up those after it.
            tokio::spawn(async move {
                let outcome = outcome(ask_once::<Value>(&page, &ask).await);
                *lock(&kept) = Some(outcome.to_string());
            });
        }
    });
    page.handle("asked", move |(): ()| {
        let kept = lock(&kept).clone();
        async move { Ok::<_, Infallible>(kept) }
    });
}

async fn ask_once<A: serde::de::DeserializeOwned>(page: &SessionHandle, ask: &Ask) -> Result<A, CallError> {
    let call = page.call(&ask.name, &ask.question);
    match ask.timeout {
        Some(timeout) => call.timeout(Duration::from_millis(timeout)).await,
        None => call.await,
    }
}

fn outcome<A: serde::Serialize>(answer: Result<A, CallError>) -> Value {
    match answer {
        Ok(answer) => json!({ "answer": answer }),
        Err(error) => json!({ "error": format!("{error:?}"), "text": error.to_string() }),
    }
}

fn handle_streams(page: &SessionHandle) {
    let (running, sent) = (Tally::default(), Arc::new(AtomicU64::new(0)));
    let of_stream = (running.clone(), Arc::clone(&sent));
    page.handle_stream("numbers", move |to: u64, items: Items<u64>| {
        let (running, sent) = of_stream.clone();
        let one = running.add_one();
        async move {
            let _one = one;
            for number in 1..=to {
                items.send(&number).await.map_err(|error| error.to_string())?;
                sent.store(number, Ordering::Relaxed);
            }
            if to == 13 {
                Err("13 is too many".to_owned())
            } else {
                Ok("done")
            }
        }
    });
    page.handle("streams", move |(): ()| {
        let state = (running.count(), sent.load(Ordering::Relaxed));
        async move { Ok::<_, Infallible>(state) }
    });
}

/// How this side takes the numbers that the page counts.
#[derive(Deserialize)]
struct Take {
    to: u64,
    /// How many numbers are taken before the stream is left.
    most: u64,
}

/// Has the page count, and answers with how many numbers came in order and how the stream ended.
fn handle_page_streams(page: &SessionHandle) {
    let asking = page.clone();
    page.handle("take", move |Take { to, most }: Take| {
        let mut numbers = asking.stream::<_, u64>("count", &to);
        async move {
            let mut taken = 0;
            while taken < most {
                match numbers.next().await {
                    Some(Ok(number)) if number == taken + 1 => taken = number,
                    Some(Ok(number)) => return Err(format!("{number} came after {taken}")),
                    Some(Err(error)) => return Ok(json!([taken, error.to_string()])),
                    None => return Ok(json!([taken, outcome(numbers.answer::<String>().await)])),
                }
            }
            Ok(json!([taken, null]))
        }
    });
}

/// Answers with a value that is nested too deeply to be decoded, and asks the page with one.
fn handle_deep_values(page: &SessionHandle) {
    fn deep() -> Value {
        (0..200).fold(json!(1), |value, _| json!([value]))
    }
    page.handle("deep", async |(): ()| Ok::<_, Infallible>(deep()));
    let asking = page.clone();
    page.handle("ask-deep", move |(): ()| {
        let page = asking.clone();
        async move { Ok::<_, Infallible>(outcome(page.call::<_, Value>("double", &deep()).await)) }
    });
}

/// `level` is set here while the page is away, `dial` by the page.
fn observe(page: &SessionHandle) {
    let level: Observable<i64> = page.observable("level", 0);
    let dial: Observable<i64> = page.observable("dial", 0);
    let last = level.clone();
    page.handle("raise", move |by: i64| {
        let level = last.clone();
        async move {
            level.update(|level| *level += by);
            Ok::<_, Infallible>(level.get())
        }
    });
    let away = page.clone();
    page.on("raise-while-away", move |(): ()| {
        let (page, level) = (away.clone(), level.clone());
        async move {
            let mut events = page.core().events();
            while page.core().state() == SessionState::Open && events.next().await.is_some() {}
            // At once: the page must not be back before the last.
            (0..SETS).for_each(|_| level.update(|level| *level += 1));
        }
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (mut turned, of_watch) = (dial.watch(), Arc::clone(&seen));
    tokio::spawn(async move {
        while turned.changed().await.is_ok() {
            let value = *turned.borrow_and_update();
            lock(&of_watch).push(value);
        }
    });
    page.handle("turned", move |(): ()| {
        let (seen, value) = (lock(&seen).clone(), dial.get());
        async move { Ok::<_, Infallible>((value, seen)) }
    });
}

/// Keeps what is wrong in the page or with what it sends.
fn keep_troubles(page: &SessionHandle) {
    let troubles = Arc::new(Mutex::new(Vec::new()));
    let of_hook = Arc::clone(&troubles);
    page.on_trouble(move |trouble| lock(&of_hook).push(trouble.to_string()));
    page.handle("troubles", move |(): ()| {
        let troubles = std::mem::take(&mut *lock(&troubles));
        async move { Ok::<_, Infallible>(troubles) }
    });
}

fn handle_events(page: &SessionHandle) {
    let answering = page.clone();
    page.on("moved", move |to: Value| {
        let page = answering.clone();
        async move {
            let _ = page.emit("moved", &to).await;
        }
    });
    let closing = page.clone();
    page.on("close", move |text: String| {
        let page = closing.clone();
        async move { page.close(&text) }
    });
}

/// Counts what is alive.
#[derive(Clone, Default)]
struct Tally(Arc<()>);

impl Tally {
    fn add_one(&self) -> Arc<()> {
        Arc::clone(&self.0)
    }

    /// The two are the handler's, which adds, and the one that counts.
    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 2
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
