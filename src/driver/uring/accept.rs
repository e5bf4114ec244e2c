//! `Accept`: connections as they arrive, and the pause when a limit is reached.
//!
//! # Listeners do not wait
//!
//! Whether calls on a listener wait (`O_NONBLOCK`) is a property of its open file description, which other processes may
//! share: a service manager, the process that this one replaces, the one that replaces it. They rely on it, so it is never
//! cleared here. What the ring makes of a listener that does not wait differs from kernel to kernel: some end an accept
//! that finds nobody with `EAGAIN` at once. So it is asked to wait for readiness first, and where it cannot be asked that
//! (before Linux 6.10), a poll waits, and `accept4(2)` accepts.
//!
//! ```text
//!   with accept-poll-first      arm: Accept, waits by itself ──► connection ──► the next, by the same entry or a new one
//!   without it                  arm: PollAdd ──► readiness ──► accept4 until nobody is left, or the quota is spent
//! ```
//!
//! # Whoever stops wakes the others
//!
//! Several rings may wait on one socket: workers that share a unix socket, a process and its successor. The kernel wakes only
//! the first of them for a connection (`EPOLLEXCLUSIVE`, which the ring sets for accepting), and a cancel may overtake that
//! wake-up. The connection would then lie in the backlog, and those who could take it would sleep. So whoever stops wakes them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::in_flight::Accepting;
use super::{Uring, Work};
use crate::driver::errno::{self, Kind};
use crate::driver::{Driver, Fault, Feature, OpId, Outcome, Peer, Socket, Time, shortage, sys};

/// How long accepting pauses after it ran into a limit, unless a descriptor is closed before.
///
/// The limit may be the machine's, and then nothing here tells when it is over.
const PAUSE: Duration = Duration::from_millis(100);

/// With fewer left to come they are accepted one by one: a multishot accept takes all who wait at once, wanted or not. More
/// than usually come in one turn, so that a server near its limit stays within it.
const MULTISHOT_LEFT_MIN: u32 = 1024;

/// So many connections one poll of a listener may deliver before the other sockets get their turn.
const ACCEPTS_MAX: usize = 128;

/// `IORING_ACCEPT_POLL_FIRST`, in the entry's `ioprio` (`io_uring_prep_accept(3)`): the binding has no name for it.
const ACCEPT_POLL_FIRST: u16 = 1 << 2;

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

/// What an accept that has no entry with the kernel does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Arm,
    Pause,
    End,
}

impl Uring {
    pub(super) fn start_accept(&mut self, id: OpId, listener: Socket, most: u32) {
        let Some(state) = self.sockets.get_mut(listener.0) else { return self.reject(id, libc::EBADF) };
        if state.receiving.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        state.receiving = Some(id);
        self.in_flight.insert(id, Work::Accept(Box::new(Accepting { listener: listener.0, left: most, failures: 0 })));
        self.arm_accept(id);
    }

    fn arm_accept(&mut self, id: OpId) {
        let is_multishot = self.is_multishot(id);
        let Some(descriptor) = self.listener_of(id) else { return };
        let entry = if !self.features.has(Feature::AcceptPollFirst) {
            // Exclusive, as accepting by the ring is: a connection wakes one of those who wait.
            opcode::PollAdd::new(descriptor, libc::POLLIN as u32 | libc::EPOLLEXCLUSIVE as u32).build()
        } else if is_multishot {
            poll_first(opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build())
        } else {
            let accept = opcode::Accept::new(descriptor, std::ptr::null_mut(), std::ptr::null_mut());
            poll_first(accept.flags(libc::SOCK_CLOEXEC).build())
        };
        // SAFETY: no address is asked for, so the entry points to nothing.
        unsafe { self.submit(id, entry) };
    }

    fn accepting(&mut self, id: OpId) -> Option<&mut Accepting> {
        match &mut self.in_flight.get_mut(id)?.work {
            Work::Accept(accepting) => Some(accepting),
            _ => None,
        }
    }

    fn listener_of(&mut self, id: OpId) -> Option<types::Fd> {
        let listener = self.accepting(id)?.listener;
        Some(types::Fd(self.sockets.get(listener)?.socket.as_raw_fd()))
    }

    /// Whether one entry is to accept them all.
    fn is_multishot(&mut self, id: OpId) -> bool {
        let is_many = self.accepting(id).is_some_and(|accepting| accepting.left > MULTISHOT_LEFT_MIN);
        is_many && self.features.has(Feature::AcceptMultishot)
    }

    pub(super) fn on_accept(&mut self, id: OpId, result: i32, flags: u32) {
        if !self.features.has(Feature::AcceptPollFirst) {
            return self.on_acceptable(id, result);
        }
        let next = match sys::adopt_result(result) {
            Ok(socket) => {
                let peer = sys::peer_of(socket.as_fd());
                self.deliver(id, socket, peer);
                self.count_accepted(id, cqueue::more(flags));
                Next::Arm
            }
            Err(error) => self.after_accept_error(id, &error),
        };
        if !cqueue::more(flags) {
            self.go_on_accepting(id, next, Fault::Os(-result));
        }
    }

    /// Somebody may wait on the listener: accepts until nobody is left, the quota is spent, or something goes wrong.
    fn on_acceptable(&mut self, id: OpId, result: i32) {
        let mut next = Next::Arm;
        let mut fault = Fault::Os(-result);
        if result < 0 {
            next = self.after_accept_error(id, &io::Error::from_raw_os_error(-result));
        }
        for _ in 0..ACCEPTS_MAX {
            if next != Next::Arm || self.is_cancelled(id) {
                break;
            }
            let Some(listener) = self.accepting(id).map(|accepting| accepting.listener) else { return };
            let Some(state) = self.sockets.get(listener) else { return };
            match sys::accept_from(state.socket.as_fd(), sys::Waiting::Allowed) {
                Ok((socket, peer)) => {
                    self.deliver(id, socket, peer);
                    self.count_accepted(id, false);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    next = self.after_accept_error(id, &error);
                    fault = Fault::from_io(&error);
                }
            }
        }
        self.go_on_accepting(id, next, fault);
    }

    fn deliver(&mut self, id: OpId, socket: OwnedFd, peer: Peer) {
        self.notsent_lowat.bound(socket.as_fd(), self.sockets.len());
        let socket = self.insert(socket);
        self.emit(id, Outcome::Accepted { socket, peer });
    }

    fn after_accept_error(&mut self, id: OpId, error: &io::Error) -> Next {
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        // Cancelled, by a machine or by the kernel; or somebody else took the connection.
        if matches!(code, libc::ECANCELED | libc::EAGAIN) {
            return Next::Arm;
        }
        tracing::debug!(op = %id, %error, "a connection could not be accepted");
        match errno::of_accept(code) {
            Kind::Final => Next::End,
            Kind::Moment => Next::Pause,
            Kind::Connection => {
                let Some(accepting) = self.accepting(id) else { return Next::Arm };
                accepting.failures += 1;
                if accepting.failures < errno::FAILURES_MAX { Next::Arm } else { Next::Pause }
            }
        }
    }

    /// Goes on with an accept that has no entry with the kernel.
    fn go_on_accepting(&mut self, id: OpId, next: Next, fault: Fault) {
        if self.is_cancelled(id) {
            self.wake_fellow_listeners(id);
            return self.finish(id, Outcome::Cancelled);
        }
        match next {
            Next::Arm => {
                self.counters.rearms += u64::from(self.is_multishot(id));
                self.arm_accept(id);
            }
            Next::Pause => {
                if let Fault::Os(code) = fault {
                    shortage::warn_accept_paused(&io::Error::from_raw_os_error(code));
                }
                self.counters.accept_pauses += 1;
                self.paused.accepts.push(id);
                self.paused.until = Some(self.now() + PAUSE);
                self.wake_fellow_listeners(id);
            }
            Next::End => {
                self.wake_fellow_listeners(id);
                self.finish(id, Outcome::Failed(fault));
            }
        }
    }

    /// Counts a connection; if enough have come, or so few are left that they are to be taken one by one, it ends.
    fn count_accepted(&mut self, id: OpId, is_multishot: bool) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Accept(accepting) = &mut op_state.work else { return };
        accepting.failures = 0;
        accepting.left = accepting.left.saturating_sub(1);
        let left_min = if is_multishot { MULTISHOT_LEFT_MIN } else { 0 };
        if accepting.left <= left_min && !op_state.is_cancelled {
            op_state.is_cancelled = true;
            if is_multishot {
                let entry = opcode::AsyncCancel::new(id.to_bits()).build().user_data(super::CANCEL);
                // SAFETY: the entry points to nothing.
                unsafe { self.push(entry) };
            }
        }
    }

    /// Has everybody else who waits on the listening socket look for what came meanwhile.
    fn wake_fellow_listeners(&mut self, id: OpId) {
        let Some(listener) = self.accepting(id).map(|accepting| accepting.listener) else { return };
        if let Some(state) = self.sockets.get(listener)
            && let Err(error) = sys::wake_waiters(state.socket.as_fd())
        {
            tracing::debug!(op = %id, %error, "others who accept on the same socket were not woken");
        }
    }

    pub(super) fn is_cancelled(&mut self, id: OpId) -> bool {
        self.in_flight.get_mut(id).is_some_and(|op_state| op_state.is_cancelled)
    }

    /// Lets every paused accept try again.
    pub(super) fn resume_listeners(&mut self) {
        self.paused.until = None;
        for id in std::mem::take(&mut self.paused.accepts) {
            // It may have been cancelled meanwhile.
            if self.in_flight.get_mut(id).is_some_and(|op_state| !op_state.is_in_kernel) {
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

/// Has an accept wait for readiness before it tries.
fn poll_first(mut entry: squeue::Entry) -> squeue::Entry {
    const IOPRIO_OFFSET: usize = 2;
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: the entry is `struct io_uring_sqe`, which the kernel's interface fixes (checked above by its size): two
    // bytes, then the 16 bits of `ioprio`, aligned as they are in an array of 64-byte entries with 8-byte fields.
    unsafe { *(&raw mut entry).cast::<u8>().add(IOPRIO_OFFSET).cast::<u16>() |= ACCEPT_POLL_FIRST };
    entry
}

/// The trial of [`Feature::AcceptPollFirst`]: such an accept, of one or of many.
pub(super) fn trial(listener: types::Fd, is_multishot: bool) -> squeue::Entry {
    poll_first(if is_multishot {
        opcode::AcceptMulti::new(listener).build()
    } else {
        opcode::Accept::new(listener, std::ptr::null_mut(), std::ptr::null_mut()).build()
    })
}
