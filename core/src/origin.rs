//! Checks the origin and the host of a request.

use crate::request::SessionRequest;

/// Accepts a request from a page on the same host or on an allowed origin. Also accepts a request
/// without an Origin header, which does not come from a browser.
pub(crate) fn check_origin(request: &SessionRequest<'_>, allowed: &[String]) -> Result<(), String> {
    let mut origins = request.raw_headers("origin");
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let Some(origin) = std::str::from_utf8(origin).ok().filter(|_| origins.next().is_none()) else {
        return Err(
            "the request has several Origin headers, or one that is not text, which no browser sends".to_owned(),
        );
    };
    let host = request.host().unwrap_or_default();
    let same_host = origin.split_once("://").is_some_and(|(scheme, authority)| {
        without_default_port(authority, scheme).eq_ignore_ascii_case(without_default_port(host, scheme))
    });
    if same_host || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    let [origin, host] = [origin, host].map(|text| shown(&text.to_ascii_lowercase()));
    Err(format!(
        "a page from {origin} may not connect to {host}: if a proxy changes the Host header, configure it to keep the header; \
         otherwise call HubBuilder::allow_origin"
    ))
}

/// Accepts a request for one of these hosts, on any port, or for any host if the list is empty.
/// This prevents DNS rebinding: a page whose own host name resolves to this server passes the
/// same-host check, but its host is not in the list.
pub(crate) fn check_host(request: &SessionRequest<'_>, allowed: &[String]) -> Result<(), String> {
    if allowed.is_empty() {
        return Ok(());
    }
    let host = request.host().unwrap_or_default().to_ascii_lowercase();
    let name = without_port(&host);
    let is_allowed = |allowed: &String| allowed == name || (allowed == LOOPBACK && is_loopback(name));
    if allowed.iter().any(is_allowed) {
        return Ok(());
    }
    let host = shown(&host);
    Err(format!(
        "{host} is not an allowed host of this server: to accept it, call HubBuilder::allow_host"
    ))
}

/// Returns a host in the form that [`check_host`] compares.
pub(crate) fn host_name(host: &str) -> String {
    without_port(&host.to_ascii_lowercase()).to_owned()
}

/// Returns text from a peer in a form that is safe to log and show: escaped, short, and in one
/// line.
pub(crate) fn shown(text: &str) -> String {
    let mut characters = text.escape_debug();
    let mut shown: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn without_default_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let default = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    authority.strip_suffix(default).unwrap_or(authority)
}

fn without_port(host: &str) -> &str {
    let end = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => colon,
        _ => host.len(),
    };
    host[..end].trim_end_matches('.')
}

fn is_loopback(name: &str) -> bool {
    let name_of_it = name == LOOPBACK || name.ends_with(".localhost");
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name_of_it
        || address
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Stands for all names and addresses of the loopback interface.
const LOOPBACK: &str = "localhost";

/// Most characters of a peer's text to show.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(origin: Option<&'a str>, host: &'a str) -> SessionRequest<'a> {
        let headers = [("Origin", origin), ("Host", Some(host))];
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.as_bytes())));
        SessionRequest::new("", headers)
    }

    #[test]
    fn the_authority_stands_for_a_missing_host() {
        let without = SessionRequest::new("", [("origin", &b"https://example.com"[..])]);
        assert!(check_origin(&without, &[]).is_err());
        assert_eq!(check_origin(&without.authority(Some("example.com")), &[]), Ok(()));
    }

    #[test]
    fn a_page_of_the_same_host_may_connect() {
        for (origin, host) in [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("http://Example.com:8080", "example.com:8080"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert_eq!(
                check_origin(&request(Some(origin), host), &[]),
                Ok(()),
                "{origin} {host}"
            );
        }
        assert_eq!(check_origin(&request(None, "example.com"), &[]), Ok(()));
    }

    #[test]
    fn a_foreign_page_may_not_connect_unless_allowed() {
        for origin in [
            "http://evil.com",
            "http://example.com:81",
            "null",
            "",
            "http://example.com.evil.com",
        ] {
            assert!(
                check_origin(&request(Some(origin), "example.com"), &[]).is_err(),
                "{origin}"
            );
        }
        let allowed = ["https://app.example.com".to_owned()];
        assert_eq!(
            check_origin(&request(Some("https://app.example.com"), "example.com"), &allowed),
            Ok(())
        );
    }

    #[test]
    fn an_origin_that_is_not_text_or_appears_twice_is_refused() {
        let own = &b"http://example.com"[..];
        for origins in [
            vec![&b"\xff"[..]],
            vec![own, b"\xff"],
            vec![b"\xff", own],
            vec![own, own],
        ] {
            let headers = origins
                .iter()
                .map(|origin| ("origin", *origin))
                .chain([("host", &b"example.com"[..])]);
            assert!(
                check_origin(&SessionRequest::new("", headers), &[]).is_err(),
                "{origins:?}"
            );
        }
    }

    #[test]
    fn only_allowed_hosts_are_served_once_one_is_allowed() {
        let allowed = [host_name("Example.com:8080"), host_name("localhost")];
        for host in [
            "example.com",
            "EXAMPLE.com.:81",
            "localhost",
            "localhost:3000",
            "app.localhost",
            "127.0.0.1:3000",
            "127.9.9.9",
            "[::1]",
            "[::1]:3000",
        ] {
            assert_eq!(check_host(&request(None, host), &allowed), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.com",
            "evil.com:3000",
            "localhost.evil.com",
            "128.0.0.1",
            "[::2]:1",
            "127.0.0.1.evil.com",
            "xlocalhost",
            "]:",
        ] {
            assert!(check_host(&request(None, host), &allowed).is_err(), "{host}");
            assert_eq!(check_host(&request(None, host), &[]), Ok(()), "{host}");
            assert!(
                check_host(&request(None, host), &[host_name("example.com")]).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn text_from_a_peer_is_shown_short_and_in_one_line() {
        let origin = format!("http://a\r\n\u{1b}[31m\u{202e}{}", "x".repeat(60_000));
        let refused = check_origin(&request(Some(&origin), &origin), &[]).expect_err("it is foreign");
        assert!(
            refused.len() < 500 && refused.chars().all(|shown| !shown.is_control()),
            "{refused}"
        );
        assert!(!refused.contains('\u{202e}'), "{refused}");
    }
}
