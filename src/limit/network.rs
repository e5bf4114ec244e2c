//! [`Network`]: an address prefix in CIDR notation.
//!
//! IPv4-mapped IPv6 addresses (`::ffff:a.b.c.d`, RFC 4291, 2.5.5.2) are IPv4 addresses here, and a
//! network of them is an IPv4 network: `::ffff:10.0.0.0/104` is `10.0.0.0/8`. So a list matches a
//! client whatever the family of the socket it came through and the notation of the list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the prefix `::ffff:0:0/96` of IPv4-mapped IPv6 addresses.
const MAPPED_PREFIX_LENGTH: u8 = 96;

/// All addresses with one prefix: `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The lowest address of the network.
    address: IpAddr,
    /// Length of the prefix in bits; 32 or 128 for a single address.
    prefix_length: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Box<[Network]>);

impl Network {
    /// The network of this prefix length that contains the address. An IPv4-mapped IPv6 address
    /// gives an IPv4 network. `None`: the length exceeds the address's bits, or it is below 96 for
    /// a mapped address, so that the network would contain IPv4 and IPv6 addresses.
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

    /// The lowest address of the network.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    pub const fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Whether the network contains this address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::around(address.to_canonical(), self.prefix_length).is_some_and(|network| network == *self)
    }
}

impl Networks {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the networks contains this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The networks, in the configured order.
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
        // Not addresses that only look mapped: the deprecated ::a.b.c.d, and the ranges for
        // translation.
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
        assert_eq!(error, "host bits are set: the network is 10.0.0.0/8");
    }
}
