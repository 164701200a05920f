//! Adapts a function with this layer's session to the core.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::{Either, select};

use crate::handle::SessionHandle;
use crate::layer::Layer;
use crate::newest::send_newest;
use crate::options::AppOptions;
use crate::pump::Pump;
use crate::restoring::Restoring;
use crate::session::Session;
use crate::shared::Shared;

/// What [`app()`] returns: a function for [`Hub::open`](stillhere::Hub::open).
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Adapts a function with this layer's [`Session`] for [`Hub::open`](stillhere::Hub::open) and its
/// like. The page must load the layer's half, which
/// [`app_script_tag`](stillhere::SessionHandle::app_script_tag) does.
///
/// Everything that the page sends is read within the same task, while `function` awaits anything,
/// so handlers run and calls are answered although the function does not read. When `function`
/// returns, the session closes.
///
/// ```
/// use stillhere::Hub;
/// use stillhere_app::{Session, app};
///
/// async fn board(session: Session) {
///     session.ended().await;
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let tag = Hub::new().open(app(board)).app_script_tag();
/// # assert!(tag.contains("data-stillhere"));
/// # }
/// ```
pub fn app<F, R>(function: F) -> impl FnOnce(stillhere::Session) -> Running + Send + 'static
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    move |core| {
        let layer = core.extension::<Layer>();
        let options = layer.options();
        Box::pin(run(layer, options, core, function))
    }
}

/// Adapts a function like [`app()`], with options other than those of the session's hub. Start from
/// [`HubExt::app_options`](crate::HubExt::app_options).
pub fn app_with<F, R>(options: AppOptions, function: F) -> impl FnOnce(stillhere::Session) -> Running + Send + 'static
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    move |core| Box::pin(run(core.extension(), options, core, function))
}

async fn run<F, R>(layer: Arc<Layer>, options: AppOptions, core: stillhere::Session, function: F)
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let handle = SessionHandle {
        core: core.handle(),
        shared: Arc::new(Shared::new(layer, options)),
    };
    let _end = EndWithFunction(handle.clone());
    let mut function = pin!(function(Session::new(handle.clone())));
    // Until its first `.await` the function sets handlers, which then get everything.
    if poll_fn(|context| Poll::Ready(function.as_mut().poll(context)))
        .await
        .is_ready()
    {
        return;
    }
    let shared = Arc::clone(&handle.shared);
    core.on_restore(move |restoring| restore(Arc::clone(&shared), restoring));
    let pump = pin!(Pump::new(core, &handle).run());
    if let Either::Right(((), function)) = select(function, pump).await {
        function.await;
    }
}

/// Sends a new document the value of every observable, and then what the application wants.
async fn restore(shared: Arc<Shared>, restoring: stillhere::Restoring) {
    let (observables, rooms, function) = {
        let state = shared.lock();
        let observables: Vec<_> = state.observables.values().cloned().collect();
        let rooms: Vec<_> = state.rooms.values().cloned().collect();
        (observables, rooms, state.restore.clone())
    };
    for observed in observables {
        match observed.restore(shared.options.codec) {
            Ok(set) => drop(restoring.send(set).await),
            Err(error) => tracing::error!(name = observed.name(), %error, "an observable was not sent"),
        }
    }
    for unit in rooms.iter().flat_map(|seated| seated.view()) {
        let _ = restoring.send(unit).await;
    }
    if let Some(function) = function {
        function(Restoring::new(restoring, shared.options.codec)).await;
    }
}

/// Ends the layer when the function has returned, has panicked or is dropped. What it has set last
/// is still sent.
struct EndWithFunction(SessionHandle);

impl Drop for EndWithFunction {
    fn drop(&mut self) {
        send_newest(&self.0.core, &self.0.shared);
        self.0.shared.end();
    }
}
