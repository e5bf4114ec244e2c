//! [`Address`]: where a stream socket is, on the network or in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockAddr};

/// Where one connects to, or listens. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An internet address and a TCP port.
    Inet(SocketAddr),
    /// The path of a unix stream socket (unix(7)).
    Unix(UnixPath),
}

/// A path that fits into `sockaddr_un`: 1 to [`UnixPath::BYTES_MAX`] bytes, none of them NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixPath(Arc<Path>);

/// The path cannot be that of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnixPath {
    /// There is none.
    #[error("no path: write unix:/PATH")]
    Empty,
    /// It does not fit into `sockaddr_un`.
    #[error("too long: the path of a unix socket has {} bytes at most, this one has {bytes}", UnixPath::BYTES_MAX)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It would end at the NUL.
    #[error("a path has no NUL byte")]
    Nul,
    /// Elsewhere this stands for a name outside of the file system.
    #[error("abstract sockets are not supported: write the path of a file, or ./@NAME if that is its name")]
    Abstract,
}

impl Address {
    /// The internet address, if it is one.
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// For drivers: as the kernel takes it.
    pub(super) fn to_sockaddr(&self) -> std::io::Result<SockAddr> {
        match self {
            Self::Inet(address) => Ok(SockAddr::from(*address)),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }

    /// For drivers: the family of its sockets.
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
    /// What is wrong with it; whether the file exists is not asked.
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
    /// As it is written in options: `unix:/path`.
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
