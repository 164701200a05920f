//! Forwards one direction of a connection and applies the orders to it.

use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::select;
use tokio::sync::watch;

use super::ending::Ending;
use super::handle::Direction;
use super::link::{Event, Link};
use super::orders::{Mode, Orders};
use super::registration::Registration;
use super::request_reader::RequestReader;

/// Forwards one direction and applies the orders to it.
pub(super) struct Pump<'a> {
    direction: Direction,
    registration: &'a Registration,
    orders: watch::Receiver<Orders>,
    requests: RequestReader,
    link: Link<'a>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        direction: Direction,
        registration: &'a Registration,
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
    ) -> Self {
        Self {
            direction,
            registration,
            orders: registration.handle.0.orders.subscribe(),
            requests: RequestReader::new(direction),
            link: Link::new(&registration.shared.settings, from, to),
        }
    }

    /// Returns `Ok` once the source has closed this direction and the destination has been told.
    pub(super) async fn run(mut self) -> Result<(), Ending> {
        loop {
            let mode = self.take_orders()?;
            select! {
                biased;
                _ = self.orders.changed() => {}
                event = self.link.step(mode) => match event? {
                    Event::Nothing => {}
                    Event::Received(bytes) => self.read_requests(&bytes),
                    Event::Passed(count) => self.count(count),
                    Event::Finished => return Ok(()),
                }
            }
        }
    }

    fn take_orders(&mut self) -> Result<Mode, Ending> {
        let index = self.direction.index();
        let mode = self.orders.borrow_and_update().mode;
        self.registration.handle.0.orders.send_if_modified(|orders| {
            self.link.allowance = orders.allowance[index].take().or(self.link.allowance);
            false
        });
        match mode.ending() {
            Some(ending) => Err(ending),
            None if self.link.allowance == Some(0) => Err(Ending::Truncated(self.direction)),
            None => Ok(mode),
        }
    }

    fn read_requests(&mut self, bytes: &[u8]) {
        if let Some(session_id) = self.requests.read(bytes) {
            self.registration.recognise(session_id);
        }
    }

    fn count(&self, passed: usize) {
        let index = self.direction.index();
        self.registration
            .handle
            .0
            .progress
            .send_modify(|progress| progress.passed[index] += passed as u64);
    }
}
