//! Addresses to listen on.

use std::net::SocketAddr;

use super::file::FileMode;
use crate::driver::{Address, UnixPath};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a TCP port. Port 0: the kernel chooses one.
    Inet(SocketAddr),
    /// A unix stream socket.
    Unix {
        /// Path of the socket's file. A stale file, on which no process listens, is replaced. The
        /// file is removed at the end.
        path: UnixPath,
        /// Permissions of the file. A client that may write to it may connect. `None`: set by the
        /// umask.
        mode: Option<FileMode>,
    },
}

impl ListenAddress {
    /// The address without the permissions.
    pub fn address(&self) -> Address {
        match self {
            Self::Inet(address) => Address::Inet(*address),
            Self::Unix { path, .. } => Address::Unix(path.clone()),
        }
    }

    /// The IP address and port, if this is not a unix socket.
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

/// Whether the kernel refuses to let two sockets listen on both: the ports are the same, and one
/// address includes the other.
///
/// The IPv6 wildcard does not include IPv4 if there is a listener for IPv4.
pub fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port()
        && a.port() != 0
        && a_ip.is_ipv4() == b_ip.is_ipv4()
        && (a_ip == b_ip || a_ip.is_unspecified() || b_ip.is_unspecified())
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_overlaps_those_that_are_part_of_it() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(super::overlap(a, b), super::overlap(b, a));
            super::overlap(a, b)
        };
        for (a, b) in [("127.0.0.1:1", "0.0.0.0:1"), ("[::]:1", "[::1]:1"), ("[::ffff:127.0.0.1]:1", "127.0.0.1:1")] {
            assert!(overlap(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("127.0.0.1:1", "0.0.0.0:2"),
            ("127.0.0.1:0", "0.0.0.0:0"),
            ("0.0.0.0:1", "[::]:1"),
            ("0.0.0.0:1", "[::1]:1"),
        ] {
            assert!(!overlap(a, b), "{a} {b}");
        }
    }
}
