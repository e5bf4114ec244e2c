//! `Connect`: started at once, over when the socket turns writable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{Endpoint, Epoll, Next, Output, Place};
use crate::driver::backlog::FullBacklogs;
use crate::driver::{Address, Driver, Fault, OpId, Outcome, Socket, Time, sys};
use crate::table::Key;

impl Epoll {
    pub(super) fn start_connect(&mut self, id: OpId, address: Address) {
        self.counters.submissions += 1;
        let endpoint = match begin(&address) {
            Ok((socket, Progress::Established)) => Endpoint::new(socket),
            Ok((socket, Progress::Pending)) => Endpoint::connecting(socket, id),
            Err(error) if FullBacklogs::is_meant_by(&error, &address) => {
                self.outbox.enter(id, Place::Backlog);
                self.backlogs.add(id, address, self.now());
                return;
            }
            Err(error) => return self.outbox.push(id, Outcome::Failed(Fault::from_io(&error))),
        };
        let is_established = endpoint.is_idle();
        self.send_room.bound(endpoint.descriptor(), self.sockets.len());
        let poller = &self.poller;
        let mut registered = Ok(());
        // Only now: epoll would report a socket that was never told to connect as hung up.
        let key = self.sockets.insert_with(|key| {
            registered = poller.add(endpoint.descriptor(), key);
            endpoint
        });
        match registered {
            Ok(()) if is_established => self.outbox.push(id, Outcome::Connected(Socket(key))),
            Ok(()) => self.outbox.enter(id, Place::Output(key)),
            Err(error) => {
                self.abandon(key);
                self.outbox.push(id, Outcome::Failed(Fault::from_io(&error)));
            }
        }
    }

    /// Lets those try again who found a backlog full a while ago.
    pub(super) fn retry_connects(&mut self, now: Time) {
        for (id, address) in self.backlogs.take_due(now) {
            // It may have been cancelled meanwhile.
            if self.outbox.place_of(id) == Some(Place::Backlog) {
                self.outbox.leave(id);
                self.start_connect(id, address);
            }
        }
    }

    pub(super) fn finish_connect(&mut self, key: Key, id: OpId) -> Next {
        let Some(endpoint) = self.sockets.get_mut(key) else { return Next::Wait };
        endpoint.output = Output::Idle;
        match sys::take_error(endpoint.descriptor()) {
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
