//! Writes what a client sends to a file, which gets its name once it is complete.
//!
//! ```text
//!          create          opened          end of input,        synced to disk,
//!                                          all written          named
//!   Start ───────► Creating ─────► Open ◄───────────────► Writing
//!                     │             │ └───────────► Publishing ─────► Published
//!                     ▼             ▼                    │
//!                  Refused       (closing) ◄─────────────┘ refused
//!                                   │ close
//!                                   ▼
//!                              ClosingFile ─────► Removing ─────► Gone
//!                                   └─ published ────────────────►
//! ```
//!
//! The file is written under a temporary name in the same folder. After a broken connection, a full
//! disk or a server stop the temporary file is removed. While the disk is slower than the client,
//! receiving pauses.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{CloseReason, Context, Slot, Task};
use crate::buffer::Buffer;
use crate::driver::{Fault, File, Op, Outcome, Root, Time, Token};
use crate::session::Limits;
use crate::tcp::End;
use crate::transport::Transport;
use crate::waiter::SessionKey;

/// How many temporary names are tried if names are taken.
const TEMPORARY_NAMES_MAX: u32 = 100;

/// The largest number appended to a file's name.
const NUMBER_MAX: u32 = 1_000_000;

/// The folder and name of received files, shared by all sessions of all workers that write there.
#[derive(Debug)]
pub struct Destination {
    root: Arc<Root>,
    name: CString,
    naming: Naming,
    /// The number of the next file. If its name is taken, the next number is tried.
    next_number: AtomicU32,
    next_temporary: AtomicU32,
}

/// How received files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Files are named `NAME`, `NAME.1`, `NAME.2` and so on, in the order in which they are
    /// complete. Otherwise each is named `NAME`.
    pub is_numbered: bool,
    /// An existing file of that name is replaced. Otherwise it is an error or, with numbered names,
    /// the next number is tried.
    pub replaces: bool,
}

impl Destination {
    /// A destination for files of this name in the folder `root`.
    pub fn new(root: Arc<Root>, name: CString, naming: Naming) -> Arc<Self> {
        Arc::new(Self { root, name, naming, next_number: AtomicU32::new(0), next_temporary: AtomicU32::new(0) })
    }

    /// A temporary name that is unique in this process.
    fn temporary_name(&self) -> CString {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // No part contains a NUL.
        CString::new(format!(".xps-{}-{number}.part", std::process::id())).unwrap_or_default()
    }

    /// The name for the next complete file; `None` if the numbers are used up.
    fn next_name(&self) -> Option<CString> {
        if !self.naming.is_numbered {
            return Some(self.name.clone());
        }
        match self.next_number.fetch_add(1, Ordering::Relaxed) {
            0 => Some(self.name.clone()),
            number @ ..=NUMBER_MAX => {
                CString::new([self.name.to_bytes(), format!(".{number}").as_bytes()].concat()).ok()
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Receive {
    destination: Arc<Destination>,
    token: Token,
    state: State,
    /// The file's name until it is complete.
    temporary: CString,
    /// The final name.
    name: CString,
    attempts: u32,
    /// Bytes received and not yet submitted for writing.
    waiting: Vec<u8>,
    /// Bytes written to the file.
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Creating,
    /// The file could not be created.
    Refused(Fault),
    /// The file is open, and no operation on it is in flight.
    Open(File),
    /// A write of this many bytes is in flight.
    Writing(File, usize),
    /// The file could not be written or named.
    Failed(File, Fault),
    Publishing(File),
    /// The file is complete and has its final name.
    Published(File),
    ClosingFile {
        is_published: bool,
    },
    Removing,
    Gone,
}

impl Receive {
    pub(super) fn new(session: SessionKey, destination: Arc<Destination>) -> Self {
        Self {
            destination,
            token: Slot::File.token(session),
            state: State::Start,
            temporary: CString::default(),
            name: CString::default(),
            attempts: 0,
            waiting: Vec::new(),
            written: 0,
        }
    }

    fn create(&mut self, cx: &mut Context<'_>) {
        self.attempts += 1;
        self.temporary = self.destination.temporary_name();
        let (root, name) = (Arc::clone(&self.destination.root), self.temporary.clone());
        cx.ops.submit(self.token, Op::Create { root, name });
        self.state = State::Creating;
    }

    /// Writes the waiting bytes; at the end of input, gives the file its name.
    fn go_on(&mut self, file: File, client: &Transport, cx: &mut Context<'_>) {
        if !self.waiting.is_empty() {
            let bytes = std::mem::take(&mut self.waiting);
            self.state = State::Writing(file, bytes.len());
            cx.ops.submit(self.token, Op::Write { file, offset: self.written, bytes });
        } else if client.input_end() == Some(End::Eof) {
            self.publish(file, cx);
        }
    }

    fn publish(&mut self, file: File, cx: &mut Context<'_>) {
        let Some(name) = self.destination.next_name() else {
            self.state = State::Failed(file, Fault::Os(libc::EEXIST));
            return;
        };
        self.name = name;
        let Destination { root, naming, .. } = &*self.destination;
        let (root, replaces) = (Arc::clone(root), naming.replaces);
        let (from, to) = (self.temporary.clone(), self.name.clone());
        cx.ops.submit(self.token, Op::Publish { root, file, from, to, replaces });
        self.state = State::Publishing(file);
    }

    /// Bytes in memory: waiting or being written.
    const fn held(&self) -> usize {
        match self.state {
            State::Writing(_, bytes) => self.waiting.len() + bytes,
            _ => self.waiting.len(),
        }
    }

    /// Receives until `hold_max` bytes are held, and resumes at half of that, as a pipe does.
    fn read_on(&self, client: &mut Transport, cx: &mut Context<'_>) {
        let room = if client.is_receiving() { cx.hold_max } else { cx.hold_max / 2 + 1 };
        client.set_receiving(self.held() < room, cx.ops);
    }

    fn tell(&self) {
        let name = String::from_utf8_lossy(self.name.to_bytes());
        tracing::info!(file = %self.destination.root.path().join(&*name).display(), bytes = self.written, "received");
    }
}

impl Task for Receive {
    fn name(&self) -> &'static str {
        "receive"
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.waiting.extend_from_slice(&buffer);
    }

    fn on_outcome(&mut self, slot: Slot, outcome: Outcome, _now: Time) {
        let is_next_tried = self.destination.naming.is_numbered && !self.destination.naming.replaces;
        self.state = match (self.state, outcome) {
            (State::Creating, Outcome::Opened(file, _)) => State::Open(file),
            (State::Creating, Outcome::Failed(Fault::Os(libc::EEXIST))) if self.attempts < TEMPORARY_NAMES_MAX => {
                State::Start
            }
            (State::Creating, Outcome::Failed(fault)) => State::Refused(fault),
            (State::Writing(file, bytes), Outcome::Written) => {
                self.written += bytes as u64;
                State::Open(file)
            }
            // The pump tries the next name.
            (State::Publishing(file), Outcome::Failed(Fault::Os(libc::EEXIST))) if is_next_tried => State::Open(file),
            (State::Writing(file, _) | State::Publishing(file), Outcome::Failed(fault)) => State::Failed(file, fault),
            (State::Publishing(file), Outcome::Done) => {
                self.tell();
                State::Published(file)
            }
            (State::ClosingFile { is_published: false }, Outcome::Done) => State::Removing,
            (State::ClosingFile { is_published: true }, Outcome::Done) => State::Gone,
            (State::Removing, Outcome::Done) => State::Gone,
            (State::Removing, Outcome::Failed(fault)) => {
                let folder = self.destination.root.path().display();
                tracing::warn!(%fault, %folder, "cannot remove temporary file .xps-*.part");
                State::Gone
            }
            (state, outcome) => {
                crate::tcp::unexpected("receive", &state, &outcome, self.token);
                debug_assert!(slot == Slot::File);
                state
            }
        };
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        if self.state == State::Start {
            self.create(cx);
        }
        if let Some(End::Failed(fault)) = client.input_end() {
            return Some(CloseReason::ClientLost(fault));
        }
        if let State::Open(file) = self.state {
            self.go_on(file, client, cx);
        }
        self.read_on(client, cx);
        match self.state {
            State::Refused(fault) | State::Failed(_, fault) => Some(CloseReason::FileUnwritten(fault)),
            State::Published(_) => Some(CloseReason::Done),
            State::Start
            | State::Creating
            | State::Open(_)
            | State::Writing(..)
            | State::Publishing(_)
            | State::ClosingFile { .. }
            | State::Removing
            | State::Gone => None,
        }
    }

    fn is_unfinished(&self) -> bool {
        !matches!(self.state, State::Published(_))
    }

    /// Waits for operations on the file, then removes it unless it is published.
    fn close(&mut self, _ending: CloseReason, _client: &Transport, cx: &mut Context<'_>) -> bool {
        self.waiting = Vec::new();
        match self.state {
            State::Start | State::Refused(_) => self.state = State::Gone,
            State::Open(file) | State::Failed(file, _) | State::Published(file) => {
                let is_published = matches!(self.state, State::Published(_));
                cx.ops.submit(self.token, Op::CloseFile { file });
                self.state = State::ClosingFile { is_published };
            }
            State::Removing if !self.temporary.is_empty() => {
                let (root, name) = (Arc::clone(&self.destination.root), std::mem::take(&mut self.temporary));
                cx.ops.submit(self.token, Op::Remove { root, name });
            }
            State::Creating
            | State::Writing(..)
            | State::Publishing(_)
            | State::ClosingFile { .. }
            | State::Removing
            | State::Gone => {}
        }
        self.state == State::Gone
    }

    fn memory(&self) -> usize {
        self.held()
    }

    fn memory_max(&self, limits: &Limits) -> usize {
        limits.pipe_bytes_max
    }
}
