//! The HTML elements that load the client and carry the ticket.

use crate::options::Renewal;
use crate::ticket::Ticket;

/// Returns the client's script element for a page without a server, such as a static export. `src`
/// is the address from which the page loads the client. The page has `stillhere.session` as usual,
/// which reports `refused` with `NoServer`.
///
/// ```
/// use stillhere::{AnswerBody, SessionRequest, client, static_script_tag};
///
/// let tag = static_script_tag("assets/client.js");
/// assert!(tag.starts_with(r#"<script src="assets/client.js" "#));
/// // The content of the file to export:
/// let answer = client::answer(&SessionRequest::new("client.js", []));
/// assert!(matches!(answer.body, AnswerBody::Whole(script) if !script.is_empty()));
/// ```
pub fn static_script_tag(src: &str) -> String {
    client_tag(src, "", &Renewal::Page, &Ticket::without_server())
}

/// Returns the client's script element with its ticket. `attributes` must already be HTML.
pub(crate) fn client_tag(src: &str, attributes: &str, renewal: &Renewal, ticket: &Ticket) -> String {
    let (src, ticket) = (escaped(src), escaped(&ticket.to_json()));
    let from = renewal.attribute().map_or_else(String::new, |from| {
        format!(" data-stillhere-from=\"{}\"", escaped(from))
    });
    format!("<script src=\"{src}\"{attributes}{from} data-stillhere=\"{ticket}\"></script>")
}

/// Returns a script element for another script.
pub(crate) fn plain_tag(src: &str, attributes: &str) -> String {
    format!("<script src=\"{}\"{attributes}></script>", escaped(src))
}

/// Escapes text for a quoted HTML attribute.
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
