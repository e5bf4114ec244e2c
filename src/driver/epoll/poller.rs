//! The epoll instance: registration, waiting, and decoding of events.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;

use crate::driver::{Socket, sys};
use crate::table::{Key, RawKey};

/// Event data of the driver's waker. No table has an index this large.
pub(super) const WAKER: u64 = u64::MAX;

/// Event data of the offload threads' waker.
pub(super) const OFFLOAD_WAKER: u64 = u64::MAX - 1;

/// Events that one wait fetches. More are fetched by the next.
const EVENTS_MAX: usize = 1024;

/// All events of a socket, edge-triggered.
///
/// `EPOLLPRI`: urgent data interrupts a receive, so a short read does not mean that the socket is
/// empty (tcp(7)).
const SOCKET_EVENTS: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET;

pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// `epoll_pwait2(2)` (Linux 5.11) is missing or forbidden: wait in whole milliseconds.
    milliseconds_only: bool,
}

/// A decoded event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// End of input, an error or urgent data.
    pub(super) exceptional: bool,
    /// An error, or both directions are closed.
    pub(super) over: bool,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(Self { epoll, events, milliseconds_only: false })
    }

    /// Registers a socket until it is closed. If it is ready already, there is an event for that.
    pub(super) fn add(&self, socket: BorrowedFd<'_>, key: Key<Socket>) -> io::Result<()> {
        self.register(socket, SOCKET_EVENTS, u64::from(key.generation()) << 32 | u64::from(key.index()))
    }

    /// Registers an eventfd, level-triggered: each wait reports it until it is cleared.
    pub(super) fn add_waker(&self, waker: BorrowedFd<'_>, data: u64) -> io::Result<()> {
        self.register(waker, libc::EPOLLIN, data)
    }

    fn register(&self, descriptor: BorrowedFd<'_>, events: i32, data: u64) -> io::Result<()> {
        let events = epoll::EventFlags::from_bits_retain(events as u32);
        Ok(epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(data), events)?)
    }

    /// Removes a socket's registration. A socket without one is ignored.
    pub(super) fn remove(&self, socket: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Waits for events, at most `timeout` (`None`: no limit). Returns how many there are for
    /// [`Poller::event`]. A signal ends the wait with zero events.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let result = match timeout {
            Some(timeout) if !timeout.is_zero() && !self.milliseconds_only => self.wait_ns(timeout),
            timeout => self.wait_ms(timeout),
        };
        match result {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error)
                if !self.milliseconds_only && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
            {
                self.milliseconds_only = true;
                self.wait(timeout)
            }
            Err(error) => Err(error),
        }
    }

    /// An event of the last wait: the data that was registered, and the readiness.
    pub(super) fn event(&self, index: usize) -> (u64, Readiness) {
        let event = self.events[index];
        let has = |flags: i32| event.events & flags as u32 != 0;
        let over = has(libc::EPOLLHUP | libc::EPOLLERR);
        let exceptional = over || has(libc::EPOLLRDHUP | libc::EPOLLPRI);
        let readiness = Readiness {
            readable: exceptional || has(libc::EPOLLIN),
            writable: over || has(libc::EPOLLOUT),
            exceptional,
            over,
        };
        (event.u64, readiness)
    }

    fn wait_ns(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            // The type differs between C libraries. A wait is cut at 68 years, which is harmless.
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as _,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the events are a live exclusive slice of this length, the timeout is a live local,
        // and a null signal mask leaves the mask alone.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS_MAX,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn wait_ms(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up: waking early would mean waiting again, many times.
        let timeout =
            timeout.map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the events are a live exclusive slice of this length.
        let count = sys::check(unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS_MAX as i32, timeout)
        })?;
        Ok(count as usize)
    }
}

/// The key that [`Poller::add`] packed.
pub(super) const fn key_of(data: u64) -> Key<Socket> {
    RawKey::from_parts(data as u32, (data >> 32) as u32).typed()
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_is_never_shorter_than_asked_on_either_call() {
        let mut poller = Poller::new().unwrap();
        for milliseconds_only in [false, true] {
            poller.milliseconds_only = milliseconds_only;
            let start = Instant::now();
            let timeout = Duration::from_micros(1500);
            assert_eq!(poller.wait(Some(timeout)).unwrap(), 0);
            assert!(start.elapsed() >= timeout);
        }
    }

    #[test]
    fn a_key_survives_the_way_through_the_kernel() {
        let mut poller = Poller::new().unwrap();
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let key = RawKey::from_parts(7, u32::MAX - 1).typed();
        poller.add(std::os::fd::AsFd::as_fd(&near), key).unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 1);
        let (data, readiness) = poller.event(0);
        assert_eq!(key_of(data), key);
        assert!(readiness.writable && !readiness.readable && !readiness.exceptional);
    }
}
