//! The balance key of a request: the hash or sticky cookie that selects its upstream.

use std::net::IpAddr;

use crate::http::RequestHead;
use crate::upstream::UpstreamGroup;
use crate::upstream::group::{BalanceKey, EndpointId, HashSource, Policy, hash};

/// The key of a request under the policy of the group.
pub(super) fn balance_key_of(head: &RequestHead<'_>, client: Option<IpAddr>, group: &UpstreamGroup) -> BalanceKey {
    match group.policy() {
        Policy::RoundRobin | Policy::LeastConnections | Policy::RandomOfTwo => BalanceKey::Any,
        Policy::Hash(HashSource::Client) => {
            client.map_or(BalanceKey::Any, |client| BalanceKey::Hash(hash::of_client(client)))
        }
        Policy::Hash(HashSource::Header(name)) => {
            head.fields.get(name).map_or(BalanceKey::Any, |value| BalanceKey::Hash(hash::of_bytes(value)))
        }
        Policy::Hash(HashSource::Path) => {
            BalanceKey::Hash(hash::of_bytes(head.target.path().unwrap_or_default().as_bytes()))
        }
        Policy::Sticky { cookie } => {
            let endpoint = cookie_of(head, cookie).and_then(|tag| group.endpoint_of_tag(tag));
            endpoint.map_or(BalanceKey::Any, BalanceKey::Sticky)
        }
    }
}

/// The value of the `Set-Cookie` that binds a client to an endpoint, unless the request named that
/// endpoint.
pub(super) fn sticky_cookie(group: &UpstreamGroup, asked_for: BalanceKey, endpoint: EndpointId) -> Option<String> {
    match group.policy() {
        Policy::Sticky { cookie } if asked_for != BalanceKey::Sticky(endpoint) => {
            Some(format!("{cookie}={}; Path=/; HttpOnly; SameSite=Lax", group.tag(endpoint)))
        }
        Policy::Sticky { .. }
        | Policy::RoundRobin
        | Policy::LeastConnections
        | Policy::RandomOfTwo
        | Policy::Hash(_) => None,
    }
}

/// The value of a cookie (RFC 6265, 4.2).
fn cookie_of<'b>(head: &RequestHead<'b>, name: &str) -> Option<&'b [u8]> {
    let pairs = head.fields.all("Cookie").flat_map(|value| value.split(|&byte| byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;
    use crate::http::request::{Parsed, parse};

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1; route2=x; route=abc\r\nCookie: b=2\r\n\r\n";
        let Ok(Parsed::Complete { head, .. }) = parse(request, &HeadLimits::default()) else { panic!("a request") };
        assert_eq!(cookie_of(&head, "route"), Some(&b"abc"[..]));
        assert_eq!(cookie_of(&head, "b"), Some(&b"2"[..]));
        assert_eq!(cookie_of(&head, "rout"), None);
    }
}
