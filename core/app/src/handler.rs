//! Handlers of the application, as the pump runs them.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codec;
use crate::failure::FailureCode;
use crate::handle::SessionHandle;
use crate::items::Items;
use crate::shared::{CallHandler, EventHandler, Question};
use crate::unit::{self, Kind};

/// Returns a handler of calls: it decodes the question and encodes the answer.
pub(crate) fn of_calls<Q, A, E, F, R>(name: &str, codec: Codec, handler: F) -> CallHandler
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + 'static,
    E: Display + 'static,
    F: Fn(Q) -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let name: Arc<str> = name.into();
    Arc::new(move |Question { id, value, .. }| {
        let (handler, name) = (Arc::clone(&handler), Arc::clone(&name));
        Box::pin(guarded(name, id, async move {
            match value.decode() {
                Ok(question) => answer(id, codec, handler(question).await),
                Err(error) => unit::failure(id, FailureCode::Undecodable, &error.to_string()),
            }
        }))
    })
}

/// Returns a handler of calls that answers with a stream of items and then an answer.
pub(crate) fn of_streams<Q, I, A, E, F, R>(name: &str, session: &SessionHandle, handler: F) -> CallHandler
where
    Q: DeserializeOwned + Send + 'static,
    I: Serialize + 'static,
    A: Serialize + 'static,
    E: Display + 'static,
    F: Fn(Q, Items<I>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let name: Arc<str> = name.into();
    let core = session.core.clone();
    // A handler is part of what it would otherwise keep alive.
    let shared = Arc::downgrade(&session.shared);
    Arc::new(move |Question { id, value, credit }| {
        let (handler, name) = (Arc::clone(&handler), Arc::clone(&name));
        let session = shared.upgrade().map(|shared| SessionHandle {
            core: core.clone(),
            shared,
        });
        Box::pin(guarded(name, id, async move {
            let (Some(credit), Some(session)) = (credit, session) else {
                return unit::failure(id, FailureCode::Streamed, "");
            };
            let codec = session.shared.options.codec;
            match value.decode() {
                Ok(question) => answer(id, codec, handler(question, Items::new(id, credit, session)).await),
                Err(error) => unit::failure(id, FailureCode::Undecodable, &error.to_string()),
            }
        }))
    })
}

/// Returns what answers the call: a failure if the handler panics.
async fn guarded(name: Arc<str>, id: u64, answered: impl Future<Output = Vec<u8>>) -> Vec<u8> {
    let answered = AssertUnwindSafe(answered).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        tracing::error!(call = &*name, "the handler of a call panicked");
        unit::failure(id, FailureCode::Failed, "the handler panicked")
    })
}

fn answer<A: Serialize, E: Display>(id: u64, codec: Codec, answer: Result<A, E>) -> Vec<u8> {
    match answer {
        Ok(answer) => codec
            .write(&answer, unit::begin_with(Kind::Answer, id))
            .unwrap_or_else(|error| unit::failure(id, FailureCode::Failed, &error.to_string())),
        Err(error) => unit::failure(id, FailureCode::Rejected, &error.to_string()),
    }
}

/// Returns a handler of events: it decodes the value.
pub(crate) fn of_events<T, F, R>(handler: F) -> EventHandler
where
    T: DeserializeOwned + Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(move |value| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let value = value.decode()?;
            handler(value).await;
            Ok(())
        })
    })
}
