//! The servers behind a proxy: where they are, and how a connection to one comes about.
//!
//! * [`Group`] is the upstreams that serve the same: which one is next, which are down, who waits.
//! * [`Attempt`] is one session's way to one of them.
//! * [`Links`] are a worker's connections to upstreams, in use and idle.
//! * [`Upstream`] is one configured `HOST:PORT` or `unix:/PATH`: it remembers what the name resolved to and which of
//!   the addresses answered last. One per worker and listener, shared by the sessions.
//! * [`Connector`] brings one connection about: resolve, connect, try the next address.

mod attempt;
mod connector;
pub mod group;
mod links;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use attempt::{Attempt, Progress, Rules, Unreachable};
pub use connector::{ConnectError, Connector, ConnectorTokens};
pub use group::{Group, GroupConfig};
pub use links::{KeepAlive, LINK, Link, Links, Reach, Release};

use crate::config::UpstreamAddress;
use crate::driver::{Address, Time};
use crate::table::Key;

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
    /// Its links that wait to be used again, the one used last at the end.
    idle: RefCell<Vec<Key>>,
}

/// What is known of where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// Its addresses, at least one.
    Known(Rc<[Address]>),
    /// Only its name.
    Named { host: Arc<str>, port: u16 },
}

#[derive(Debug)]
struct Resolved {
    addresses: Rc<[Address]>,
    /// `None`: an address in text never becomes stale.
    until: Option<Time>,
}

impl Upstream {
    /// An upstream that nobody has asked for yet. An address in text, or a path, needs no resolving.
    pub fn new(address: UpstreamAddress) -> Rc<Self> {
        let fixed = match &address {
            UpstreamAddress::Tcp { host, port } => host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, *port)),
            UpstreamAddress::Unix(_) => None,
        };
        let resolved = fixed.map(|address| Resolved { addresses: Rc::new([address.into()]), until: None });
        Rc::new(Self { address, resolved: RefCell::new(resolved), preferred: Cell::new(0), idle: RefCell::default() })
    }

    /// Where it was configured to be.
    pub const fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// Where it is, unless that must be looked up (again).
    fn whereabouts(&self, now: Time) -> Whereabouts {
        match (&self.address, &*self.resolved.borrow()) {
            (UpstreamAddress::Unix(path), _) => Whereabouts::Known(Rc::new([path.clone().into()])),
            (_, Some(Resolved { addresses, until })) if until.is_none_or(|until| now < until) => {
                Whereabouts::Known(Rc::clone(addresses))
            }
            (UpstreamAddress::Tcp { host, port }, _) => Whereabouts::Named { host: Arc::clone(host), port: *port },
        }
    }

    fn forget_idle(&self, link: Key) {
        self.idle.borrow_mut().retain(|idle| *idle != link);
    }

    fn remember(&self, addresses: Vec<SocketAddr>, now: Time) -> Rc<[Address]> {
        let addresses: Rc<[Address]> = addresses.into_iter().map(Address::from).collect();
        let resolved = Resolved { addresses: Rc::clone(&addresses), until: Some(now + RESOLVED_FRESH) };
        self.resolved.replace(Some(resolved));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::UnixPath;

    #[test]
    fn an_address_in_text_is_known_at_once_and_for_ever() {
        let upstream = Upstream::new("[::1]:3000".parse().unwrap());
        let address: SocketAddr = "[::1]:3000".parse().unwrap();
        let whereabouts = upstream.whereabouts(Time::ZERO + Duration::from_secs(1 << 30));
        assert_eq!(whereabouts, Whereabouts::Known(Rc::new([address.into()])));
    }

    #[test]
    fn a_path_is_known_without_a_look_up() {
        let path = UnixPath::new("/run/app.sock").unwrap();
        let upstream = Upstream::new(UpstreamAddress::Unix(path.clone()));
        assert_eq!(upstream.whereabouts(Time::ZERO), Whereabouts::Known(Rc::new([path.into()])));
    }

    #[test]
    fn a_name_is_looked_up_again_after_a_while() {
        let upstream = Upstream::new("localhost:3000".parse().unwrap());
        let named = Whereabouts::Named { host: "localhost".into(), port: 3000 };
        assert_eq!(upstream.whereabouts(Time::ZERO), named);
        let known = upstream.remember(vec!["127.0.0.1:3000".parse().unwrap()], Time::ZERO);
        assert_eq!(upstream.whereabouts(Time::ZERO + RESOLVED_FRESH / 2), Whereabouts::Known(known));
        assert_eq!(upstream.whereabouts(Time::ZERO + RESOLVED_FRESH), named);
    }
}
