//! The operations in flight, and all memory that the kernel may touch for them.

use std::os::fd::RawFd;

use super::connect::ConnectAttempt;
use super::files::{Opening, Reading, Writing};
use super::receive::Arming;
use super::send::Sending;
use super::send_file::Transfer;
use crate::driver::OpId;
use crate::driver::offload::TaskHandle;
use crate::table::Key;

/// One operation from its start to its final outcome.
#[derive(Debug)]
pub(super) struct OpState {
    id: OpId,
    /// A machine has asked for its end.
    pub(super) is_cancelled: bool,
    /// A machine wants nothing of this receive for now.
    pub(super) is_paused: bool,
    /// It has an entry that the kernel has not completed for the last time.
    pub(super) is_in_kernel: bool,
    pub(super) work: Work,
}

/// What it takes to carry an operation out.
#[derive(Debug)]
pub(super) enum Work {
    // Most flights are receives of idle connections, and should be small: what takes more room is boxed.
    Accept(Box<Accepting>),
    Recv {
        socket: Key,
        arming: Arming,
    },
    Send(Box<Sending>),
    SendFile(Box<Transfer>),
    /// It waits for the peer's acknowledgements.
    Flush {
        socket: Key,
    },
    Connect(Box<ConnectAttempt>),
    /// It waits for room in a backlog.
    ConnectLater,
    /// Boxed, since the kernel reads path and manner where they are.
    Open(Box<Opening>),
    Read(Box<Reading>),
    Write(Box<Writing>),
    /// On another thread, or in the queue for one.
    Offloaded(Box<TaskHandle>),
    /// The descriptor is the entry's to close. The outcome tells, if it is a reset, the bytes lost.
    Close {
        descriptor: RawFd,
        lost: Option<u32>,
    },
}

/// How far an accept is.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) listener: Key,
    /// Connections that may still come.
    pub(super) left: u32,
    /// Connections in a row that had failed before they were accepted.
    pub(super) failures: u32,
}

/// Every operation in flight, by its dense index.
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

    /// Notes that an entry was queued for the operation.
    pub(super) fn enter_kernel(&mut self, id: OpId) {
        let Some(op_state) = self.get_mut(id) else {
            debug_assert!(false, "an entry for {id}, which has no flight");
            return;
        };
        debug_assert!(!op_state.is_in_kernel, "a second entry for {op_state:?}");
        op_state.is_in_kernel = true;
        self.in_kernel += 1;
    }

    /// Notes the last completion of the operation's entry.
    pub(super) fn leave_kernel(&mut self, id: OpId) {
        if let Some(op_state) = self.get_mut(id)
            && std::mem::replace(&mut op_state.is_in_kernel, false)
        {
            self.in_kernel -= 1;
        }
    }

    /// How many operations have an entry with the kernel.
    pub(super) const fn in_kernel(&self) -> usize {
        self.in_kernel
    }
}
