//! The state of one socket: its descriptor, its readiness flags, the operations in flight.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::poller::Readiness;
use super::send_file::Transfer;
use crate::buffer::Chain;
use crate::driver::recv_size::RecvSize;
use crate::driver::{Fault, OpId};

/// A socket. At most one operation is in flight in each direction (guarantee 6).
#[derive(Debug)]
pub(super) struct SocketState {
    socket: OwnedFd,
    /// Receiving or accepting may succeed. Cleared when a call returns `EAGAIN`.
    pub(super) readable: bool,
    /// Sending may succeed. Cleared when a call returns `EAGAIN`.
    pub(super) writable: bool,
    /// A short read means that the socket is empty and that the next bytes cause an edge. False
    /// once an end of input, an error or urgent data was announced: the edge for what follows the
    /// short read is then already consumed.
    pub(super) short_read_is_last: bool,
    /// The kernel has announced an error, or that both directions are closed.
    pub(super) is_over: bool,
    /// It is on the ready list.
    pub(super) queued: bool,
    /// It is on the starving list.
    pub(super) starving: bool,
    /// epoll did not accept the socket. Every operation on it fails with this.
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
        /// Connections still to accept.
        left: u32,
        /// Consecutive connections that failed before they were accepted.
        failures: u32,
        /// It waits for descriptors or memory, not for readiness.
        paused: bool,
    },
    Recv {
        id: OpId,
        /// Only errors are reported.
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
        /// The bytes that are not sent yet.
        chain: Chain,
    },
    Flush {
        id: OpId,
    },
    #[cfg(feature = "ktls-tx")]
    Settle {
        id: OpId,
        alert: Option<crate::driver::Alert>,
    },
    /// Boxed: few sockets send a file, and this enum is part of every socket's state.
    SendFile(Box<Transfer>),
}

/// What an operation needs after it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it has ended, or an edge, a buffer or a result will continue it.
    Wait,
    /// Another turn: it spent its quota and could continue at once.
    Again,
}

impl SocketState {
    /// A socket that is assumed to be readable and writable.
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

    /// A socket whose connect is in progress. The first edge reports that it has ended.
    pub(super) fn connecting(socket: OwnedFd, id: OpId) -> Self {
        Self { readable: false, writable: false, output: Output::Connect { id }, ..Self::new(socket) }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!((&self.input, &self.output), (Input::Idle, Output::Idle))
    }

    /// Records an edge. Returns whether an operation in flight waited for it.
    pub(super) const fn on_readiness(&mut self, readiness: Readiness) -> bool {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.short_read_is_last &= !readiness.exceptional;
        self.is_over |= readiness.over;
        (readiness.readable && !matches!(self.input, Input::Idle))
            || (readiness.writable && !matches!(self.output, Output::Idle))
    }
}
