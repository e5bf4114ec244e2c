//! Writes what a client sends to a file, which is there when all of it is.
//!
//! ```text
//!          create          opened          end of input,        on the disk, and
//!                                          all is written       named
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
//! It is written under a temporary name in the same folder. A connection that breaks, a full disk or a stop of the server
//! leaves nothing of it. While the disk is slower than the client, the client is not read.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{CloseReason, Context, Slot, Task};
use crate::buffer::Buffer;
use crate::config::Limits;
use crate::driver::{Fault, File, Op, Outcome, Root, Time, Token};
use crate::table::Key;
use crate::tcp::{Connection, End};

/// The most temporary names that are tried, should others be taken.
const TEMPORARY_NAMES_MAX: u32 = 100;

/// The largest number behind a file's name.
const NUMBER_MAX: u32 = 1_000_000;

/// Where files go, shared by all sessions that write there, whichever worker they are of.
#[derive(Debug)]
pub struct Destination {
    root: Arc<Root>,
    name: CString,
    naming: Naming,
    /// The number of the next file; a guess, where names that are taken are passed over.
    next_number: AtomicU32,
    next_temporary: AtomicU32,
}

/// Which names the files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    /// `NAME`, then `NAME.1`, `NAME.2` and so on, in the order in which they are complete. Otherwise each is `NAME`.
    pub is_numbered: bool,
    /// What has the name now is replaced. Otherwise that is a fault or, where they are numbered, the next number is taken.
    pub replaces: bool,
}

impl Destination {
    /// Files of this name in this folder.
    pub fn new(root: Arc<Root>, name: CString, naming: Naming) -> Arc<Self> {
        Arc::new(Self { root, name, naming, next_number: AtomicU32::new(0), next_temporary: AtomicU32::new(0) })
    }

    /// A name that no other session of this process has.
    fn temporary_name(&self) -> CString {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // No part has a NUL.
        CString::new(format!(".xps-{}-{number}.part", std::process::id())).unwrap_or_default()
    }

    /// The name for the next file that is complete.
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
    /// By which it is found until it is complete.
    temporary: CString,
    /// The name that it is given.
    name: CString,
    attempts: u32,
    /// Bytes that arrived while others are written.
    waiting: Vec<u8>,
    /// Bytes that are in the file.
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Creating,
    /// There is no file.
    Refused(Fault),
    /// Nothing is asked of the file.
    Open(File),
    /// So many bytes are on their way to it.
    Writing(File, usize),
    /// It cannot be written, or not be named.
    Failed(File, Fault),
    Publishing(File),
    /// It is complete, and has its name.
    Published(File),
    ClosingFile {
        is_published: bool,
    },
    Removing,
    Gone,
}

impl Receive {
    pub(super) fn new(session: Key, destination: Arc<Destination>) -> Self {
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

    /// Writes what waits; at the end of it, gives the file its name.
    fn go_on(&mut self, file: File, client: &Connection, cx: &mut Context<'_>) {
        if !self.waiting.is_empty() {
            let bytes = std::mem::take(&mut self.waiting);
            self.state = State::Writing(file, bytes.len());
            cx.ops.submit(self.token, Op::Write { file, offset: self.written, bytes });
        } else if client.reader.end() == Some(End::Eof) {
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

    /// Bytes that it holds.
    const fn held(&self) -> usize {
        match self.state {
            State::Writing(_, bytes) => self.waiting.len() + bytes,
            _ => self.waiting.len(),
        }
    }

    /// Reads on while there is room, as a pipe does: until it is full, and again from half.
    fn read_on(&self, client: &mut Connection, cx: &mut Context<'_>) {
        let room = if client.reader.is_receiving() { cx.hold_max } else { cx.hold_max / 2 + 1 };
        client.reader.want(self.held() < room, cx.ops);
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
                tracing::warn!(%fault, %folder, "a temporary file, .xps-*.part, could not be removed");
                State::Gone
            }
            (state, outcome) => {
                crate::tcp::unexpected("receive", &state, &outcome, self.token);
                debug_assert!(slot == Slot::File);
                state
            }
        };
    }

    fn pump(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<CloseReason> {
        if self.state == State::Start {
            self.create(cx);
        }
        if let Some(End::Failed(fault)) = client.reader.end() {
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

    /// What is under way with the file is waited for: nothing of it is to be left.
    fn close(&mut self, _ending: CloseReason, _client: &Connection, cx: &mut Context<'_>) -> bool {
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
