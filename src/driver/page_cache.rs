//! Whether a file's bytes can be had without waiting for a disk, bringing them there, and sending them from there.

use std::io;
use std::os::fd::BorrowedFd;

use super::{errno, sys};

/// The page cache is asked for one byte in so many; less than what the kernel reads ahead at once.
pub(super) const PROBE_BYTES: u64 = 64 << 10;

/// Whether the bytes from `start` to before `end`, at least one, seem to be in the page cache.
pub(super) fn is_range_cached(file: BorrowedFd<'_>, start: u64, end: u64) -> bool {
    (start..end).step_by(PROBE_BYTES as usize).chain([end - 1]).all(|offset| sys::is_cached(file, offset))
}

/// Reads a range so that it is in the page cache. Whatever goes wrong will go wrong again, and
/// be reported, when the range is sent.
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
    /// Read and sent: a filter refuses `sendfile(2)`, or what the file lies on cannot do it.
    Copied,
}

/// What is read at once on its way to a socket.
const COPY_BYTES_MAX: usize = 128 << 10;

impl Way {
    /// Sends the bytes from `offset` on, at most `length`, without waiting for the socket; how many went. Zero: the file has
    /// ended. From the first refusal on they are copied.
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
                    tracing::debug!(%error, "sendfile is refused: the file is copied");
                    *self = Self::Copied;
                }
                result => return result,
            }
        }
        let mut bytes = vec![0; length.min(COPY_BYTES_MAX)];
        let count = sys::read_at(file, &mut bytes, offset)?;
        // What the socket does not take is read once more: nothing has to be kept.
        if count == 0 { Ok(0) } else { sys::send_bytes(socket, &bytes[..count]) }
    }
}
