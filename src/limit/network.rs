//! [`Network`]: an address prefix in CIDR notation.
//!
//! IPv4-mapped IPv6 addresses (`::ffff:a.b.c.d`, RFC 4291, 2.5.5.2) are IPv4 addresses here, and a
//! network of them is an IPv4 network: `::ffff:10.0.0.0/104` is `10.0.0.0/8`. So a list matches a
//! client whatever the family of the socket it came through and the notation of the list.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Length of the prefix `::ffff:0:0/96` of IPv4-mapped IPv6 addresses.
const MAPPED_PREFIX_LENGTH: u8 = 96;

/// All addresses with one prefix: `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(
    /// Its address is the lowest one, and never IPv4-mapped.
    IpNet,
);

/// A list of networks. A look-up takes logarithmic time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// In the configured order.
    listed: Box<[Network]>,
    /// The same IPv4 addresses in as few networks as possible, sorted. Since they are disjoint, only
    /// the last one that begins at or before an address can contain it.
    v4: Box<[Ipv4Net]>,
    /// Likewise the IPv6 addresses.
    v6: Box<[Ipv6Net]>,
}

impl Network {
    /// The network of this prefix length that contains the address. An IPv4-mapped IPv6 address
    /// gives an IPv4 network. `None`: the length exceeds the address's bits, or it is below 96 for
    /// a mapped address, so that the network would contain IPv4 and IPv6 addresses.
    pub fn around(address: IpAddr, prefix_length: u8) -> Option<Self> {
        let canonical = address.to_canonical();
        let is_mapped = canonical.is_ipv4() && address.is_ipv6();
        let prefix_length = if is_mapped { prefix_length.checked_sub(MAPPED_PREFIX_LENGTH)? } else { prefix_length };
        Some(Self(IpNet::new(canonical, prefix_length).ok()?.trunc()))
    }

    /// The lowest address of the network.
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Length of the prefix in bits; 32 or 128 for a single address.
    pub fn prefix_length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether the network contains this address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl Networks {
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether one of the networks contains this address. An IPv4-mapped IPv6 address counts as
    /// IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(ip) => last(&self.v4, |network| network.addr() <= ip).is_some_and(|found| found.contains(&ip)),
            IpAddr::V6(ip) => last(&self.v6, |network| network.addr() <= ip).is_some_and(|found| found.contains(&ip)),
        }
    }

    /// The networks, in the configured order.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.listed.iter()
    }
}

/// The last element that meets a condition which all elements before it meet too.
fn last<T>(sorted: &[T], condition: impl Fn(&T) -> bool) -> Option<&T> {
    sorted[..sorted.partition_point(condition)].last()
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let listed: Box<[Network]> = networks.into_iter().collect();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in &listed {
            match network.0 {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        Self { listed, v4: Ipv4Net::aggregate(&v4).into(), v6: Ipv6Net::aggregate(&v6).into() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

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

    #[test]
    fn a_list_contains_what_one_of_its_networks_contains() {
        // Nested, adjacent, equal and lone networks of both families, close together.
        let mut random = 1_u64;
        let mut next = |below: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u32 % below
        };
        for _ in 0..300 {
            let mut address = |bits: u32| -> (IpAddr, u8) {
                match bits % 3 {
                    0 => (Ipv4Addr::from_bits(0xffff_ff00 | next(256)).into(), 24 + next(9) as u8),
                    1 => (Ipv4Addr::from_bits(next(256)).to_ipv6_mapped().into(), 96 + 24 + next(9) as u8),
                    _ => (Ipv6Addr::from_bits(u128::from(next(256)) << 120).into(), next(9) as u8),
                }
            };
            let networks: Networks =
                (0..20).map(&mut address).filter_map(|(address, length)| Network::around(address, length)).collect();
            for at in 0..60 {
                let (address, _) = address(at);
                let expected = networks.iter().any(|network| network.contains(address));
                assert_eq!(networks.contains(address), expected, "{address} in {networks:?}");
            }
        }
    }

    #[test]
    fn whole_families_and_their_last_addresses_are_found() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Networks>();
        let contains = |networks: &Networks, address: &str| networks.contains(address.parse().unwrap());
        let all = networks(&["10.0.0.0/8", "0.0.0.0/0", "::/0"]);
        assert!(["0.0.0.0", "255.255.255.255", "::", "::ffff:1.2.3.4"].iter().all(|address| contains(&all, address)));
        assert!(contains(&all, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        let (v4, v6) = (networks(&["0.0.0.0/0"]), networks(&["::/0"]));
        assert!(!contains(&v4, "::1") && !contains(&v6, "1.2.3.4") && !contains(&v6, "::ffff:1.2.3.4"));
        assert!(!contains(&Networks::default(), "1.2.3.4"));
        let order: Vec<String> = networks(&["10.1.0.0/16", "10.0.0.0/16"]).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["10.1.0.0/16", "10.0.0.0/16"]);
    }
}
