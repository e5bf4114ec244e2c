//! Datagram sockets to a daemon that collects log lines. They block, so they are for threads beside the
//! loop.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// Where datagrams go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DatagramAddress {
    /// The path of a unix datagram socket.
    Unix(PathBuf),
    /// A host and a UDP port.
    Udp {
        /// A name, or an address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for DatagramAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp:[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "udp:{host}:{port}"),
        }
    }
}

/// A connected datagram socket.
#[derive(Debug)]
pub enum DatagramSocket {
    /// On a unix socket, which refuses what its peer does not take.
    Unix(UnixDatagram),
    /// On UDP, where losses are seldom noticed.
    Udp(UdpSocket),
}

impl DatagramSocket {
    /// Connects to an address; a name is resolved, and the first of its addresses with a route is used.
    /// A datagram that the peer of a unix socket has no room for waits for at most `send_timeout`.
    ///
    /// # Errors
    /// There is no such socket, name or route, or no descriptor is left.
    pub fn connect(address: &DatagramAddress, send_timeout: Duration) -> io::Result<Self> {
        match address {
            DatagramAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(send_timeout))?;
                Ok(Self::Unix(socket))
            }
            DatagramAddress::Udp { host, port } => {
                let mut result = Err(io::ErrorKind::NotFound.into());
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    result = connect_udp(address);
                    if result.is_ok() {
                        break;
                    }
                }
                result.map(Self::Udp)
            }
        }
    }

    /// Sends a datagram, whole.
    ///
    /// # Errors
    /// It was not sent. `ConnectionRefused` of UDP reports that an earlier one was refused.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let send = || match self {
            Self::Unix(socket) => socket.send(bytes),
            Self::Udp(socket) => socket.send(bytes),
        };
        loop {
            match send() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }
}

fn connect_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    Ok(socket)
}

/// The name of this host, as uname(2) has it. `None`: it is not known.
pub fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
}
