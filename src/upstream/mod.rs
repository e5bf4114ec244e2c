//! The servers behind a proxy: where they are, and how a connection to one comes about.
//!
//! * [`UpstreamGroup`] is the upstreams that serve the same: which one is next, which are down, who waits.
//! * [`UpstreamLease`] is one session's way to one of them.
//! * [`UpstreamPool`] are a worker's connections to upstreams, in use and idle.
//! * [`HealthMonitor`] are what a worker does with upstreams whether or not there are requests: health checks, and looking names
//!   up again.
//! * [`Upstream`] is one configured `HOST:PORT` or `unix:/PATH`: it remembers what the name resolved to and which of
//!   the addresses answered last. [`Upstreams`] has one for each in a worker, whichever and how many groups it is in.
//! * [`Connector`] brings one connection about: resolve, connect, try the next address.

mod connector;
mod dns_cache;
pub mod group;
mod health_check;
mod health_monitor;
mod lease;
mod lookup;
mod pool;
mod upstreams;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;

pub use connector::{ConnectError, Connector, ConnectorTokens};
pub use group::{GroupConfig, UpstreamGroup};
pub use health_monitor::{HEALTH_MONITOR, HealthMonitor, UpstreamCounts};
pub use lease::{ConnectPolicy, Progress, Unreachable, UpstreamLease};
pub use pool::{ConnectStatus, KeepAlive, Release, UPSTREAM_CONNECTION, UpstreamConnection, UpstreamPool};
pub use upstreams::Upstreams;

use self::dns_cache::{DnsCache, Name, ResolvedAddresses};
use crate::config::UpstreamAddress;
use crate::driver::{Address, Time};
use crate::table::Key;

/// One configured upstream.
#[derive(Debug)]
pub struct Upstream {
    address: UpstreamAddress,
    dns: DnsCache,
    /// Where in the list of addresses to begin: with the one that answered last.
    preferred: Cell<usize>,
    /// Its connections that wait to be used again, the one used last at the end.
    idle: RefCell<Vec<Key>>,
    /// Whether new requests may still come to it.
    is_in_force: Cell<bool>,
}

impl Upstream {
    /// An upstream that nobody has asked for yet. An address in text, or a path, needs no resolving.
    pub fn new(address: UpstreamAddress) -> Rc<Self> {
        let dns = DnsCache::of(&address);
        let is_in_force = Cell::new(true);
        Rc::new(Self { address, dns, preferred: Cell::new(0), idle: RefCell::default(), is_in_force })
    }

    /// Where it was configured to be.
    pub const fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// What to look up now and then, if it has a name.
    const fn name(&self) -> Option<&Name> {
        self.dns.name()
    }

    /// Where it is, unless that must be looked up (again).
    fn resolved_addresses(&self) -> ResolvedAddresses {
        self.dns.resolved_addresses()
    }

    fn forget_idle(&self, link: Key) {
        self.idle.borrow_mut().retain(|idle| *idle != link);
    }

    /// Whether a connection to there may wait to be used again: its name may lead elsewhere by now, and the configuration
    /// may know nothing of it any more.
    fn is_at(&self, address: &Address) -> bool {
        self.is_in_force.get() && self.dns.includes(address)
    }

    /// Its name was looked up.
    fn remember(&self, addresses: Vec<SocketAddr>, now: Time) -> Rc<[Address]> {
        let addresses: Rc<[Address]> = addresses.into_iter().map(Address::from).collect();
        if let Some(before) = self.dns.found(Rc::clone(&addresses), now) {
            tracing::info!(upstream = %self.address, ?before, after = ?addresses, "the upstream's name leads elsewhere");
            self.preferred.set(0);
        }
        addresses
    }

    /// Its name could not be looked up. Gives the addresses that it had before, to be used all the same.
    fn keep(&self, why: &dyn Display, now: Time) -> Option<Rc<[Address]>> {
        self.dns.not_found(&self.address, why, now)
    }

    /// None of its addresses took a connection: its name should be looked up before the next one.
    fn mark_stale(&self, now: Time) {
        self.dns.mark_stale(now);
    }
}
