//! What machines ask for: the operations, the queue they wait in, the ledger of those in flight.

use std::ffi::CString;
use std::fmt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::Address;
use crate::buffer::Chain;
use crate::table::{Key, Table};

/// A socket, connected or listening, as its driver names it. Only the driver knows the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket(pub(super) Key);

/// An open file, as its driver names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct File(pub(super) Key);

#[cfg(test)]
impl File {
    /// One that no driver knows, for tests of machines.
    pub(crate) const fn of_key(key: Key) -> Self {
        Self(key)
    }
}

/// Names one operation in flight.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId(Key);

/// Says whose an operation is. The driver carries it and never looks inside.
///
/// Core packs the machine's kind, its place in its table with that place's generation, and the
/// operation's slot in the machine into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Which machine.
    pub machine: Key,
    /// Which kind of machine.
    pub kind: u8,
    /// Which of its slots.
    pub slot: u8,
}

/// A folder below which files are opened, and never outside of it.
#[derive(Debug)]
pub struct Root {
    path: Arc<Path>,
    directory: std::fs::File,
    symlinks: SymlinkPolicy,
    id: FolderId,
}

/// Tells a folder from all others that exist at the same time. One that is removed while it is held open keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FolderId {
    /// The file system that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// What becomes of symbolic links beneath a [`Root`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SymlinkPolicy {
    /// They are followed, as long as they do not lead out of the root.
    #[default]
    Follow,
    /// A path that has one cannot be opened (`ELOOP`).
    Refuse,
}

impl Root {
    /// Opens the folder; links beneath it are followed.
    ///
    /// # Errors
    /// What the system says: it is missing, not a folder, or may not be read.
    pub fn open(path: &Path) -> std::io::Result<Arc<Self>> {
        Self::open_with(path, SymlinkPolicy::Follow)
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn open_with(path: &Path, symlinks: SymlinkPolicy) -> std::io::Result<Arc<Self>> {
        // With `O_DIRECTORY` a FIFO or a device is refused and not opened.
        let directory = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        let metadata = directory.metadata()?;
        let id = FolderId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Arc::new(Self { path: path.into(), directory, symlinks, id }))
    }

    /// The path it was opened by, which may lead elsewhere by now.
    pub const fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Which folder it is.
    pub const fn id(&self) -> FolderId {
        self.id
    }

    /// What becomes of links beneath it.
    pub const fn symlinks(&self) -> SymlinkPolicy {
        self.symlinks
    }

    /// The folder's descriptor.
    pub fn directory(&self) -> &std::fs::File {
        &self.directory
    }
}

/// Something that takes long and needs nothing but what it owns.
pub struct Computation {
    function: Box<dyn FnOnce() -> Vec<u8> + Send>,
    bytes: usize,
}

impl Computation {
    /// Wraps a function; it must neither wait nor panic.
    pub fn new(function: impl FnOnce() -> Vec<u8> + Send + 'static) -> Self {
        Self::of(0, function)
    }

    /// Wraps a function that works on `bytes` of input: small computations do not wait for large ones.
    pub fn of(bytes: usize, function: impl FnOnce() -> Vec<u8> + Send + 'static) -> Self {
        Self { function: Box::new(function), bytes }
    }

    /// For drivers: how many bytes it works on.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// For drivers: does it.
    pub fn run(self) -> Vec<u8> {
        (self.function)()
    }
}

impl fmt::Debug for Computation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computation")
    }
}

/// What a machine asks of its driver. The table in [`crate::driver`] gives the outcomes of each.
#[derive(Debug)]
pub enum Op {
    /// Deliver every connection that arrives, until cancelled.
    Accept {
        /// A listening socket.
        listener: Socket,
        /// So many at most, at least one; then, or when not many are left of them, it ends as if it had been cancelled.
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
    /// Send `length` bytes of a file, from `offset`, without passing them through user memory where
    /// that is cheaper. A file that turns out shorter is `Failed` with [`super::Fault::FileTruncated`].
    SendFile {
        /// A connected socket with no other `Send`, `SendFile`, `Shutdown` or `Flush` in flight.
        socket: Socket,
        /// Bytes to send before the file's, sharing segments with them; may be empty.
        head: Chain,
        /// A regular file.
        file: File,
        /// Where in the file to begin, in bytes.
        offset: u64,
        /// How many bytes; at least one.
        length: u64,
    },
    /// Connect a new stream socket. A server whose backlog is full is waited for, over TCP as tcp(7) says; over a unix
    /// socket, where the kernel does not wait, the driver tries again every 10 ms, until it is cancelled.
    Connect {
        /// Where to.
        address: Address,
    },
    /// Look a host name up, off the loop.
    Resolve {
        /// A name or an address in text.
        host: Arc<str>,
        /// Carried into each address.
        port: u16,
    },
    /// Find the folder that a path leads to now.
    FindRoot {
        /// A path from the top.
        path: Arc<Path>,
        /// What is to become of links beneath it.
        symlinks: SymlinkPolicy,
        /// What the path led to before: if it still does, this is the outcome, and nothing is opened.
        present: Option<Arc<Root>>,
    },
    /// Open a regular file for reading beneath a root, never outside of it, whatever the path says.
    ///
    /// Anything else is only looked at (`O_PATH`): opening a FIFO, a device or an automount point has effects of its own.
    /// The [`File`] of a folder or a special file can be closed and used for nothing else.
    Open {
        /// Where the path begins.
        root: Arc<Root>,
        /// A relative path.
        path: CString,
        /// It was a regular file a short time ago: it is opened without being looked at first.
        known_regular: bool,
    },
    /// Read up to `length` bytes of a file into memory.
    Read {
        /// A regular file.
        file: File,
        /// Where in the file to begin, in bytes.
        offset: u64,
        /// How many bytes at most; at least one.
        length: usize,
    },
    /// Make a file for writing, off the loop. Cancelled, it may have been made all the same.
    Create {
        /// The folder.
        root: Arc<Root>,
        /// A name in it, no path. One that is taken is a fault (`EEXIST`).
        name: CString,
    },
    /// Write all of these bytes. Cancelled or failed, some may have been written.
    Write {
        /// A file that `Create` has made.
        file: File,
        /// Where in the file to begin, in bytes.
        offset: u64,
        /// The bytes, at least one.
        bytes: Vec<u8>,
    },
    /// Give a file that was written another name, in one step, when its bytes are on the disk; off the loop. Cancelled, it
    /// may have got it all the same.
    Publish {
        /// The folder.
        root: Arc<Root>,
        /// The file, which has no `Write` in flight.
        file: File,
        /// Its name.
        from: CString,
        /// The name it is to have.
        to: CString,
        /// What has that name now goes. Otherwise that is a fault (`EEXIST`).
        replaces: bool,
    },
    /// Remove a file from a folder, off the loop. Cancelled, it may be gone all the same.
    Remove {
        /// The folder.
        root: Arc<Root>,
        /// A name in it, no path.
        name: CString,
    },
    /// List a folder beneath a root, off the loop. The answer is in no order. Nothing in the folder is opened.
    List {
        /// Where the path begins.
        root: Arc<Root>,
        /// A relative path.
        path: CString,
    },
    /// Compute something that takes long, off the loop.
    Compute(Computation),
    /// Tell the address at this end of a connection, at once. It may be in flight while the socket is closed.
    LocalAddress {
        /// A connected socket.
        socket: Socket,
    },
    /// End the sending half: the peer sees the end of input, receiving goes on.
    Shutdown {
        /// A connected socket with nothing being sent.
        socket: Socket,
    },
    /// Tell when the peer's kernel has acknowledged everything that was sent, and meanwhile how it gets on.
    Flush {
        /// A connected socket with nothing being sent.
        socket: Socket,
    },
    /// Close a socket that has nothing in flight.
    Close {
        /// The socket; its name is void from now on.
        socket: Socket,
    },
    /// Close a socket that has nothing in flight so that the peer sees a reset, not an end
    /// (`SO_LINGER` with zero, socket(7)). What has not arrived there by then is lost. Unix sockets know no reset: there the peer sees an end, or a reset if it had
    /// sent what nobody read.
    Reset {
        /// The socket; its name is void from now on.
        socket: Socket,
    },
    /// Close a file that has nothing in flight.
    CloseFile {
        /// The file; its name is void from now on.
        file: File,
    },
}

/// One entry of the queue that a driver drains.
#[derive(Debug)]
pub enum Request {
    /// Carry this out.
    Start(OpId, Op),
    /// End this soon. It may have ended already.
    Cancel(OpId),
    /// Deliver nothing of this `Recv` for now. It may have ended already.
    Pause(OpId),
    /// Go on with this `Recv`. It may have ended already.
    Resume(OpId),
}

/// The queue from machines to their driver, and the ledger of what is in flight.
///
/// One per worker. Machines add at the one end during a turn; the driver drains the other when the
/// turn ends, so that a whole batch costs one system call.
#[derive(Debug, Default)]
pub struct Ops {
    queue: Vec<Request>,
    in_flight: Table<Token>,
}

impl Ops {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues an operation; its outcomes will carry `token`.
    pub fn submit(&mut self, token: Token, op: Op) -> OpId {
        let id = OpId(self.in_flight.insert(token));
        tracing::trace!(op = %id, kind = op.name(), slot = token.slot, "submit");
        self.queue.push(Request::Start(id, op));
        id
    }

    /// Asks that an operation end soon. See promise 3 of [`crate::driver`].
    pub fn cancel(&mut self, id: OpId) {
        tracing::trace!(op = %id, "cancel");
        self.queue.push(Request::Cancel(id));
    }

    /// Asks that a `Recv` deliver nothing for now. See promise 10 of [`crate::driver`].
    pub fn pause(&mut self, id: OpId) {
        tracing::trace!(op = %id, "pause");
        self.queue.push(Request::Pause(id));
    }

    /// Asks that a paused `Recv` go on.
    pub fn resume(&mut self, id: OpId) {
        tracing::trace!(op = %id, "resume");
        self.queue.push(Request::Resume(id));
    }

    /// How many operations have had no final outcome yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whose operation this is, or `None` if it has had its final outcome.
    pub fn owner(&self, id: OpId) -> Option<Token> {
        self.in_flight.get(id.0).copied()
    }

    /// Every operation in flight with its owner, for debug dumps and invariant checks.
    pub fn iter_in_flight(&self) -> impl Iterator<Item = (OpId, Token)> + '_ {
        self.in_flight.iter().map(|(key, token)| (OpId(key), *token))
    }

    /// Whether the driver has something to take.
    pub fn has_requests(&self) -> bool {
        !self.queue.is_empty()
    }

    /// For drivers: everything queued, oldest first.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Request> {
        self.queue.drain(..)
    }

    /// For the worker: books an outcome. `None` means that the driver broke promise 1.
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
            Self::Close { .. } => "close",
            Self::Reset { .. } => "reset",
            Self::CloseFile { .. } => "close_file",
        }
    }
}

impl OpId {
    /// For drivers: a dense index, free for reuse once the final outcome is out.
    pub const fn index(self) -> usize {
        self.0.index() as usize
    }

    /// For drivers: index and generation in one word, for the kernel to carry.
    pub const fn to_bits(self) -> u64 {
        (self.0.generation() as u64) << 32 | self.0.index() as u64
    }

    /// For drivers: what [`OpId::to_bits`] packed.
    pub const fn from_bits(bits: u64) -> Self {
        Self(Key::from_parts(bits as u32, (bits >> 32) as u32))
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
