//! Outcomes of operations, and the faults among them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::errno;
use super::ops::{Computed, File, OpId, Root, Socket};
use super::tls_fault::TlsFault;
use crate::buffer::{Buffer, Chunk};

/// Moves the oldest outcomes to `done`, at most `count_max`; returns how many. Usually that is all of them, and
/// none is copied.
pub(super) fn hand_out(outbox: &mut Vec<Completion>, done: &mut Vec<Completion>, count_max: usize) -> usize {
    let count = outbox.len().min(count_max);
    if done.is_empty() && count == outbox.len() {
        std::mem::swap(outbox, done);
    } else {
        done.extend(outbox.drain(..count));
    }
    count
}

/// One outcome, on its way to the state machine that owns the operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation.
    pub id: OpId,
    /// Its final outcome, or an intermediate one.
    pub outcome: Outcome,
}

/// The result of an operation, or one delivery of a subscription.
#[derive(Debug)]
pub enum Outcome {
    /// `Accept` delivered a connection; more may follow.
    Accepted {
        /// The connected socket.
        socket: Socket,
        /// The address of the client.
        peer: Peer,
    },
    /// `Recv` delivered bytes, at least one; more may follow.
    Received(Buffer),
    /// `Recv`, while it is paused: the connection broke. Bytes that arrived before can still be
    /// received.
    Broken(Fault),
    /// `Send` or `SendFile`: the kernel took this number of bytes. `Flush`: the peer acknowledged
    /// it. More follows.
    Progress(u64),
    /// `Recv`: the peer will send nothing more.
    Eof,
    /// `Send` or `SendFile`: the kernel took all bytes.
    Sent,
    /// `Connect` succeeded.
    Connected(Socket),
    /// `Resolve` succeeded, with at least one address, in the order to try them.
    Resolved(Vec<SocketAddr>),
    /// `FindRoot` succeeded.
    Root(Arc<Root>),
    /// `Open` or `Create` succeeded.
    Opened(File, FileInfo),
    /// `Read` succeeded; fewer bytes than requested only at the end of the file. Memory that is to be kept
    /// for long is that of [`Chunk::into_shared`]: a driver may read into this again.
    Read(Chunk),
    /// `Write`: the kernel took all bytes.
    Written,
    /// `List` succeeded: every entry of the folder except `.` and `..`.
    Listed(Vec<FolderEntry>),
    /// `Compute` succeeded, with the result of the function.
    Computed(Computed),
    /// `LocalAddress` succeeded; `None` on a unix socket.
    Local(Option<SocketAddr>),
    /// `Shutdown`, `Flush`, `Close`, `CloseFile`, `Publish` or `Remove` is done.
    Done,
    /// `Reset` is done.
    Reset {
        /// Bytes that the kernel had taken and the peer had not acknowledged.
        lost: u64,
    },
    /// The operation was cancelled before it completed. A `Send` may have sent some bytes.
    Cancelled,
    /// The operation failed.
    Failed(Fault),
}

impl Outcome {
    /// Whether this outcome ends the operation. Exactly one outcome of each operation is final.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Accepted { .. } | Self::Received(_) | Self::Broken(_) | Self::Progress(_) => false,
            Self::Eof
            | Self::Sent
            | Self::Connected(_)
            | Self::Resolved(_)
            | Self::Root(_)
            | Self::Opened(..)
            | Self::Read(_)
            | Self::Written
            | Self::Listed(_)
            | Self::Computed(_)
            | Self::Local(_)
            | Self::Done
            | Self::Reset { .. }
            | Self::Cancelled
            | Self::Failed(_) => true,
        }
    }

    /// The outcome's name, for logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Received(_) => "received",
            Self::Broken(_) => "broken",
            Self::Progress(_) => "progress",
            Self::Eof => "eof",
            Self::Sent => "sent",
            Self::Connected(_) => "connected",
            Self::Resolved(_) => "resolved",
            Self::Root(_) => "root",
            Self::Opened(..) => "opened",
            Self::Read(_) => "read",
            Self::Written => "written",
            Self::Listed(_) => "listed",
            Self::Computed(_) => "computed",
            Self::Local(_) => "local",
            Self::Done => "done",
            Self::Reset { .. } => "reset",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

/// The remote end of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An IP address and port.
    Inet(SocketAddr),
    /// A process on this host, over a socket pair or a unix socket.
    Local,
    /// The peer disconnected before its address was read.
    Gone,
}

impl Peer {
    /// The IP address, if there is one. An IPv4-mapped IPv6 address becomes the IPv4 address.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip().to_canonical()),
            Self::Local | Self::Gone => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
            Self::Gone => f.write_str("gone"),
        }
    }
}

/// Attributes of an opened file (`fstat(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Length in bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970; negative before 1970.
    pub modified_ns: i64,
    /// The file type.
    pub kind: FileKind,
    /// The inode number (`st_ino`). With `device` it distinguishes a file from its replacement.
    pub inode: u64,
    /// The device of the file system (`st_dev`).
    pub device: u64,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// The name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// The file that the name leads to; `None`: a symbolic link that is dangling or leads out of
    /// the root, or a file that cannot be examined.
    pub info: Option<FileInfo>,
}

/// The file types that a server distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file, whose bytes can be sent.
    Regular,
    /// A folder.
    Directory,
    /// A FIFO, socket or device, which is never read.
    Special,
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The `errno` of the failed system call.
    #[error("{}", describe_errno(*.0))]
    Os(i32),
    /// The file ended before the end of the range to send.
    #[error("the file became shorter while it was being sent")]
    FileTruncated,
    /// The root folder cannot be opened, with this `errno`. No driver reports this, but the file
    /// store, which holds the roots.
    #[error("cannot open the served folder: {}", describe_errno(*.0))]
    RootLost(i32),
    /// The resolver does not know the name, or could not be queried; the code of `getaddrinfo(3)`.
    #[error("cannot resolve the name: {}", resolver_message(*.0))]
    Resolver(i32),
    /// TLS on the connection failed. No driver reports this, but the transport that encrypts.
    #[error("TLS: {0}")]
    Tls(TlsFault),
}

impl Fault {
    /// The fault of an I/O error; `EIO` if the error carries no `errno`.
    pub fn from_io(error: &std::io::Error) -> Self {
        Self::Os(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Whether the peer disconnected, or broke its side of TLS. This is ordinary and not logged as a
    /// warning.
    pub const fn is_disconnect(self) -> bool {
        match self {
            Self::Os(errno) => {
                matches!(errno, libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ETIMEDOUT | libc::ECONNABORTED)
            }
            Self::Tls(fault) => !matches!(fault, TlsFault::Internal),
            Self::FileTruncated | Self::RootLost(_) | Self::Resolver(_) => false,
        }
    }

    /// Whether the same access to a file may succeed a moment later, so that the fault is not
    /// cached.
    pub fn is_momentary(self) -> bool {
        match self {
            Self::Os(code) => errno::of_file(code) == errno::Kind::Moment,
            // The file is being changed.
            Self::FileTruncated => true,
            // The file store caches the state of the root for a second.
            Self::RootLost(_) | Self::Tls(_) => false,
            Self::Resolver(code) => matches!(code, libc::EAI_AGAIN | libc::EAI_MEMORY),
        }
    }

    /// Whether this host or process has run out of descriptors, ports, memory or threads. Such a
    /// fault does not count against the peer.
    pub const fn is_shortage(self) -> bool {
        match self {
            Self::Os(errno) => {
                matches!(
                    errno,
                    // ECANCELED without a cancel: the kernel could start no thread.
                    libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::ECANCELED
                )
            }
            Self::Resolver(code) => code == libc::EAI_MEMORY,
            Self::FileTruncated | Self::RootLost(_) | Self::Tls(_) => false,
        }
    }
}

fn describe_errno(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

fn resolver_message(code: i32) -> &'static str {
    match code {
        libc::EAI_NONAME => "no such host",
        libc::EAI_AGAIN => "the name server did not respond; try again",
        libc::EAI_FAIL => "the name server returned a failure",
        libc::EAI_MEMORY => "out of memory",
        libc::EAI_NODATA => "the host has no address",
        _ => "the resolver failed",
    }
}
