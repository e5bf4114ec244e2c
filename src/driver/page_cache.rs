//! The page cache: whether it has a range of a file, reading a range into it, and sending from it.

use std::io;
use std::os::fd::BorrowedFd;

use super::{errno, sys};

/// The distance between two bytes that are looked up in the page cache; less than the kernel's
/// read-ahead.
pub(super) const PROBE_BYTES: u64 = 64 << 10;

/// Whether the bytes from `start` to before `end`, at least one, are probably in the page cache.
pub(super) fn is_range_cached(file: BorrowedFd<'_>, start: u64, end: u64) -> bool {
    (start..end).step_by(PROBE_BYTES as usize).chain([end - 1]).all(|offset| sys::is_cached(file, offset))
}

/// Reads a range into the page cache. Errors are ignored: they recur, and are reported, when the
/// range is sent.
pub(super) fn warm(file: BorrowedFd<'_>, start: u64, end: u64) {
    let mut scratch = vec![0; PROBE_BYTES as usize];
    let mut offset = start;
    while offset < end {
        let length = (end - offset).min(PROBE_BYTES) as usize;
        match sys::read_at(file, &mut scratch[..length], offset) {
            Ok(0) => return,
            Ok(count) => offset += count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// How a file's bytes get from the page cache to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `sendfile(2)`.
    Direct,
    /// Read and sent: a filter denies `sendfile(2)`, or the file system does not support it.
    Copied,
}

/// The largest read on the way to a socket, in bytes.
const COPY_BYTES_MAX: usize = 128 << 10;

impl Way {
    /// Sends at most `length` bytes from `offset` without waiting for the socket. Returns the
    /// number of bytes sent; zero: the end of the file. If `sendfile(2)` is not available, this
    /// call and all later ones copy.
    ///
    /// The socket must be non-blocking.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> io::Result<usize> {
        if *self == Self::Direct {
            match sys::send_file(socket, file, offset, length) {
                Err(error) if error.raw_os_error().is_some_and(errno::is_unsupported) => {
                    tracing::debug!(%error, "sendfile is not available for this file: it is copied");
                    *self = Self::Copied;
                }
                result => return result,
            }
        }
        let mut bytes = vec![0; length.min(COPY_BYTES_MAX)];
        let count = sys::read_at(file, &mut bytes, offset)?;
        // Bytes that the socket does not take are read again later, so nothing has to be stored.
        if count == 0 { Ok(0) } else { sys::send_bytes(socket, &bytes[..count]) }
    }
}
