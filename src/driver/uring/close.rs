//! `Shutdown`, `Flush`, `Reset`, `Close` and `CloseFile`: the end of a socket or a file.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{opcode, types};

use super::{Uring, Work};
use crate::driver::flush::FlushStatus;
use crate::driver::{Driver, Fault, Feature, File, OpId, Outcome, Socket, Time, sys};

impl Uring {
    pub(super) fn shut_down(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.sending.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        // A direct call: the ring would pass it to a kernel worker thread.
        let outcome = match sys::shutdown_write(state.socket.as_fd()) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        self.emit(id, outcome);
    }

    pub(super) fn start_flush(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.sending.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        match FlushStatus::of(state.socket.as_fd()) {
            FlushStatus::Left(left) => {
                state.sending = Some(id);
                self.in_flight.insert(id, Work::Flush { socket: socket.0 });
                self.flushes.add(id, socket.0, left, self.now());
            }
            flush_status @ (FlushStatus::Arrived | FlushStatus::Broken(_)) => {
                if let Some(outcome) = flush_status.outcome() {
                    self.emit(id, outcome);
                }
            }
        }
    }

    pub(super) fn ask_for_flushes(&mut self, now: Time) {
        let sockets = &self.sockets;
        let flush_status_of = |key| {
            let gone = FlushStatus::Broken(Fault::Os(libc::EBADF));
            sockets.get(key).map_or(gone, |state| FlushStatus::of(state.socket.as_fd()))
        };
        for (id, _, outcome) in self.flushes.ask(now, flush_status_of) {
            if outcome.is_final() { self.finish(id, outcome) } else { self.emit(id, outcome) }
        }
    }

    pub(super) fn reset(&mut self, id: OpId, socket: Socket) {
        let lost = self.sockets.get(socket.0).map(|state| {
            let lost = sys::unacknowledged(state.socket.as_fd()).unwrap_or(0);
            // Unix sockets do not have this option, and closing one is already abrupt.
            let _ = sys::reset_on_close(state.socket.as_fd());
            u32::try_from(lost).unwrap_or(u32::MAX)
        });
        self.let_go(id, socket, lost);
    }

    pub(super) fn close(&mut self, id: OpId, socket: Socket) {
        self.let_go(id, socket, None);
    }

    fn let_go(&mut self, id: OpId, socket: Socket, lost: Option<u32>) {
        let Some(state) = self.sockets.remove(socket.0) else { return self.reject(id, libc::EBADF) };
        debug_assert!(
            state.receiving.is_none() && state.sending.is_none(),
            "guarantee 6: {socket:?} is closed while {state:?}"
        );
        self.close_descriptor(id, state.socket, lost);
    }

    pub(super) fn close_file(&mut self, id: OpId, file: File) {
        match self.files.remove(file.0).map(Arc::try_unwrap) {
            Some(Ok(descriptor)) => self.close_descriptor(id, descriptor, None),
            // A cancelled read still holds it, and closes it when it ends.
            Some(Err(_)) => self.emit(id, Outcome::Done),
            None => self.reject(id, libc::EBADF),
        }
    }

    fn close_descriptor(&mut self, id: OpId, descriptor: OwnedFd, lost: Option<u32>) {
        if self.features.has(Feature::RingClose) {
            let descriptor = descriptor.into_raw_fd();
            let entry = opcode::Close::new(types::Fd(descriptor)).build();
            self.in_flight.insert(id, Work::Close { descriptor, lost });
            // SAFETY: the entry points to nothing, and only the entry closes the descriptor.
            unsafe { self.submit(id, entry) };
        } else {
            drop(descriptor);
            self.on_descriptor_closed();
            self.emit(id, closed(lost));
        }
    }

    pub(super) fn on_close(&mut self, id: OpId, lost: Option<u32>) {
        self.on_descriptor_closed();
        self.finish(id, closed(lost));
    }
}

/// The outcome of closing a descriptor. For a reset, `lost` is the number of bytes lost.
fn closed(lost: Option<u32>) -> Outcome {
    lost.map_or(Outcome::Done, |lost| Outcome::Reset { lost: lost.into() })
}
