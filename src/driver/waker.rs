//! Ends a worker's wait from any thread, with an eventfd (eventfd(2)).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use super::sys;

/// The handle that other threads hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// A waker without a waiting thread yet.
    ///
    /// # Errors
    /// As `eventfd(2)`: no descriptor or no memory is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = sys::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor is new and has no other owner.
        Ok(Self(Arc::new(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))))
    }

    /// Ends the worker's present wait, or its next one. Several calls may count as one.
    pub fn wake(&self) {
        // The only possible failure is a full counter, and then the worker has a pending wake-up.
        let _ = (&*self.0).write_all(&1_u64.to_ne_bytes());
    }

    /// Whether both wake the same worker.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until the waker is used, then clears it: for a thread that waits for nothing else.
    ///
    /// # Errors
    /// As `poll(2)`.
    pub fn wait(&self) -> io::Result<()> {
        let mut interest = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        while !self.clear() {
            // SAFETY: one live entry.
            match sys::check(unsafe { libc::poll(&raw mut interest, 1, -1) }) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The descriptor, which is readable after [`Waker::wake`].
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Clears the waker. Returns whether it was used.
    pub(super) fn clear(&self) -> bool {
        (&*self.0).read(&mut [0; 8]).is_ok()
    }
}
