//! `Recv`: receives into buffers that the kernel picks from a buffer ring.
//!
//! ```text
//!             multishot, small buffers                 one at a time, large buffers
//!   start ──► Stream ──── bulk: cancel ──► Switching ──► Queued ──► Once(Large) ──┐
//!               ▲  │ no buffer                             │ ▲         │          │ each completion
//!               │  └──────► Starving ◄─────────────────────┼─┼─────────┘          │
//!               └────────────── messages again ◄───────────┘ └────────────────────┘
//! ```
//!
//! A paused receive has no receive entry, and polls for errors only (`Watching`) until it is
//! resumed.
//!
//! While buffers are scarce, and without multishot receives, `Once(Small)` takes the place of
//! `Stream`. Without buffer rings, a receive polls for readiness and then receives into a buffer of
//! the pool. While buffers are scarce, every receive is queued like those into large buffers
//! (below), and a stream that receives anything is cancelled: of the last buffers a connection gets
//! one at a time.
//!
//! A receive into a large buffer is queued until the state machines have acted on the one before.
//! If those bytes fill what the connection may hold, the state machine cancels or pauses the
//! receive before it reaches the kernel. At most [`BULK_ARMS_MAX`] of them are submitted at once,
//! after the sends of the turn, so that bytes are sent on while they are still in the processor's
//! cache.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{cqueue, opcode, squeue, types};

use super::{RecvSize, Uring, Work};
use crate::buffer::{Buffer, SizeClass};
use crate::driver::{Fault, Feature, OpId, Outcome, Socket, shortage, sys};

/// Direct receive calls for one socket before other sockets are served.
const DIRECT_READS_MAX: usize = 16;

/// Receives into large buffers that one system call submits. The next call sends what they bring, 4
/// MiB.
const BULK_ARMS_MAX: usize = 16;

/// System calls after which a paused connection is polled for errors.
const PARKED_ENTERS_MAX: u64 = 32;

/// What a receive waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arming {
    /// A multishot receive into small buffers.
    Stream,
    /// As `Stream`, but the driver has cancelled it: large buffers come next.
    Switching,
    /// One receive into a buffer of this size.
    Once(SizeClass),
    /// A poll for readiness.
    Readiness,
    /// Queued for a buffer.
    Starving,
    /// Queued to be submitted.
    Queued,
    /// Paused recently: queued for a poll for errors.
    Parked,
    /// Paused: a poll for errors.
    Watching,
    /// Paused, and the connection is over: nothing to wait for.
    Told,
}

impl Uring {
    pub(super) fn start_recv(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.receiving.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        state.receiving = Some(id);
        self.in_flight.insert(id, Work::Recv { socket: socket.0, arming: Arming::Queued });
        self.queue_or_arm(id);
    }

    /// Submits a receive, or queues it if the state machines may cancel or pause it after they have
    /// acted on earlier bytes: one into a large buffer, and any while buffers are scarce.
    fn queue_or_arm(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { socket, arming } = &mut op_state.work else { return };
        let Some(state) = self.sockets.get(*socket) else { return };
        if state.recv_size.class() == SizeClass::Large && self.large.is_some() || self.pool.is_scarce() {
            *arming = Arming::Queued;
            self.queued_receives.push_back(id);
        } else {
            self.arm_recv(id);
        }
    }

    /// Submits queued receives, the oldest first, a few into large buffers at a time.
    pub(super) fn arm_queued(&mut self) {
        let mut bulk_left = BULK_ARMS_MAX;
        while bulk_left > 0
            && let Some(id) = self.queued_receives.pop_front()
        {
            // A receive that was cancelled in the meantime is gone, and its index may be in use
            // again.
            if self.arming_of(id) == Some(Arming::Queued) {
                self.arm_recv(id);
                bulk_left -= usize::from(self.arming_of(id) == Some(Arming::Once(SizeClass::Large)));
            }
        }
    }

    fn arming_of(&mut self, id: OpId) -> Option<Arming> {
        match self.in_flight.get_mut(id)?.work {
            Work::Recv { arming, .. } => Some(arming),
            _ => None,
        }
    }

    /// Submits the receive that suits the socket now.
    fn arm_recv(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { socket, arming } = &mut op_state.work else { return };
        let Some(state) = self.sockets.get(*socket) else { return };
        let descriptor = types::Fd(state.socket.as_raw_fd());
        let is_scarce = self.pool.is_scarce();
        let entry = match (state.recv_size.class(), &self.small, &self.large) {
            (SizeClass::Large, _, Some(large)) if !is_scarce => {
                *arming = Arming::Once(SizeClass::Large);
                receive_once(descriptor, self.pool.size(SizeClass::Large), large.group())
            }
            // A stream runs until it is cancelled, and may take many buffers until then.
            (_, Some(small), _) if self.features.has(Feature::RecvMultishot) && !is_scarce => {
                *arming = Arming::Stream;
                opcode::RecvMulti::new(descriptor, small.group()).build()
            }
            (_, Some(small), _) => {
                *arming = Arming::Once(SizeClass::Small);
                receive_once(descriptor, self.pool.size(SizeClass::Small), small.group())
            }
            (_, None, _) => {
                *arming = Arming::Readiness;
                opcode::PollAdd::new(descriptor, (libc::POLLIN | libc::POLLRDHUP) as u32).build()
            }
        };
        // SAFETY: the kernel uses memory of a registered buffer ring, or none.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_recv(&mut self, id: OpId, result: i32, flags: u32) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { arming, .. } = op_state.work else { return };
        let is_last = !cqueue::more(flags);
        match arming {
            Arming::Readiness => return self.on_readable(id, result),
            Arming::Watching => return self.on_watched(id, result, is_last),
            Arming::Stream | Arming::Switching | Arming::Once(_) => {}
            Arming::Starving | Arming::Queued | Arming::Parked | Arming::Told => {}
        }
        let buffer = cqueue::buffer_select(flags)
            .and_then(|index| self.take_buffer(id, index, usize::try_from(result).unwrap_or(0)));
        match result {
            1.. => {
                let Some(buffer) = buffer else {
                    debug_assert!(false, "{result} bytes without a buffer");
                    return self.finish_recv(id, Outcome::Failed(Fault::Os(libc::EIO)), is_last);
                };
                let length = buffer.len();
                self.emit(id, Outcome::Received(buffer));
                self.learn(id, length, is_last);
                if is_last {
                    self.go_on(id, arming);
                }
            }
            0 => self.finish_recv(id, Outcome::Eof, is_last),
            error => match -error {
                libc::ENOBUFS if self.is_cancelled(id) => self.finish_recv(id, Outcome::Cancelled, is_last),
                libc::ENOBUFS => self.starve(id, arming),
                // Cancelled by the driver or by a state machine.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN if is_last => self.go_on(id, arming),
                errno => self.finish_recv(id, Outcome::Failed(Fault::Os(errno)), is_last),
            },
        }
    }

    /// Continues after an entry's last completion: submits the next one, unless the receive is
    /// cancelled or paused.
    fn go_on(&mut self, id: OpId, arming: Arming) {
        if self.is_cancelled(id) {
            return self.finish(id, Outcome::Cancelled);
        }
        if self.is_paused(id) {
            return self.park(id);
        }
        self.counters.rearms += u64::from(arming == Arming::Stream);
        self.queue_or_arm(id);
    }

    pub(super) fn pause(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { arming, .. } = op_state.work else { return };
        op_state.is_paused = true;
        match arming {
            Arming::Stream | Arming::Once(_) | Arming::Readiness if op_state.is_in_kernel => self.cancel_entry(id),
            Arming::Starving | Arming::Queued => self.park(id),
            // The entry is ending already; `go_on` then sees that the receive is paused.
            Arming::Stream | Arming::Switching | Arming::Once(_) | Arming::Readiness => {}
            Arming::Parked | Arming::Watching | Arming::Told => {}
        }
    }

    pub(super) fn resume(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { arming, .. } = op_state.work else { return };
        if !std::mem::replace(&mut op_state.is_paused, false) {
            return;
        }
        match arming {
            Arming::Watching if op_state.is_in_kernel => self.cancel_entry(id),
            Arming::Parked | Arming::Watching | Arming::Told => self.queue_or_arm(id),
            // The entry that it waited with has not ended yet.
            Arming::Stream | Arming::Switching | Arming::Once(_) | Arming::Readiness => {}
            Arming::Starving | Arming::Queued => {}
        }
    }

    /// Parks a paused receive. A relay whose peer is full resumes as soon as its bytes are sent, so
    /// a poll for errors is submitted only if the pause lasts.
    fn park(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { arming, .. } = &mut op_state.work else { return };
        *arming = Arming::Parked;
        self.parked.push_back((id, self.counters.enters));
    }

    /// Polls parked receives for errors: those parked for some system calls, or all if the next
    /// call may wait.
    pub(super) fn watch_parked(&mut self, may_wait: bool) {
        while let Some(&(id, since)) = self.parked.front()
            && (may_wait || self.counters.enters - since >= PARKED_ENTERS_MAX)
        {
            self.parked.pop_front();
            // A receive that was resumed or cancelled in the meantime is no longer parked.
            if self.arming_of(id) == Some(Arming::Parked) {
                self.watch_errors(id);
            }
        }
    }

    /// Polls for errors of the connection only.
    ///
    /// For any poll the kernel also reports the peer's end of input (`POLLRDHUP`). It does so once,
    /// because the poll is multishot and stays armed.
    fn watch_errors(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Recv { socket, arming } = &mut op_state.work else { return };
        let Some(state) = self.sockets.get(*socket) else { return };
        *arming = Arming::Watching;
        let entry = opcode::PollAdd::new(types::Fd(state.socket.as_raw_fd()), 0).multi(true).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.submit(id, entry) };
    }

    fn on_watched(&mut self, id: OpId, result: i32, is_last: bool) {
        let over = i32::from(libc::POLLERR | libc::POLLHUP);
        let is_over = result > 0 && result & over != 0;
        if is_over && let Some(fault) = self.error_of(id) {
            self.emit(id, Outcome::Broken(fault));
        }
        if !is_last {
            return;
        }
        if self.is_cancelled(id) || !self.is_paused(id) {
            return self.go_on(id, Arming::Watching);
        }
        if is_over || (result < 0 && result != -libc::ECANCELED) {
            if let Some(op_state) = self.in_flight.get_mut(id)
                && let Work::Recv { arming, .. } = &mut op_state.work
            {
                *arming = Arming::Told;
            }
            return;
        }
        self.park(id);
    }

    fn is_paused(&mut self, id: OpId) -> bool {
        self.in_flight.get_mut(id).is_some_and(|op_state| op_state.is_paused)
    }

    /// The error of a receive's connection, if any (`SO_ERROR`). Reading it clears it.
    fn error_of(&mut self, id: OpId) -> Option<Fault> {
        let Work::Recv { socket, .. } = self.in_flight.get_mut(id)?.work else { return None };
        let state = self.sockets.get(socket)?;
        sys::take_error(state.socket.as_fd()).err().map(|error| Fault::from_io(&error))
    }

    fn finish_recv(&mut self, id: OpId, outcome: Outcome, is_last: bool) {
        debug_assert!(is_last, "{outcome:?} before the last completion");
        self.finish(id, outcome);
    }

    /// Takes the buffer that a completion names.
    pub(super) fn take_buffer(&mut self, id: OpId, index: u16, length: usize) -> Option<Buffer> {
        let Work::Recv { arming, .. } = self.in_flight.get_mut(id)?.work else { return None };
        let ring = match arming {
            Arming::Once(SizeClass::Large) => self.large.as_mut()?,
            Arming::Stream | Arming::Switching | Arming::Once(SizeClass::Small) => self.small.as_mut()?,
            Arming::Readiness
            | Arming::Starving
            | Arming::Queued
            | Arming::Parked
            | Arming::Watching
            | Arming::Told => return None,
        };
        if length == 0 {
            ring.unused(&self.pool, index);
            return None;
        }
        Some(ring.received(&self.pool, index, length))
    }

    /// Records how many bytes were received. Cancels a stream that has become bulk, to continue
    /// with large buffers. While buffers are scarce, cancels any stream, to continue with one
    /// buffer at a time.
    fn learn(&mut self, id: OpId, length: usize, is_last: bool) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let is_unwanted = op_state.is_cancelled || op_state.is_paused;
        let Work::Recv { socket, arming } = &mut op_state.work else { return };
        if *arming == Arming::Switching {
            // The last bytes of a cancelled stream fill small buffers; counting them would suggest
            // small ones.
            return;
        }
        let Some(state) = self.sockets.get_mut(*socket) else { return };
        let before = state.recv_size.class();
        state.recv_size = state.recv_size.after(length, self.pool.size(SizeClass::Small));
        let mut is_promoted = before == SizeClass::Small && state.recv_size.class() == SizeClass::Large;
        let is_scarce = self.pool.is_scarce();
        if is_promoted && (is_scarce || self.large.as_ref().is_none_or(|large| large.filled() == 0)) {
            // No large buffer is free: it continues with small ones and may switch later.
            state.recv_size = RecvSize::default();
            is_promoted = false;
        }
        self.counters.promotions += u64::from(is_promoted);
        if (is_promoted || is_scarce) && *arming == Arming::Stream && !is_last && !is_unwanted {
            *arming = Arming::Switching;
            self.cancel_entry(id);
        }
    }

    fn starve(&mut self, id: OpId, arming: Arming) {
        self.counters.buffers_exhausted += 1;
        let ring = match arming {
            Arming::Once(SizeClass::Large) => self.large.as_mut(),
            Arming::Stream | Arming::Switching | Arming::Once(SizeClass::Small) => self.small.as_mut(),
            Arming::Readiness
            | Arming::Starving
            | Arming::Queued
            | Arming::Parked
            | Arming::Watching
            | Arming::Told => None,
        };
        if let Some(ring) = ring {
            ring.widen();
        }
        if self.is_paused(id) {
            return self.park(id);
        }
        if let Some(op_state) = self.in_flight.get_mut(id)
            && let Work::Recv { arming, .. } = &mut op_state.work
        {
            *arming = Arming::Starving;
        }
        self.starving.push_back(id);
    }

    /// Fills the buffer rings, and submits starving receives while there are buffers.
    ///
    /// Buffers are freed between turns (a state machine drops one) or with a completion (a send
    /// ends), and a turn with completions ends. So checking once a round misses none.
    pub(super) fn feed_starving(&mut self) {
        for ring in [&mut self.small, &mut self.large].into_iter().flatten() {
            ring.refill(&self.pool);
        }
        for _ in 0..self.starving.len() {
            let Some(id) = self.starving.pop_front() else { return };
            let Some(op_state) = self.in_flight.get_mut(id) else { continue };
            let Work::Recv { socket, arming: Arming::Starving } = op_state.work else { continue };
            let Some(state) = self.sockets.get_mut(socket) else { continue };
            if self.pool.is_scarce() || self.large.as_ref().is_none_or(|large| large.filled() == 0) {
                // Small buffers rather than none, and now: no other event might end the wait that
                // follows.
                state.recv_size = RecvSize::default();
            }
            let has_buffer = match (state.recv_size.class(), &self.small, &self.large) {
                (SizeClass::Large, _, Some(large)) => large.filled() > 0,
                (_, Some(small), _) => small.filled() > 0,
                (_, None, _) => match self.pool.take(SizeClass::Small) {
                    Some(probe) => {
                        self.pool.give_back(probe);
                        true
                    }
                    None => false,
                },
            };
            if has_buffer {
                self.arm_recv(id);
            } else {
                self.starving.push_back(id);
                shortage::warn_no_buffer();
            }
        }
    }

    /// The socket is readable: receives directly until it is empty, the quota is spent, or no
    /// buffer is free.
    fn on_readable(&mut self, id: OpId, result: i32) {
        if result < 0 && result != -libc::ECANCELED {
            return self.finish(id, Outcome::Failed(Fault::Os(-result)));
        }
        if self.is_cancelled(id) || self.is_paused(id) {
            return self.go_on(id, Arming::Readiness);
        }
        for _ in 0..if self.pool.is_scarce() { 1 } else { DIRECT_READS_MAX } {
            let Some(Work::Recv { socket, .. }) = self.in_flight.get_mut(id).map(|op_state| &op_state.work) else {
                return;
            };
            let Some(state) = self.sockets.get(*socket) else { return };
            let fill = |memory: &mut [u8]| sys::recv(state.socket.as_fd(), memory);
            match self.pool.filled(SizeClass::Small, fill) {
                None => return self.starve(id, Arming::Readiness),
                Some(Ok(buffer)) if buffer.is_empty() => return self.finish(id, Outcome::Eof),
                Some(Ok(buffer)) => {
                    let is_short = buffer.len() < buffer.capacity();
                    self.emit(id, Outcome::Received(buffer));
                    if is_short {
                        break;
                    }
                }
                Some(Err(error)) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    _ => return self.finish(id, Outcome::Failed(Fault::from_io(&error))),
                },
            }
        }
        self.queue_or_arm(id);
    }
}

fn receive_once(descriptor: types::Fd, length: usize, group: u16) -> squeue::Entry {
    opcode::Recv::new(descriptor, std::ptr::null_mut(), length as u32)
        .buf_group(group)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}
