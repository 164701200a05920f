//! The session of one page. A reload keeps its local variables.

use std::time::Duration;

use stillhere::{Incoming, Message, SendError, Session, SessionHandle};
use tokio::{
    select,
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    counts::Counts,
    messages::{self, FromPage, WORDS_AT},
    transfer::{Checksum, Noise},
};

/// 250 numbers a second. Numbers that could not be sent in time follow at once.
const NUMBER_EVERY: Duration = Duration::from_millis(4);
const REPORT_EVERY: Duration = Duration::from_millis(500);
const LARGEST_DOWNLOAD: u32 = 32_000_000;
const CHUNK: u32 = 1_000_000;
/// Each transfer holds a chunk or an upload, which no limit of the session counts.
const MOST_TRANSFERS: usize = 4;

/// Runs until the session ends. Nothing here depends on whether the page is connected: while it is
/// not, messages wait in the outbox, and when that is full, the stream waits too.
pub(crate) async fn run_page_session(mut session: Session) -> Result<(), SendError> {
    let opened = Instant::now();
    let mut value = 0i32;
    let mut note = String::new();
    let mut page_loads = 1;
    let mut next_number = 1;
    let mut from_page = Counts::default();
    let mut transfers = JoinSet::new();
    let mut number_due = interval(NUMBER_EVERY);
    let mut report_due = interval(REPORT_EVERY);
    report_due.set_missed_tick_behavior(MissedTickBehavior::Skip);

    session
        .send(messages::start(next_number, from_page.next(), page_loads))
        .await?;
    session.send(messages::kept(value, &note)).await?;
    loop {
        let answer = select! {
            incoming = session.next() => match incoming {
                Some(Incoming::Message(message)) => match FromPage::parse(&message) {
                    Some(FromPage::Number(number)) => {
                        from_page.count(number);
                        continue;
                    }
                    Some(FromPage::Click(id)) => messages::clicked(id),
                    Some(FromPage::Add(amount)) => {
                        value = value.wrapping_add(amount);
                        messages::kept(value, &note)
                    }
                    Some(FromPage::Note(text)) => {
                        note = text;
                        messages::kept(value, &note)
                    }
                    Some(FromPage::Upload) => {
                        wait_for_room(&mut transfers).await;
                        transfers.spawn(check_upload(session.handle(), message));
                        continue;
                    }
                    Some(FromPage::Download { bytes }) => {
                        wait_for_room(&mut transfers).await;
                        transfers.spawn(send_download(session.handle(), bytes));
                        continue;
                    }
                    None => {
                        session.abort("the page sent something that the server does not know");
                        return Ok(());
                    }
                },
                Some(Incoming::Restored) => {
                    page_loads += 1;
                    transfers.abort_all();
                    session.send(messages::start(next_number, from_page.next(), page_loads)).await?;
                    messages::kept(value, &note)
                }
                Some(_) => continue,
                None => return Ok(()),
            },
            _ = number_due.tick() => {
                next_number += 1;
                messages::number(next_number - 1)
            }
            _ = report_due.tick() => {
                messages::report(opened.elapsed().as_millis().try_into().unwrap_or(u64::MAX), &from_page)
            }
            Some(_) = transfers.join_next() => continue,
        };
        session.send(answer).await?;
    }
}

/// Waits for room. The page has one upload and one download at a time; a client that starts more
/// must wait with all its messages.
async fn wait_for_room(transfers: &mut JoinSet<Result<(), SendError>>) {
    while transfers.len() >= MOST_TRANSFERS {
        transfers.join_next().await;
    }
}

async fn check_upload(handle: SessionHandle, upload: Message) -> Result<(), SendError> {
    let bytes = (upload.len() - WORDS_AT).try_into().unwrap_or(u32::MAX);
    let mut checksum = Checksum::default();
    let checked = spawn_blocking(move || {
        checksum.update(&upload[WORDS_AT..]);
        checksum
    });
    handle
        .send(messages::uploaded(
            bytes,
            checked.await.expect("the checksum does not panic"),
        ))
        .await
}

async fn send_download(handle: SessionHandle, bytes: u32) -> Result<(), SendError> {
    let mut left = bytes.min(LARGEST_DOWNLOAD) / 4;
    let mut noise = Noise::new(bytes);
    let mut checksum = Checksum::default();
    while left > 0 {
        let words = left.min(CHUNK / 4);
        left -= words;
        let made = spawn_blocking(move || {
            let mut chunk = vec![0; WORDS_AT];
            noise.extend(&mut chunk, words as usize);
            checksum.update(&chunk[WORDS_AT..]);
            (noise, checksum, chunk)
        });
        let chunk;
        (noise, checksum, chunk) = made.await.expect("generating noise does not panic");
        handle.send_bulk(messages::chunk(chunk, checksum)).await?;
    }
    Ok(())
}

/// Runs the session of the other page, which has only a counter.
pub(crate) async fn run_other_session(mut session: Session) -> Result<(), SendError> {
    let mut value = 0u64;
    session.send(value.to_le_bytes()).await?;
    while session.recv().await.is_some() {
        value += 1;
        session.send(value.to_le_bytes()).await?;
    }
    Ok(())
}
