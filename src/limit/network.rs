//! [`Network`]: addresses that begin alike.
//!
//! Addresses of IPv4 that are written as IPv6 (`::ffff:a.b.c.d`, RFC 4291, 2.5.5.2) are addresses of IPv4 here, and a
//! network of them is a network of IPv4: `::ffff:10.0.0.0/104` is `10.0.0.0/8`. So a list cannot miss a client because of
//! the family of the socket it came through, or of the notation that the list was written in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many bits are common to all IPv4 addresses that are written as IPv6.
const MAPPED_PREFIX_LENGTH: u8 = 96;

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
    /// The network in which this address lies; that of an IPv4 address written as IPv6 is one of IPv4. `None`: no address
    /// has so many bits, or so few that the network would hold a part of IPv4 and a part of IPv6.
    pub fn around(address: IpAddr, prefix_length: u8) -> Option<Self> {
        let (address, prefix_length) = match address {
            IpAddr::V6(ip) => match (ip.to_ipv4_mapped(), prefix_length.checked_sub(MAPPED_PREFIX_LENGTH)) {
                (Some(ip), Some(length)) => (ip.into(), length),
                (Some(_), None) => return None,
                (None, _) => (address, prefix_length),
            },
            IpAddr::V4(_) => (address, prefix_length),
        };
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

    #[test]
    fn a_network_written_as_mapped_ipv6_is_one_of_ipv4() {
        for (mapped, plain) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/128", "192.0.2.1/32"),
            ("::ffff:c000:200/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(mapped.parse::<Network>(), plain.parse::<Network>(), "{mapped}");
        }
        for address in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(contains("::ffff:10.0.0.0/104", address), "{address}");
        }
        assert!(!contains("::ffff:10.0.0.0/104", "11.0.0.0") && !contains("::ffff:0:0/96", "::1"));
        // Not those that only look like it: the deprecated ::a.b.c.d, and ranges for translation.
        assert!(!contains("::10.0.0.0/104", "10.1.2.3") && !contains("64:ff9b::/96", "10.1.2.3"));
    }

    #[test]
    fn no_network_holds_parts_of_both_families() {
        for bits in 0..MAPPED_PREFIX_LENGTH {
            assert_eq!(Network::around("::ffff:10.0.0.0".parse().unwrap(), bits), None, "{bits}");
        }
        let error = "::ffff:0:0/95".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("at least 96 bits"), "{error}");
        assert_eq!("::fffe:0:0/95".parse::<Network>().unwrap_err().to_string(), error);
        let error = "::ffff:10.1.2.3/104".parse::<Network>().unwrap_err().to_string();
        assert_eq!(error, "this is an address within a network, which is 10.0.0.0/8");
    }
}
