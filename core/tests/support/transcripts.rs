//! Reads the transcripts in `vectors/transcripts.json`.

use bytes::Bytes;
use serde_json::Value;
use stillhere::wire::{End, Frame, Sender};
use stillhere::{Lane, Limits};

/// Returns the whole file.
pub(crate) fn book() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/transcripts.json");
    let text = std::fs::read_to_string(path).expect("the transcripts are beside the crate");
    serde_json::from_str(&text).expect("the transcripts are JSON")
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Returns the frame without the text of an end, which is for people and may differ.
pub(crate) fn without_text(frame: Frame) -> Frame {
    match frame {
        Frame::End(end) => Frame::End(End {
            text: String::new(),
            ..end
        }),
        frame => frame,
    }
}

pub(crate) fn decoded(hex: &Value, sender: Sender) -> Frame {
    Frame::decode(bytes(hex), sender).unwrap_or_else(|error| panic!("{hex}: {error}"))
}

pub(crate) fn limits(book: &Value) -> Limits {
    let limit = |name: &str| number(&book["limits"][name]);
    Limits {
        fragment: limit("fragment"),
        message: limit("message"),
        inflated: limit("inflated"),
        window: limit("window"),
        bulk_window: limit("bulk_window"),
        ..Limits::default()
    }
}

pub(crate) fn lane(step: &Value) -> Lane {
    if step["lane"] == 1 {
        Lane::Bulk
    } else {
        Lane::Interactive
    }
}

pub(crate) fn message(step: &Value) -> Bytes {
    Bytes::copy_from_slice(text(&step["text"]).as_bytes())
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

pub(crate) fn bytes(hex: &Value) -> Bytes {
    let digits = text(hex);
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits"))
        .collect()
}

pub(crate) fn array<const N: usize>(hex: &Value) -> [u8; N] {
    bytes(hex)[..].try_into().expect("as many bytes as are due")
}
