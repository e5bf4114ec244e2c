//! Descriptors that a process inherits, or leaves to a process that it starts.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use socket2::SockAddr;

use super::sys;

/// Takes over an inherited listening socket and makes it non-blocking (`O_NONBLOCK`).
///
/// This flag is the only state shared with other processes that is changed, and it is never cleared
/// again. Both drivers need it: if a connection is gone before it is accepted, a blocking accept
/// would block the whole worker until the next connection.
///
/// # Errors
/// The descriptor is not open, not a socket, or not listening.
pub fn inherit_listener(fd: RawFd) -> io::Result<OwnedFd> {
    let mut is_listening: libc::c_int = 0;
    let mut size = size_of_val(&is_listening) as libc::socklen_t;
    // SAFETY: the value and its size are live, and the value has that size.
    sys::check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut is_listening).cast(), &raw mut size)
    })?;
    if is_listening == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} is not a listening socket")));
    }
    let listener = inherit(fd)?;
    sys::set_nonblocking(listener.as_fd())?;
    Ok(listener)
}

/// The address of an inherited listening socket, which need not have been taken over yet.
pub fn listening_address(fd: RawFd) -> Option<SocketAddr> {
    // SAFETY: the closure passes on the storage and its length, and the kernel fills both in; a descriptor that is not a
    // socket is an error.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| sys::check(libc::getsockname(fd, storage.cast(), length)).map(drop))
    }
    .ok()?;
    address.as_socket()
}

/// A file in memory with these bytes, to be read from the beginning (memfd_create(2)). No other
/// process sees it but those that inherit the descriptor.
///
/// # Errors
/// As `memfd_create(2)` and `write(2)`.
pub fn file_in_memory(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Takes over an inherited end of a pipe, or a file.
///
/// # Errors
/// The descriptor is not open.
pub fn inherit_file(fd: RawFd) -> io::Result<OwnedFd> {
    inherit(fd)
}

/// Clears `FD_CLOEXEC`: the descriptor stays open in programs that this process starts.
///
/// # Errors
/// As `fcntl(2)`.
pub fn keep_on_exec(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
}

fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; a descriptor that is not open is an error.
    sys::check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and has no other owner here: the parent process passed it and named it once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
