//! Operations, their queue, and the table of those in flight.

use std::any::Any;
use std::ffi::CString;
use std::fmt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::Address;
#[cfg(feature = "ktls-tx")]
use super::kernel_tls::{Alert, SendKeys};
use crate::buffer::Chain;
use crate::table::{Key, RawKey, Table};

/// A handle to a connected or listening socket. Only the driver knows the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket(pub(super) Key<Socket>);

/// A handle to an open file. Only the driver knows the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct File(pub(super) Key<File>);

#[cfg(test)]
impl Socket {
    /// A handle that no driver has, for tests of state machines.
    pub(crate) const fn of_key(key: Key<Self>) -> Self {
        Self(key)
    }
}

#[cfg(test)]
impl File {
    /// A handle that no driver has, for tests of state machines.
    pub(crate) const fn of_key(key: Key<Self>) -> Self {
        Self(key)
    }
}

/// Identifies one operation in flight.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId(Key<OpId>);

/// The owner of an operation. The driver passes it through and never reads it.
///
/// Core stores the kind of the state machine, the machine's key (index and generation) in the table
/// of its kind, and the slot of the operation in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The key of the state machine in the table of its kind.
    pub machine: RawKey,
    /// The kind of the state machine, which selects the table.
    pub kind: u8,
    /// The slot in the state machine, one for each of its operations in flight.
    pub slot: u8,
}

/// An open folder. Paths are resolved beneath it and never lead outside.
#[derive(Debug)]
pub struct Root {
    path: Arc<Path>,
    directory: std::fs::File,
    symlinks: SymlinkPolicy,
    id: FolderId,
}

/// Identifies a folder among all that exist at the same time. A folder that is removed while it is
/// held open keeps its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FolderId {
    /// The device of the file system (`st_dev`).
    pub device: u64,
    /// The inode number in that file system (`st_ino`).
    pub inode: u64,
}

/// How symbolic links beneath a [`Root`] are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SymlinkPolicy {
    /// They are followed, unless they lead out of the root.
    #[default]
    Follow,
    /// A path with a symbolic link cannot be opened (`ELOOP`).
    Refuse,
}

impl Root {
    /// Opens the folder; symbolic links beneath it are followed.
    ///
    /// # Errors
    /// The path does not exist, is not a folder, or may not be read.
    pub fn open(path: &Path) -> std::io::Result<Arc<Self>> {
        Self::open_with(path, SymlinkPolicy::Follow)
    }

    /// Opens the folder with a policy for the symbolic links beneath it.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn open_with(path: &Path, symlinks: SymlinkPolicy) -> std::io::Result<Arc<Self>> {
        // `O_DIRECTORY`: a FIFO or a device fails with `ENOTDIR` and is not opened.
        let directory = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        let metadata = directory.metadata()?;
        let id = FolderId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Arc::new(Self { path: path.into(), directory, symlinks, id }))
    }

    /// The path that was opened. It may lead to another folder by now.
    pub const fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// The folder's identity.
    pub const fn id(&self) -> FolderId {
        self.id
    }

    /// How symbolic links beneath the folder are treated.
    pub const fn symlinks(&self) -> SymlinkPolicy {
        self.symlinks
    }

    /// The folder's descriptor.
    pub fn directory(&self) -> &std::fs::File {
        &self.directory
    }
}

/// A function that takes long and owns everything it needs. It runs off the loop.
pub struct Computation {
    function: Box<dyn FnOnce() -> Computed + Send>,
    bytes: usize,
}

/// The result of a [`Computation`], of the type that its function returned.
pub struct Computed(Box<dyn Any + Send>);

impl Computation {
    /// Wraps a function; it must neither wait nor panic.
    pub fn new<T: Send + 'static>(function: impl FnOnce() -> T + Send + 'static) -> Self {
        Self::of(0, function)
    }

    /// Wraps a function with `bytes` bytes of input: small computations do not wait for large ones.
    pub fn of<T: Send + 'static>(bytes: usize, function: impl FnOnce() -> T + Send + 'static) -> Self {
        Self { function: Box::new(move || Computed(Box::new(function()))), bytes }
    }

    /// For drivers: the size of the input, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// For drivers: calls the function.
    pub fn run(self) -> Computed {
        (self.function)()
    }
}

impl Computed {
    /// The result. `None`: it is of another type, since the caller is not who submitted the
    /// function, or expects the result of another one.
    pub fn take<T: 'static>(self) -> Option<T> {
        let result = self.0.downcast().ok().map(|result| *result);
        if result.is_none() {
            let expected = std::any::type_name::<T>();
            tracing::error!(expected, "the result of a computation has another type");
            debug_assert!(false, "the result of a computation is no {expected}");
        }
        result
    }
}

impl fmt::Debug for Computation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computation")
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}

/// An operation, submitted by a state machine. The table in [`crate::driver`] lists its outcomes.
#[derive(Debug)]
pub enum Op {
    /// Deliver every connection that arrives, until cancelled.
    Accept {
        /// A listening socket.
        listener: Socket,
        /// The maximum number of connections, at least one. When it is reached, or when few are
        /// left of it, the operation ends as if it had been cancelled.
        most: u32,
    },
    /// Deliver every byte that arrives, until the end, an error or a cancel. It can be paused.
    Recv {
        /// A connected socket with no other `Recv` in flight.
        socket: Socket,
    },
    /// Send all of these bytes, in order. The chain is not empty.
    Send {
        /// A connected socket with no other `Send`, `SendFile`, `Shutdown` or `Flush` in flight.
        socket: Socket,
        /// The bytes. The driver holds them until the final outcome.
        chain: Chain,
    },
    /// Send `length` bytes of a file from `offset`, without a copy through user memory where that
    /// is cheaper. If the file turns out to be shorter, the outcome is `Failed` with
    /// [`super::Fault::FileTruncated`].
    SendFile {
        /// A connected socket with no other `Send`, `SendFile`, `Shutdown` or `Flush` in flight.
        socket: Socket,
        /// Bytes to send before the file, in the same segments where possible; may be empty.
        head: Chain,
        /// A regular file.
        file: File,
        /// The start in the file, in bytes.
        offset: u64,
        /// The number of bytes, at least one.
        length: u64,
    },
    /// Connect a new stream socket. If the server's backlog is full, the connect waits: over TCP
    /// the kernel does this (tcp(7)); over a unix socket the kernel does not, and the driver tries
    /// again every 10 ms until the operation is cancelled.
    Connect {
        /// The address of the peer.
        address: Address,
    },
    /// Resolve a host name, off the loop.
    Resolve {
        /// A name, or an address in text form.
        host: Arc<str>,
        /// The port that each address in the outcome gets.
        port: u16,
    },
    /// Open the folder that a path leads to now.
    FindRoot {
        /// A path, not beneath a root.
        path: Arc<Path>,
        /// How symbolic links beneath the folder are treated.
        symlinks: SymlinkPolicy,
        /// The folder that the path led to before. If it still does, this root is the outcome, and
        /// nothing is opened.
        present: Option<Arc<Root>>,
    },
    /// Open a regular file for reading beneath a root. The path cannot lead outside of the root.
    ///
    /// Anything else is opened with `O_PATH` only: opening a FIFO, a device or an automount point
    /// has side effects. The [`File`] of a folder or a special file can only be closed.
    Open {
        /// The folder where the path begins.
        root: Arc<Root>,
        /// A relative path.
        path: CString,
        /// The path led to a regular file a short time ago: it is opened without a look with
        /// `O_PATH` first.
        known_regular: bool,
    },
    /// Read up to `length` bytes of a file into memory.
    Read {
        /// A regular file.
        file: File,
        /// The start in the file, in bytes.
        offset: u64,
        /// The maximum number of bytes, at least one.
        length: usize,
    },
    /// Create a file for writing, off the loop. A cancelled `Create` may still have created it.
    Create {
        /// The folder of the new file.
        root: Arc<Root>,
        /// A name in the folder, not a path. If it exists, the outcome is `Failed` (`EEXIST`).
        name: CString,
    },
    /// Write all of these bytes. A cancelled or failed `Write` may have written some of them.
    Write {
        /// A file opened by `Create`.
        file: File,
        /// The start in the file, in bytes.
        offset: u64,
        /// The bytes, at least one.
        bytes: Vec<u8>,
    },
    /// Flush a written file to the disk, then rename it in one step, off the loop. A cancelled
    /// `Publish` may still have renamed it.
    Publish {
        /// The folder of both names.
        root: Arc<Root>,
        /// The file, which has no `Write` in flight.
        file: File,
        /// The file's present name.
        from: CString,
        /// The file's new name.
        to: CString,
        /// A file that has the new name is replaced. Otherwise the outcome is `Failed` (`EEXIST`).
        replaces: bool,
    },
    /// Remove a file from a folder, off the loop. A cancelled `Remove` may still have removed it.
    Remove {
        /// The folder of the file.
        root: Arc<Root>,
        /// A name in the folder, not a path.
        name: CString,
    },
    /// List a folder beneath a root, off the loop. The entries are in no order. Nothing in the
    /// folder is opened.
    List {
        /// The folder where the path begins.
        root: Arc<Root>,
        /// A relative path.
        path: CString,
    },
    /// Run a long computation, off the loop.
    Compute(Computation),
    /// Get the local address of a connection, at once. It may be in flight while the socket is
    /// closed.
    LocalAddress {
        /// A connected socket.
        socket: Socket,
    },
    /// Shut down the sending half: the peer sees the end of input, and receiving continues.
    Shutdown {
        /// A connected socket with nothing being sent.
        socket: Socket,
    },
    /// Wait until the peer's kernel has acknowledged everything that was sent, and report progress
    /// meanwhile.
    Flush {
        /// A connected socket with nothing being sent.
        socket: Socket,
    },
    /// Let the kernel encrypt everything that is sent from now on (kTLS), at once. If it fails, the
    /// socket sends as before.
    #[cfg(feature = "ktls-tx")]
    BeginKernelTls {
        /// A connected socket with nothing being sent.
        socket: Socket,
        /// The keys, and how far they were used.
        keys: Box<SendKeys>,
    },
    /// Wait until TCP has all records that the kernel made of what was sent, then send an alert, if
    /// there is one. What TCP does not have when the sending half is shut down is lost.
    #[cfg(feature = "ktls-tx")]
    SettleKernelTls {
        /// A socket that the kernel encrypts for, with nothing being sent.
        socket: Socket,
        /// The alert.
        alert: Option<Alert>,
    },
    /// Close a socket that has nothing in flight.
    Close {
        /// The socket; the handle is invalid from now on.
        socket: Socket,
    },
    /// Close a socket that has nothing in flight with a reset instead of an end (`SO_LINGER` with
    /// zero, socket(7)). Bytes that have not arrived at the peer by then are lost. Unix sockets
    /// have no reset: there the peer sees an end, or a reset if bytes that it had sent were not
    /// received.
    Reset {
        /// The socket; the handle is invalid from now on.
        socket: Socket,
    },
    /// Close a file that has nothing in flight.
    CloseFile {
        /// The file; the handle is invalid from now on.
        file: File,
    },
}

/// One entry of the queue that a driver drains.
#[derive(Debug)]
pub enum Request {
    /// Start this operation.
    Start(OpId, Op),
    /// End this operation soon. It may have ended already.
    Cancel(OpId),
    /// Deliver nothing of this `Recv` for now. It may have ended already.
    Pause(OpId),
    /// Continue this `Recv`. It may have ended already.
    Resume(OpId),
}

/// The queue from the state machines to their driver, and the table of operations in flight.
///
/// One per worker. State machines add requests during a turn; the driver drains them when the turn
/// ends, so that the whole batch costs one system call.
#[derive(Debug, Default)]
pub struct Ops {
    queue: Vec<Request>,
    in_flight: Table<Token, OpId>,
}

impl Ops {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues an operation; its outcomes go to the owner that `token` names.
    pub fn submit(&mut self, token: Token, op: Op) -> OpId {
        let id = OpId(self.in_flight.insert(token));
        tracing::trace!(op = %id, kind = op.name(), slot = token.slot, "submit");
        self.queue.push(Request::Start(id, op));
        id
    }

    /// Requests that an operation end soon. See guarantee 3 of [`crate::driver`].
    pub fn cancel(&mut self, id: OpId) {
        tracing::trace!(op = %id, "cancel");
        self.queue.push(Request::Cancel(id));
    }

    /// Requests that a `Recv` deliver nothing for now. See guarantee 10 of [`crate::driver`].
    pub fn pause(&mut self, id: OpId) {
        tracing::trace!(op = %id, "pause");
        self.queue.push(Request::Pause(id));
    }

    /// Requests that a paused `Recv` continue.
    pub fn resume(&mut self, id: OpId) {
        tracing::trace!(op = %id, "resume");
        self.queue.push(Request::Resume(id));
    }

    /// The number of operations without a final outcome yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The owner of an operation, or `None` if it has had its final outcome.
    pub fn owner(&self, id: OpId) -> Option<Token> {
        self.in_flight.get(id.0).copied()
    }

    /// Every operation in flight with its owner, for debug dumps and invariant checks.
    pub fn iter_in_flight(&self) -> impl Iterator<Item = (OpId, Token)> + '_ {
        self.in_flight.iter().map(|(key, token)| (OpId(key), *token))
    }

    /// Whether requests wait for the driver.
    pub fn has_requests(&self) -> bool {
        !self.queue.is_empty()
    }

    /// For drivers: takes every queued request, oldest first.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Request> {
        self.queue.drain(..)
    }

    /// For the worker: records an outcome. `None`: the driver broke guarantee 1.
    pub fn settle(&mut self, id: OpId, is_final: bool) -> Option<Token> {
        if is_final { self.in_flight.remove(id.0) } else { self.in_flight.get(id.0).copied() }
    }
}

impl Op {
    /// The operation's name, for logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept { .. } => "accept",
            Self::Recv { .. } => "recv",
            Self::Send { .. } => "send",
            Self::SendFile { .. } => "send_file",
            Self::Connect { .. } => "connect",
            Self::Resolve { .. } => "resolve",
            Self::FindRoot { .. } => "find_root",
            Self::Open { .. } => "open",
            Self::Read { .. } => "read",
            Self::Create { .. } => "create",
            Self::Write { .. } => "write",
            Self::Publish { .. } => "publish",
            Self::Remove { .. } => "remove",
            Self::List { .. } => "list",
            Self::Compute(_) => "compute",
            Self::LocalAddress { .. } => "local_address",
            Self::Shutdown { .. } => "shutdown",
            Self::Flush { .. } => "flush",
            #[cfg(feature = "ktls-tx")]
            Self::BeginKernelTls { .. } => "begin_kernel_tls",
            #[cfg(feature = "ktls-tx")]
            Self::SettleKernelTls { .. } => "settle_kernel_tls",
            Self::Close { .. } => "close",
            Self::Reset { .. } => "reset",
            Self::CloseFile { .. } => "close_file",
        }
    }
}

impl OpId {
    /// For drivers: a dense index, reused after the final outcome.
    pub const fn index(self) -> usize {
        self.0.index() as usize
    }

    /// For drivers: index and generation in one word, to pass through the kernel.
    pub const fn to_bits(self) -> u64 {
        (self.0.generation() as u64) << 32 | self.0.index() as u64
    }

    /// For drivers: what [`OpId::to_bits`] packed.
    pub const fn from_bits(bits: u64) -> Self {
        Self(RawKey::from_parts(bits as u32, (bits >> 32) as u32).typed())
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

macro_rules! debug_as_key {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}
debug_as_key!(Socket, File, OpId);
