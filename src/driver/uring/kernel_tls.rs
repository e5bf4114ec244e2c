//! Encryption by the kernel: beginning it, and waiting until TCP has what was sent.
//!
//! Both are direct calls. The ring has no entry to set options in every kernel that has TLS, and its
//! `sendmsg` takes no control data in some. It waits for the socket to be writable.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};

use super::{Uring, Work};
use crate::driver::kernel_tls::{self, Alert, SendKeys};
use crate::driver::{Fault, OpId, Outcome, Socket};

impl Uring {
    pub(super) fn begin_kernel_tls(&mut self, id: OpId, socket: Socket, keys: &SendKeys) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.sending.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        let outcome = match kernel_tls::begin(state.socket.as_fd(), keys) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        self.emit(id, outcome);
    }

    pub(super) fn start_settling(&mut self, id: OpId, socket: Socket, alert: Option<Alert>) {
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.sending.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        state.sending = Some(id);
        self.in_flight.insert(id, Work::Settle { socket: socket.0, alert });
        self.settle(id);
    }

    /// The socket is writable, or the wait was cancelled.
    pub(super) fn on_settling(&mut self, id: OpId, result: i32) {
        if self.is_cancelled(id) {
            return self.finish(id, Outcome::Cancelled);
        }
        if result < 0 && !matches!(-result, libc::EINTR | libc::EAGAIN | libc::ECANCELED) {
            return self.finish(id, Outcome::Failed(Fault::Os(-result)));
        }
        self.settle(id);
    }

    fn settle(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Settle { socket, alert } = op_state.work else { return };
        let Some(state) = self.sockets.get(socket) else { return };
        let descriptor = state.socket.as_fd();
        match kernel_tls::settle(descriptor, alert) {
            Ok(()) => self.finish(id, Outcome::Done),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                let entry = opcode::PollAdd::new(types::Fd(descriptor.as_raw_fd()), libc::POLLOUT as u32).build();
                // SAFETY: the entry points to nothing.
                unsafe { self.submit(id, entry) };
            }
            Err(error) => self.finish(id, Outcome::Failed(Fault::from_io(&error))),
        }
    }
}
