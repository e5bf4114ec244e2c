//! What machines get back: outcomes, and the faults among them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::errno;
use super::ops::{File, OpId, Root, Socket};
use crate::buffer::Buffer;

/// One outcome on its way to the machine that asked.
#[derive(Debug)]
pub struct Completion {
    /// Which operation.
    pub id: OpId,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an operation, or what its subscription delivered.
#[derive(Debug)]
pub enum Outcome {
    /// `Accept` delivered a connection; more may follow.
    Accepted {
        /// The connected socket.
        socket: Socket,
        /// Who connected.
        peer: Peer,
    },
    /// `Recv` delivered bytes, at least one; more may follow.
    Received(Buffer),
    /// `Recv`, while it is paused: the connection broke. What has arrived before that is still there.
    Broken(Fault),
    /// `Send` or `SendFile` got on by this number of bytes, or it was acknowledged during a `Flush`; more follows.
    Progress(u64),
    /// `Recv`: the peer will send nothing more.
    Eof,
    /// `Send` or `SendFile`: all of it is the kernel's.
    Sent,
    /// `Connect` succeeded.
    Connected(Socket),
    /// `Resolve` succeeded, with at least one address, in the order to try them.
    Resolved(Vec<SocketAddr>),
    /// `FindRoot` succeeded.
    Root(Arc<Root>),
    /// `Open` or `Create` succeeded.
    Opened(File, FileInfo),
    /// `Read` succeeded; fewer bytes than asked for only where the file ends.
    Read(Vec<u8>),
    /// `Write`: all of it is the kernel's.
    Written,
    /// `List` succeeded: everything in the folder but `.` and `..`.
    Listed(Vec<FolderEntry>),
    /// `Compute` is done.
    Computed(Vec<u8>),
    /// `LocalAddress`: this, or none on a unix socket.
    Local(Option<SocketAddr>),
    /// `Shutdown`, `Flush`, `Close`, `CloseFile`, `Publish` or `Remove` is done.
    Done,
    /// `Reset` is done.
    Reset {
        /// Bytes that the kernel had taken and that had not arrived.
        lost: u64,
    },
    /// A cancel won the race. Of a `Send`, some bytes may have gone out.
    Cancelled,
    /// It went wrong.
    Failed(Fault),
}

impl Outcome {
    /// Whether the operation has ended with this. Exactly one outcome of each operation is final.
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

/// Who is at the other end of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An internet address and port.
    Inet(SocketAddr),
    /// A process on this machine, over a socket pair or a unix socket.
    Local,
    /// The peer was gone before it could be asked for.
    Gone,
}

impl Peer {
    /// Its address, if it has one; IPv4 in the clothes of IPv6 as what it is.
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

/// What an opened file is, as `fstat(2)` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Length in bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970, before it negative.
    pub modified_ns: i64,
    /// What sort of file.
    pub kind: FileKind,
    /// Its number within its file system. With `device` it tells a file from the one that replaced it.
    pub inode: u64,
    /// The file system that it lies on.
    pub device: u64,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// The name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// What it leads to; `None`: a link that leads nowhere, or out of the root.
    pub info: Option<FileInfo>,
}

/// The sorts of file that matter to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Has bytes that can be sent.
    Regular,
    /// A folder.
    Directory,
    /// A FIFO, socket or device: never read.
    Special,
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The kernel's word for it.
    #[error("{}", describe_errno(*.0))]
    Os(i32),
    /// The file ended before the range that was promised.
    #[error("the file became shorter while it was being sent")]
    FileTruncated,
    /// The folder that paths begin at cannot be had, for this reason: no driver's word, but that of who keeps roots.
    #[error("the folder that is served cannot be opened: {}", describe_errno(*.0))]
    RootLost(i32),
    /// The resolver knows no such name, or could not be asked; its own code (`getaddrinfo(3)`).
    #[error("the name cannot be resolved: {}", resolver_message(*.0))]
    Resolver(i32),
}

impl Fault {
    /// The fault that an I/O error reports; `EIO` if it carries no system code.
    pub fn from_io(error: &std::io::Error) -> Self {
        Self::Os(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// Whether the peer simply went away: part of any server's day, never worth a warning.
    pub const fn is_disconnect(self) -> bool {
        matches!(self, Self::Os(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ETIMEDOUT | libc::ECONNABORTED))
    }

    /// Whether a file that could not be had may be had the next moment: nothing to be remembered.
    pub fn is_momentary(self) -> bool {
        match self {
            Self::Os(code) => errno::of_file(code) == errno::Kind::Moment,
            // It is being changed.
            Self::FileTruncated => true,
            // The look at the root is remembered, for a second.
            Self::RootLost(_) => false,
            Self::Resolver(code) => matches!(code, libc::EAI_AGAIN | libc::EAI_MEMORY),
        }
    }

    /// Whether this machine or process has run out of something, descriptors, ports, memory or threads: it says nothing of
    /// the peer.
    pub const fn is_shortage(self) -> bool {
        match self {
            Self::Os(errno) => {
                matches!(
                    errno,
                    // ECANCELED, which no machine has asked for: the kernel could start no thread.
                    libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::ECANCELED
                )
            }
            Self::Resolver(code) => code == libc::EAI_MEMORY,
            Self::FileTruncated | Self::RootLost(_) => false,
        }
    }
}

fn describe_errno(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

fn resolver_message(code: i32) -> &'static str {
    match code {
        libc::EAI_NONAME => "no such host",
        libc::EAI_AGAIN => "the name server did not answer, try again",
        libc::EAI_FAIL => "the name server refused",
        libc::EAI_MEMORY => "out of memory",
        libc::EAI_NODATA => "the host has no address",
        _ => "the resolver failed",
    }
}
