//! Tests the golden frames of `vectors/frames.json`: how each frame is encoded, and which bytes are
//! refused.

use bytes::Bytes;
use serde_json::{Value, json};
use stillhere_proto::wire::{Counts, Data, End, Frame, Hello, Sender, Welcome};
use stillhere_proto::{Lane, PerLane};

#[test]
fn every_golden_frame_decodes_to_its_fields() {
    for vector in vectors("frames") {
        for sender in senders(text(&vector, "direction")) {
            let frame =
                Frame::decode(bytes(text(&vector, "hex")), sender).unwrap_or_else(|error| panic!("{vector}: {error}"));

            assert_eq!(fields(&frame), vector["frame"], "{}", vector["name"]);
        }
    }
}

#[test]
fn every_golden_frame_is_encoded_to_the_same_bytes() {
    for vector in vectors("frames") {
        let golden = bytes(text(&vector, "hex"));
        for sender in senders(text(&vector, "direction")) {
            let frame = Frame::decode(golden.clone(), sender).expect("a golden frame decodes");

            assert_eq!(frame.to_bytes(), golden, "{}", vector["name"]);
        }
    }
}

#[test]
fn a_golden_frame_from_the_wrong_side_is_refused() {
    for vector in vectors("frames") {
        let wrong = match text(&vector, "direction") {
            "client" => Sender::Server,
            "server" => Sender::Client,
            _ => continue,
        };

        assert!(
            Frame::decode(bytes(text(&vector, "hex")), wrong).is_err(),
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn every_malformed_frame_is_refused() {
    for vector in vectors("malformed") {
        assert_eq!(text(&vector, "error"), "Malformed");
        for sender in senders(text(&vector, "sentBy")) {
            let decoded = Frame::decode(bytes(text(&vector, "hex")), sender);

            assert!(decoded.is_err(), "{}: {decoded:?}", vector["name"]);
        }
    }
}

#[test]
fn every_prefix_of_a_golden_frame_is_refused_or_is_another_frame() {
    for vector in vectors("frames") {
        let golden = bytes(text(&vector, "hex"));
        for sender in senders(text(&vector, "direction")) {
            for size in 0..golden.len() {
                if let Ok(frame) = Frame::decode(golden.slice(..size), sender) {
                    assert_eq!(
                        frame.to_bytes(),
                        golden.slice(..size),
                        "{} cut after {size} bytes",
                        vector["name"]
                    );
                }
            }
        }
    }
}

fn vectors(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/frames.json");
    let text = std::fs::read_to_string(path).expect("the vectors are beside the crate");
    let mut vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let Value::Array(vectors) = vectors[kind].take() else {
        panic!("no {kind} in {path}")
    };
    assert!(vectors.len() > 50, "only {} {kind}", vectors.len());
    vectors
}

fn senders(name: &str) -> Vec<Sender> {
    match name {
        "client" => vec![Sender::Client],
        "server" => vec![Sender::Server],
        "both" => vec![Sender::Client, Sender::Server],
        other => panic!("{other} is not a direction"),
    }
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field]
        .as_str()
        .unwrap_or_else(|| panic!("{vector} has no {field}"))
}

fn bytes(hex: &str) -> Bytes {
    assert!(hex.len().is_multiple_of(2) && hex.is_ascii(), "{hex:?} is not hex");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("the digits are hexadecimal"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the fields of a frame in the form that the vectors use.
fn fields(frame: &Frame) -> Value {
    match frame {
        Frame::Hello(Hello {
            secret,
            document,
            incarnation,
            attempt,
            counts,
        }) => json!({
            "type": "hello",
            "secret": hex(secret.expose()),
            "document": hex(&document.0),
            "incarnation": incarnation,
            "attempt": attempt,
            "received": pair(counts.received),
            "credit": pair(counts.credit),
        }),
        Frame::Confirm => json!({ "type": "confirm" }),
        Frame::Leave => json!({ "type": "leave" }),
        Frame::Offer => json!({ "type": "offer" }),
        Frame::Welcome(Welcome {
            incarnation,
            epoch,
            counts,
            heartbeat,
            keep,
            limits,
        }) => json!({
            "type": "welcome",
            "incarnation": incarnation,
            "epoch": epoch,
            "received": pair(counts.received),
            "credit": pair(counts.credit),
            "heartbeat": heartbeat,
            "keep": keep,
            "fragment": limits.fragment,
            "message": limits.message,
            "inflated": limits.inflated,
            "window": limits.window,
            "bulk_window": limits.bulk_window,
        }),
        Frame::End(End {
            code,
            reason,
            retry_after,
            text,
        }) => {
            json!({ "type": "end", "code": code, "reason": reason, "retry_after": retry_after, "text": text })
        }
        Frame::Ack(Counts { received, credit }) => {
            json!({ "type": "ack", "received": pair(*received), "credit": pair(*credit) })
        }
        Frame::Ping { nonce, counts } => {
            json!({ "type": "ping", "nonce": nonce, "received": pair(counts.received), "credit": pair(counts.credit) })
        }
        Frame::Pong { nonce, counts } => {
            json!({ "type": "pong", "nonce": nonce, "received": pair(counts.received), "credit": pair(counts.credit) })
        }
        Frame::Data(Data {
            lane,
            sequence,
            more,
            compressed,
            payload,
        }) => json!({
            "type": "data",
            "lane": if *lane == Lane::Bulk { 1 } else { 0 },
            "more": more,
            "compressed": compressed,
            "sequence": sequence,
            "payload": hex(payload),
        }),
    }
}

fn pair(counts: PerLane<u64>) -> Value {
    json!([counts.interactive, counts.bulk])
}
