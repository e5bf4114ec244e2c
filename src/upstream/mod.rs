//! Upstream servers: groups, balancing, health, connections and name resolution.
//!
//! * [`UpstreamGroup`] is a set of interchangeable upstreams. It balances requests over them,
//!   tracks which are down, and queues requests while all are at their limit.
//! * [`UpstreamLease`] is one session's use of an upstream: pick, connect, use, retry.
//! * [`UpstreamStream`] is one request on a connection and its response, whatever carries them.
//! * [`UpstreamPool`] holds a worker's connections to upstreams, in use and idle.
//! * [`HealthMonitor`] is a worker's periodic work on upstreams: health checks and name resolution.
//! * [`SharedEndpoints`] is what the workers of a server share: what operators set for endpoints, and the
//!   verdicts of health checks.
//! * [`Upstream`] is one configured `HOST:PORT` or `unix:/PATH`. It caches the addresses of its
//!   name and which of them accepted a connection last. [`Upstreams`] has one per address and
//!   worker, shared by all groups that list it.
//! * [`Connector`] establishes one connection: it resolves the name and tries each address in turn.
//! * [`OutboundConnection`] is one connection from its connector to its close, for what is not shared
//!   between requests: health checks and client sessions.

mod address;
mod connector;
mod dns_cache;
pub mod group;
mod health_check;
mod health_monitor;
mod lease;
mod lookup;
mod outbound;
mod pool;
pub mod shared;
mod stream;
mod upstreams;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;

pub use address::{InvalidUpstreamAddress, UpstreamAddress};
pub use connector::{ConnectError, Connected, Connector};
pub use group::{GroupConfig, UpstreamGroup};
pub use health_monitor::{HEALTH_MONITOR, HealthMonitor, UpstreamCounts};
pub use lease::{ConnectPolicy, LeaseStage, LeaseTimes, Progress, Unreachable, UpstreamLease};
pub use outbound::{OutboundConnection, OutboundTokens};
#[cfg(feature = "internals")]
pub use pool::planted_bug::{plant_lost_wake_up, unplant_lost_wake_up};
pub use pool::{
    ConnectStatus, ConnectionKey, KeepAlive, Release, UPSTREAM_CONNECTION, UpstreamConnection, UpstreamPool,
};
pub use shared::SharedEndpoints;
pub use stream::{StreamError, UpstreamStream};
pub use upstreams::Upstreams;

use self::dns_cache::{DnsCache, Name, ResolvedAddresses};
use crate::driver::{Address, Time};
use crate::telemetry::metrics::EndpointCounters;
use crate::tls::TlsPeer;

/// One configured upstream.
#[derive(Debug)]
pub struct Upstream {
    address: UpstreamAddress,
    /// The address as text.
    label: Rc<str>,
    /// What is needed to connect to it over TLS.
    tls: Option<TlsPeer>,
    dns: DnsCache,
    /// Index of the address to try first: the one that accepted a connection last.
    preferred: Cell<usize>,
    /// Its idle connections, the most recently used one last.
    idle: RefCell<Vec<ConnectionKey>>,
    /// Whether a group of the active configuration lists it.
    is_in_force: Cell<bool>,
    /// What counts its idle connections, for each group that lists it.
    counters: RefCell<Vec<EndpointCounters>>,
}

impl Upstream {
    /// An upstream without connections. An IP address or a path needs no resolving. `tls`: for an
    /// address over TLS; without it, no connection to such an address is made.
    pub fn new(address: UpstreamAddress, tls: Option<TlsPeer>) -> Rc<Self> {
        let dns = DnsCache::of(&address);
        let label = address.to_string().into();
        let is_in_force = Cell::new(true);
        Rc::new(Self {
            address,
            label,
            tls,
            dns,
            preferred: Cell::new(0),
            idle: RefCell::default(),
            is_in_force,
            counters: RefCell::default(),
        })
    }

    /// The configured address.
    pub const fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// The configured address as text, shared by those that log it.
    pub const fn label(&self) -> &Rc<str> {
        &self.label
    }

    /// The name to look up periodically, if it has one.
    const fn name(&self) -> Option<&Name> {
        self.dns.name()
    }

    /// Its addresses, or the name that must be looked up (again).
    fn resolved_addresses(&self) -> ResolvedAddresses {
        self.dns.resolved_addresses()
    }

    fn forget_idle(&self, link: ConnectionKey) {
        self.idle.borrow_mut().retain(|idle| *idle != link);
        self.count_idle();
    }

    fn add_idle(&self, link: ConnectionKey) {
        self.idle.borrow_mut().push(link);
        self.count_idle();
    }

    /// Takes the idle connection that was used last.
    fn take_idle(&self) -> Option<ConnectionKey> {
        let link = self.idle.borrow_mut().pop()?;
        self.count_idle();
        Some(link)
    }

    fn count_idle(&self) {
        let idle = self.idle.borrow().len();
        self.counters.borrow().iter().for_each(|counters| counters.set_idle(idle));
    }

    /// Counts its idle connections there, too.
    fn count_by(&self, counters: &EndpointCounters) {
        let mut all = self.counters.borrow_mut();
        if !all.iter().any(|known| known.is(counters)) {
            all.push(counters.clone());
        }
        counters.set_idle(self.idle.borrow().len());
    }

    /// Whether a connection to this address may be reused. It may not if the name no longer
    /// resolves to the address, or if no active group lists the upstream.
    fn is_at(&self, address: &Address) -> bool {
        self.is_in_force.get() && self.dns.includes(address)
    }

    /// Stores the addresses that the resolver returned.
    fn remember(&self, addresses: Vec<SocketAddr>, now: Time) -> Rc<[Address]> {
        let addresses: Rc<[Address]> = addresses.into_iter().map(Address::from).collect();
        if let Some(before) = self.dns.found(Rc::clone(&addresses), now) {
            tracing::info!(upstream = %self.address, ?before, after = ?addresses, "upstream addresses changed");
            self.preferred.set(0);
        }
        addresses
    }

    /// The look-up failed. Returns the addresses of the previous one, to be used in their stead.
    fn keep(&self, why: &dyn Display, now: Time) -> Option<Rc<[Address]>> {
        self.dns.not_found(&self.address, why, now)
    }

    /// No address accepted a connection: the next connection looks the name up first.
    fn mark_stale(&self, now: Time) {
        self.dns.mark_stale(now);
    }
}
