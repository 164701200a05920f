//! A hop as a connection: what passes packets to another server, and takes those that it sends.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream};
use stillhere::connection::{ConnectionError, Packet};
use tokio::runtime::Handle;

use crate::flow::{Flow, FlowSender};
use crate::links::Arrivals;
use crate::packets::{Carried, Decoder, Encoder, link_of};

/// The other end of a hop.
#[derive(Debug, Clone)]
pub(crate) struct FarEnd {
    /// The subject of its server.
    pub(crate) subject: Subject,
    /// Its number there.
    pub(crate) link: u64,
}

/// One end of a hop. It fails or ends when the other end is dropped, or when the hop is cut.
#[derive(Debug)]
pub(crate) struct Hop {
    client: Client,
    /// Tells the other end when this one is dropped.
    runtime: Handle,
    far: FarEnd,
    encoder: Encoder,
    flow: FlowSender,
    /// Messages for the other end that NATS has not taken yet.
    waiting: VecDeque<Bytes>,
    /// The first of `waiting` may be sent.
    has_room: bool,
    /// A mark for the other server.
    mark: Option<Bytes>,
    /// The other end knows, or will know by what waits, that this one is over.
    has_said_over: bool,
    arrivals: Arrivals,
    decoder: Decoder,
    /// Packets that have arrived.
    arrived: VecDeque<Packet>,
    /// Nothing more arrives.
    is_at_end: bool,
}

impl Hop {
    pub(crate) fn new(client: Client, runtime: Handle, far: FarEnd, flow: Arc<Flow>, arrivals: Arrivals) -> Self {
        Self {
            encoder: Encoder::new(far.link, arrivals.number, flow.largest_message()),
            flow: FlowSender::new(flow),
            client,
            runtime,
            far,
            waiting: VecDeque::new(),
            has_room: false,
            mark: None,
            has_said_over: false,
            arrivals,
            decoder: Decoder::default(),
            arrived: VecDeque::new(),
            is_at_end: false,
        }
    }

    /// Takes a message apart.
    fn read(&mut self, mut message: Bytes) {
        // Another server may have been asked too, and answered later.
        if link_of(&mut message) != Some(self.far.link) {
            return;
        }
        match self.decoder.read(message) {
            Ok(carried) => {
                for carried in carried {
                    match carried {
                        Carried::Packet(packet) => self.arrived.push_back(packet),
                        Carried::Over => self.is_at_end = true,
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cut a hop");
                self.is_at_end = true;
            }
        }
    }

    /// Gives NATS what waits.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        while self.mark.is_some() || !self.waiting.is_empty() {
            if self.mark.is_none() && !self.has_room {
                ready!(self.flow.poll_room(&self.waiting[0], context));
                self.has_room = true;
            }
            ready!(self.client.poll_ready_unpin(context)).map_err(failed)?;
            let payload = match self.mark.take() {
                Some(mark) => mark,
                None => {
                    self.has_room = false;
                    let Some(message) = self.waiting.pop_front() else { break };
                    self.mark = self.flow.mark();
                    message
                }
            };
            let message = OutboundMessage {
                subject: self.far.subject.clone(),
                reply: None,
                payload,
                headers: None,
            };
            self.client.start_send_unpin(message).map_err(failed)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for Hop {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(packet) = self.arrived.pop_front() {
                return Poll::Ready(Some(Ok(packet)));
            }
            if self.is_at_end {
                return Poll::Ready(None);
            }
            match ready!(self.arrivals.poll_next(context)) {
                Some(message) => self.read(message),
                None => self.is_at_end = true,
            }
        }
    }
}

impl Sink<Packet> for Hop {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.poll_waiting(context)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), ConnectionError> {
        let Self { encoder, waiting, .. } = &mut *self;
        encoder.push(&packet, |message| waiting.push_back(message));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let last = self.encoder.flush();
        self.waiting.extend(last);
        self.poll_waiting(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if !std::mem::replace(&mut self.has_said_over, true) {
            let over = self.encoder.finish();
            self.waiting.push_back(over);
        }
        self.poll_waiting(context)
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        let mut messages = std::mem::take(&mut self.waiting);
        // Others may wait for it.
        if let Some(mark) = self.mark.take() {
            messages.push_front(mark);
        }
        if !self.has_said_over {
            messages.push_back(self.encoder.finish());
        }
        if messages.is_empty() {
            return;
        }
        let (client, subject) = (self.client.clone(), self.far.subject.clone());
        let saying = async move {
            for message in messages {
                if client.publish(subject.clone(), message).await.is_err() {
                    return;
                }
            }
        };
        self.runtime.spawn(tokio::time::timeout(SAYING, saying));
    }
}

fn failed(error: async_nats::PublishError) -> ConnectionError {
    ConnectionError::Failed(error.into())
}

/// How long to wait for NATS to take the last message.
const SAYING: Duration = Duration::from_secs(1);
