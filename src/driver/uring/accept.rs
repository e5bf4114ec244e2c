//! `Accept`: accepts connections, and pauses when a limit is reached.
//!
//! # Listeners are non-blocking
//!
//! `O_NONBLOCK` is a property of the open file description, which other processes may share: a
//! service manager, the process that this one replaces, the one that replaces it. They rely on it,
//! so the driver never clears it. How the ring treats a non-blocking listener depends on the
//! kernel: some end an accept on an empty backlog with `EAGAIN` at once. So the entry asks for a
//! poll first (`IORING_ACCEPT_POLL_FIRST`); before Linux 6.10, which lacks that, a poll entry waits
//! and `accept4(2)` accepts.
//!
//! ```text
//!   with accept-poll-first   arm: Accept, polls first ──► connection ──► the next, by this entry or another
//!   without it               arm: PollAdd ──► readiness ──► accept4 until the backlog is empty or the quota spent
//! ```
//!
//! # An accept that stops wakes the others
//!
//! Several rings may wait on one socket: workers that share a unix socket, a process and its
//! replacement. For a connection the kernel wakes only the first of them (`EPOLLEXCLUSIVE`, which
//! the ring sets for accepting), and a cancel may overtake that wake-up. The connection would then
//! stay in the backlog while the others sleep. So an accept that stops wakes the other waiters.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::in_flight::Accepting;
use super::{Uring, Work};
use crate::driver::errno::{self, Kind};
use crate::driver::{Driver, Fault, Feature, OpId, Outcome, Peer, Socket, Time, shortage, sys};

/// How long accepting pauses after it hit a limit. Closing a descriptor ends the pause early.
///
/// The limit may be system-wide; then the end of the shortage is not reported to this process.
const PAUSE: Duration = Duration::from_millis(100);

/// With at most this many connections left to accept, they are accepted one by one: a multishot
/// accept takes all that wait, even beyond the limit. The number is larger than what usually
/// arrives in one turn, so a server near its limit stays within it.
const MULTISHOT_LEFT_MIN: u32 = 1024;

/// Connections that one poll of a listener accepts before other sockets are served.
const ACCEPTS_MAX: usize = 128;

/// `IORING_ACCEPT_POLL_FIRST`, in the entry's `ioprio` (`io_uring_prep_accept(3)`). The `io_uring`
/// crate has no name for it.
const ACCEPT_POLL_FIRST: u16 = 1 << 2;

/// Accepts that wait for descriptors or memory.
#[derive(Debug, Default)]
pub(super) struct Paused {
    accepts: Vec<OpId>,
    until: Option<Time>,
}

impl Paused {
    /// When to retry; `None` if no accept is paused.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }
}

/// What an accept without an entry in the kernel does next.
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
            // Exclusive, as the ring's own accept is: a connection wakes one waiter.
            opcode::PollAdd::new(descriptor, libc::POLLIN as u32 | libc::EPOLLEXCLUSIVE as u32).build()
        } else if is_multishot {
            poll_first(opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build())
        } else {
            let accept = opcode::Accept::new(descriptor, std::ptr::null_mut(), std::ptr::null_mut());
            poll_first(accept.flags(libc::SOCK_CLOEXEC).build())
        };
        // SAFETY: no address is requested, so the entry points to nothing.
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

    /// Whether one entry accepts many connections.
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

    /// The listener may have connections: accepts until the backlog is empty, the quota is spent,
    /// or a call fails.
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
        // Cancelled, by a state machine or by the kernel; or another thread or process took the
        // connection.
        if matches!(code, libc::ECANCELED | libc::EAGAIN) {
            return Next::Arm;
        }
        tracing::debug!(op = %id, %error, "cannot accept a connection");
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

    /// Continues an accept without an entry in the kernel.
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

    /// Counts a connection. Ends the accept if the requested number was reached, or cancels the
    /// entry if few enough are left to be accepted one by one.
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

    /// Wakes the other waiters on the listening socket, so that they check the backlog.
    fn wake_fellow_listeners(&mut self, id: OpId) {
        let Some(listener) = self.accepting(id).map(|accepting| accepting.listener) else { return };
        if let Some(state) = self.sockets.get(listener)
            && let Err(error) = sys::wake_waiters(state.socket.as_fd())
        {
            tracing::debug!(op = %id, %error, "cannot wake other processes or threads that accept on the same socket");
        }
    }

    pub(super) fn is_cancelled(&mut self, id: OpId) -> bool {
        self.in_flight.get_mut(id).is_some_and(|op_state| op_state.is_cancelled)
    }

    /// Retries all paused accepts.
    pub(super) fn resume_listeners(&mut self) {
        self.paused.until = None;
        for id in std::mem::take(&mut self.paused.accepts) {
            // It may have been cancelled in the meantime.
            if self.in_flight.get_mut(id).is_some_and(|op_state| !op_state.is_in_kernel) {
                self.arm_accept(id);
            }
        }
    }

    /// A descriptor was closed: paused accepts retry.
    pub(super) fn on_descriptor_closed(&mut self) {
        if self.paused.until.is_some() {
            self.resume_listeners();
        }
    }
}

/// Makes an accept poll for readiness first.
fn poll_first(mut entry: squeue::Entry) -> squeue::Entry {
    const IOPRIO_OFFSET: usize = 2;
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: the entry is `struct io_uring_sqe`, which the kernel's interface fixes (checked above by its size): two
    // bytes, then the 16 bits of `ioprio`, aligned as they are in an array of 64-byte entries with 8-byte fields.
    unsafe { *(&raw mut entry).cast::<u8>().add(IOPRIO_OFFSET).cast::<u16>() |= ACCEPT_POLL_FIRST };
    entry
}

/// The entry that probes for [`Feature::AcceptPollFirst`]: a single or a multishot accept.
pub(super) fn trial(listener: types::Fd, is_multishot: bool) -> squeue::Entry {
    poll_first(if is_multishot {
        opcode::AcceptMulti::new(listener).build()
    } else {
        opcode::Accept::new(listener, std::ptr::null_mut(), std::ptr::null_mut()).build()
    })
}
