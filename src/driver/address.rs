//! [`Address`]: the address of a stream socket, on the network or in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockAddr};

/// An address to connect to or to listen on. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a TCP port.
    Inet(SocketAddr),
    /// The path of a unix stream socket (unix(7)).
    Unix(UnixPath),
}

/// A path that fits into `sockaddr_un`: 1 to [`UnixPath::BYTES_MAX`] bytes, none of them NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixPath(Arc<Path>);

/// The path cannot be the address of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnixPath {
    /// The path is empty.
    #[error("no path: write unix:/PATH")]
    Empty,
    /// It does not fit into `sockaddr_un`.
    #[error("too long: the path of a unix socket has {} bytes at most, this one has {bytes}", UnixPath::BYTES_MAX)]
    TooLong {
        /// The length of the path.
        bytes: usize,
    },
    /// The path has a NUL byte, where `sun_path` would end.
    #[error("the path contains a NUL byte")]
    Nul,
    /// The path begins with `@`, which in other programs means an abstract name (unix(7)).
    #[error("abstract sockets are not supported: write the path of a file, or ./@NAME if that is its name")]
    Abstract,
}

impl Address {
    /// The IP address and port, unless it is a unix socket.
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// For drivers: the address in the kernel's format.
    pub(super) fn to_sockaddr(&self) -> std::io::Result<SockAddr> {
        match self {
            Self::Inet(address) => Ok(SockAddr::from(*address)),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }

    /// For drivers: the address family.
    pub(super) const fn domain(&self) -> Domain {
        match self {
            Self::Inet(address) => Domain::for_address(*address),
            Self::Unix(_) => Domain::UNIX,
        }
    }
}

impl UnixPath {
    /// The longest path, in bytes: `sun_path` has 108, of which the last is a NUL.
    pub const BYTES_MAX: usize = 107;

    /// Checks a path.
    ///
    /// # Errors
    /// The path is not valid. Whether the file exists is not checked.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, InvalidUnixPath> {
        let path = path.as_ref();
        match path.as_os_str().as_bytes() {
            [] => Err(InvalidUnixPath::Empty),
            [b'@', ..] => Err(InvalidUnixPath::Abstract),
            bytes if bytes.len() > Self::BYTES_MAX => Err(InvalidUnixPath::TooLong { bytes: bytes.len() }),
            bytes if bytes.contains(&0) => Err(InvalidUnixPath::Nul),
            _ => Ok(Self(path.into())),
        }
    }
}

impl AsRef<Path> for UnixPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<UnixPath> for Address {
    fn from(path: UnixPath) -> Self {
        Self::Unix(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for UnixPath {
    /// The form that options take: `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_as_long_as_the_kernel_can_take() {
        let longest = "/".repeat(UnixPath::BYTES_MAX);
        let address = Address::from(UnixPath::new(&longest).unwrap());
        assert_eq!(address.to_sockaddr().unwrap().as_pathname(), Some(Path::new(&longest)));
        assert_eq!(UnixPath::new(format!("{longest}/")), Err(InvalidUnixPath::TooLong { bytes: 108 }));
    }

    #[test]
    fn what_cannot_be_the_path_of_a_socket_is_told_apart() {
        assert_eq!(UnixPath::new(""), Err(InvalidUnixPath::Empty));
        assert_eq!(UnixPath::new("a\0b"), Err(InvalidUnixPath::Nul));
        assert_eq!(UnixPath::new("@name"), Err(InvalidUnixPath::Abstract));
        assert!(UnixPath::new("./@name").is_ok());
    }

    #[test]
    fn an_address_is_written_as_it_is_given() {
        assert_eq!(Address::from(UnixPath::new("/run/app.sock").unwrap()).to_string(), "unix:/run/app.sock");
        assert_eq!(Address::from(SocketAddr::from(([127, 0, 0, 1], 80))).to_string(), "127.0.0.1:80");
    }
}
