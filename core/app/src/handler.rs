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
use crate::shared::{CallHandler, EventHandler};
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
    Arc::new(move |id, question| {
        let (handler, name) = (Arc::clone(&handler), Arc::clone(&name));
        Box::pin(async move {
            let answered = async {
                let question = match question.decode() {
                    Ok(question) => question,
                    Err(error) => return unit::failure(id, FailureCode::Undecodable, &error.to_string()),
                };
                answer(id, codec, handler(question).await)
            };
            let answered = AssertUnwindSafe(answered).catch_unwind().await;
            answered.unwrap_or_else(|_| {
                tracing::error!(call = &*name, "the handler of a call panicked");
                unit::failure(id, FailureCode::Failed, "the handler panicked")
            })
        })
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
