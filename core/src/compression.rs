//! Compresses whole messages: zlib (RFC 1950), and gzip for plain sessions. A deflate state takes
//! about 370 KiB, so there is one for each thread and not one for each session.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Why a message cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    #[error("the message exceeds its limit when inflated")]
    TooLarge,
    #[error("the message is not a single complete zlib stream")]
    Malformed,
}

thread_local! {
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), true));
    static GZIP: RefCell<Compress> = RefCell::new(Compress::new_gzip(Compression::fast(), WINDOW_BITS));
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(true));
}

/// Deflates the payload. Returns `None` if that would not make it smaller.
pub(crate) fn deflate(payload: &[u8]) -> Option<Bytes> {
    DEFLATE.with_borrow_mut(|state| {
        state.reset();
        let mut out = vec![0; payload.len()];
        match state.compress(payload, &mut out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => {
                out.truncate(usize::try_from(state.total_out()).ok()?);
                out.shrink_to_fit();
                Some(out.into())
            }
            _ => None,
        }
    })
}

/// Deflates the payload to a zlib stream, even if that is larger.
pub(crate) fn deflate_zlib(payload: &[u8]) -> Bytes {
    DEFLATE.with_borrow_mut(|state| deflate_whole(state, payload))
}

/// Deflates the payload to a gzip member (RFC 1952), even if that is larger.
pub(crate) fn deflate_gzip(payload: &[u8]) -> Bytes {
    GZIP.with_borrow_mut(|state| deflate_whole(state, payload))
}

fn deflate_whole(state: &mut Compress, payload: &[u8]) -> Bytes {
    state.reset();
    let mut out = Vec::with_capacity(payload.len() / 2 + CHUNK_MIN);
    loop {
        let read = usize::try_from(state.total_in()).expect("no more is read than the payload has");
        match state.compress_vec(&payload[read..], &mut out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return out.into(),
            Ok(Status::Ok | Status::BufError) => out.reserve(out.capacity()),
            Err(error) => unreachable!("a state that was reset deflates anything: {error}"),
        }
    }
}

/// Inflates a zlib stream. While it works it allocates at most `limit` plus one byte, in addition
/// to the result.
pub(crate) fn inflate(payload: &[u8], limit: u64) -> Result<Bytes, InflateError> {
    INFLATE.with_borrow_mut(|state| {
        state.reset(true);
        inflate_whole(state, payload, limit)
    })
}

/// Inflates a gzip member (RFC 1952), within the same limit as [`inflate`].
pub(crate) fn inflate_gzip(payload: &[u8], limit: u64) -> Result<Bytes, InflateError> {
    // After a reset a state reads only zlib or raw data, so this needs a new one. Unlike a deflate
    // state it is small.
    inflate_whole(&mut Decompress::new_gzip(WINDOW_BITS), payload, limit)
}

fn inflate_whole(state: &mut Decompress, payload: &[u8], limit: u64) -> Result<Bytes, InflateError> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut out = Vec::with_capacity(payload.len().saturating_mul(4).clamp(CHUNK_MIN, CHUNK_MAX).min(most));
    loop {
        let read = usize::try_from(state.total_in()).map_err(|_| InflateError::TooLarge)?;
        let before = out.len();
        let status = state.decompress_vec(&payload[read..], &mut out, FlushDecompress::None);
        if out.len() == most {
            return Err(InflateError::TooLarge);
        }
        match status.map_err(|_| InflateError::Malformed)? {
            Status::StreamEnd if state.total_in() == payload.len() as u64 => return Ok(out.into()),
            Status::StreamEnd => return Err(InflateError::Malformed),
            Status::Ok | Status::BufError if out.len() == out.capacity() => {
                out.reserve_exact(out.len().min(most - out.len()));
            }
            Status::Ok if state.total_in() as usize > read || out.len() > before => {}
            _ => return Err(InflateError::Malformed),
        }
    }
}

/// The largest window, 32 KiB, so that data deflated with any window can be inflated.
const WINDOW_BITS: u8 = 15;
const CHUNK_MIN: usize = 1024;
const CHUNK_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deflated_data_inflates_to_the_original() {
        let payload: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();

        let deflated = deflate(&payload).expect("numbers deflate well");

        assert!(deflated.len() < payload.len() / 2);
        assert_eq!(inflate(&deflated, payload.len() as u64).as_deref(), Ok(&payload[..]));
        assert_eq!(
            inflate(&deflated, payload.len() as u64 - 1),
            Err(InflateError::TooLarge)
        );
    }

    #[test]
    fn data_that_does_not_shrink_is_not_compressed() {
        assert_eq!(deflate(b"abcdefgh"), None);
        assert_eq!(deflate(b""), None);
    }

    #[test]
    fn a_broken_stream_is_malformed() {
        let deflated = deflate(&[7; 5000]).expect("repetition deflates");

        assert_eq!(
            inflate(&deflated[..deflated.len() - 1], 1 << 20),
            Err(InflateError::Malformed),
            "truncated"
        );
        assert_eq!(
            inflate(&[&deflated[..], &[0]].concat(), 1 << 20),
            Err(InflateError::Malformed),
            "trailing byte"
        );
        assert_eq!(inflate(b"no zlib at all", 1 << 20), Err(InflateError::Malformed));
        assert_eq!(inflate(b"", 1 << 20), Err(InflateError::Malformed));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
        for _ in 0..1024 {
            std::io::Write::write_all(&mut bomb, &[0; 64 * 1024]).expect("writing to memory succeeds");
        }
        let bomb = bomb.finish().expect("writing to memory succeeds");

        assert!(bomb.len() < 100_000);
        assert_eq!(inflate(&bomb, 8 << 20), Err(InflateError::TooLarge));
    }
}
