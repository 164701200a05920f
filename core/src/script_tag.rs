//! The elements by which a page gets the client and its ticket.

use crate::options::Renewal;
use crate::ticket::Ticket;

/// The client's script element for a page that has no server behind it, such as a static export, and so no session: `src` is where the page finds
/// the client. `stillhere.session` is there as on any page; it reports `refused` as `NoServer`.
///
/// ```
/// use stillhere::{AnswerBody, UpgradeRequest, client, static_script_tag};
///
/// let tag = static_script_tag("assets/client.js");
/// assert!(tag.starts_with(r#"<script src="assets/client.js" "#));
/// // What to export as that file:
/// let answer = client::answer(&UpgradeRequest::new("client.js", []));
/// assert!(matches!(answer.body, AnswerBody::Whole(script) if !script.is_empty()));
/// ```
pub fn static_script_tag(src: &str) -> String {
    client_tag(src, "", &Renewal::Page, &Ticket::without_server())
}

/// The client's element with its ticket. `attributes` are HTML already.
pub(crate) fn client_tag(src: &str, attributes: &str, renewal: &Renewal, ticket: &Ticket) -> String {
    let (src, ticket) = (escaped(src), escaped(&ticket.to_json()));
    let from = renewal.attribute().map_or_else(String::new, |from| {
        format!(" data-stillhere-from=\"{}\"", escaped(from))
    });
    format!("<script src=\"{src}\"{attributes}{from} data-stillhere=\"{ticket}\"></script>")
}

/// An element for another script.
pub(crate) fn plain_tag(src: &str, attributes: &str) -> String {
    format!("<script src=\"{}\"{attributes}></script>", escaped(src))
}

/// Text as a quoted HTML attribute takes it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}
