//! The servers behind a proxy: where they are, and how a connection to one comes about.
//!
//! * [`Upstream`] is one configured `HOST:PORT`: it remembers what the name resolved to and which of
//!   the addresses answered last. One per worker and listener, shared by the sessions.
//! * [`Connector`] brings one connection about: resolve, connect, try the next address.
//! * [`group::Group`] is several upstreams that serve the same: which of them takes a request, which is down.

mod connector;
pub mod group;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub use connector::{ConnectError, Connector, ConnectorTokens};

use crate::config::UpstreamAddress;
use crate::driver::Time;

/// How long an answer of the resolver is used. Short, since `getaddrinfo(3)` does not tell the
/// record's own time to live, and a changed record should be noticed.
const RESOLVED_FRESH: Duration = Duration::from_secs(10);

/// One configured upstream.
#[derive(Debug)]
pub struct Upstream {
    address: UpstreamAddress,
    resolved: RefCell<Option<Resolved>>,
    /// Where in the list of addresses to begin: with the one that answered last.
    preferred: Cell<usize>,
}

#[derive(Debug)]
struct Resolved {
    addresses: Rc<[SocketAddr]>,
    /// `None`: an address in text never becomes stale.
    until: Option<Time>,
}

impl Upstream {
    /// An upstream that nobody has asked for yet. An address in text needs no resolving.
    pub fn new(address: UpstreamAddress) -> Rc<Self> {
        let resolved = address
            .host
            .parse::<IpAddr>()
            .ok()
            .map(|ip| Resolved { addresses: Rc::new([SocketAddr::new(ip, address.port)]), until: None });
        Rc::new(Self { address, resolved: RefCell::new(resolved), preferred: Cell::new(0) })
    }

    /// The configured host and port.
    pub const fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// The addresses, unless they must be looked up (again).
    fn addresses(&self, now: Time) -> Option<Rc<[SocketAddr]>> {
        let resolved = self.resolved.borrow();
        let resolved = resolved.as_ref()?;
        let is_fresh = resolved.until.is_none_or(|until| now < until);
        is_fresh.then(|| Rc::clone(&resolved.addresses))
    }

    fn remember(&self, addresses: Vec<SocketAddr>, now: Time) -> Rc<[SocketAddr]> {
        let addresses: Rc<[SocketAddr]> = addresses.into();
        let resolved = Resolved { addresses: Rc::clone(&addresses), until: Some(now + RESOLVED_FRESH) };
        self.resolved.replace(Some(resolved));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_text_is_known_at_once_and_for_ever() {
        let upstream = Upstream::new("[::1]:3000".parse().unwrap());
        let known = upstream.addresses(Time::ZERO + Duration::from_secs(1 << 30));
        assert_eq!(known.as_deref(), Some(&["[::1]:3000".parse().unwrap()][..]));
    }

    #[test]
    fn a_name_is_looked_up_again_after_a_while() {
        let upstream = Upstream::new("localhost:3000".parse().unwrap());
        assert!(upstream.addresses(Time::ZERO).is_none());
        upstream.remember(vec!["127.0.0.1:3000".parse().unwrap()], Time::ZERO);
        assert!(upstream.addresses(Time::ZERO + RESOLVED_FRESH / 2).is_some());
        assert!(upstream.addresses(Time::ZERO + RESOLVED_FRESH).is_none());
    }
}
