//! How long a server takes to open the durable sessions of a process that has stopped again, from
//! a [`FileStore`] in the folder for temporary files.
//!
//! ```text
//! cargo run --release -p stillhere --features durable --example reopen_figures -- 100000
//! ```
//!
//! Each session has a state of some 200 bytes. Its page connects and sends a message; then the
//! process stops, and each page connects to the next one. The pages, which are in the same process
//! and whose connections cost little, are part of all figures.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use futures_util::stream::iter;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use stillhere::connection::Packet;
use stillhere::durable::{Durability, DurableKind, FileStore, State};
use stillhere::wire::{Counts, Data, Frame, Hello, SUBPROTOCOL, Sender};
use stillhere::{
    DocumentId, Hub, Lane, PairEnd, Secret, Session, SessionRequest, connection_pair, run_connection_loop,
};

/// How many pages connect at the same time.
const AT_ONCE: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Note {
    messages: u64,
    text: String,
}

async fn write_down(mut session: Session, note: State<Note>) {
    while session.recv().await.is_some() {
        note.update(|note| note.messages += 1);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = std::env::args()
        .nth(1)
        .map_or(Ok(100_000), |argument| argument.parse())?;
    for durability in [Durability::Restart, Durability::Crash] {
        let file = std::env::temp_dir().join(format!("reopen-figures-{}.db", std::process::id()));
        println!("{durability:?}");
        let measured = measure(sessions, durability, &file).await;
        std::fs::remove_file(&file)?;
        measured?;
    }
    Ok(())
}

async fn measure(sessions: usize, durability: Durability, file: &Path) -> Result<(), Box<dyn Error>> {
    let (hub, notes) = start(file, durability).await?;
    let mut pages = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let note = Note {
            messages: 0,
            text: "x".repeat(200),
        };
        pages.push(Page::new(&notes.open(note).ticket_json())?);
    }
    let began = Instant::now();
    let mut pages: Vec<_> = iter(pages)
        .map(async |page| page.connect(&hub, true).await)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    println!(
        "  {sessions} sessions of pages that connect and send: {:.2?}",
        began.elapsed()
    );

    let began = Instant::now();
    let report = hub.shutdown(Duration::from_secs(60)).await;
    println!("  {} of them handed over: {:.2?}", report.handed_over, began.elapsed());
    drop((hub, notes));

    let (began, cpu) = (Instant::now(), cpu()?);
    let (hub, _notes) = start(file, durability).await?;
    let first = pages.pop().ok_or("there are no sessions")?;
    first.connect(&hub, false).await?;
    println!("  the first page is connected again: {:.2?}", began.elapsed());
    let others: Vec<_> = iter(pages)
        .map(async |page| page.connect(&hub, false).await)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    println!(
        "  all {} are: {:.2?}, {:.1} us of CPU each",
        others.len() + 1,
        began.elapsed(),
        (self::cpu()? - cpu).as_secs_f64() * 1e6 / sessions as f64
    );
    Ok(())
}

async fn start(file: &Path, durability: Durability) -> Result<(Hub, DurableKind<Note>), Box<dyn Error>> {
    let hub = Hub::builder()
        .store(FileStore::open(file).await?)
        .max_sessions(usize::MAX)
        .max_unconnected(usize::MAX)
        .max_pending_hellos(usize::MAX)
        .build();
    let notes = hub.durable("note", durability, write_down);
    Ok((hub, notes))
}

/// A page, as far as a hello and one message need it.
struct Page {
    id: String,
    secret: Secret,
    incarnation: u64,
    attempt: u64,
    counts: Counts,
}

impl Page {
    fn new(ticket: &str) -> Result<Self, Box<dyn Error>> {
        let ticket: serde_json::Value = serde_json::from_str(ticket)?;
        let text = |name: &str| ticket[name].as_str().ok_or("the ticket has another form");
        let secret = URL_SAFE_NO_PAD.decode(text("secret")?)?;
        Ok(Self {
            id: text("id")?.to_owned(),
            secret: Secret::from_bytes(secret.try_into().map_err(|_| "a secret has 32 bytes")?),
            incarnation: 0,
            attempt: 0,
            counts: Counts::default(),
        })
    }

    /// Connects, sends a message if `sends`, waits until the server has it, and disconnects.
    async fn connect(mut self, hub: &Hub, sends: bool) -> Result<Self, Box<dyn Error>> {
        let (server, mut page) = connection_pair(4);
        let request = SessionRequest::new(&self.id, [("sec-websocket-protocol", SUBPROTOCOL.as_bytes())]);
        let accepted = hub.accept(&request).map_err(|_| "the hub accepts the connection")?;
        tokio::spawn(run_connection_loop(accepted, server));
        self.attempt += 1;
        let hello = Frame::Hello(Hello {
            secret: self.secret.clone(),
            document: DocumentId(*self.secret.expose().first_chunk().ok_or("a secret has 32 bytes")?),
            incarnation: self.incarnation,
            attempt: self.attempt,
            counts: self.counts,
        });
        page.send(Packet::Binary(hello.to_bytes())).await?;
        let welcome = match receive(&mut page).await? {
            Frame::Welcome(welcome) => welcome,
            other => return Err(format!("expected a welcome, got {other:?}").into()),
        };
        self.incarnation = welcome.incarnation;
        if sends {
            let message = Frame::Data(Data {
                lane: Lane::Interactive,
                sequence: 1,
                more: false,
                compressed: false,
                payload: vec![0; 64].into(),
            });
            page.send(Packet::Binary(message.to_bytes())).await?;
            while !matches!(receive(&mut page).await?, Frame::Ack(counts) if counts.received.interactive == 1) {}
        }
        Ok(self)
    }
}

async fn receive(page: &mut PairEnd) -> Result<Frame, Box<dyn Error>> {
    match page.next().await {
        Some(Ok(Packet::Binary(bytes))) => Ok(Frame::decode(bytes, Sender::Server)?),
        other => Err(format!("the server answers with {other:?}").into()),
    }
}

/// Returns the user and system time of this process.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().ok_or("it has a name")?;
    let ticks = after_name.split(' ').skip(12).take(2);
    let ticks = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
