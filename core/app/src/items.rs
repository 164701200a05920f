//! The items of a streamed answer, which the page takes at its own pace.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Semaphore;

use crate::handle::{SendError, SessionHandle};
use crate::unit::{self, Kind};
use crate::varint;

/// Sends the items of a streamed answer.
#[derive(Debug)]
pub struct Items<T> {
    id: u64,
    credit: Credit,
    session: SessionHandle,
    item: PhantomData<fn(&T)>,
}

impl<T: Serialize> Items<T> {
    pub(crate) fn new(id: u64, credit: Credit, session: SessionHandle) -> Self {
        Self {
            id,
            credit,
            session,
            item: PhantomData,
        }
    }

    /// Sends an item. Waits until the page wants one, and while the outbox is full. If the page
    /// cancels the call, the handler is dropped here.
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::send_json`].
    pub async fn send(&self, item: &T) -> Result<(), SendError> {
        self.credit.take().await;
        let item = self.session.encode(item, unit::begin_with(Kind::Item, self.id))?;
        self.session.deliver(item).await
    }
}

/// How many more items the page takes.
#[derive(Debug, Clone)]
pub(crate) struct Credit(Arc<Semaphore>);

impl Credit {
    /// Returns `None` for a call that takes a single answer.
    pub(crate) fn new(count: u64) -> Option<Self> {
        (count > 0).then(|| {
            let credit = Self(Arc::new(Semaphore::new(0)));
            credit.add(count);
            credit
        })
    }

    /// Adds to the credit, which stays below 2^53.
    pub(crate) fn add(&self, count: u64) {
        let room = (varint::MOST as usize).saturating_sub(self.0.available_permits());
        self.0
            .add_permits(usize::try_from(count).map_or(room, |count| count.min(room)));
    }

    async fn take(&self) {
        let permit = self.0.acquire().await;
        permit.expect("the semaphore is never closed").forget();
    }
}
