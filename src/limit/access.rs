//! [`Access`]: whom a listener, a server or a route lets in.

use super::Networks;
use crate::driver::Peer;

/// Who is let in. A network that is denied is not, also if it is allowed; where some are allowed, all others are denied.
///
/// Who may connect to a unix socket is for the permissions of its file to say: its peers are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Those who are let in; without any, all.
    pub allow: Networks,
    /// Those who are not.
    pub deny: Networks,
}

impl Access {
    /// Whether it lets everybody in.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether it lets this peer in. One whose address is not known is none of those who are allowed.
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
