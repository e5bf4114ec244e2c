//! Ends a worker's wait from any thread, with an eventfd (eventfd(2)).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// The handle that other threads hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// A waker without a waiting thread yet.
    ///
    /// # Errors
    /// As `eventfd(2)`: no descriptor or no memory is left.
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(File::from(descriptor))))
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

    /// Waits until the waker is used, then clears it: for a thread that waits for nothing else. Returns
    /// early after `timeout`, or a signal.
    ///
    /// # Errors
    /// As `poll(2)`.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        if self.clear() {
            return Ok(());
        }
        let mut interest = [PollFd::new(&*self.0, PollFlags::IN)];
        // A timeout that the kernel cannot represent is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut interest, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.clear();
        Ok(())
    }

    /// The descriptor, which is readable after [`Waker::wake`].
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Clears the waker. Returns whether it was used.
    pub fn clear(&self) -> bool {
        (&*self.0).read(&mut [0; 8]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_used_or_the_time_is_up() {
        let waker = Waker::new().unwrap();
        // Neither of these may wait for ever.
        waker.wait(Some(Duration::from_millis(1))).unwrap();
        waker.wake();
        waker.wait(None).unwrap();
        assert!(!waker.clear(), "the wait has cleared it");
    }
}
