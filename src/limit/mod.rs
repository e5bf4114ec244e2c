//! Who may come in, and how often: the one place where all workers of a server look.
//!
//! * [`Access`] is whom a listener, a server or a route lets in.
//! * [`ConnectionCounter`] counts the connections there are, of all addresses and of each.
//! * [`Rate`] bounds how often an address may ask.
//! * [`Admission`] is what is configured of these for the whole server, and which proxies are believed when they say
//!   for whom they come.
//!
//! It does not know what is asked for, nor what those who are turned away are told.

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

/// What bounds everybody together, and each address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Connections at a time, of all workers together. 0: no limit.
    pub connections_max: u32,
    /// What becomes of more, and of more than one worker may have.
    pub when_full: WhenFull,
    /// Connections at a time from one address; 0: no limit.
    pub connections_per_address: u32,
    /// How often an address may ask; `None`: as often as it likes.
    pub rate: Option<RateConfig>,
    /// Proxies that are believed when they say for whom they come. Once there are any, the peers of unix sockets are, too.
    pub trusted: Networks,
}

/// What becomes of those who come when there are as many connections as there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum WhenFull {
    /// They wait in the kernel until there is room
    #[default]
    Wait,
    /// Over HTTP they are answered with 503, and the connection is closed; others wait
    Refuse,
}

/// The doorkeeper of all workers.
#[derive(Debug, Default)]
pub struct Admission {
    config: AdmissionConfig,
    counter: Arc<ConnectionCounter>,
    rate: Option<Arc<Rate>>,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its address is one that is not let in.
    #[error("its address is not let in")]
    Address,
    /// Its address has as many connections as one may have.
    #[error("its address has too many connections")]
    TooMany,
}

impl Admission {
    /// The successor of `earlier`, by another configuration. Who is in stays counted, and who has asked too often is not
    /// forgotten unless the rate is another one.
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

    /// Whether one more connection may be accepted now.
    pub fn has_capacity(&self) -> bool {
        self.counter.has_capacity()
    }

    /// Whether those for whom there is no room are to be told so.
    pub fn refuses(&self) -> bool {
        self.config.when_full == WhenFull::Refuse
    }

    /// From now on this worker is woken when there is no room for connections any more, and when there is again.
    pub fn register_waker(&self, worker: Waker) {
        self.counter.register_waker(worker);
    }

    /// Lets a connection in. It counts for as long as the ticket lives; without limits there is none.
    ///
    /// Connections of trusted proxies carry many clients, so there may be any number of them from one address.
    ///
    /// # Errors
    /// It is not wanted.
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

    /// Whether a request of this client comes too soon after others. The next one would not after a second at most.
    pub fn is_too_soon(&self, client_address: Peer, now: Time) -> bool {
        match (&self.rate, client_address.ip()) {
            (Some(rate), Some(address)) => !rate.take(ClientKey::of(address), now),
            (None, _) | (_, None) => false,
        }
    }

    /// Whether a peer is believed when it says for whom it comes.
    pub fn is_trusted(&self, peer: Peer) -> bool {
        match peer {
            _ if self.config.trusted.is_empty() => false,
            Peer::Inet(address) => self.config.trusted.contains(address.ip()),
            Peer::Local => true,
            Peer::Gone => false,
        }
    }

    /// For whom a request comes, by the addresses that its `X-Forwarded-For` fields list, from first to last.
    pub fn client_address<'v>(&self, peer: Peer, forwarded_for: impl Iterator<Item = &'v [u8]>) -> Peer {
        if self.is_trusted(peer) { client_address(peer, forwarded_for, &self.config.trusted) } else { peer }
    }
}

/// Who is counted as one: an IPv4 address, or the /64 network of an IPv6 address, since that is what a subscriber is given
/// (RFC 6177, 2), who could otherwise come from 2⁶⁴ addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(IpAddr);

impl ClientKey {
    /// Whose address this is.
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
