//! Limits how much one address or user may use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::request::SessionRequest;

/// An address or a user whose use of the shared limits is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// An IPv4 address, or the first address of an IPv6 /64 network, because one client may have
    /// the whole network.
    Address(IpAddr),
    Principal(Arc<str>),
}

/// Limits on how much one address or one user may use of the shared limits.
///
/// | | in total | one address | one user |
/// |---|---|---|---|
/// | sessions that wait for their first browser | 10,000 | 1,000 | 1,000 |
/// | connections that have not said hello | 10,000 | 1,000 | 1,000 |
/// | connections | no limit | 10,000 | 10,000 |
/// | sessions, connected or not | 100,000 | 10,000 | 10,000 |
/// | POSTs of the fallback being answered | no limit | 1,000 | 1,000, where the adapter knows the user |
///
/// Beyond the first limit, the session that has waited longest ends. Beyond the others, the browser
/// is told to try again in a second, or in 5 s if the total of sessions is reached. Each is logged
/// as a warning, at most once a minute, with a count.
///
/// Until a browser connects, a session counts for the address that requested its page, if the
/// application gives it ([`SessionOptions::address`](crate::SessionOptions::address)). Afterwards
/// it counts for the address of its first connection.
///
/// An address is counted only if the adapter knows it. Loopback, private, link-local and
/// carrier-grade NAT addresses are not counted, because they may be a proxy's, and all visitors
/// behind it then have its address. With
/// [`HubBuilder::trusted_hops`](crate::HubBuilder::trusted_hops) above 0 they count too. A request
/// whose `X-Forwarded-For` names fewer addresses than there are trusted proxies then counts for no
/// address, and so does one with something other than an address in the client's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Sessions that wait for their first browser. Default 1,000.
    pub unconnected: usize,
    /// Connections that have not said hello. Default 1,000.
    pub hellos: usize,
    /// Connections to sessions. Default 10,000.
    pub connections: usize,
    /// Sessions, connected or not, whose first connection was its own. Default 10,000.
    pub sessions: usize,
    /// POSTs of the fallback being answered. Default 1,000.
    pub posts: usize,
}

impl Default for Share {
    /// A tenth of each default total. Connections and POSTs have no total: a share is 10,000
    /// connections and 1,000 POSTs.
    fn default() -> Self {
        Self {
            unconnected: 1_000,
            hellos: 1_000,
            connections: 10_000,
            sessions: 10_000,
            posts: 1_000,
        }
    }
}

impl Peer {
    pub(crate) fn principal(name: &str) -> Self {
        Self::Principal(name.into())
    }

    /// Returns the client at this address, or `None` if the address may be a proxy's, which serves
    /// many clients.
    pub(crate) fn address(address: IpAddr, trusted_hops: usize) -> Option<Self> {
        let address = address.to_canonical();
        let is_counted = trusted_hops > 0 || !may_be_a_proxy(address);
        is_counted.then(|| Self::Address(network(address)))
    }
}

/// Returns the address of the client that made the request: the address that the outermost trusted
/// proxy saw, or the other end of the connection if no proxy is trusted.
pub(crate) fn client_address(request: &SessionRequest<'_>, trusted_hops: usize) -> Option<IpAddr> {
    let Some(before) = trusted_hops.checked_sub(1) else {
        return request.peer();
    };
    // Each proxy appends the address that it saw. The part before that comes from the client and
    // may be anything, even invalid text.
    let forwarded: Vec<_> = request
        .raw_headers("x-forwarded-for")
        .flat_map(|header| header.split(|byte| *byte == b','))
        .collect();
    let seen = std::str::from_utf8(forwarded.iter().rev().nth(before)?).ok()?.trim();
    let without_port = seen.parse::<std::net::SocketAddr>().map(|address| address.ip());
    let address = seen.trim_start_matches('[').trim_end_matches(']');
    without_port.or_else(|_| address.parse()).ok()
}

/// Returns the likely configuration error if a request counts for no address, or `None` if there
/// seems to be none.
pub(crate) fn why_uncounted(request: &SessionRequest<'_>, trusted_hops: usize) -> Option<&'static str> {
    let is_forwarded = request.raw_headers("x-forwarded-for").next().is_some();
    match (request.peer(), trusted_hops) {
        (None, 0) => Some(
            "the server does not provide client addresses (on axum, serve `into_make_service_with_connect_info::<SocketAddr>()`)",
        ),
        (Some(_), 0) if is_forwarded => Some("requests come through a proxy, but HubBuilder::trusted_hops is 0"),
        (_, 0) => None,
        _ => Some("X-Forwarded-For names fewer addresses than HubBuilder::trusted_hops"),
    }
}

fn may_be_a_proxy(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let of_carrier = matches!(address.octets(), [100, 64..128, ..]);
            address.is_loopback() || address.is_private() || address.is_link_local() || of_carrier
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// Returns the address that stands for one client: an IPv4 address, even if a NAT64 has converted
/// it to an IPv6 address, or the first 64 bits of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => Ipv4Addr::from_bits(address.to_bits() as u32).into(),
            _ => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("the address is valid")
    }

    #[test]
    fn forwarded_addresses_are_believed_as_far_as_proxies_are_trusted() {
        let headers = [
            ("x-forwarded-for", &b"6.6.6.6, 1.1.1.1:80"[..]),
            ("X-Forwarded-For", b"[2001:db8::1]:443, [2001:db8::2], 3.3.3.3"),
        ];
        let request = SessionRequest::new("", headers).peer_address(Some(address("10.0.0.1")));
        let seen = [0, 1, 2, 3, 4, 5, 6].map(|hops| client_address(&request, hops).map(|address| address.to_string()));
        let expected = [
            Some("10.0.0.1"),
            Some("3.3.3.3"),
            Some("2001:db8::2"),
            Some("2001:db8::1"),
            Some("1.1.1.1"),
            Some("6.6.6.6"),
            None,
        ];
        assert_eq!(seen.each_ref().map(|seen| seen.as_deref()), expected);
        let odd =
            SessionRequest::new("", [("x-forwarded-for", &b"unknown"[..])]).peer_address(Some(address("9.9.9.9")));
        assert_eq!(client_address(&odd, 1), None);
    }

    #[test]
    fn what_a_client_writes_before_its_address_hides_nothing() {
        for forged in [&b"\xff"[..], b"\xff\xfe, 6.6.6.6", b",,", b"unknown"] {
            let line = [forged, b", 1.1.1.1"].concat();
            let one_line = SessionRequest::new("", [("x-forwarded-for", &line[..])]);
            let two_lines = SessionRequest::new(
                "",
                [("x-forwarded-for", &b"9.9.9.9"[..]), ("x-forwarded-for", &line[..])],
            );
            for request in [one_line, two_lines] {
                assert_eq!(client_address(&request, 1), Some(address("1.1.1.1")));
            }
        }
    }

    #[test]
    fn an_address_that_may_belong_to_a_proxy_does_not_count_unless_proxies_are_known() {
        for shared in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(Peer::address(address(shared), 0), None, "{shared}");
            assert!(Peer::address(address(shared), 1).is_some(), "{shared}");
        }
        assert_eq!(
            Peer::address(address("::ffff:8.8.8.8"), 0),
            Some(Peer::Address(address("8.8.8.8")))
        );
    }

    #[test]
    fn all_addresses_of_an_ipv6_client_are_one() {
        let of = |text| Peer::address(address(text), 0);
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        // Behind a NAT64 each IPv4 client has its own address.
        assert_eq!(of("64:ff9b::8.8.8.8"), of("8.8.8.8"));
        assert_ne!(of("64:ff9b::8.8.8.8"), of("64:ff9b::8.8.4.4"));
    }
}
