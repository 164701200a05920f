//! The messages between the page and its session. The documentation of the crate describes their
//! formats.

use stillhere::Message;

use crate::{counts::Counts, transfer::Checksum};

const NUMBER: u8 = 1;
const CLICK: u8 = 2;
const ADD: u8 = 3;
const START: u8 = 3;
const NOTE: u8 = 4;
const REPORT: u8 = 4;
const UPLOAD: u8 = 5;
const DOWNLOAD: u8 = 6;
const KEPT: u8 = 7;

/// Bytes before the words of an upload or a chunk.
pub(crate) const WORDS_AT: usize = 8;
const LONGEST_NOTE: usize = 4096;

/// A message from the page.
#[derive(Debug)]
pub(crate) enum FromPage {
    Number(u64),
    Click([u8; 4]),
    Add(i32),
    Note(String),
    Upload,
    Download { bytes: u32 },
}

impl FromPage {
    /// Parses a message. Returns `None` if it is invalid.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let (&kind, rest) = message.split_first()?;
        Some(match kind {
            NUMBER => Self::Number(u64::from_le_bytes(rest.try_into().ok()?)),
            CLICK => Self::Click(rest.try_into().ok()?),
            ADD => Self::Add(i32::from_le_bytes(rest.try_into().ok()?)),
            NOTE if rest.len() <= LONGEST_NOTE => Self::Note(String::from_utf8(rest.to_vec()).ok()?),
            UPLOAD if message.len() >= WORDS_AT => Self::Upload,
            DOWNLOAD => Self::Download {
                bytes: u32::from_le_bytes(rest.try_into().ok()?),
            },
            _ => return None,
        })
    }
}

pub(crate) fn number(number: u64) -> Message {
    join(NUMBER, &[&number.to_le_bytes()])
}

pub(crate) fn clicked(id: [u8; 4]) -> Message {
    join(CLICK, &[&id])
}

pub(crate) fn start(next_number: u64, next_from_page: u64, page_loads: u32) -> Message {
    join(
        START,
        &[
            &next_number.to_le_bytes(),
            &next_from_page.to_le_bytes(),
            &page_loads.to_le_bytes(),
        ],
    )
}

pub(crate) fn kept(value: i32, note: &str) -> Message {
    join(KEPT, &[&value.to_le_bytes(), note.as_bytes()])
}

pub(crate) fn report(age_in_ms: u64, counts: &Counts) -> Message {
    let figures = [
        age_in_ms,
        counts.received,
        counts.missing,
        counts.doubled,
        counts.out_of_order,
    ];
    join(
        REPORT,
        &figures
            .each_ref()
            .map(|figure| figure.to_le_bytes())
            .each_ref()
            .map(<[u8; 8]>::as_slice),
    )
}

pub(crate) fn uploaded(bytes: u32, checksum: Checksum) -> Message {
    join(UPLOAD, &[&bytes.to_le_bytes(), &checksum.0.to_le_bytes()])
}

/// Creates a chunk message. `chunk` starts with [`WORDS_AT`] bytes of any content, which become the
/// header.
pub(crate) fn chunk(mut chunk: Vec<u8>, checksum: Checksum) -> Message {
    chunk[..4].copy_from_slice(&[DOWNLOAD, 0, 0, 0]);
    chunk[4..WORDS_AT].copy_from_slice(&checksum.0.to_le_bytes());
    chunk.into()
}

fn join(kind: u8, parts: &[&[u8]]) -> Message {
    [&[kind], parts.concat().as_slice()].concat().into()
}
