//! [`Access`]: the allow and deny lists of a listener, a server or a route.

use super::Networks;
use crate::driver::Peer;

/// Allow and deny lists. Denied networks win over allowed ones. If `allow` is not empty, every
/// address outside it is denied.
///
/// Peers on unix sockets are always allowed: the permissions of the socket file decide who
/// connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Allowed networks. Empty: all.
    pub allow: Networks,
    /// Denied networks.
    pub deny: Networks,
}

impl Access {
    /// Whether both lists are empty, so that every peer is allowed.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether this peer is allowed. A peer without a known address is allowed only if both lists
    /// are empty.
    pub fn admits(&self, peer: Peer) -> bool {
        match peer {
            _ if self.is_open() => true,
            Peer::Inet(address) => {
                !self.deny.contains(address.ip()) && (self.allow.is_empty() || self.allow.contains(address.ip()))
            }
            Peer::Local => true,
            Peer::Gone => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> impl Fn(&str) -> bool {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let access = Access { allow: networks(allow), deny: networks(deny) };
        move |address| access.admits(Peer::Inet((address.parse::<std::net::IpAddr>().unwrap(), 1).into()))
    }

    #[test]
    fn without_rules_all_are_let_in() {
        assert!(access(&[], &[])("192.0.2.1"));
        assert!(Access::default().admits(Peer::Gone));
    }

    #[test]
    fn who_is_denied_is_not_let_in_even_if_allowed() {
        let admits = access(&["10.0.0.0/8"], &["10.1.0.0/16"]);
        assert!(admits("10.2.0.1") && !admits("10.1.0.1") && !admits("192.0.2.1"));
    }

    #[test]
    fn with_denials_alone_all_others_are_let_in() {
        let admits = access(&[], &["10.0.0.0/8", "2001:db8::/32"]);
        assert!(admits("192.0.2.1") && admits("::1") && !admits("10.0.0.1") && !admits("2001:db8::1"));
    }

    #[test]
    fn who_has_no_address_is_let_in_only_by_a_unix_socket() {
        let access = Access { allow: ["10.0.0.0/8".parse().unwrap()].into_iter().collect(), ..Access::default() };
        assert!(access.admits(Peer::Local) && !access.admits(Peer::Gone));
    }
}
