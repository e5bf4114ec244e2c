//! `Connect`: starts at once and ends when the socket becomes writable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{Epoll, Location, Next, Output, SocketState};
use crate::driver::unix_connect_retry::UnixConnectRetries;
use crate::driver::{Address, Driver, Fault, OpId, Outcome, Socket, Time, sys};
use crate::table::Key;

impl Epoll {
    pub(super) fn start_connect(&mut self, id: OpId, address: Address) {
        self.counters.submissions += 1;
        let state = match begin(&address) {
            Ok((socket, Progress::Established)) => SocketState::new(socket),
            Ok((socket, Progress::Pending)) => SocketState::connecting(socket, id),
            Err(error) if UnixConnectRetries::is_meant_by(&error, &address) => {
                self.outbox.enter(id, Location::UnixConnectRetry);
                self.unix_connect_retries.add(id, address, self.now());
                return;
            }
            Err(error) => return self.outbox.push(id, Outcome::Failed(Fault::from_io(&error))),
        };
        let is_established = state.is_idle();
        self.notsent_lowat.bound(state.descriptor(), self.sockets.len());
        let poller = &self.poller;
        let mut registered = Ok(());
        // Registered only now: epoll reports a socket without a connect as hung up (`EPOLLHUP`).
        let key = self.sockets.insert_with(|key| {
            registered = poller.add(state.descriptor(), key);
            state
        });
        match registered {
            Ok(()) if is_established => self.outbox.push(id, Outcome::Connected(Socket(key))),
            Ok(()) => self.outbox.enter(id, Location::Output(key)),
            Err(error) => {
                self.abandon(key);
                self.outbox.push(id, Outcome::Failed(Fault::from_io(&error)));
            }
        }
    }

    /// Retries connects over unix sockets whose server had a full backlog.
    pub(super) fn retry_connects(&mut self, now: Time) {
        for (id, address) in self.unix_connect_retries.take_due(now) {
            // It may have been cancelled in the meantime.
            if self.outbox.location_of(id) == Some(Location::UnixConnectRetry) {
                self.outbox.leave(id);
                self.start_connect(id, address);
            }
        }
    }

    pub(super) fn finish_connect(&mut self, key: Key<Socket>, id: OpId) -> Next {
        let Some(state) = self.sockets.get_mut(key) else { return Next::Wait };
        state.output = Output::Idle;
        match sys::take_error(state.descriptor()) {
            Ok(()) => self.outbox.finish(id, Outcome::Connected(Socket(key))),
            Err(error) => {
                self.abandon(key);
                self.outbox.finish(id, Outcome::Failed(Fault::from_io(&error)));
            }
        }
        Next::Wait
    }
}

enum Progress {
    Established,
    Pending,
}

fn begin(address: &Address) -> io::Result<(OwnedFd, Progress)> {
    let socket = sys::stream_socket(address)?;
    match sys::connect(socket.as_fd(), address) {
        Ok(()) => Ok((socket, Progress::Established)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok((socket, Progress::Pending))
        }
        Err(error) => Err(error),
    }
}
