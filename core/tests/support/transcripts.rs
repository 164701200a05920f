//! Reads the transcripts in `vectors/transcripts.json`.

use bytes::Bytes;
use serde_json::Value;
use stillhere::wire::{Frame, Sender};
use stillhere::{Lane, Limits};

/// Returns the whole file.
pub(crate) fn book() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/transcripts.json");
    let text = std::fs::read_to_string(path).expect("the transcripts are beside the crate");
    serde_json::from_str(&text).expect("the transcripts are JSON")
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("the value is a list")
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
    value.as_u64().expect("the value is a number")
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("the value is a string")
}

pub(crate) fn bytes(hex: &Value) -> Bytes {
    let digits = text(hex);
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("the digits are hexadecimal"))
        .collect()
}

pub(crate) fn array<const N: usize>(hex: &Value) -> [u8; N] {
    bytes(hex)[..].try_into().expect("the value has the right length")
}
