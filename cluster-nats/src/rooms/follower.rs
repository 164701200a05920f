//! The task that follows one room: applies what happens in it, in order, and sends what happens
//! here.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::Subscriber;
use async_nats::client::PublishErrorKind;
use bytes::Bytes;
use futures_util::StreamExt as _;
use stillhere_app::{Replica, ServerId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::batch::{self, Batch, Entry, Mark};
use super::order::{Order, OrderError, Ordered, sequences};
use super::outbox::Outbox;
use super::snapshots::{self, Known, Position};
use super::{Shared, token};
use crate::servers::Interruptions;

pub(super) struct Follower {
    shared: Arc<Shared>,
    room: Weak<Replica>,
    outbox: Arc<Outbox>,
    subjects: Subjects,
    /// Up to where the replica has everything. `None` before it has anything.
    position: Option<Position>,
    /// When what is at `position` may be gone from the stream because of its age.
    expires: Instant,
    /// When the replica last had everything.
    current: Instant,
    /// The subscription may still have what was read from the stream.
    may_repeat: bool,
    /// The number of the last batch of each server.
    numbers: HashMap<ServerId, u64>,
    /// The one batch that has been sent and has not come back. With one at a time, what this server
    /// sends keeps its order however often it is sent again.
    sending: Option<Sending>,
    /// The position for the next member of this server that joins.
    end: u64,
    /// When to tell the room which servers are lost, if there are any.
    lost_due: Option<Instant>,
}

struct Subjects {
    /// To which servers publish.
    input: String,
    /// To which the stream republishes.
    ordered: String,
    /// On which servers ask each other.
    questions: String,
}

struct Sending {
    mark: Mark,
    batch: Bytes,
    begins_announcement: bool,
    is_sent: bool,
    patience: Duration,
    due: Instant,
}

/// Why the order has to be checked.
enum Check {
    /// It was quiet for a while, so that nobody would notice if the last was lost.
    Quiet,
    /// Something is missing, or has not come back.
    Gap,
    /// NATS could not be reached for a while, and worked until then.
    Interrupted(Instant),
    /// The subscription has ended.
    Over,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, room: Weak<Replica>, outbox: Arc<Outbox>, name: &str) -> Self {
        let (prefix, token) = (&shared.options.prefix, token(name));
        let subjects = Subjects {
            input: format!("{prefix}.{token}"),
            ordered: format!("{prefix}.ordered.{token}"),
            questions: format!("{prefix}.ask.{token}"),
        };
        let now = Instant::now();
        Self {
            shared,
            room,
            outbox,
            subjects,
            position: None,
            expires: now,
            current: now,
            may_repeat: false,
            numbers: HashMap::new(),
            sending: None,
            end: 0,
            lost_due: None,
        }
    }

    /// Runs until it is aborted, or the client is closed.
    pub(super) async fn run(mut self) {
        let client = self.shared.servers.client().clone();
        let mut lost = self.shared.servers.lost();
        let mut interruptions = self.shared.servers.interruptions();
        let Ok(mut ordered) = client.subscribe(self.subjects.ordered.clone()).await else {
            return tracing::error!("rooms cannot go on: the client of NATS is closed");
        };
        let mut since = self.current;
        loop {
            self.catch_up(since).await;
            let Some(mut questions) = snapshots::questions(&client, &self.subjects.questions).await else {
                return tracing::error!("rooms cannot go on: the client of NATS is closed");
            };
            since = Instant::now();
            match self
                .follow(&mut ordered, &mut questions, &mut lost, &mut interruptions)
                .await
            {
                // An older view of the stream will do.
                Check::Quiet => self.current = since,
                Check::Gap => since = Instant::now(),
                Check::Interrupted(worked) => {
                    self.current = self.current.max(worked);
                    since = Instant::now();
                }
                Check::Over => return,
            }
        }
    }

    /// Applies and sends, until the order has to be checked.
    async fn follow(
        &mut self,
        ordered: &mut Subscriber,
        questions: &mut Subscriber,
        lost: &mut watch::Receiver<u64>,
        interruptions: &mut watch::Receiver<Interruptions>,
    ) -> Check {
        let mut quiet = None;
        loop {
            self.send().await;
            let sent = self.sending.as_ref().map(|sending| sending.due);
            let due = [sent, self.lost_due, quiet].into_iter().flatten().min();
            tokio::select! {
                biased;
                message = ordered.next() => {
                    let Some(message) = message else { return Check::Over };
                    if !self.receive(&message) {
                        return Check::Gap;
                    }
                    quiet = Some(Instant::now() + QUIET);
                }
                () = self.outbox.filled.notified() => {}
                question = questions.next() => {
                    let Some(question) = question else { return Check::Over };
                    self.answer(question);
                }
                Ok(()) = interruptions.changed() => {
                    let worked = interruptions.borrow_and_update().worked;
                    return Check::Interrupted(worked);
                }
                Ok(()) = lost.changed() => {
                    lost.mark_unchanged();
                    self.lost_due = Some(Instant::now() + self.jitter());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let now = Instant::now();
                    if self.lost_due.take_if(|due| *due <= now).is_some() {
                        self.report_lost();
                    } else if sent.is_some_and(|due| due <= now) {
                        return Check::Gap;
                    } else if quiet.is_some_and(|due| due <= now) {
                        return Check::Quiet;
                    }
                }
            }
        }
    }

    /// Applies what was republished. Returns false if something before it is missing.
    fn receive(&mut self, message: &async_nats::Message) -> bool {
        let (Some((sequence, last)), Some(position)) = (sequences(message.headers.as_ref()), self.position) else {
            return true;
        };
        if sequence <= position.sequence {
            return self.may_repeat;
        }
        let follows = last == position.sequence || (last == 0 && self.expires <= Instant::now());
        if follows {
            self.may_repeat = false;
            self.apply(position.epoch, sequence, message.payload.clone());
        }
        follows
    }

    fn apply(&mut self, epoch: u64, sequence: u64, bytes: Bytes) {
        let Some(room) = self.room.upgrade() else { return };
        let mark = match Batch::decode(bytes) {
            Ok(batch) => {
                let mark = batch.mark;
                self.apply_batch(&room, batch);
                Some(mark)
            }
            Err(error) => {
                tracing::error!(room = room.name(), %error, "what another server has sent was skipped");
                None
            }
        };
        self.position = Some(Position { epoch, sequence, mark });
        let now = Instant::now();
        self.current = now;
        self.expires = now + self.shared.options.kept_for.saturating_sub(MARGIN);
    }

    fn apply_batch(&mut self, room: &Arc<Replica>, batch: Batch) {
        let Mark { server, number } = batch.mark;
        let last = self.numbers.entry(server).or_default();
        if number > *last {
            *last = number;
            self.shared.servers.heard_of(server.0);
            for (position, entry) in (batch.position..).zip(batch.entries) {
                self.apply_entry(room, server, position, entry);
            }
        }
        if server == self.shared.server() {
            self.settle(number);
        }
    }

    fn apply_entry(&self, room: &Arc<Replica>, server: ServerId, position: u64, entry: Entry) {
        let own = self.shared.server();
        match entry {
            Entry::Happening(happening) => room.apply_from(server, position, happening),
            Entry::Announcement(announcement) => room.apply_announcement(server, announcement),
            Entry::Lost(lost) => {
                room.lose(lost);
                if lost == own {
                    self.outbox.announce(room);
                }
            }
            Entry::RollCall if server == own => {}
            Entry::RollCall => self.outbox.announce(room),
        }
    }

    /// Called when a batch of this server has come back.
    fn settle(&mut self, number: u64) {
        let Some(sending) = self.sending.take_if(|sending| sending.mark.number <= number) else {
            return;
        };
        if sending.begins_announcement {
            self.outbox.has_announced();
        }
        self.outbox.settle();
    }

    /// Sends what waits, one batch at a time.
    async fn send(&mut self) {
        if self.sending.is_none() {
            self.sending = self.next_batch();
        }
        let Some(sending) = self.sending.as_mut().filter(|sending| !sending.is_sent) else {
            return;
        };
        sending.is_sent = true;
        sending.due = Instant::now() + sending.patience;
        sending.patience = (sending.patience * 2).min(LONGEST_PATIENCE);
        let client = self.shared.servers.client();
        let sent = client.publish(self.subjects.input.clone(), sending.batch.clone()).await;
        if let Err(error) = sent
            && error.kind() == PublishErrorKind::MaxPayloadExceeded
        {
            tracing::error!(%error, "NATS takes smaller messages than before: something for a room was dropped");
            self.sending = None;
            self.outbox.settle();
        }
    }

    fn next_batch(&mut self) -> Option<Sending> {
        let room = self.room.upgrade()?;
        let limit = self.shared.largest().min(BATCH);
        let mark = self.shared.next_mark();
        // Members are listed by the time at which they have joined, by the clocks of their servers.
        let position = self.end.max(now());
        let mut batch = batch::begin(mark, position);
        let taken = self.outbox.take(&room, &mut batch, position, limit)?;
        self.end = position + taken.count;
        Some(Sending {
            mark,
            batch: batch.freeze(),
            begins_announcement: taken.begins_announcement,
            is_sent: false,
            patience: PATIENCE,
            due: Instant::now(),
        })
    }

    fn answer(&self, question: async_nats::Message) {
        let (Some(room), Some(position)) = (self.room.upgrade(), self.position) else {
            return;
        };
        let known = Known {
            position,
            numbers: self.numbers.iter().map(|(server, number)| (*server, *number)).collect(),
            room: room.snapshot(),
        };
        let client = self.shared.servers.client().clone();
        self.shared
            .runtime
            .spawn(async move { snapshots::answer(&client, &question, &known).await });
    }

    /// Tells the room which servers that have members in it are lost.
    fn report_lost(&self) {
        let Some(room) = self.room.upgrade() else { return };
        for server in room.other_servers() {
            if !self.shared.servers.is_alive(server.0) {
                tracing::warn!(
                    room = room.name(),
                    server = server.0,
                    "the members of a lost server leave"
                );
                self.outbox.push_first(&room, &Entry::Lost(server));
            }
        }
    }

    /// Returns a time that differs between servers, so that most of them find that another one has
    /// reported a lost server.
    fn jitter(&self) -> Duration {
        Duration::from_millis(self.shared.servers.id() % JITTER)
    }
}

/// Finding out what was missed.
impl Follower {
    /// Waits until the replica has everything. `since` is when the stream may last have changed.
    async fn catch_up(&mut self, mut since: Instant) {
        let mut delay = SHORTEST_DELAY;
        loop {
            match self.try_catch_up(since).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    self.shared.complain(&error);
                    sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_DELAY);
                    since = Instant::now();
                }
            }
        }
        self.current = Instant::now();
        self.may_repeat = true;
        // What has not come back is sent again. If it comes twice, the second is skipped.
        if let Some(sending) = &mut self.sending {
            sending.is_sent = false;
        }
    }

    /// Returns false if it has come closer, but has to look again.
    async fn try_catch_up(&mut self, since: Instant) -> Result<bool, OrderError> {
        let order = self.shared.orderer.order(since).await?;
        let last = order.last(&self.subjects.input).await?;
        let sequence = last.as_ref().map_or(0, |last| last.sequence);
        let mark = last.as_ref().and_then(Ordered::mark);
        let newest = Position {
            epoch: order.epoch,
            sequence,
            mark,
        };
        if let Some(position) = self.position {
            if position == newest || (last.is_none() && position.epoch == order.epoch && self.is_recent()) {
                return Ok(true);
            }
            if position.epoch == order.epoch && self.walk(&order, position, sequence).await? {
                return Ok(true);
            }
            if position.epoch != order.epoch && order.is_whole {
                // The stream was made anew, and has everything since.
                self.begin_at(Position {
                    epoch: order.epoch,
                    sequence: 0,
                    mark: None,
                });
                return Ok(false);
            }
        }
        let known = snapshots::ask(self.shared.servers.client(), &self.subjects.questions).await;
        let is_possible =
            |position: Position| position.epoch == order.epoch && (last.is_none() || position.sequence <= sequence);
        match known.filter(|known| is_possible(known.position)) {
            Some(known) => {
                self.restore(known);
                Ok(false)
            }
            None => {
                self.begin_at(newest);
                Ok(true)
            }
        }
    }

    /// Applies what is in the stream after `position`. Returns false if some of it is gone, or it
    /// is too much.
    async fn walk(&mut self, order: &Order, position: Position, to: u64) -> Result<bool, OrderError> {
        if to < position.sequence {
            return Ok(false);
        }
        if position.sequence > 0 {
            let here = order.next(&self.subjects.input, position.sequence).await?;
            let is_there = here.as_ref().is_some_and(|here| here.sequence == position.sequence);
            let is_same = is_there && here.and_then(|here| here.mark()) == position.mark;
            let has_expired = !is_there && self.expires <= Instant::now() && self.is_recent();
            if !is_same && !has_expired {
                return Ok(false);
            }
        } else if !order.is_whole && !self.is_recent() {
            return Ok(false);
        }
        let mut sequence = position.sequence;
        for _ in 0..MOST_STEPS {
            let Some(next) = order.next(&self.subjects.input, sequence + 1).await? else {
                return Ok(true);
            };
            sequence = next.sequence;
            self.apply(order.epoch, sequence, next.batch);
            if sequence >= to {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes on from a place without knowing what was before: every server says who its members are.
    fn begin_at(&mut self, position: Position) {
        let Some(room) = self.room.upgrade() else { return };
        let is_new = self.position.replace(position).is_none();
        self.expires = Instant::now();
        for server in room.other_servers() {
            self.shared.servers.heard_of(server.0);
        }
        if !is_new && self.outbox.has_members() {
            self.outbox.announce(&room);
        }
        self.outbox.push_first(&room, &Entry::RollCall);
    }

    fn restore(&mut self, known: Known) {
        let Some(room) = self.room.upgrade() else { return };
        let is_new = self.position.replace(known.position).is_none();
        self.expires = Instant::now();
        let own = self.shared.server();
        // The snapshot has what it has done, but not that memberships have ended here.
        let sent = self
            .sending
            .as_ref()
            .map(|sending| (sending.mark.number, sending.batch.clone()));
        if let Some((number, batch)) = sent
            && known
                .numbers
                .iter()
                .any(|(server, last)| *server == own && *last >= number)
            && let Ok(batch) = Batch::decode(batch)
        {
            self.apply_batch(&room, batch);
        }
        let number = self.numbers.get(&own).copied().unwrap_or_default();
        self.numbers = known.numbers.into_iter().collect();
        let own = self.numbers.entry(own).or_default();
        *own = number.max(*own);
        let number = *own;
        for server in known.room.servers() {
            self.shared.servers.heard_of(server.0);
        }
        room.restore(known.room, !is_new);
        self.settle(number);
        if !is_new && self.outbox.has_members() {
            self.outbox.announce(&room);
        }
    }

    /// Returns true if whatever was missed since the replica had everything is not too old for the
    /// stream.
    fn is_recent(&self) -> bool {
        self.current.elapsed() < self.shared.options.kept_for / 2
    }
}

/// Returns the microseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0)
}

/// Time without news after which the order is checked once.
const QUIET: Duration = Duration::from_secs(5);

/// How long a batch may take to come back, at first and at most.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(8);

/// Time between attempts while NATS does not answer.
const SHORTEST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Batches that are read from the stream one by one. Beyond that another server is asked.
const MOST_STEPS: usize = 512;

/// Bytes of a batch, unless a single entry is larger.
const BATCH: usize = 256 * 1024;

/// How much earlier than expected the stream may drop something.
const MARGIN: Duration = Duration::from_secs(5);

/// Milliseconds within which servers report one that is lost.
const JITTER: u64 = 200;
