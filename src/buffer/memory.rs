//! A block of zeroed pages from the system, unmapped when dropped.

use std::io;
use std::ptr::NonNull;

/// A private anonymous mapping. Pages that were never touched use no memory.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes; `length` must not be 0.
    pub(super) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no
        // memory that anything else refers to.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, length })
    }

    /// Address of the first byte.
    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the pages of a range to the system. They read as zero when touched again. The range
    /// must consist of whole pages.
    pub(super) fn discard(&self, offset: usize, length: usize) {
        debug_assert!(offset + length <= self.length);
        // SAFETY: the range lies in this mapping, and the caller (the pool) passes only buffers
        // that are not leased and that the kernel does not hold. Failure leaves the pages as they
        // are.
        unsafe {
            libc::madvise(self.start.as_ptr().add(offset).cast(), length, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and the pool that owns it is
        // dropped only after every lease (each holds the pool alive).
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}
