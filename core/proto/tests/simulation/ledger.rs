//! Records what was sent, and checks what arrives against the record.

use bytes::Bytes;
use stillhere_proto::{Lane, PerLane};

use crate::random::Random;

/// One lane of one direction within one incarnation.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    sent: Vec<Sent>,
    received: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    size: usize,
    seed: u64,
}

impl Sent {
    fn payload(self) -> Bytes {
        let mut random = Random::new(self.seed);
        let mut payload = Vec::with_capacity(self.size + 8);
        while payload.len() < self.size {
            payload.extend_from_slice(&random.next().to_le_bytes());
        }
        payload.truncate(self.size);
        Bytes::from(payload)
    }
}

impl Stream {
    /// Records a message that is about to be sent. Call [`Stream::take_back`] if it was refused.
    pub(crate) fn send(&mut self, size: usize, seed: u64) -> Bytes {
        let sent = Sent { size, seed };
        self.sent.push(sent);
        sent.payload()
    }

    pub(crate) fn take_back(&mut self) {
        self.sent.pop();
    }

    pub(crate) fn receive(&mut self, payload: &Bytes) -> Result<(), String> {
        let expected = self.sent.get(self.received).map(|sent| sent.payload());
        if expected.as_ref() != Some(payload) {
            let found = self
                .sent
                .iter()
                .position(|sent| sent.size == payload.len() && sent.payload() == payload);
            return Err(match found {
                None => format!(
                    "{} bytes arrived that nobody sent (message {} was due)",
                    payload.len(),
                    self.received
                ),
                Some(index) if index < self.received => {
                    format!("message {index} came twice ({} was due)", self.received)
                }
                Some(index) => format!("message {index} came before {}", self.received),
            });
        }
        self.received += 1;
        Ok(())
    }

    pub(crate) fn received(&self) -> usize {
        self.received
    }

    pub(crate) fn missing(&self) -> usize {
        self.sent.len() - self.received
    }
}

pub(crate) fn missing(streams: &PerLane<Stream>) -> usize {
    Lane::ALL.iter().map(|lane| streams[*lane].missing()).sum()
}
