//! A plain HTTP client that controls every byte.

use std::io::Read as _;
use std::net::SocketAddr;

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::patience::within;

/// An HTTP response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code, such as 200.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the value of a header, or an empty string if there is none. `name` is in lower case.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    /// Returns all values of a header. `name` is in lower case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the body as text, decompressed if it is gzip.
    ///
    /// # Panics
    /// Panics if the body is not text, or was compressed more than once.
    pub fn text(&self) -> String {
        if self.header("content-encoding") != "gzip" {
            return String::from_utf8(self.body.clone()).expect("it is text");
        }
        let mut text = String::new();
        let read = GzDecoder::new(&self.body[..]).read_to_string(&mut text);
        read.expect("it was compressed once");
        text
    }
}

/// Sends a GET for `path` with these headers in addition to `Host`.
///
/// # Panics
/// Panics if the response is not HTTP/1.1.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(address, "GET", path, headers).await
}

/// Sends a request with another method, without a body.
///
/// # Panics
/// Panics when [`get`] does.
pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    ask(address, &format!("{method} {path}"), headers, b"").await
}

/// Sends the fields of a form, already encoded, as a browser does.
///
/// # Panics
/// Panics when [`get`] does.
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], fields: &str) -> Response {
    let length = fields.len().to_string();
    let of_form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", &length),
    ];
    ask(
        address,
        &format!("POST {path}"),
        &[&of_form, headers].concat(),
        fields.as_bytes(),
    )
    .await
}

/// Sends a request with a body of any kind. The headers may contain `Content-Length`, which may
/// announce more than is sent.
///
/// # Panics
/// Panics when [`get`] does.
pub async fn send(address: SocketAddr, what: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let length = body.len().to_string();
    let announced = [("content-length", length.as_str())];
    let announces = headers.iter().any(|(name, _)| *name == "content-length");
    let headers = [if announces { &[][..] } else { &announced[..] }, headers].concat();
    ask(address, what, &headers, body).await
}

async fn ask(address: SocketAddr, what: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut request = format!("{what} HTTP/1.1\r\nhost: {address}\r\n");
    if headers.iter().all(|(name, _)| *name != "connection") {
        request += "connection: close\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let request = [format!("{request}\r\n").as_bytes(), body].concat();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&request).await?;
        let mut answer = Vec::new();
        // A connection that stays open is read only to the end of the response.
        while !is_whole(&answer, what.starts_with("HEAD ")) && stream.read_buf(&mut answer).await? > 0 {}
        std::io::Result::Ok(answer)
    };
    let answer = within("an HTTP answer", exchange).await.expect("the connection holds");
    let (mut response, _) = parse_head(&answer).expect("the answer has a head");
    if response.header("transfer-encoding") == "chunked" {
        response.body = join_chunks(&response.body);
    }
    if let Ok(length) = response.header("content-length").parse() {
        let is_empty = response.status == 304 || what.starts_with("HEAD ");
        assert_eq!(
            response.body.len(),
            if is_empty { 0 } else { length },
            "the body is whole"
        );
    }
    response
}

/// Returns true if the response is complete according to its head.
fn is_whole(answer: &[u8], is_head: bool) -> bool {
    let Some((response, body)) = parse_head(answer) else {
        return false;
    };
    if is_head || matches!(response.status, 101 | 204 | 304) {
        return true;
    }
    match response.header("content-length").parse::<usize>() {
        Ok(length) => body.len() >= length,
        Err(_) => response.header("transfer-encoding") == "chunked" && body.ends_with(b"0\r\n\r\n"),
    }
}

/// Returns the head, if it is complete, and the part of the body that has arrived.
fn parse_head(answer: &[u8]) -> Option<(Response, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    let head = String::from_utf8(head.to_vec()).expect("the head is text");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok());
    let headers = lines
        .map(|line| line.split_once(": ").expect("a header has a name and a value"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let response = Response {
        status: status.expect("the head has a status"),
        headers,
        body: body.to_vec(),
    };
    Some((response, body))
}

fn join_chunks(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunked
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a chunk has a size");
        let size = std::str::from_utf8(&chunked[..end]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).expect("a size is hexadecimal");
        if size == 0 {
            return body;
        }
        let (chunk, rest) = chunked[end + 2..].split_at(size);
        body.extend_from_slice(chunk);
        chunked = rest.strip_prefix(b"\r\n").expect("a chunk ends");
    }
}

/// Returns the address of the first script of a page.
///
/// # Panics
/// Panics if the page has no script.
pub fn script_of(page: &str) -> &str {
    let (_, rest) = page.split_once("src=\"").expect("the page has a script");
    rest.split_once('"').expect("the source ends").0
}
