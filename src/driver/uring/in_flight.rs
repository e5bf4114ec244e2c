//! The operations in flight, and all memory that the kernel may access for them.

use std::os::fd::RawFd;

use super::connect::ConnectAttempt;
use super::files::{Opening, Reading, Writing};
use super::receive::Arming;
use super::send::Sending;
use super::send_file::Transfer;
use crate::driver::offload::TaskHandle;
use crate::driver::{OpId, Socket};
use crate::table::Key;

/// One operation from its start to its final outcome.
#[derive(Debug)]
pub(super) struct OpState {
    id: OpId,
    /// A state machine has cancelled it.
    pub(super) is_cancelled: bool,
    /// A state machine has paused this receive.
    pub(super) is_paused: bool,
    /// It has an entry whose last completion is not reaped yet.
    pub(super) is_in_kernel: bool,
    pub(super) work: Work,
}

/// The state of an operation, by its kind.
#[derive(Debug)]
pub(super) enum Work {
    // Most operations are receives of idle connections, so this enum is small: larger states are
    // boxed.
    Accept(Box<Accepting>),
    Recv {
        socket: Key<Socket>,
        arming: Arming,
    },
    Send(Box<Sending>),
    SendFile(Box<Transfer>),
    /// It waits for the peer's acknowledgements.
    Flush {
        socket: Key<Socket>,
    },
    /// It waits until the socket is writable.
    #[cfg(feature = "ktls-tx")]
    Settle {
        socket: Key<Socket>,
        alert: Option<crate::driver::Alert>,
    },
    Connect(Box<ConnectAttempt>),
    /// It waits because the server's backlog is full.
    ConnectLater,
    /// Boxed: the kernel reads the path and the flags in place.
    Open(Box<Opening>),
    Read(Box<Reading>),
    Write(Box<Writing>),
    /// On another thread, or in the queue for one.
    Offloaded(Box<TaskHandle>),
    /// The entry closes the descriptor. `lost` is for the outcome of a reset: the bytes lost.
    Close {
        descriptor: RawFd,
        lost: Option<u32>,
    },
}

/// The state of an accept.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) listener: Key<Socket>,
    /// Connections still to accept.
    pub(super) left: u32,
    /// Consecutive connections that failed before they were accepted.
    pub(super) failures: u32,
}

/// All operations in flight, by their dense index.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    in_flight: Vec<Option<OpState>>,
    in_kernel: usize,
}

impl InFlight {
    pub(super) fn insert(&mut self, id: OpId, work: Work) {
        if self.in_flight.len() <= id.index() {
            self.in_flight.resize_with(id.index() + 1, || None);
        }
        debug_assert!(self.in_flight[id.index()].is_none(), "operation {id} starts twice");
        self.in_flight[id.index()] =
            Some(OpState { id, is_cancelled: false, is_paused: false, is_in_kernel: false, work });
    }

    pub(super) fn get_mut(&mut self, id: OpId) -> Option<&mut OpState> {
        self.in_flight.get_mut(id.index())?.as_mut().filter(|op_state| op_state.id == id)
    }

    pub(super) fn remove(&mut self, id: OpId) -> Option<OpState> {
        self.in_flight.get_mut(id.index())?.take_if(|op_state| op_state.id == id)
    }

    /// Records that an entry was queued for the operation.
    pub(super) fn enter_kernel(&mut self, id: OpId) {
        let Some(op_state) = self.get_mut(id) else {
            debug_assert!(false, "an entry for {id}, which is not in flight");
            return;
        };
        debug_assert!(!op_state.is_in_kernel, "a second entry for {op_state:?}");
        op_state.is_in_kernel = true;
        self.in_kernel += 1;
    }

    /// Records the last completion of the operation's entry.
    pub(super) fn leave_kernel(&mut self, id: OpId) {
        if let Some(op_state) = self.get_mut(id)
            && std::mem::replace(&mut op_state.is_in_kernel, false)
        {
            self.in_kernel -= 1;
        }
    }

    /// How many operations have an entry in the kernel.
    pub(super) const fn in_kernel(&self) -> usize {
        self.in_kernel
    }
}
