//! The client address of a request that a trusted proxy forwarded.

use std::net::{IpAddr, SocketAddr};

use super::Networks;
use crate::driver::Peer;

/// The client address that `X-Forwarded-For` gives.
///
/// Each proxy appends the address of its own peer. So the client is the last address that is not
/// trusted: entries before it were sent by that client, entries after it are proxies. An entry that
/// is no address ends the search: the client is then the proxy that appended it.
pub fn client_address<'v>(peer: Peer, lists: impl Iterator<Item = &'v [u8]>, trusted: &Networks) -> Peer {
    let mut client_address = None;
    for entry in lists.flat_map(|list| list.split(|&byte| byte == b',')) {
        client_address = match (address(entry.trim_ascii()), client_address) {
            (None, _) => None,
            (Some(address), Some(earlier)) if trusted.contains(address.ip()) => Some(earlier),
            (Some(address), _) => Some(Peer::Inet(address)),
        };
    }
    client_address.unwrap_or(peer)
}

/// Parses an address with an optional port, as proxies write them. IPv6 with a port is in brackets.
fn address(entry: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(entry).ok()?;
    let with_port = || text.parse::<SocketAddr>().ok();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0)).or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lists: &[&str]) -> String {
        let trusted = Networks::from_iter(["10.0.0.0/8", "::1"].map(|text| text.parse().unwrap()));
        let peer = Peer::Inet("10.0.0.1:99".parse().unwrap());
        let lists = lists.iter().map(|list| list.as_bytes());
        client_address(peer, lists, &trusted).ip().map(|ip| ip.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_client_is_the_last_untrusted_address() {
        assert_eq!(seen(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(seen(&["192.0.2.1, 10.0.0.7"]), "192.0.2.1");
        assert_eq!(seen(&["192.0.2.1", "192.0.2.2,10.0.0.7 , ::1"]), "192.0.2.2");
    }

    #[test]
    fn what_a_client_says_of_itself_is_not_believed() {
        assert_eq!(seen(&["127.0.0.1, 10.0.0.9, 192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn without_a_list_the_client_is_the_proxy() {
        assert_eq!(seen(&[]), "10.0.0.1");
        assert_eq!(seen(&[""]), "10.0.0.1");
    }

    #[test]
    fn beyond_what_is_no_address_nothing_is_believed() {
        assert_eq!(seen(&["192.0.2.1, unknown, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(seen(&["192.0.2.1,, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(seen(&["192.0.2.1, \u{ff}"]), "10.0.0.1");
    }

    #[test]
    fn all_are_trusted_up_to_the_first() {
        assert_eq!(seen(&["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn ports_and_brackets_are_understood() {
        for entry in ["[2001:db8::1]:80", "[2001:db8::1]", "2001:db8::1"] {
            assert_eq!(seen(&[entry]), "2001:db8::1");
        }
        assert_eq!(seen(&["192.0.2.1:4711"]), "192.0.2.1");
    }
}
