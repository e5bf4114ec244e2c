//! One socket as the epoll driver sees it: its descriptor, what may be ready, what is in flight.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::poller::Readiness;
use super::send_file::Transfer;
use crate::buffer::Chain;
use crate::driver::recv_size::RecvSize;
use crate::driver::{Fault, OpId};

/// A socket. At most one operation is in flight in each direction (promise 6).
#[derive(Debug)]
pub(super) struct SocketState {
    socket: OwnedFd,
    /// An attempt to receive or accept may succeed; cleared when one would have waited.
    pub(super) readable: bool,
    /// An attempt to send may succeed; cleared when one would have waited.
    pub(super) writable: bool,
    /// A receive that fills only part of its buffer has emptied the socket, so the next edge is
    /// still to come. Not so once an end, an error or urgent data was announced: the edge for what
    /// follows the short read has been spent.
    pub(super) short_read_is_last: bool,
    /// The kernel has announced an error, or that both halves are over.
    pub(super) is_over: bool,
    /// It is on the driver's ready list.
    pub(super) queued: bool,
    /// It is on the driver's starving list.
    pub(super) starving: bool,
    /// epoll would not have it; every operation fails with this.
    pub(super) unusable: Option<Fault>,
    pub(super) recv_size: RecvSize,
    pub(super) input: Input,
    pub(super) output: Output,
}

/// What is in flight in the receiving direction.
#[derive(Debug, Default)]
pub(super) enum Input {
    #[default]
    Idle,
    Accept {
        id: OpId,
        /// So many more may come.
        left: u32,
        /// Connections in a row that had failed before they were accepted.
        failures: u32,
        /// Waits for descriptors or memory, not for readiness.
        paused: bool,
    },
    Recv {
        id: OpId,
        /// Nothing is wanted but news of an error.
        paused: bool,
    },
}

/// What is in flight in the sending direction.
#[derive(Debug, Default)]
pub(super) enum Output {
    #[default]
    Idle,
    Connect {
        id: OpId,
    },
    Send {
        id: OpId,
        /// What the kernel has not taken yet.
        chain: Chain,
    },
    Flush {
        id: OpId,
    },
    /// Boxed, since most sockets never send a file and should be small.
    SendFile(Box<Transfer>),
}

/// How it goes on with an operation that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It has ended, or something will call for it: an edge, a buffer, an answer.
    Wait,
    /// It spent its quota and could go on at once.
    Again,
}

impl SocketState {
    /// A socket on which everything is worth a try.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            short_read_is_last: true,
            is_over: false,
            queued: false,
            starving: false,
            unusable: None,
            recv_size: RecvSize::default(),
            input: Input::Idle,
            output: Output::Idle,
        }
    }

    /// A socket whose connect is in progress: the first edge tells that it is over.
    pub(super) fn connecting(socket: OwnedFd, id: OpId) -> Self {
        Self { readable: false, writable: false, output: Output::Connect { id }, ..Self::new(socket) }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!((&self.input, &self.output), (Input::Idle, Output::Idle))
    }

    /// Notes an edge; says whether an operation in flight waited for it.
    pub(super) const fn on_readiness(&mut self, readiness: Readiness) -> bool {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.short_read_is_last &= !readiness.exceptional;
        self.is_over |= readiness.over;
        (readiness.readable && !matches!(self.input, Input::Idle))
            || (readiness.writable && !matches!(self.output, Output::Idle))
    }
}
