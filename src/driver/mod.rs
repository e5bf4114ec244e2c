//! The kernel boundary: operations, their outcomes, and the contract that every driver keeps.
//!
//! A state machine never calls the kernel. It queues an [`Op`] in [`Ops`] ("send this", "close
//! that") and later receives an [`Outcome`] ("sent", "these bytes arrived"). A [`Driver`] drains
//! the queue once per turn, executes the operations, waits, and returns their outcomes.
//!
//! | driver | executes an operation with | used |
//! |---|---|---|
//! | `uring` | submission and completion queue entries | Linux 6.0 and later, the default |
//! | `epoll` | non-blocking system calls and edge-triggered readiness | older kernels, containers that block io_uring |
//! | `sim` | an in-memory network, file system and clock, seeded and adversarial | tests |
//!
//! # The operations
//!
//! | [`Op`] | acts on | [`Outcome`]s, the last one final |
//! |---|---|---|
//! | `Accept` | a listener, until cancelled or a number was accepted | `Accepted`…, then `Cancelled` or `Failed` |
//! | `Recv` | a socket, until cancelled | `Received`…, while paused `Broken`; then `Eof`, `Cancelled` or `Failed` |
//! | `Send` | a socket, a chain of chunks | `Progress`…, then `Sent`, `Cancelled` or `Failed` |
//! | `SendFile` | a socket, bytes to send first, a range of a file | `Progress`…, then `Sent`, `Cancelled` or `Failed` |
//! | `Connect` | an address | `Connected`, `Cancelled` or `Failed` |
//! | `Resolve` | a host name | `Resolved`, `Cancelled` or `Failed` |
//! | `FindRoot` | a path, not beneath a root | `Root`, `Cancelled` or `Failed` |
//! | `Open` | a root, a relative path | `Opened`, `Cancelled` or `Failed` |
//! | `Read` | a range of a file | `Read`, `Cancelled` or `Failed` |
//! | `Create` | a root, the name of a new file | `Opened`, `Cancelled` or `Failed` |
//! | `Write` | a file, bytes | `Written`, `Cancelled` or `Failed` |
//! | `Publish` | a root, a file in it, its old and its new name | `Done`, `Cancelled` or `Failed` |
//! | `Remove` | a root, the name of a file | `Done`, `Cancelled` or `Failed` |
//! | `List` | a root, a relative path of a folder | `Listed`, `Cancelled` or `Failed` |
//! | `Compute` | a function | `Computed` with its result, `Cancelled` or `Failed` |
//! | `LocalAddress` | a connected socket | `Local` or `Failed` |
//! | `Shutdown` | a socket's sending half | `Done` or `Failed` |
//! | `Flush` | a socket, until all sent bytes are acknowledged | `Progress`…, then `Done`, `Cancelled` or `Failed` |
//! | `BeginKernelTls` (feature `ktls-tx`) | a socket, keys | `Done` or `Failed` |
//! | `SettleKernelTls` (feature `ktls-tx`) | a socket, until TCP has what was sent; an alert | `Done`, `Cancelled` or `Failed` |
//! | `Close`, `CloseFile` | a descriptor | `Done` |
//! | `Reset` | a socket | `Reset` |
//!
//! # The guarantees
//!
//! `tests/contract.rs` checks them for every driver.
//!
//! 1. Every operation has exactly one final outcome ([`Outcome::is_final`]), also when it is
//!    cancelled. The driver keeps nothing of the operation after it.
//! 2. `Accept` and `Recv` are subscriptions. The driver re-arms them, waits for buffers and backs off
//!    after `EMFILE`; none of this is visible above it.
//! 3. [`Ops::cancel`] is a request without an outcome of its own. What had already arrived is still
//!    delivered, then the operation's own final outcome, whichever way the race went. Cancelling an
//!    operation that has ended is allowed and does nothing.
//! 4. `Send`, `SendFile` and `Write` complete in full or fail. The driver reports a partial send as
//!    `Progress` and continues it. An operation that is cancelled in the turn that submitted it is
//!    attempted once before it is cancelled.
//! 5. An operation owns its arguments: the driver holds the chunks of a `Send` until its final
//!    outcome, so memory that the kernel may access is not freed.
//! 6. On one socket at most one `Recv` and one `Send`, `SendFile`, `Shutdown`, `Flush`, `BeginKernelTls`
//!    or `SettleKernelTls` are in flight.
//!    `Close` and `Reset` are submitted only when nothing else is in flight on that descriptor.
//!    (Asserted.)
//! 7. Outcomes of one socket's `Recv` come in the order of its bytes.
//! 8. A turn with nothing to do waits in the kernel and uses no processor time.
//! 9. State that other processes may share does not change: a listener stays non-blocking
//!    (`O_NONBLOCK`), even if another process created it. An `Accept` fails only for an error of the
//!    listener itself. An error of one connection is skipped, and after a temporary error the driver
//!    tries again (`errno.rs`).
//! 10. A `Recv` can be paused and resumed ([`Ops::pause`], [`Ops::resume`]); neither has an outcome of
//!     its own. What had arrived before the pause is still delivered. During the pause nothing is
//!     received, but an error of the connection, such as a reset, is reported at once: `Broken`, at
//!     most once. Bytes that arrived before the error can still be received after resuming; then comes
//!     `Eof` or `Failed`. An error that a send has reported is not reported again.
//! 11. While the pool is scarce ([`Pool::is_scarce`](crate::buffer::Pool::is_scarce)), a socket gets one
//!     buffer, and the next one only after the state machines have acted on it.

#![expect(unsafe_code, reason = "system calls, and memory that the kernel writes")]

pub mod access;
mod address;
pub mod affinity;
mod epoll;
mod errno;
mod feature;
mod find_root;
mod flush;
#[cfg(feature = "ktls-tx")]
mod kernel_tls;
mod new_file;
mod notsent_lowat;
mod offload;
mod offloaded;
mod ops;
mod outcome;
mod page_cache;
mod read_dir;
mod read_memory;
mod recv_size;
mod resolve;
mod resolve_beneath;
mod shortage;
mod sys;
mod tls_fault;
mod unix_connect_retry;
mod uring;
mod waker;

pub mod datagram;
pub mod descriptors;
pub mod limits;
pub mod probe;
pub mod signals;
#[cfg(feature = "internals")]
pub mod sim;
#[cfg(feature = "tui")]
pub mod terminal;
pub mod timer_slack;

use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub use address::{Address, InvalidUnixPath, UnixPath};
pub use epoll::{Epoll, EpollConfig};
pub use feature::{Feature, FeatureSet, UnknownFeature};
#[cfg(feature = "ktls-tx")]
pub use kernel_tls::{Alert, NONCE_BYTES, SendKeys, is_supported as has_kernel_tls};
pub use offload::{Offload, OffloadLimits};
pub use ops::{Computation, Computed, File, FolderId, Op, OpId, Ops, Request, Root, Socket, SymlinkPolicy, Token};
pub use outcome::{Completion, Fault, FileInfo, FileKind, FolderEntry, Outcome, Peer};
pub use sys::unix_seconds;
pub use tls_fault::TlsFault;
pub use uring::{RingSize, Uring, UringConfig, kernel_features};
pub use waker::Waker;

use crate::buffer::Pool;

/// Executes operations. The contract is in the module's documentation.
pub trait Driver {
    /// Drains `ops`, waits until there is a completion, a [`Waker`] was used, or `wait` has passed
    /// (`None`: no limit), and appends at most [`TURN_COMPLETIONS_MAX`] completions to `done`.
    ///
    /// # Errors
    /// Only errors that end the worker: a call on the ring or the epoll instance itself fails. An
    /// error of one operation is that operation's `Failed`.
    fn turn(&mut self, ops: &mut Ops, wait: Option<Duration>, done: &mut Vec<Completion>) -> io::Result<Turn>;

    /// The current time of this driver's clock, which never goes backwards.
    fn now(&self) -> Time;

    /// The pool that receive buffers come from.
    fn pool(&self) -> &Pool;

    /// Gives memory that is not in use back to the system. Meant to be called every few seconds.
    fn trim(&mut self) {
        self.pool().trim();
    }

    /// Totals since the driver was created.
    fn counters(&self) -> Counters;

    /// The number of sockets and files that the driver holds open for state machines.
    fn open_descriptors(&self) -> usize;
}

/// What the drivers for a real kernel offer beyond the contract.
pub trait KernelDriver: Driver {
    /// Takes over a socket that was created elsewhere: a bound listener, or one end of a socket
    /// pair.
    ///
    /// A listener may be shared with other processes, so it must already be non-blocking, and stays
    /// so (guarantee 9). A connected socket belongs to this process alone, and the driver sets or
    /// clears `O_NONBLOCK` on it.
    fn adopt(&mut self, socket: OwnedFd) -> Socket;

    /// The handle with which other threads end a wait.
    fn waker(&self) -> Waker;
}

/// The result of a turn, besides completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The time at which the completions were collected.
    pub now: Time,
    /// Another thread used the waker: check for messages.
    pub woken: bool,
}

/// The largest `Read` that runs on the loop, if the page cache has the range, in bytes. A larger
/// one takes some milliseconds to copy, and runs off the loop.
const READ_AT_ONCE_MAX: usize = 1 << 20;

/// The most completions that one turn returns, so that timers and messages are not delayed.
pub const TURN_COMPLETIONS_MAX: usize = 4096;

/// A point in time, in nanoseconds since an arbitrary start, which is fixed for one driver.
///
/// Stored plus one in a `NonZeroU64`, so that `Option<Time>` is no larger than `Time`: every idle
/// connection holds several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU64);

impl Time {
    /// The start of this clock.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The time `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// The time elapsed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The earlier of two times; `None` means never.
    pub fn earliest(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Totals since a driver was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `io_uring_enter` or `epoll_wait`.
    pub enters: u64,
    /// Ring entries submitted; without a ring, operations started and system calls attempted.
    pub submissions: u64,
    /// Outcomes returned to state machines.
    pub completions: u64,
    /// Multishot operations armed again after the kernel had ended them.
    pub rearms: u64,
    /// Receives that found no buffer and had to wait.
    pub buffers_exhausted: u64,
    /// Pauses of accepting, for lack of descriptors or memory.
    pub accept_pauses: u64,
    /// Sends of which the kernel took only a part.
    pub short_sends: u64,
    /// Sockets that were switched to large receive buffers.
    pub promotions: u64,
    /// Calls of `io_uring_enter` that left completions in kernel memory, because the completion
    /// queue was full. None is lost.
    pub overflows: u64,
}
