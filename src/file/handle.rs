//! [`FileHandle`]: one file that is opened beneath a root folder, used and closed.
//!
//! ```text
//!           open              Opened             close             Done
//!   Idle ─────────► Opening ─────────► Open ───────────► Closing ───────► Closed
//!                     │ │ close         ▲
//!                     │ └─► Abandoned ──┘ Opened
//!                     │ Failed  │ Failed, Cancelled
//!                     ▼         ▼
//!                  Refused    Closed
//! ```
//!
//! It does not know what the bytes are for. The writer sends them.

use std::ffi::CString;
use std::sync::Arc;

use crate::driver::{Fault, File, FileInfo, Op, OpId, Ops, Outcome, Root, Token};

/// One file, from open to close.
#[derive(Debug)]
pub struct FileHandle {
    token: Token,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Opening(OpId),
    Open(File, FileInfo),
    /// Closed while it was being opened.
    Abandoned,
    Refused(Fault),
    Closing,
    Closed,
}

impl FileHandle {
    /// A handle without a file; its operations carry `token`.
    pub const fn new(token: Token) -> Self {
        Self { token, state: State::Idle }
    }

    /// Opens the file. To be called once.
    pub fn open(&mut self, root: Arc<Root>, path: CString, ops: &mut Ops) {
        debug_assert!(matches!(self.state, State::Idle), "open while {:?}", self.state);
        self.state = State::Opening(ops.submit(self.token, Op::Open { root, path, known_regular: false }));
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, outcome: Outcome) {
        match (self.state, outcome) {
            (State::Opening(_) | State::Abandoned, Outcome::Opened(file, info)) => self.state = State::Open(file, info),
            (State::Opening(_), Outcome::Failed(fault)) => self.state = State::Refused(fault),
            (State::Abandoned, Outcome::Failed(_) | Outcome::Cancelled) | (State::Closing, Outcome::Done) => {
                self.state = State::Closed
            }
            (state, outcome) => crate::tcp::unexpected("file", &state, &outcome, self.token),
        }
    }

    /// Advances closing from any state. Call it in every pump until [`FileHandle::is_closed`].
    /// Nothing may be in the process of being sent from the file.
    pub fn close(&mut self, ops: &mut Ops) {
        match self.state {
            State::Idle | State::Refused(_) => self.state = State::Closed,
            State::Opening(id) => {
                ops.cancel(id);
                self.state = State::Abandoned;
            }
            State::Open(file, _) => {
                ops.submit(self.token, Op::CloseFile { file });
                self.state = State::Closing;
            }
            State::Abandoned | State::Closing | State::Closed => {}
        }
    }

    /// The result of [`FileHandle::open`], once it is there.
    pub const fn opened(&self) -> Option<Result<(File, FileInfo), Fault>> {
        match self.state {
            State::Open(file, info) => Some(Ok((file, info))),
            State::Refused(fault) => Some(Err(fault)),
            State::Idle | State::Opening(_) | State::Abandoned | State::Closing | State::Closed => None,
        }
    }

    /// Whether nothing is open and nothing in flight.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}
