//! Listening sockets: one for each worker on each address, all sharing the port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// The listening sockets of one internet address, and the address with its real port.
#[derive(Debug)]
pub struct Bound {
    /// One socket for each worker.
    pub sockets: Vec<OwnedFd>,
    /// The bound address: port 0 is replaced by the port that the kernel chose.
    pub address: SocketAddr,
}

/// Binds `workers` sockets to `address` and listens on each with the given `backlog`.
///
/// `v6_only`: a socket on the IPv6 wildcard does not accept IPv4, which another listener does
/// (`ipv6(7)`).
///
/// # Errors
/// The errors of `bind(2)` and `listen(2)`. `EADDRINUSE` also if another process has bound the port
/// with `SO_REUSEPORT`.
pub fn listen(address: SocketAddr, v6_only: bool, backlog: i32, workers: usize) -> io::Result<Bound> {
    if workers > 1 && address.port() != 0 {
        // With SO_REUSEPORT, bind succeeds on a port that another program of the same user shares,
        // and the kernel splits the connections between both. Without it, bind reports EADDRINUSE.
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
    // Accepted connections inherit TCP_NODELAY, which saves one system call on each.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether a socket on the IPv6 wildcard must not accept IPv4, because another listener of this
/// server has the same port on IPv4.
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
