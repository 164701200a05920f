//! A plain HTTP request, byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::patience::within;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// 200 and the like.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, `name` in lower case. Empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

/// Asks for `path` with these headers beside `Host`.
///
/// # Panics
/// When the answer is none of HTTP/1.1.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(address, "GET", path, headers).await
}

/// The same by another method, without a body.
///
/// # Panics
/// As [`get`].
pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    ask(address, &format!("{method} {path}"), headers, "").await
}

/// Sends a form's fields, encoded already, as a browser does.
///
/// # Panics
/// As [`get`].
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], fields: &str) -> Response {
    let length = fields.len().to_string();
    let of_form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", &length),
    ];
    ask(address, &format!("POST {path}"), &[&of_form, headers].concat(), fields).await
}

async fn ask(address: SocketAddr, what: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = format!("{what} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request = format!("{request}\r\n{body}");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = within("an HTTP answer", exchange).await.expect("the connection holds");
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("the answer has a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("the head is text");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok());
    let headers = lines
        .map(|line| line.split_once(": ").expect("a header has a name and a value"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut response = Response {
        status: status.expect("a status"),
        headers,
        body: answer[end + 4..].to_vec(),
    };
    if response.header("transfer-encoding") == "chunked" {
        response.body = join_chunks(&response.body);
    }
    if let Ok(length) = response.header("content-length").parse() {
        assert_eq!(
            response.body.len(),
            if response.status == 304 { 0 } else { length },
            "the body is whole"
        );
    }
    response
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

/// Where the first script of a page comes from.
///
/// # Panics
/// When it has none.
pub fn script_of(page: &str) -> &str {
    let (_, rest) = page.split_once("src=\"").expect("the page has a script");
    rest.split_once('"').expect("the source ends").0
}
