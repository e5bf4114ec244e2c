//! The hash that maps keys to endpoints. It is the same in every worker, run and installation.
//!
//! Bytes are hashed by 64-bit FNV-1a (offset basis `cbf29ce484222325`, prime `100000001b3`), and
//! the result is mixed by the finalizer of splitmix64. The hash has no secret key, since workers,
//! and several proxies in a row, must agree. So a client that chooses its keys can choose its
//! endpoint. A change of the hash moves every key and every sticky cookie: it is part of the
//! interface.
//!
//! Endpoints are chosen by weighted rendezvous hashing. Each endpoint draws a number from the key
//! and its own address, scaled by its weight, and the best draw wins. There is no ring to build,
//! and the shares are exact. An endpoint that is removed, or whose weight falls, loses only keys of
//! its own; each goes to the next in its order. The cost is one logarithm per endpoint and request.

use std::net::IpAddr;

use crate::upstream::UpstreamAddress;

/// The hash of a key: a header field's value or a path.
pub const fn of_bytes(bytes: &[u8]) -> u64 {
    mix(absorb(OFFSET_BASIS, bytes))
}

/// The hash of a client's address. An IPv4 client has the same hash whether the listener is
/// dual-stack or not.
pub fn of_client(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => of_bytes(&address.octets()),
        IpAddr::V6(address) => of_bytes(&address.octets()),
    }
}

/// The seed of an endpoint's draws: from its address, and from the number of endpoints before it
/// with the same address.
pub(super) fn seed_of(address: &UpstreamAddress, twins_before: u64) -> u64 {
    let state = match address {
        UpstreamAddress::Tcp { host, port, .. } => {
            let state = absorb(OFFSET_BASIS, host.as_bytes());
            // A byte that no host name contains separates the parts.
            let state = absorb(state, &[0]);
            absorb(state, &port.to_be_bytes())
        }
        UpstreamAddress::Unix(path) => absorb(OFFSET_BASIS, path.to_string().as_bytes()),
    };
    mix(mix(state) ^ twins_before)
}

/// The endpoint's draw for this key; the least wins. It is exponentially distributed with the
/// weight as its rate. So the probability that an endpoint has the least draw is exactly its share
/// of the weights.
pub(super) fn draw(key: u64, seed: u64, weight: u64) -> f64 {
    let uniform = ((mix(key ^ seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / weight as f64
}

/// The finalizer of splitmix64: each bit of the result depends on each bit of the value.
pub(super) const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const fn absorb(mut state: u64, mut bytes: &[u8]) -> u64 {
    while let [byte, rest @ ..] = bytes {
        state = (state ^ *byte as u64).wrapping_mul(PRIME);
        bytes = rest;
    }
    state
}

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_function_is_fnv_1a() {
        assert_eq!(absorb(OFFSET_BASIS, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(absorb(OFFSET_BASIS, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(absorb(OFFSET_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_client_is_the_same_on_a_dual_stack_listener() {
        assert_eq!(of_client("192.0.2.1".parse().unwrap()), of_client("::ffff:192.0.2.1".parse().unwrap()));
        assert_ne!(of_client("192.0.2.1".parse().unwrap()), of_client("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn host_port_and_the_number_of_twins_all_matter() {
        let seed = |text: &str, twins| seed_of(&text.parse().unwrap(), twins);
        assert_eq!(seed("a:80", 0), seed("a:80", 0));
        assert_ne!(seed("a:80", 0), seed("a:81", 0));
        assert_ne!(seed("a:80", 0), seed("b:80", 0));
        assert_ne!(seed("a:80", 0), seed("a:80", 1));
    }
}
