//! Determines to which session a connection belongs.

use super::handle::Direction;
use super::link::saturating_usize;

/// Reads the bytes from a client, request by request, until one asks to upgrade to a WebSocket.
///
/// It keeps at most one line of 8 KiB. At input that it does not understand it stops reading,
/// without affecting the connection.
pub(super) struct RequestReader {
    expects: Expects,
    line: Vec<u8>,
    head: Head,
}

/// What comes next in the bytes from the client.
#[derive(Clone, Copy)]
enum Expects {
    RequestLine,
    Header,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    Trailer,
    /// Bytes that need no parsing.
    Anything,
}

/// The relevant parts of the request head that is being read.
#[derive(Default)]
struct Head {
    session_id: Option<String>,
    asks_for_websocket: bool,
    is_chunked: bool,
    content_length: u64,
}

impl RequestReader {
    pub(super) fn new(direction: Direction) -> Self {
        let expects = match direction {
            Direction::ToUpstream => Expects::RequestLine,
            Direction::ToClient => Expects::Anything,
        };
        Self {
            expects,
            line: Vec::new(),
            head: Head::default(),
        }
    }

    /// Returns the session id, if these bytes complete the head of an upgrade request that names
    /// one.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<String> {
        while !bytes.is_empty() {
            match self.expects {
                Expects::Anything => return None,
                Expects::Body(left) => self.expects = skip(&mut bytes, left, Expects::Body, Expects::RequestLine),
                Expects::Chunk(left) => self.expects = skip(&mut bytes, left, Expects::Chunk, Expects::ChunkSize),
                Expects::RequestLine | Expects::Header | Expects::ChunkSize | Expects::Trailer => {
                    if self.read_line(&mut bytes) {
                        self.expects = self.after_line();
                        self.line.clear();
                    }
                }
            }
            if matches!(self.expects, Expects::Anything) {
                self.line = Vec::new();
                return self.head.session_id.take().filter(|_| self.head.asks_for_websocket);
            }
        }
        None
    }

    /// Takes bytes up to the end of a line. Returns false if the end has not arrived. Drops what
    /// exceeds 8 KiB.
    fn read_line(&mut self, bytes: &mut &[u8]) -> bool {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(bytes.len());
        let kept = length.min(MAX_LINE_BYTES - self.line.len());
        self.line.extend_from_slice(&bytes[..kept]);
        *bytes = &bytes[end.map_or(length, |end| end + 1)..];
        end.is_some()
    }

    fn after_line(&mut self) -> Expects {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_ascii_end();
        match self.expects {
            // An empty line before a request is allowed (RFC 9112, section 2.2).
            Expects::RequestLine if line.is_empty() => Expects::RequestLine,
            Expects::RequestLine => self.head.start(line),
            Expects::Header if line.is_empty() => self.head.finish(),
            Expects::Header => self.head.add(line),
            Expects::ChunkSize => after_chunk_size(line),
            Expects::Trailer if line.is_empty() => Expects::RequestLine,
            Expects::Trailer | Expects::Body(_) | Expects::Chunk(_) | Expects::Anything => self.expects,
        }
    }
}

impl Head {
    fn start(&mut self, request_line: &str) -> Expects {
        *self = Self::default();
        let mut words = request_line.split(' ');
        let (Some(_method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Expects::Anything;
        };
        if !version.starts_with("HTTP/1.") {
            return Expects::Anything;
        }
        self.session_id = session_id_of(target);
        Expects::Header
    }

    fn add(&mut self, header: &str) -> Expects {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case("upgrade") {
            self.asks_for_websocket = value.eq_ignore_ascii_case("websocket");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.is_chunked = value.to_ascii_lowercase().ends_with("chunked");
        } else if name.eq_ignore_ascii_case("content-length") {
            let Ok(length) = value.parse() else {
                return self.give_up();
            };
            self.content_length = length;
        }
        Expects::Header
    }

    fn give_up(&mut self) -> Expects {
        *self = Self::default();
        Expects::Anything
    }

    fn finish(&self) -> Expects {
        match self.content_length {
            _ if self.asks_for_websocket => Expects::Anything,
            _ if self.is_chunked => Expects::ChunkSize,
            0 => Expects::RequestLine,
            length => Expects::Body(length),
        }
    }
}

fn after_chunk_size(line: &str) -> Expects {
    let size = line.split(';').next().unwrap_or_default().trim_ascii();
    match u64::from_str_radix(size, 16) {
        Ok(0) => Expects::Trailer,
        Ok(size) => size.checked_add(CRLF_BYTES).map_or(Expects::Anything, Expects::Chunk),
        Err(_) => Expects::Anything,
    }
}

/// Skips up to `left` bytes and returns what comes next.
fn skip(bytes: &mut &[u8], left: u64, more: fn(u64) -> Expects, then: Expects) -> Expects {
    let skipped = bytes.len().min(saturating_usize(left));
    *bytes = &bytes[skipped..];
    match left - skipped as u64 {
        0 => then,
        left => more(left),
    }
}

/// Returns the last segment of the path, if it has the form of a session id.
fn session_id_of(target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next()?;
    let segment = path.rsplit('/').next()?;
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (segment.len() == SESSION_ID_CHARACTERS && segment.bytes().all(is_base64url)).then(|| segment.to_owned())
}

const MAX_LINE_BYTES: usize = 8 * 1024;
/// 128 bits in base64url without padding.
const SESSION_ID_CHARACTERS: usize = 22;
const CRLF_BYTES: u64 = 2;

#[cfg(test)]
mod tests {
    use super::super::tests::{ID, upgrade_request};
    use super::*;

    #[test]
    fn only_an_upgrade_request_with_a_session_id_names_a_session() {
        let read = |bytes: &str| RequestReader::new(Direction::ToUpstream).read(bytes.as_bytes());
        assert_eq!(read(&upgrade_request(ID)).as_deref(), Some(ID));
        assert_eq!(read(&upgrade_request(&ID[1..])), None);
        assert_eq!(read(&upgrade_request(&format!("{}=", &ID[1..]))), None);
        assert_eq!(read(&upgrade_request("client.js")), None);
        assert_eq!(read(&format!("GET /{ID} HTTP/1.1\r\nUpgrade: h2c\r\n\r\n")), None);
        assert_eq!(read(&format!("GET /{ID}\r\nUpgrade: websocket\r\n\r\n")), None);
        assert_eq!(
            read(&format!(
                "GET /{ID} HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: -1\r\n\r\n"
            )),
            None
        );
        let overlong = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            u64::MAX
        );
        assert_eq!(read(&(overlong + &upgrade_request(ID))), None);
    }

    #[test]
    fn an_endless_line_costs_8_kib_and_hides_no_later_request() {
        let mut reader = RequestReader::new(Direction::ToUpstream);
        assert_eq!(reader.read(b"GET / HTTP/1.1\r\nCookie: "), None);
        for _ in 0..100 {
            assert_eq!(reader.read(&[b'a'; 1000]), None);
        }
        assert!(reader.line.capacity() <= 2 * MAX_LINE_BYTES);
        assert_eq!(reader.read(b"\r\n\r\n"), None);
        assert_eq!(reader.read(upgrade_request(ID).as_bytes()).as_deref(), Some(ID));
    }
}
