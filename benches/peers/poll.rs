//! The least of epoll that the origin and the load generator need. It knows tokens, not sockets.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An epoll instance and room for the events of one wait.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// Events fetched by one wait.
const EVENTS_MAX: usize = 256;

impl Poll {
    /// A new, empty instance.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Watches a descriptor. `flags` are those of `epoll_ctl(2)`.
    pub fn add(&self, socket: &impl AsRawFd, token: usize, flags: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags as u32, u64: token as u64 };
        // SAFETY: the event outlives the call, which only reads it.
        check(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event)
        })?;
        Ok(())
    }

    /// Waits for events, at most so long; returns their tokens.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = usize> + use<>> {
        // To the nanosecond: a paced load waits for microseconds.
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let events = self.events.as_mut_ptr();
        // SAFETY: pointer and length are those of a live exclusive vector; the time-out outlives the call, or is null.
        let count =
            unsafe { libc::epoll_pwait2(self.epoll.as_raw_fd(), events, EVENTS_MAX as i32, timeout, std::ptr::null()) };
        let count = match check(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let mut tokens = [0_usize; EVENTS_MAX];
        for (token, event) in tokens.iter_mut().zip(&self.events[..count]) {
            *token = event.u64 as usize;
        }
        Ok(tokens.into_iter().take(count))
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
