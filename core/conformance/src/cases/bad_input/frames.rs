//! Frames and messages that violate the protocol or exceed a limit.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use stillhere::code::Code;
use stillhere::wire::{Data, Frame};
use stillhere::{EndReason, Lane, SessionOptions, SessionState};

use super::assert_ends;
use crate::application::echo;
use crate::neighbour::Neighbour;
use crate::raw_connection::{fragment, hello, whole};
use crate::server::{Server, credentials, end_of};

/// PROTOCOL 2: a text message after the welcome is Malformed, and ends the session with that
/// reason.
pub async fn a_text_message_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send_text("hello").await;
    assert_ends(&session, raw, EndReason::Malformed).await;
    neighbour.assert_untouched().await;
}

/// PROTOCOL 3, 4 and 7.2: every frame that the protocol calls Malformed ends the session with that
/// reason.
pub async fn a_malformed_frame_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let size = server.hub.session_options().limits.fragment as usize;
    let lane = Lane::Interactive;
    let compressed = Frame::Data(Data {
        lane,
        sequence: 2,
        more: false,
        compressed: true,
        payload: "x".into(),
    });
    let frames: [(&str, Vec<Bytes>); 18] = [
        ("empty", vec![Bytes::new()]),
        ("of an unknown type", vec![Bytes::from_static(b"\x7f")]),
        ("of a type beside data", vec![Bytes::from_static(b"\x48\x01")]),
        ("ending in a field", vec![Bytes::from_static(b"\x20\x00\x00")]),
        ("ending in a number", vec![Bytes::from_static(b"\x40\x81")]),
        ("with bytes after the last field", vec![Bytes::from_static(b"\x03\x00")]),
        (
            "with a number not in its shortest form",
            vec![Bytes::from_static(b"\x40\x81\x00hi")],
        ),
        (
            "with a number of 2^53",
            vec![Bytes::from_static(b"\x40\x80\x80\x80\x80\x80\x80\x80\x10hi")],
        ),
        (
            "with a number of nine bytes",
            vec![Bytes::from_static(b"\x40\x81\x80\x80\x80\x80\x80\x80\x80\x01hi")],
        ),
        ("with sequence 0", vec![Bytes::from_static(b"\x40\x00hi")]),
        ("only a server sends: offer", vec![Frame::Offer.to_bytes()]),
        (
            "only a server sends: end",
            vec![Bytes::from_static(b"\x12\x86\x20\x01\x00")],
        ),
        (
            "a second hello",
            vec![Frame::Hello(hello(&credentials(&server.hub.open(echo)), 1, 0, 2)).to_bytes()],
        ),
        ("a confirm of nothing", vec![Frame::Confirm.to_bytes()]),
        (
            "a fragment that is short",
            vec![fragment(lane, 1, vec![0; size - 1]).to_bytes()],
        ),
        ("an empty fragment", vec![fragment(lane, 1, "").to_bytes()]),
        (
            "an empty last fragment",
            vec![
                fragment(lane, 1, vec![0; size]).to_bytes(),
                whole(lane, 2, "").to_bytes(),
            ],
        ),
        (
            "a last fragment that is compressed alone",
            vec![fragment(lane, 1, vec![0; size]).to_bytes(), compressed.to_bytes()],
        ),
    ];
    for (what, frames) in frames {
        let session = server.hub.open_with(taking_compressed(server), echo);
        let mut raw = server.raw_welcomed(&session).await;
        for bytes in frames {
            raw.send_bytes(bytes).await;
        }
        let end = raw.end().await;
        assert_eq!(
            (end.code, end.reason),
            (Code::Malformed as u64, EndReason::Malformed.number()),
            "a frame {what}"
        );
        assert_eq!(end_of(&session).await, EndReason::Malformed, "a frame {what}");
    }
    neighbour.assert_untouched().await;
}

/// PROTOCOL 7.2: a data frame above the fragment size is TooLarge, even by one byte.
pub async fn an_oversize_frame_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let size = server.hub.session_options().limits.fragment as usize;
    for size in [size + 1, size + 100, 2 * size] {
        let session = server.hub.open(echo);
        let mut raw = server.raw_welcomed(&session).await;
        raw.send(whole(Lane::Bulk, 1, vec![0; size])).await;
        assert_ends(&session, raw, EndReason::TooLarge).await;
    }
    neighbour.assert_untouched().await;
}

/// Promise 6: a frame far above the limit is refused by its announced length, before its bytes
/// arrive. The browser reads the reason even while it is still sending.
pub async fn a_huge_frame_is_refused_before_all_of_it_has_arrived(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    // FIN and binary, masked, with an announced length of 15 MiB and the first byte of the payload.
    raw.send_octets(b"\x82\xff\x00\x00\x00\x00\x00\xf0\x00\x00\x00\x00\x00\x00\x40")
        .await;
    assert_ends(&session, raw, EndReason::TooLarge).await;

    let session = server.hub.open(echo);
    let browser_that_sends = async {
        let mut raw = server.raw_welcomed(&session).await;
        raw.try_send(whole(Lane::Bulk, 1, vec![0; 15 << 20])).await;
        raw.end().await
    };
    let end = browser_that_sends.await;
    assert_eq!(
        (end.code, end.reason),
        (Code::TooLarge as u64, EndReason::TooLarge.number())
    );

    let session = server.hub.open(echo);
    let mut raw = server.raw(&credentials(&session)).await;
    raw.send_octets(b"\x82\xff\x00\x00\x00\x00\x00\xf0\x00\x00\x00\x00\x00\x00\x01")
        .await;
    let end = raw.end().await;
    assert_eq!(
        (end.code, end.reason),
        (Code::TooLarge as u64, 0),
        "before the hello, the connection only"
    );
    neighbour.assert_untouched().await;
}

/// PROTOCOL 7.2: a message above the message limit is TooLarge as soon as the sum of its fragments
/// exceeds the limit.
pub async fn a_message_above_the_limit_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let limits = credentials(&session).limits;
    let mut raw = server.raw_welcomed(&session).await;
    let fragments = limits.message / limits.fragment;
    for sequence in 1..=fragments {
        raw.send(fragment(Lane::Bulk, sequence, vec![0; limits.fragment as usize]))
            .await;
        // Waits for the credit of the fragments that were sent.
        while raw.counts().await.received.bulk < sequence {}
    }
    assert_eq!(session.state(), SessionState::Open, "exactly the limit");
    raw.send(whole(Lane::Bulk, fragments + 1, "x")).await;
    assert_ends(&session, raw, EndReason::TooLarge).await;
    neighbour.assert_untouched().await;
}

/// R12: a message of 1 MB that inflates to 1 GB is TooLarge, and is never held in memory as a
/// whole.
pub async fn a_zlib_bomb_ends_the_session_in_bounded_memory(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open_with(taking_compressed(server), echo);
    let limits = credentials(&session).limits;
    let bomb = bomb(1000);
    assert!(bomb.len() as u64 <= limits.message, "{} bytes", bomb.len());
    let before = peak_memory();
    let mut raw = server.raw_welcomed(&session).await;
    let mut rest = bomb;
    for sequence in 1.. {
        let payload = rest.split_to(rest.len().min(limits.fragment as usize));
        let more = !rest.is_empty();
        raw.send(Frame::Data(Data {
            lane: Lane::Interactive,
            sequence,
            more,
            compressed: true,
            payload,
        }))
        .await;
        if !more {
            break;
        }
    }
    assert_ends(&session, raw, EndReason::TooLarge).await;
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 512 << 20, "{before} bytes before, {after} after");
    }
    neighbour.assert_untouched().await;
}

/// Returns the options of an application that accepts compression but compresses nothing itself.
fn taking_compressed(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.compress_from = Some(usize::MAX);
    options
}

/// Returns a zlib stream of this many MiB of zeros. A block after a full flush starts and ends on a
/// byte boundary and does not depend on the blocks before it, so one block can be repeated.
fn bomb(mebibytes: usize) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = |encoder: &mut ZlibEncoder<Vec<u8>>| {
        encoder
            .write_all(&vec![0; 1 << 20])
            .expect("writing to memory succeeds");
        encoder.flush().expect("writing to memory succeeds");
        encoder.get_ref().len()
    };
    let first = zeros(&mut encoder);
    let second = zeros(&mut encoder);
    let deflated = encoder.finish().expect("writing to memory succeeds");
    let mut bomb = BytesMut::from(&deflated[..first]);
    for _ in 1..mebibytes {
        bomb.extend_from_slice(&deflated[first..second]);
    }
    bomb.freeze()
}

/// Returns the peak memory of this process in bytes, if the system reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// PROTOCOL 7.4: a compressed message that is not one whole zlib stream, or that has bytes after
/// the stream, is Malformed.
pub async fn a_broken_zlib_stream_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&[7; 1000]).expect("writing to memory succeeds");
    let good = encoder.finish().expect("writing to memory succeeds");
    let mut with_more = good.clone();
    with_more.push(0);
    let truncated = good[..good.len() - 1].to_vec();
    let compressed = |payload: Vec<u8>| {
        Frame::Data(Data {
            lane: Lane::Interactive,
            sequence: 1,
            more: false,
            compressed: true,
            payload: payload.into(),
        })
    };
    for broken in [with_more, truncated, b"no zlib".to_vec(), Vec::new()] {
        let session = server.hub.open_with(taking_compressed(server), echo);
        let mut raw = server.raw_welcomed(&session).await;
        raw.send(compressed(broken)).await;
        assert_ends(&session, raw, EndReason::Malformed).await;
    }
    let session = server.hub.open_with(taking_compressed(server), echo);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send(compressed(good)).await;
    assert_eq!(raw.data().await.payload, vec![7; 1000]);
    neighbour.assert_untouched().await;
}
