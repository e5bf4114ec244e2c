//! `Connect`: a new socket, through the ring, or by `connect(2)` and a poll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{opcode, types};
use socket2::SockAddr;

use super::{Uring, Work};
use crate::driver::unix_connect_retry::UnixConnectRetries;
use crate::driver::{Address, Driver, Fault, Feature, OpId, Outcome, Time, sys};

/// A connect in flight.
#[derive(Debug)]
pub(super) struct ConnectAttempt {
    socket: OwnedFd,
    address: Address,
    /// Boxed: the kernel reads it in place. `None`: a poll reports the end of a `connect(2)`.
    name: Option<Box<SockAddr>>,
}

impl Uring {
    pub(super) fn start_connect(&mut self, id: OpId, address: Address) {
        let begin = if self.features.has(Feature::RingConnect) { by_ring } else { by_call };
        let attempt = match begin(&address) {
            Ok((socket, name)) => ConnectAttempt { socket, address, name },
            Err(error) if UnixConnectRetries::is_meant_by(&error, &address) => return self.connect_later(id, address),
            Err(error) => return self.emit(id, Outcome::Failed(Fault::from_io(&error))),
        };
        let descriptor = types::Fd(attempt.socket.as_raw_fd());
        let entry = match &attempt.name {
            Some(name) => opcode::Connect::new(descriptor, name.as_ptr().cast(), name.len()).build(),
            None => opcode::PollAdd::new(descriptor, libc::POLLOUT as u32).build(),
        };
        self.in_flight.insert(id, Work::Connect(Box::new(attempt)));
        // SAFETY: the boxed address belongs to the operation's state, which lives until the
        // completion.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_connect(&mut self, id: OpId, result: i32) {
        let Some(mut op_state) = self.in_flight.remove(id) else { return };
        let Work::Connect(attempt) = std::mem::replace(&mut op_state.work, Work::ConnectLater) else { return };
        let ConnectAttempt { socket, address, name } = *attempt;
        let connected = match (result, name) {
            (0.., Some(_)) => Ok(()),
            (0.., None) => sys::take_error(socket.as_fd()),
            (error, _) => Err(io::Error::from_raw_os_error(-error)),
        };
        // From here on the ring uses the socket.
        let outcome = match connected.and_then(|()| sys::set_blocking(socket.as_fd())) {
            Ok(()) => {
                self.notsent_lowat.bound(socket.as_fd(), self.sockets.len());
                Outcome::Connected(self.insert(socket))
            }
            Err(error) => {
                drop(socket);
                self.on_descriptor_closed();
                if op_state.is_cancelled {
                    Outcome::Cancelled
                } else if UnixConnectRetries::is_meant_by(&error, &address) {
                    return self.connect_later(id, address);
                } else {
                    Outcome::Failed(Fault::from_io(&error))
                }
            }
        };
        self.emit(id, outcome);
    }

    fn connect_later(&mut self, id: OpId, address: Address) {
        self.in_flight.insert(id, Work::ConnectLater);
        self.unix_connect_retries.add(id, address, self.now());
    }

    /// Retries connects over unix sockets whose server had a full backlog.
    pub(super) fn retry_connects(&mut self, now: Time) {
        for (id, address) in self.unix_connect_retries.take_due(now) {
            // It may have been cancelled in the meantime.
            if self.in_flight.remove(id).is_some() {
                self.start_connect(id, address);
            }
        }
    }
}

type Begun = (OwnedFd, Option<Box<SockAddr>>);

fn by_ring(address: &Address) -> io::Result<Begun> {
    let socket = sys::stream_socket(address)?;
    match address {
        Address::Inet(_) => sys::set_blocking(socket.as_fd())?,
        // A unix connect waits only for a full backlog, and would occupy a kernel worker thread
        // meanwhile.
        Address::Unix(_) => {}
    }
    Ok((socket, Some(Box::new(address.to_sockaddr()?))))
}

fn by_call(address: &Address) -> io::Result<Begun> {
    let socket = sys::stream_socket(address)?;
    match sys::connect(socket.as_fd(), address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok((socket, None)),
    }
}
