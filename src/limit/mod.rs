//! Connection limits, request rate limits and address lists, shared by all workers of a server.
//!
//! * [`Access`] is the allow and deny lists of a listener, a server or a route.
//! * [`ConnectionCounter`] counts open connections, in total and per client address.
//! * [`Rate`] limits the request rate per client address.
//! * [`Admission`] holds the limits of the whole server and the list of trusted proxies, whose
//!   `X-Forwarded-For` is believed.
//!
//! It does not know what a request asks for, nor how a denied client is answered.

mod access;
mod client_address;
mod connections;
mod network;
mod rate;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use clap::ValueEnum;

pub use access::Access;
pub use client_address::client_address;
pub use connections::{ConnectionCounter, ConnectionPermit};
pub use network::{Network, Networks};
pub use rate::{Rate, RateConfig};

use crate::driver::{Peer, Time, Waker};

/// The server's connection and rate limits, and its trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Maximum of open connections, all workers together. 0: no limit.
    pub connections_max: u32,
    /// What to do with new connections once this limit or a worker's own limit is reached.
    pub when_full: WhenFull,
    /// Maximum of open connections per client address (IPv4), or per /64 network (IPv6). 0: no
    /// limit.
    pub connections_per_address: u32,
    /// Request rate limit per client address. `None`: no limit.
    pub rate: Option<RateConfig>,
    /// Proxies whose `X-Forwarded-For` is believed. If there are any, peers on unix sockets are
    /// trusted too.
    pub trusted: Networks,
}

/// What to do with new connections once the limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum WhenFull {
    /// Leave them in the kernel's backlog until a connection ends
    #[default]
    Wait,
    /// HTTP: answer 503 and close the connection; other protocols: as `wait`
    Refuse,
}

/// The limits in force, shared by all workers.
#[derive(Debug, Default)]
pub struct Admission {
    config: AdmissionConfig,
    counter: Arc<ConnectionCounter>,
    rate: Option<Arc<Rate>>,
}

/// Why a connection is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The address lists deny its address.
    #[error("its address is not allowed")]
    Address,
    /// Its address has reached the limit of connections per address.
    #[error("its address has too many connections")]
    TooMany,
}

impl Admission {
    /// Limits with a new configuration that replace `earlier`. Open connections stay counted. The
    /// rate limiter's state is kept unless the rate has changed.
    pub fn succeeding(earlier: &Self, config: &AdmissionConfig) -> Arc<Self> {
        let rate = match (&config.rate, &earlier.rate) {
            (Some(wanted), Some(rate)) if rate.config() == *wanted => Some(Arc::clone(rate)),
            (Some(wanted), _) => Some(Arc::new(Rate::new(*wanted))),
            (None, _) => None,
        };
        let counter = Arc::clone(&earlier.counter);
        counter.set_max(config.connections_max as usize);
        Arc::new(Self { config: config.clone(), counter, rate })
    }

    /// Whether the server is below its connection limit.
    pub fn has_capacity(&self) -> bool {
        self.room() > 0
    }

    /// How many more connections the server's limit allows now; `usize::MAX` without a limit.
    pub fn room(&self) -> usize {
        self.counter.room()
    }

    /// Whether HTTP clients beyond the limit get a 503.
    pub fn refuses(&self) -> bool {
        self.config.when_full == WhenFull::Refuse
    }

    /// Wakes this worker from now on when the connection limit is reached, and when there is
    /// capacity again.
    pub fn register_waker(&self, worker: Waker) {
        self.counter.register_waker(worker);
    }

    /// Admits a connection. It counts until the permit is dropped. Without limits there is no
    /// permit.
    ///
    /// The limit per address does not apply to trusted proxies, since their connections carry many
    /// clients.
    ///
    /// # Errors
    /// [`Denied`]: the address lists deny the peer, or its address is at its limit.
    pub fn enter(&self, peer: Peer, access: &Access) -> Result<Option<ConnectionPermit>, Denied> {
        if !access.admits(peer) {
            return Err(Denied::Address);
        }
        let AdmissionConfig { connections_max, connections_per_address, .. } = self.config;
        if connections_max == 0 && connections_per_address == 0 {
            return Ok(None);
        }
        let address = match connections_per_address {
            0 => None,
            _ => peer.ip().filter(|_| !self.is_trusted(peer)).map(ClientKey::of),
        };
        self.counter.enter(address, connections_per_address).map(Some).ok_or(Denied::TooMany)
    }

    /// Whether this request exceeds the client's rate limit. A request one second later is within
    /// it.
    pub fn is_too_soon(&self, client_address: Peer, now: Time) -> bool {
        match (&self.rate, client_address.ip()) {
            (Some(rate), Some(address)) => !rate.take(ClientKey::of(address), now),
            (None, _) | (_, None) => false,
        }
    }

    /// Whether this peer's `X-Forwarded-For` is believed.
    pub fn is_trusted(&self, peer: Peer) -> bool {
        match peer {
            _ if self.config.trusted.is_empty() => false,
            Peer::Inet(address) => self.config.trusted.contains(address.ip()),
            Peer::Local => true,
            Peer::Gone => false,
        }
    }

    /// The client address of a request, from its `X-Forwarded-For` fields in order.
    pub fn client_address<'v>(&self, peer: Peer, forwarded_for: impl Iterator<Item = &'v [u8]>) -> Peer {
        if self.is_trusted(peer) { client_address(peer, forwarded_for, &self.config.trusted) } else { peer }
    }
}

/// The unit that limits count: an IPv4 address, or the /64 network of an IPv6 address. A subscriber
/// is assigned at least a /64 (RFC 6177, 2) and could otherwise use 2⁶⁴ addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(IpAddr);

impl ClientKey {
    /// The key that this address counts under. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn of(address: IpAddr) -> Self {
        const NETWORK: u128 = !(u64::MAX as u128);
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & NETWORK).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::Inet(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_client_are_counted_as_one() {
        let client_key = |text: &str| ClientKey::of(text.parse().unwrap());
        assert_eq!(client_key("2001:db8:1:2::3"), client_key("2001:db8:1:2:ffff::"));
        assert_ne!(client_key("2001:db8:1:2::3"), client_key("2001:db8:1:3::3"));
        assert_ne!(client_key("192.0.2.1"), client_key("192.0.2.2"));
        assert_eq!(client_key("::ffff:192.0.2.1"), client_key("192.0.2.1"));
    }

    #[test]
    fn connections_of_an_address_are_bounded_unless_it_is_a_trusted_proxy() {
        let trusted = Networks::from_iter(["10.0.0.0/8".parse().unwrap()]);
        let config = AdmissionConfig { connections_per_address: 2, trusted, ..AdmissionConfig::default() };
        let admission = Admission::succeeding(&Admission::default(), &config);
        let enter = |text| admission.enter(peer(text), &Access::default());
        let permits: Vec<_> = (0..2).map(|_| enter("192.0.2.1:80").unwrap()).collect();
        assert_eq!(enter("192.0.2.1:81").unwrap_err(), Denied::TooMany);
        assert!(enter("192.0.2.2:80").is_ok());
        let proxies: Vec<_> = (0..5).map(|_| enter("10.0.0.1:80").unwrap()).collect();
        drop((permits, proxies));
        assert!(enter("192.0.2.1:81").is_ok());
    }

    #[test]
    fn who_is_in_stays_counted_under_another_configuration() {
        let config =
            |connections_per_address| AdmissionConfig { connections_per_address, ..AdmissionConfig::default() };
        let earlier = Admission::succeeding(&Admission::default(), &config(2));
        let _ticket = earlier.enter(peer("192.0.2.1:80"), &Access::default()).unwrap();
        let later = Admission::succeeding(&earlier, &config(1));
        assert_eq!(later.enter(peer("192.0.2.1:81"), &Access::default()).unwrap_err(), Denied::TooMany);
    }

    #[test]
    fn there_is_room_again_when_somebody_leaves() {
        let config = AdmissionConfig { connections_max: 1, ..AdmissionConfig::default() };
        let admission = Admission::succeeding(&Admission::default(), &config);
        assert!(admission.has_capacity());
        let permit = admission.enter(Peer::Local, &Access::default()).unwrap();
        assert!(!admission.has_capacity());
        drop(permit);
        assert!(admission.has_capacity());
    }
}
