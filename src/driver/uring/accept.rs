//! `Accept`: connections as they arrive, and the pause when a limit is reached.
//!
//! Several rings may wait on one socket: workers that share a unix socket, a process and its successor. The kernel wakes only
//! the first of them for a connection (`EPOLLEXCLUSIVE`, which the ring sets for accepting), and a cancel may overtake that
//! wake-up. The connection would then lie in the backlog, and those who could take it would sleep. So whoever stops wakes them.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::{cqueue, opcode, types};

use super::{Uring, Work};
use crate::driver::{Driver, Fault, Feature, OpId, Outcome, Socket, Time, shortage, sys};

/// How long accepting pauses after it ran into a limit, unless a descriptor is closed before.
///
/// The limit may be the machine's, and then nothing here tells when it is over.
const PAUSE: Duration = Duration::from_millis(100);

/// With fewer left to come they are accepted one by one: a multishot accept takes all who wait at once, wanted or not. More
/// than usually come in one turn, so that a server near its limit stays within it.
const MULTISHOT_LEFT_MIN: u32 = 1024;

/// Accepts that wait for descriptors or memory.
#[derive(Debug, Default)]
pub(super) struct Paused {
    accepts: Vec<OpId>,
    until: Option<Time>,
}

impl Paused {
    /// When to try again, if any waits.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }
}

impl Uring {
    pub(super) fn start_accept(&mut self, id: OpId, listener: Socket, most: u32) {
        let Some(endpoint) = self.sockets.get_mut(listener.0) else { return self.reject(id, libc::EBADF) };
        if endpoint.receiving.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        endpoint.receiving = Some(id);
        self.flights.insert(id, Work::Accept { listener: listener.0, left: most });
        self.arm_accept(id);
    }

    fn arm_accept(&mut self, id: OpId) {
        let is_multishot = self.is_multishot(id);
        let Some(Work::Accept { listener, .. }) = self.flights.get_mut(id).map(|flight| &flight.work) else { return };
        let Some(endpoint) = self.sockets.get(*listener) else { return };
        let descriptor = types::Fd(endpoint.socket.as_raw_fd());
        let entry = if is_multishot {
            opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::Accept::new(descriptor, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        };
        // SAFETY: no address is asked for, so the entry points to nothing.
        unsafe { self.submit(id, entry) };
    }

    /// Whether one entry is to accept them all.
    fn is_multishot(&mut self, id: OpId) -> bool {
        let work = self.flights.get_mut(id).map(|flight| &flight.work);
        let is_many = matches!(work, Some(Work::Accept { left, .. }) if *left > MULTISHOT_LEFT_MIN);
        is_many && self.features.has(Feature::AcceptMultishot)
    }

    pub(super) fn on_accept(&mut self, id: OpId, result: i32, flags: u32) {
        match sys::adopt_result(result) {
            Ok(socket) => {
                let peer = sys::peer_of(socket.as_fd());
                self.send_room.bound(socket.as_fd(), self.sockets.len());
                let socket = self.insert(socket);
                self.emit(id, Outcome::Accepted { socket, peer });
                self.count_accepted(id, cqueue::more(flags));
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EPERM) => {
                    if !cqueue::more(flags) && !self.is_cancelled(id) {
                        shortage::tell_accept_paused(&error);
                        self.counters.accept_pauses += 1;
                        self.paused.accepts.push(id);
                        self.paused.until = Some(self.now() + PAUSE);
                        self.wake_fellow_listeners(id);
                        return;
                    }
                }
                Some(libc::ECANCELED | libc::EAGAIN) => {}
                Some(code) if sys::is_about_the_connection(code) => {}
                _ => {
                    if !cqueue::more(flags) {
                        return self.finish(id, Outcome::Failed(Fault::from_io(&error)));
                    }
                }
            },
        }
        if !cqueue::more(flags) {
            if self.is_cancelled(id) {
                self.wake_fellow_listeners(id);
                self.finish(id, Outcome::Cancelled);
            } else {
                self.counters.rearms += u64::from(self.is_multishot(id));
                self.arm_accept(id);
            }
        }
    }

    /// Counts a connection; if enough have come, or so few are left that they are to be taken one by one, it ends.
    fn count_accepted(&mut self, id: OpId, is_multishot: bool) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Work::Accept { left, .. } = &mut flight.work else { return };
        *left = left.saturating_sub(1);
        let left_min = if is_multishot { MULTISHOT_LEFT_MIN } else { 0 };
        if *left <= left_min && !flight.is_cancelled {
            flight.is_cancelled = true;
            if is_multishot {
                let entry = opcode::AsyncCancel::new(id.to_bits()).build().user_data(super::CANCEL);
                // SAFETY: the entry points to nothing.
                unsafe { self.push(entry) };
            }
        }
    }

    /// Has everybody else who waits on the listening socket look for what came meanwhile.
    fn wake_fellow_listeners(&mut self, id: OpId) {
        let Some(Work::Accept { listener, .. }) = self.flights.get_mut(id).map(|flight| &flight.work) else { return };
        if let Some(endpoint) = self.sockets.get(*listener)
            && let Err(error) = sys::wake_waiters(endpoint.socket.as_fd())
        {
            tracing::debug!(op = %id, %error, "others who accept on the same socket were not woken");
        }
    }

    pub(super) fn is_cancelled(&mut self, id: OpId) -> bool {
        self.flights.get_mut(id).is_some_and(|flight| flight.is_cancelled)
    }

    /// Lets every paused accept try again.
    pub(super) fn resume_listeners(&mut self) {
        self.paused.until = None;
        for id in std::mem::take(&mut self.paused.accepts) {
            // It may have been cancelled meanwhile.
            if self.flights.get_mut(id).is_some_and(|flight| !flight.is_in_kernel) {
                self.arm_accept(id);
            }
        }
    }

    /// A descriptor is free again: those who wait for one may try.
    pub(super) fn on_descriptor_closed(&mut self) {
        if self.paused.until.is_some() {
            self.resume_listeners();
        }
    }
}
