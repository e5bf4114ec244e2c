//! Encryption by the kernel: beginning it, and waiting until TCP has what was sent.

use std::io;

use super::{Epoll, Next, Output, Socket};
use crate::driver::kernel_tls::{self, Alert, SendKeys};
use crate::driver::{Fault, OpId, Outcome};
use crate::table::Key;

impl Epoll {
    pub(super) fn begin_kernel_tls(&mut self, id: OpId, socket: Socket, keys: &SendKeys) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        if !matches!(state.output, Output::Idle) {
            return self.reject(id, libc::EBUSY);
        }
        self.counters.submissions += 1;
        let outcome = match kernel_tls::begin(state.descriptor(), keys) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        self.outbox.push(id, outcome);
    }

    pub(super) fn settle_kernel_tls(&mut self, key: Key<Socket>, id: OpId, alert: Option<Alert>) -> Next {
        let Some(state) = self.sockets.get_mut(key) else { return Next::Wait };
        self.counters.submissions += 1;
        let outcome = match kernel_tls::settle(state.descriptor(), alert) {
            Ok(()) => Outcome::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.writable = false;
                return Next::Wait;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Next::Again,
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        state.output = Output::Idle;
        self.outbox.finish(id, outcome);
        Next::Wait
    }
}
