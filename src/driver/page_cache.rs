//! Whether a file's bytes can be had without waiting for a disk.

use std::os::fd::BorrowedFd;

use super::sys;

/// The page cache is asked for one byte in so many; less than what the kernel reads ahead at once.
pub(super) const PROBE_BYTES: u64 = 64 << 10;

/// Whether the bytes from `start` to before `end`, at least one, seem to be in the page cache.
pub(super) fn is_range_cached(file: BorrowedFd<'_>, start: u64, end: u64) -> bool {
    (start..end).step_by(PROBE_BYTES as usize).chain([end - 1]).all(|offset| sys::is_cached(file, offset))
}
