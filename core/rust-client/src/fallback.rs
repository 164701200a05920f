//! A connection over HTTP requests, for networks that block WebSockets (PROTOCOL.md, section 16).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use futures_util::{Sink, Stream};
use stillhere_proto::wire::{Frame, Sender};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::connection::{Connection, ConnectionError, Packet};
use crate::endpoint::{Body, Endpoint};
use crate::posts::Posts;

/// A connection made of POSTs.
#[derive(Debug)]
pub struct Fallback {
    queue: Arc<Queue>,
    incoming: mpsc::Receiver<Result<Packet, ConnectionError>>,
    kind: &'static str,
    task: JoinHandle<()>,
}

impl Fallback {
    /// Creates a connection that opens with the first frame sent on it. It is streamed if `wait` is
    /// `None`, and otherwise polled, with answers that may take this long. Must be called within a
    /// tokio runtime.
    pub fn new(endpoint: &Endpoint, wait: Option<Duration>) -> Self {
        let posts = Posts::new(endpoint.clone(), wait);
        Self::start(posts, None)
    }

    /// Opens a connection at once, before there is a frame to send.
    ///
    /// # Errors
    /// Returns a [`ConnectionError`] if the server cannot be reached or refuses the POST.
    pub async fn open(endpoint: &Endpoint, wait: Option<Duration>) -> Result<Self, ConnectionError> {
        let mut posts = Posts::new(endpoint.clone(), wait);
        let answer = posts.open(&mut VecDeque::new()).await?;
        Ok(Self::start(posts, Some(answer)))
    }

    fn start(posts: Posts, answer: Option<Body>) -> Self {
        let queue = Arc::new(Queue::default());
        let (to_client, incoming) = mpsc::channel(READ_AHEAD);
        let is_streamed = posts.is_streamed();
        let exchange = Exchange {
            posts,
            queue: Arc::clone(&queue),
            down: Down {
                to_client: to_client.clone(),
                had_packets: false,
            },
        };
        let task = tokio::spawn(async move {
            let result = match (is_streamed, answer) {
                (true, answer) => exchange.stream(answer).await,
                (false, answer) => exchange.poll(answer).await,
            };
            if let Err(Over::Failed(error)) = result {
                let _ = to_client.send(Err(error)).await;
            }
        });
        Self {
            queue,
            incoming,
            kind: if is_streamed { "streamed" } else { "polled" },
            task,
        }
    }
}

impl Connection for Fallback {
    fn kind(&self) -> &'static str {
        self.kind
    }
}

impl Stream for Fallback {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(context)
    }
}

impl Sink<Packet> for Fallback {
    type Error = ConnectionError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.queue.poll_room(context).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        match packet {
            Packet::Frame(frame) => self.queue.push(frame),
            Packet::Close(_) => self.queue.close(),
        }
        Ok(())
    }

    /// Does nothing, because queued frames travel with the next POST.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.queue.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Fallback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Frames that wait for a POST.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Tells the task that there are frames, or that no more will come.
    filled: Notify,
    /// Wakes the sink when there is room.
    emptied: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    size: usize,
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.emptied.register(context.waker());
        let waiting = self.lock();
        if waiting.size < ENOUGH {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn push(&self, frame: Bytes) {
        let mut waiting = self.lock();
        waiting.size += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Puts frames back at the front of the queue.
    fn put_back(&self, mut frames: VecDeque<Bytes>) {
        let mut waiting = self.lock();
        waiting.size += frames.iter().map(Bytes::len).sum::<usize>();
        frames.append(&mut waiting.frames);
        waiting.frames = frames;
        drop(waiting);
        self.filled.notify_one();
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Takes all frames in the queue. Returns `None` if it is empty and closed.
    fn take(&self) -> Option<VecDeque<Bytes>> {
        let mut waiting = self.lock();
        let frames = std::mem::take(&mut waiting.frames);
        waiting.size = 0;
        let is_over = frames.is_empty() && waiting.is_closed;
        drop(waiting);
        self.emptied.wake();
        (!is_over).then_some(frames)
    }

    /// Waits for frames and takes them. Returns `None` once the queue is empty and closed.
    async fn next(&self) -> Option<VecDeque<Bytes>> {
        loop {
            let filled = self.filled.notified();
            match self.take() {
                Some(frames) if frames.is_empty() => filled.await,
                taken => return taken,
            }
        }
    }
}

/// Why a connection has ended.
enum Over {
    /// The server or the client ended it in order.
    Closed,
    Failed(ConnectionError),
}

impl From<ConnectionError> for Over {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(error)
    }
}

/// The task of one connection.
struct Exchange {
    posts: Posts,
    queue: Arc<Queue>,
    down: Down,
}

impl Exchange {
    /// Sends the first POST, unless that was done already, and returns its answer.
    async fn begin(&mut self, answer: Option<Body>) -> Result<Body, Over> {
        if let Some(answer) = answer {
            return Ok(answer);
        }
        let mut frames = self.queue.next().await.ok_or(Over::Closed)?;
        let answer = self.posts.open(&mut frames).await?;
        self.queue.put_back(frames);
        Ok(answer)
    }

    /// Runs a streamed connection: the answer to the first POST carries all frames from the server,
    /// and the connection ends with it.
    async fn stream(mut self, answer: Option<Body>) -> Result<(), Over> {
        let answer = self.begin(answer).await?;
        let Self {
            mut posts,
            queue,
            mut down,
        } = self;
        let limit = posts.packet_limit();
        let posting = async {
            while let Some(mut frames) = queue.next().await {
                while !frames.is_empty() {
                    let mut answer = posts.send(&mut frames).await?;
                    while answer.next().await?.is_some() {}
                }
            }
            Result::<(), Over>::Err(Over::Closed)
        };
        tokio::select! {
            biased;
            read = down.read(answer, limit) => read,
            posted = posting => posted,
        }
    }

    /// Runs a polled connection: the answer to each POST carries the frames that are ready.
    async fn poll(mut self, answer: Option<Body>) -> Result<(), Over> {
        let mut answer = self.begin(answer).await?;
        let limit = self.posts.packet_limit();
        let mut frames = VecDeque::new();
        // Number of polls in a row without packets in either direction.
        let mut idle = 0;
        loop {
            self.down.read(answer, limit).await?;
            if frames.is_empty() {
                let pause = if self.down.had_packets {
                    PAUSE
                } else {
                    quiet_pause(idle)
                };
                let next = tokio::time::timeout(pause, self.queue.next()).await;
                let Some(next) = next.unwrap_or(Some(VecDeque::new())) else {
                    // Dropping the answer to this poll tells the server at once that the client has
                    // gone.
                    let _ = tokio::time::timeout(VANISHING, self.posts.send(&mut frames)).await;
                    return Err(Over::Closed);
                };
                let is_idle = next.is_empty() && !self.down.had_packets;
                idle = if is_idle { idle + 1 } else { 0 };
                frames = next;
            }
            answer = self.posts.send(&mut frames).await?;
        }
    }
}

/// Forwards the server's packets to the client.
struct Down {
    to_client: mpsc::Sender<Result<Packet, ConnectionError>>,
    /// True if the last answer contained packets.
    had_packets: bool,
}

impl Down {
    async fn read(&mut self, mut answer: Body, limit: usize) -> Result<(), Over> {
        self.had_packets = false;
        let mut rest = BytesMut::new();
        while let Some(piece) = answer.next().await? {
            rest.extend_from_slice(&piece);
            while let Some(frame) = next_frame(&mut rest, limit)? {
                self.had_packets = true;
                self.hand_on(Packet::Frame(frame.clone())).await?;
                if let Ok(Frame::End(end)) = Frame::decode(frame, Sender::Server) {
                    // HTTP has no close code, so the `end` frame provides it.
                    let code = u16::try_from(end.code).unwrap_or(LOST);
                    self.hand_on(Packet::Close(code)).await?;
                    return Err(Over::Closed);
                }
            }
        }
        Ok(())
    }

    async fn hand_on(&self, packet: Packet) -> Result<(), Over> {
        self.to_client.send(Ok(packet)).await.map_err(|_| Over::Closed)
    }
}

/// Returns how long to wait before the next poll, so that many idle clients do not keep a server
/// busy.
fn quiet_pause(idle: u32) -> Duration {
    (QUIET_PAUSE * 2u32.pow(idle.min(4))).min(LONGEST_PAUSE)
}

/// Takes the next frame that has arrived in full. Skips lengths of 0, which only keep the answer
/// alive.
fn next_frame(rest: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, ConnectionError> {
    loop {
        let Some(length) = rest.first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > limit {
            return Err(ConnectionError::TooLarge);
        }
        if rest.len() < 4 + length {
            return Ok(None);
        }
        rest.advance(4);
        if length > 0 {
            return Ok(Some(rest.split_to(length).freeze()));
        }
    }
}

/// Bytes in the queue from which the client has to wait.
const ENOUGH: usize = 64 * 1024;

/// Most packets to read before the client takes them.
const READ_AHEAD: usize = 4;

/// Pause before the next poll after an answer with packets, so that the client's replies travel
/// with it.
const PAUSE: Duration = Duration::from_millis(5);

/// Pause before the next poll after an answer without packets. Doubles with each one in a row.
const QUIET_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long the last poll of a connection may take to arrive.
const VANISHING: Duration = Duration::from_millis(50);

/// The code of a connection that ended without a close.
const LOST: u16 = 1006;
