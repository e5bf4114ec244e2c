//! Listening sockets: one a worker on each address, sharing the port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// The sockets of one internet address, and the address with its real port.
#[derive(Debug)]
pub struct Bound {
    /// One for each worker.
    pub sockets: Vec<OwnedFd>,
    /// Where they listen; port 0 has become the one that the kernel chose.
    pub address: SocketAddr,
}

/// Listens on `address` once for each of `workers`, with `backlog` connections waiting on each.
///
/// `v6_only`: an IPv6 wildcard leaves IPv4 to another listener (`ipv6(7)`).
///
/// # Errors
/// What `bind(2)` or `listen(2)` say; `EADDRINUSE` also when the other one shares its port.
pub fn listen(address: SocketAddr, v6_only: bool, backlog: i32, workers: usize) -> io::Result<Bound> {
    if workers > 1 && address.port() != 0 {
        // With SO_REUSEPORT the kernel would let us join a stranger's port, and half of the
        // connections would go to them. Without it, it tells.
        bind(address, v6_only, Sharing::Alone)?;
    }
    let sharing = if workers > 1 { Sharing::Workers } else { Sharing::Alone };
    let mut sockets = Vec::with_capacity(workers);
    let mut address = address;
    for _ in 0..workers {
        let socket = bind(address, v6_only, sharing)?;
        socket.listen(backlog)?;
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        sockets.push(socket.into());
    }
    Ok(Bound { sockets, address })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Alone,
    Workers,
}

fn bind(address: SocketAddr, v6_only: bool, sharing: Sharing) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Workers)?;
    // Accepted connections inherit it, which saves a system call on each.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether an IPv6 wildcard must leave IPv4 alone, since somebody else of ours listens there.
pub fn leaves_v4_alone(address: SocketAddr, all: impl IntoIterator<Item = SocketAddr>) -> bool {
    address.ip() == IpAddr::from([0_u16; 8])
        && all.into_iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    #[test]
    fn workers_share_one_port() {
        let bound = listen(ANY_PORT.parse().unwrap(), false, 16, 3).unwrap();
        assert_eq!(bound.sockets.len(), 3);
        assert_ne!(bound.address.port(), 0);
    }

    #[test]
    fn a_port_shared_by_others_is_in_use_all_the_same() {
        let theirs = listen(ANY_PORT.parse().unwrap(), false, 16, 2).unwrap();
        let error = listen(theirs.address, false, 16, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        let v4 = listen("0.0.0.0:0".parse().unwrap(), false, 16, 1).unwrap();
        let v6 = SocketAddr::new(IpAddr::from([0_u16; 8]), v4.address.port());
        assert!(leaves_v4_alone(v6, [v4.address, v6]));
        match listen(v6, true, 16, 1) {
            Ok(bound) => assert_eq!(bound.address.port(), v4.address.port()),
            Err(error) => assert!(!std::path::Path::new("/proc/net/if_inet6").exists(), "{error}"),
        }
    }
}
