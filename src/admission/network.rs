//! [`Network`]: addresses that begin alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses that begin alike: `10.0.0.0/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its first address.
    address: IpAddr,
    /// How many bits of that are common to all; 32 or 128 for a single address.
    prefix_length: u8,
}

/// Several networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Box<[Network]>);

impl Network {
    /// The network in which this address lies. `None`: no address has so many bits.
    pub fn around(address: IpAddr, prefix_length: u8) -> Option<Self> {
        let rest = u32::from(prefix_length);
        let address: IpAddr = match address {
            IpAddr::V4(_) if rest > Ipv4Addr::BITS => return None,
            IpAddr::V6(_) if rest > Ipv6Addr::BITS => return None,
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !u32::MAX.checked_shr(rest).unwrap_or(0)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::MAX.checked_shr(rest).unwrap_or(0)).into(),
        };
        Some(Self { address, prefix_length })
    }

    /// Its first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits are common to all its addresses.
    pub const fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Whether an address lies in it. One of IPv4 in the clothes of IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::around(address.to_canonical(), self.prefix_length).is_some_and(|network| network == *self)
    }
}

impl Networks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address lies in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// One by one, as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_ends_where_its_bits_say() {
        assert!(contains("10.0.0.0/8", "10.255.255.255") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.0.2.128/25", "192.0.2.128") && !contains("192.0.2.128/25", "192.0.2.127"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
    }

    #[test]
    fn all_addresses_of_a_family_are_a_network_and_no_more() {
        assert!(contains("0.0.0.0/0", "203.0.113.1") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1") && !contains("::/0", "203.0.113.1"));
    }

    #[test]
    fn an_ipv4_address_in_the_clothes_of_ipv6_is_one() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    }
}
