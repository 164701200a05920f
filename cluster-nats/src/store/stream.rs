//! The stream that holds the messages of all records.

use std::error::Error;
use std::time::{Duration, SystemTime};

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{
    Context, ContextBuilder, CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind, RequestError,
    RequestErrorKind,
};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{
    Config, DeleteMessageErrorKind, DiscardPolicy, PurgeErrorKind, RawMessageError, RawMessageErrorKind,
    RetentionPolicy, StorageType, Stream as NatsStream,
};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use stillhere::SessionId;
use stillhere::durable::StoreError;
use tokio::time::timeout;

use crate::store::label::{HEADER, Label, Unreadable};
use crate::store::{NatsStoreOptions, OpenNatsStoreError};

/// The stream, seen as a list of messages for each session.
#[derive(Debug)]
pub(super) struct Stream {
    client: Client,
    context: Context,
    stream: NatsStream<()>,
    prefix: String,
    timeout: Duration,
    /// The largest message of the stream, in bytes.
    largest: usize,
    /// Whether messages may be purged. Some 2.9 servers go on to count those against the limits of
    /// account and server (nats-server, pull request 3876), but not what is deleted by sequence.
    purges: bool,
}

/// A message as the stream has it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) label: Result<Label, Unreadable>,
    pub(super) header: String,
    pub(super) payload: Bytes,
}

/// Why a message was not published.
#[derive(Debug)]
pub(super) enum PublishError {
    /// The last message of the session is another one.
    WrongLast,
    /// Nobody knows whether it was.
    Lost(StoreError),
    /// The server has refused it.
    Refused(StoreError),
}

/// The last message of a session, without its payload.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) id: SessionId,
    pub(super) sequence: u64,
    pub(super) label: Label,
    /// How long ago it was stored, by the server's clock.
    pub(super) age: Duration,
}

impl Stream {
    /// Opens the stream, or creates it if there is none.
    pub(super) async fn open(client: Client, options: &NatsStoreOptions) -> Result<Self, OpenNatsStoreError> {
        let context = ContextBuilder::new()
            .timeout(options.timeout)
            .ack_timeout(options.timeout)
            .build(client.clone());
        let (name, prefix) = (&options.stream, &options.subject_prefix);
        let config = open_or_create(&context, options).await?;
        let unfit = |reason| OpenNatsStoreError::Unfit {
            stream: name.clone(),
            reason,
        };
        check(&config, prefix).map_err(unfit)?;
        let purges = client.is_server_compatible(2, 10, 0);
        if config.max_bytes > 0 && !purges {
            // It counts less than it stores before it refuses, and drops the oldest messages then.
            let reason = "nats-server 2.9 drops old messages of a stream near its limit of bytes: limit the account";
            return Err(unfit(reason.to_owned()));
        }
        if config.num_replicas < options.replicas {
            tracing::warn!(
                stream = name,
                is = config.num_replicas,
                wanted = options.replicas,
                "the stream of durable sessions has fewer replicas than wanted; `nats stream edit --replicas` adds some"
            );
        }
        let stream = context
            .get_stream_no_info(name)
            .await
            .map_err(|error| failed(name, &error))?;
        Ok(Self {
            client,
            context,
            stream,
            prefix: prefix.clone(),
            timeout: options.timeout,
            largest: usize::try_from(config.max_message_size)
                .ok()
                .filter(|size| *size > 0)
                .unwrap_or(usize::MAX),
            purges,
        })
    }

    /// Returns how many bytes the payload of a message may have.
    pub(super) fn largest_payload(&self) -> usize {
        self.client
            .max_payload()
            .min(self.largest)
            .saturating_sub(HEADERS)
            .max(1)
    }

    fn subject(&self, id: &SessionId) -> String {
        format!("{}.{id}", self.prefix)
    }

    /// Returns true if messages can be removed with one that is published.
    pub(super) fn can_roll_up(&self) -> bool {
        self.purges
    }

    /// Publishes a message if `expected` is the sequence of the last one of the session; 0 if there
    /// must be none. With `rolls_up` those before it are gone once it is stored, if the server can
    /// do that. Returns its sequence.
    pub(super) async fn publish(
        &self,
        id: &SessionId,
        label: &Label,
        payload: Bytes,
        expected: u64,
        rolls_up: bool,
    ) -> Result<u64, PublishError> {
        let mut message = PublishMessage::build()
            .payload(payload)
            .header(HEADER, label.encode(id).as_str())
            .expected_last_subject_sequence(expected);
        if rolls_up && self.purges {
            message = message.header(async_nats::header::NATS_ROLLUP, ROLLUP_SUBJECT);
        }
        self.publish_message(self.subject(id), message).await
    }

    async fn publish_message(&self, subject: String, message: PublishMessage) -> Result<u64, PublishError> {
        // The client would send it whenever it is connected again.
        if self.client.connection_state() != State::Connected {
            return Err(PublishError::Refused(StoreError::Failed(
                "there is no connection to NATS: durable sessions wait until there is one".to_owned(),
            )));
        }
        let published = async { self.context.send_publish(subject.clone(), message).await?.await };
        let Ok(published) = timeout(self.timeout, published).await else {
            return Err(PublishError::Lost(self.no_answer()));
        };
        let error = match published {
            Ok(stored) => return Ok(stored.sequence),
            Err(error) => error,
        };
        Err(match error.kind() {
            PublishErrorKind::WrongLastSequence => PublishError::WrongLast,
            PublishErrorKind::StreamNotFound => PublishError::Refused(no_stream(&subject)),
            PublishErrorKind::TimedOut => PublishError::Lost(self.no_answer()),
            PublishErrorKind::Other | PublishErrorKind::WrongLastMessageId => match cause::<jetstream::Error>(&error) {
                Some(said) if said.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                    PublishError::WrongLast
                }
                Some(said) => PublishError::Refused(store_error(said)),
                None => PublishError::Lost(StoreError::Failed(error.to_string())),
            },
            PublishErrorKind::MaxPayloadExceeded => PublishError::Refused(StoreError::Failed(error.to_string())),
            PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
                PublishError::Lost(StoreError::Failed(format!("the connection to NATS was lost: {error}")))
            }
        })
    }

    /// Returns the last message of a session.
    pub(super) async fn last(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        let request = self.stream.raw_message_builder().last_by_subject(self.subject(id));
        self.stored(id, request.send().await)
    }

    /// Returns the first message of a session that has at least this sequence.
    pub(super) async fn next(&self, id: &SessionId, from: u64) -> Result<Option<Stored>, StoreError> {
        let request = self.stream.raw_message_builder().sequence(from);
        self.stored(id, request.next_by_subject(self.subject(id)).send().await)
    }

    fn stored(
        &self,
        id: &SessionId,
        answer: Result<StreamMessage, RawMessageError>,
    ) -> Result<Option<Stored>, StoreError> {
        match answer {
            Ok(message) => {
                let header = message.headers.get(HEADER).map_or("", |header| header.as_str());
                Ok(Some(Stored {
                    sequence: message.sequence,
                    label: Label::decode(id, header),
                    header: header.to_owned(),
                    payload: message.payload,
                }))
            }
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(said) => Err(store_error(&said)),
                _ => Err(self.request_error(&error)),
            },
        }
    }

    /// Removes the messages of a session whose sequence is below this one.
    pub(super) async fn purge_before(&self, id: &SessionId, sequence: u64) -> Result<(), StoreError> {
        if !self.purges {
            let mut from = 1;
            while let Some(message) = self.next(id, from).await?.filter(|message| message.sequence < sequence) {
                self.delete(message.sequence).await?;
                from = message.sequence + 1;
            }
            return Ok(());
        }
        let purge = self.stream.purge().filter(self.subject(id)).sequence(sequence);
        match purge.await {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.kind() {
                PurgeErrorKind::JetStream(said) => store_error(&said),
                PurgeErrorKind::Request | PurgeErrorKind::TimedOut => self.request_error(&error),
            }),
        }
    }

    /// Removes a message, if it is still there.
    pub(super) async fn delete(&self, sequence: u64) -> Result<(), StoreError> {
        match self.stream.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                DeleteMessageErrorKind::JetStream(said) if said.error_code() == ErrorCode::SEQUENCE_NOT_FOUND => Ok(()),
                DeleteMessageErrorKind::JetStream(said) => Err(store_error(&said)),
                _ => Err(self.request_error(&error)),
            },
        }
    }

    /// Copies a message to a subject where nobody reads, so that it can be looked at.
    pub(super) async fn set_aside(&self, id: &SessionId, message: Stored, is_first: bool) -> Result<(), StoreError> {
        let mut copy = PublishMessage::build()
            .payload(message.payload)
            .header(DAMAGED, message.header.as_str());
        if is_first && self.purges {
            copy = copy.header(async_nats::header::NATS_ROLLUP, ROLLUP_SUBJECT);
        }
        let subject = format!("{}.aside.{id}", self.prefix);
        match self.publish_message(subject, copy).await {
            Ok(_) => Ok(()),
            Err(PublishError::WrongLast) => Err(StoreError::Failed("nothing was expected".to_owned())),
            Err(PublishError::Lost(error) | PublishError::Refused(error)) => Err(error),
        }
    }

    /// Calls `visit` with the last message of each session. Messages with a label that cannot be
    /// read are left to those who load them.
    pub(super) async fn scan(&self, mut visit: impl FnMut(Scanned)) -> Result<(), StoreError> {
        let config = pull::Config {
            description: Some("looks for durable sessions that have expired".to_owned()),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            filter_subject: format!("{}.*", self.prefix),
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: 2 * self.timeout,
            ..Default::default()
        };
        let failed = |error: &(dyn Error + 'static)| self.request_error(error);
        let consumer = self
            .stream
            .create_consumer(config)
            .await
            .map_err(|error| failed(&error))?;
        let created = SystemTime::from(consumer.cached_info().created);
        let mut left = consumer.cached_info().num_pending;
        while left > 0 {
            let batch = consumer.fetch().max_messages(BATCH).messages();
            let Ok(batch) = timeout(self.timeout, batch).await else {
                return Err(self.no_answer());
            };
            let mut batch = batch.map_err(|error| failed(&error))?;
            let mut came = 0;
            loop {
                let Ok(next) = timeout(self.timeout, batch.next()).await else {
                    return Err(self.no_answer());
                };
                let Some(message) = next else { break };
                let message = message.map_err(|error| StoreError::Failed(error.to_string()))?;
                came += 1;
                let Ok(info) = message.info() else { continue };
                left = info.pending;
                let age = created.duration_since(info.published.into()).unwrap_or_default();
                let id = message.subject.rsplit('.').next().and_then(|id| id.parse().ok());
                let header = message.headers.as_ref().and_then(|headers| headers.get(HEADER));
                if let (Some(id), Some(header)) = (id, header)
                    && let Ok(label) = Label::decode(&id, header.as_str())
                {
                    visit(Scanned {
                        id,
                        sequence: info.stream_sequence,
                        label,
                        age,
                    });
                }
            }
            if came == 0 {
                break;
            }
        }
        // It would end on its own.
        let _ = self.stream.delete_consumer(&consumer.cached_info().name).await;
        Ok(())
    }

    fn no_answer(&self) -> StoreError {
        StoreError::Failed(format!(
            "NATS did not answer within {:?}: is the server reachable, and may this client use `{}.>` and the API of \
             JetStream?",
            self.timeout, self.prefix
        ))
    }

    fn request_error(&self, error: &(dyn Error + 'static)) -> StoreError {
        if let Some(said) = cause::<jetstream::Error>(error) {
            return store_error(said);
        }
        match cause::<RequestError>(error) {
            Some(request) if request.kind() == RequestErrorKind::TimedOut => self.no_answer(),
            Some(request) if request.kind() == RequestErrorKind::NoResponders => no_stream(&self.prefix),
            _ => StoreError::Failed(format!("NATS: {error}")),
        }
    }
}

async fn open_or_create(context: &Context, options: &NatsStoreOptions) -> Result<Config, OpenNatsStoreError> {
    let name = &options.stream;
    for _ in 0..2 {
        match context.get_stream(name).await {
            Ok(stream) => return Ok(stream.cached_info().config.clone()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                _ => return Err(failed(name, &error)),
            },
        }
        let config = Config {
            name: name.clone(),
            subjects: vec![format!("{}.>", options.subject_prefix)],
            description: Some("durable sessions of stillhere".to_owned()),
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            // A full stream refuses commits, where `Old` would drop sessions.
            discard: DiscardPolicy::New,
            num_replicas: options.replicas,
            allow_rollup: true,
            ..Default::default()
        };
        match context.create_stream(config).await {
            Ok(stream) => return Ok(stream.cached_info().config.clone()),
            Err(error) => match error.kind() {
                // Another process was faster.
                CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                _ => return Err(failed(name, &error)),
            },
        }
    }
    Err(failed(name, "other processes create and delete it at the same time"))
}

fn failed(stream: &str, reason: impl ToString) -> OpenNatsStoreError {
    OpenNatsStoreError::Failed {
        stream: stream.to_owned(),
        reason: reason.to_string(),
    }
}

/// Checks that a stream keeps what is published to it, until it is replaced.
fn check(config: &Config, prefix: &str) -> Result<(), String> {
    let wanted = format!("{prefix}.>");
    let checks = [
        (
            config.subjects.contains(&wanted),
            format!("its subjects are {:?}, without `{wanted}`", config.subjects),
        ),
        (
            config.retention == RetentionPolicy::Limits,
            "its retention is not `limits`".to_owned(),
        ),
        (
            config.discard == DiscardPolicy::New,
            "it discards old messages, so sessions, when it is full".to_owned(),
        ),
        (config.allow_rollup, "it does not allow roll-ups".to_owned()),
        (
            !config.deny_purge && !config.deny_delete,
            "it denies to purge or delete messages".to_owned(),
        ),
        (config.max_age.is_zero(), "its messages have a greatest age".to_owned()),
        (
            config.max_messages_per_subject <= 0,
            "it limits the messages of a subject".to_owned(),
        ),
        (
            config.mirror.is_none() && !config.sealed && !config.no_ack,
            "it is a mirror, is sealed or has no acks".to_owned(),
        ),
    ];
    match checks.into_iter().find(|(is_fine, _)| !is_fine) {
        Some((_, reason)) => Err(reason),
        None => Ok(()),
    }
}

/// Returns the first error of this kind among an error and its causes.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn no_stream(subject: &str) -> StoreError {
    StoreError::Failed(format!(
        "no server of NATS answers for `{subject}`: JetStream is off, or the stream was deleted"
    ))
}

/// Says in the words of a store what the server has said.
fn store_error(said: &jetstream::Error) -> StoreError {
    let text = said.to_string();
    match said.error_code() {
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED => StoreError::Full,
        ErrorCode::STREAM_STORE_FAILED if text.contains("exceeded") || text.contains("no space") => StoreError::Full,
        ErrorCode::STREAM_SEALED => StoreError::ReadOnly(text),
        _ => StoreError::Failed(format!("NATS: {text}")),
    }
}

/// Room in a message for its headers, in bytes.
const HEADERS: usize = 1024;

/// How many messages are asked for at once while a stream is scanned.
const BATCH: usize = 1000;

const ROLLUP_SUBJECT: &str = "sub";

/// The header of a message that was set aside; its value is the label that the message had.
const DAMAGED: &str = "Stillhere-Damaged";
