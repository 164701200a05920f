//! The files of the browser client, as the adapters serve them.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::http_answer::{Answer, AnswerBody};
use crate::request::SessionRequest;

/// Value of `Cache-Control` for a page that contains a ticket. It prevents a shared cache from
/// giving one user's session to another user.
pub const PAGE_CACHE_CONTROL: &str = "private, no-cache";

struct File {
    /// The file's name up to the hash.
    stem: &'static str,
    /// Extension of the file's name, without the dot.
    extension: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    hash: String,
}

macro_rules! built {
    ($stem:literal, $extension:literal, $built:literal) => {
        File::new(
            $stem,
            $extension,
            include_bytes!(concat!("../client/dist/", $built)),
            include_bytes!(concat!("../client/dist/", $built, ".gz")),
        )
    };
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    vec![
        built!("client", "js", "stillhere.js"),
        built!("client", "mjs", "stillhere.mjs"),
        built!("badge", "mjs", "badge.mjs"),
        #[cfg(feature = "app")]
        built!("app", "js", "stillhere-app.js"),
        #[cfg(feature = "app")]
        built!("app", "mjs", "stillhere-app.mjs"),
    ]
});

/// Returns the file name of the classic script under the mount. The name changes with the content,
/// so the file may be cached forever.
pub fn script_name() -> String {
    hashed_name("client", "js")
}

/// Returns the file name of the ES module under the mount. The name changes with the content, so
/// the file may be cached forever.
pub fn module_name() -> String {
    hashed_name("client", "mjs")
}

/// Returns the file name of the ES module that defines `<stillhere-badge>`, as [`module_name`]
/// does.
pub fn badge_name() -> String {
    hashed_name("badge", "mjs")
}

/// Returns the file name of the classic script with the client and the layer of `stillhere-app`, as
/// [`script_name`] does. In the page, `stillhere.session` has the layer.
#[cfg(feature = "app")]
pub fn app_script_name() -> String {
    hashed_name("app", "js")
}

/// Returns the file name of the ES module with the client and the layer of `stillhere-app`, as
/// [`module_name`] does.
#[cfg(feature = "app")]
pub fn app_module_name() -> String {
    hashed_name("app", "mjs")
}

/// Returns the requested file: `client.js`, `client.mjs`, `badge.mjs` and, with the feature `app`,
/// `app.js` and `app.mjs`. These names must be revalidated; the names with a hash are immutable.
pub fn answer(request: &SessionRequest<'_>) -> Answer {
    let known = request.header("if-none-match");
    file(request.name(), known, request.header("accept-encoding"))
        .or_else(|| request.handshake_error())
        .unwrap_or_else(Answer::not_found)
}

/// Returns true if this is the name of one of the client's files.
pub(crate) fn is_file(name: &str) -> bool {
    find(name).is_some()
}

fn find(name: &str) -> Option<&'static File> {
    FILES
        .iter()
        .find(|file| name == file.plain_name() || name == file.hashed_name())
}

fn hashed_name(stem: &str, extension: &str) -> String {
    let file = FILES
        .iter()
        .find(|file| (file.stem, file.extension) == (stem, extension));
    file.expect("the file is in the list").hashed_name()
}

fn file(name: &str, if_none_match: Option<&str>, accept_encoding: Option<&str>) -> Option<Answer> {
    let file = find(name)?;
    let gzip = accept_encoding.is_some_and(accepts_gzip);
    let etag = format!("\"{}{}\"", file.hash, if gzip { "-gz" } else { "" });
    let caching = if name == file.plain_name() {
        "no-cache"
    } else {
        "public, max-age=31536000, immutable"
    };
    let mut headers = vec![
        ("etag", etag.clone()),
        ("cache-control", caching.to_owned()),
        ("vary", "accept-encoding".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        // Every page and every cache may have the files: they are public and do not depend on
        // cookies.
        ("access-control-allow-origin", "*".to_owned()),
        ("cross-origin-resource-policy", "cross-origin".to_owned()),
    ];
    let known =
        if_none_match.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    if known {
        return Some(Answer {
            status: 304,
            headers,
            body: AnswerBody::Whole(Bytes::new()),
        });
    }
    headers.push(("content-type", "text/javascript; charset=utf-8".to_owned()));
    if gzip {
        headers.push(("content-encoding", "gzip".to_owned()));
    }
    Some(Answer {
        status: 200,
        headers,
        body: AnswerBody::Whole(Bytes::from_static(if gzip { file.gzip } else { file.plain })),
    })
}

impl File {
    fn new(stem: &'static str, extension: &'static str, plain: &'static [u8], gzip: &'static [u8]) -> Self {
        Self {
            stem,
            extension,
            plain,
            gzip,
            hash: content_hash(plain),
        }
    }

    fn plain_name(&self) -> String {
        format!("{}.{}", self.stem, self.extension)
    }

    fn hashed_name(&self) -> String {
        format!("{}.{}.{}", self.stem, self.hash, self.extension)
    }
}

/// Computes the FNV-1a hash. It distinguishes builds of our own files and has no security purpose.
fn content_hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        (coding.eq_ignore_ascii_case("gzip") || coding == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(answer: &Answer) -> &[u8] {
        match &answer.body {
            AnswerBody::Whole(bytes) => bytes,
            AnswerBody::Stream(_) => panic!("a file is sent whole"),
        }
    }

    #[test]
    fn a_hashed_name_is_immutable_and_a_plain_one_is_revalidated() {
        let hashed = file(&script_name(), None, None).expect("the script is there");
        let plain = file("client.js", None, None).expect("the script is there");

        assert!(
            hashed
                .headers
                .iter()
                .any(|(name, value)| *name == "cache-control" && value.contains("immutable"))
        );
        assert!(
            plain
                .headers
                .iter()
                .any(|(name, value)| *name == "cache-control" && value == "no-cache")
        );
        assert_eq!(bytes(&plain), bytes(&hashed));
        assert!(file("client.0000000000000000.js", None, None).is_none());
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let zipped = file("client.mjs", None, Some("br, gzip;q=0.8")).expect("the module is there");
        assert_eq!(bytes(&zipped)[..2], [0x1f, 0x8b]);

        let plain = file("client.mjs", None, Some("gzip;q=0, br")).expect("the module is there");
        assert!(plain.headers.iter().all(|(name, _)| *name != "content-encoding"));
    }

    #[test]
    fn a_known_etag_is_answered_without_a_body() {
        let first = file("client.js", None, Some("gzip")).expect("the script is there");
        let etag = &first.headers[0].1;

        let again =
            file("client.js", Some(&format!("\"other\", W/{etag}")), Some("gzip")).expect("the script is there");

        assert_eq!((again.status, bytes(&again).len()), (304, 0));
    }
}
