//! `Connect`: a new socket, through the ring, or by `connect(2)` and a poll.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{opcode, types};
use socket2::SockAddr;

use super::{Uring, Work};
use crate::driver::{Fault, Feature, OpId, Outcome, sys};

/// A connect in flight.
#[derive(Debug)]
pub(super) struct Attempt {
    socket: OwnedFd,
    /// Boxed, since the kernel reads it where it is. `None`: a poll tells when `connect(2)` is over.
    address: Option<Box<SockAddr>>,
}

impl Uring {
    pub(super) fn start_connect(&mut self, id: OpId, address: SocketAddr) {
        let attempt = if self.features.has(Feature::RingConnect) { by_ring(address) } else { by_call(address) };
        let attempt = match attempt {
            Ok(attempt) => attempt,
            Err(error) => return self.emit(id, Outcome::Failed(Fault::from_io(&error))),
        };
        let descriptor = types::Fd(attempt.socket.as_raw_fd());
        let entry = match &attempt.address {
            Some(address) => opcode::Connect::new(descriptor, address.as_ptr().cast(), address.len()).build(),
            None => opcode::PollAdd::new(descriptor, libc::POLLOUT as u32).build(),
        };
        self.flights.insert(id, Work::Connect(attempt));
        // SAFETY: the boxed address belongs to the flight, which lives until the completion.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_connect(&mut self, id: OpId, result: i32) {
        let Some(mut flight) = self.flights.remove(id) else { return };
        let Work::Connect(attempt) = std::mem::replace(&mut flight.work, Work::Offloaded) else { return };
        let connected = match (result, &attempt.address) {
            (0.., Some(_)) => Ok(()),
            (0.., None) => sys::connect_result(attempt.socket.as_fd()).and_then(|()| {
                // From here on the ring works with it.
                sys::set_blocking(attempt.socket.as_fd())
            }),
            (error, _) => Err(io::Error::from_raw_os_error(-error)),
        };
        let outcome = match connected {
            Ok(()) => Outcome::Connected(self.insert(attempt.socket)),
            Err(error) => {
                drop(attempt);
                self.on_descriptor_closed();
                if flight.is_cancelled { Outcome::Cancelled } else { Outcome::Failed(Fault::from_io(&error)) }
            }
        };
        self.emit(id, outcome);
    }
}

fn by_ring(address: SocketAddr) -> io::Result<Attempt> {
    let socket = sys::tcp_socket(address)?;
    sys::set_blocking(socket.as_fd())?;
    Ok(Attempt { socket, address: Some(Box::new(SockAddr::from(address))) })
}

fn by_call(address: SocketAddr) -> io::Result<Attempt> {
    let socket = sys::tcp_socket(address)?;
    match sys::connect(socket.as_fd(), address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(Attempt { socket, address: None }),
    }
}
