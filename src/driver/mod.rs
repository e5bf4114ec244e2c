//! The kernel boundary: the contract between the machines and whatever carries their wishes out.
//!
//! A machine never calls the kernel. It puts an [`Op`] into the [`Ops`] queue ("send this", "close
//! that") and is later handed an [`Outcome`] ("sent", "these bytes arrived"). A [`Driver`] stands
//! between: it takes the queue once a turn, carries it out, waits, and hands outcomes back.
//!
//! | driver | carries an operation out by | used |
//! |---|---|---|
//! | `uring` | submission and completion queue entries | Linux 6.0 and later, the default |
//! | `epoll` | non-blocking system calls and edge-triggered readiness | older kernels, containers that block io_uring |
//! | `sim` | an in-memory network, file system and clock, seeded and adversarial | tests |
//!
//! # The operations
//!
//! | [`Op`] | a machine asks | [`Outcome`]s, the last one final |
//! |---|---|---|
//! | `Accept` | a listener, until stopped or so many came | `Accepted`…, then `Cancelled` or `Failed` |
//! | `Recv` | a socket, until stopped | `Received`…, while paused `Broken`; then `Eof`, `Cancelled` or `Failed` |
//! | `Send` | a socket, a chain of chunks | `Progress`…, then `Sent`, `Cancelled` or `Failed` |
//! | `SendFile` | a socket, bytes to go before, a range of a file | `Progress`…, then `Sent`, `Cancelled` or `Failed` |
//! | `Connect` | an address | `Connected`, `Cancelled` or `Failed` |
//! | `Resolve` | a host name | `Resolved`, `Cancelled` or `Failed` |
//! | `FindRoot` | a path from the top | `Root`, `Cancelled` or `Failed` |
//! | `Open` | a root, a relative path | `Opened`, `Cancelled` or `Failed` |
//! | `Read` | a range of a file | `Read`, `Cancelled` or `Failed` |
//! | `Create` | a root, the name of a new file | `Opened`, `Cancelled` or `Failed` |
//! | `Write` | a file, bytes | `Written`, `Cancelled` or `Failed` |
//! | `Publish` | a root, a file in it, its name, the name it gets | `Done`, `Cancelled` or `Failed` |
//! | `Remove` | a root, the name of a file | `Done`, `Cancelled` or `Failed` |
//! | `List` | a root, a relative path of a folder | `Listed`, `Cancelled` or `Failed` |
//! | `Compute` | a function | `Computed`, `Cancelled` or `Failed` |
//! | `LocalAddress` | a connected socket | `Local` or `Failed` |
//! | `Shutdown` | a socket's sending half | `Done` or `Failed` |
//! | `Flush` | a socket, whose peer is to get all that was sent | `Progress`…, then `Done`, `Cancelled` or `Failed` |
//! | `Close`, `CloseFile` | a descriptor | `Done` |
//! | `Reset` | a socket | `Reset` |
//!
//! # The promises, which one suite of contract tests holds every driver to
//!
//! 1. Every operation has exactly one final outcome ([`Outcome::is_final`]), also when it is
//!    cancelled. After it the driver has forgotten the operation.
//! 2. `Accept` and `Recv` are subscriptions. Re-arming, waiting for buffers, backing off after
//!    `EMFILE`: the driver's business, invisible above it.
//! 3. [`Ops::cancel`] is a request, never answered itself. What had already arrived is still
//!    delivered, then the operation's own final outcome, whichever way the race went. Cancelling
//!    an operation that has ended is allowed and does nothing.
//! 4. `Send`, `SendFile` and `Write` are all or error. A partial send is reported as `Progress` and
//!    continued by the driver. One that is cancelled in the turn in which it was submitted has been tried before.
//! 5. Ownership travels with the operation: the driver holds the chunks of a `Send` until its final
//!    outcome, so memory that the kernel may touch cannot be freed.
//! 6. On one socket at most one `Recv` and one `Send`, `SendFile`, `Shutdown` or `Flush` are in flight.
//!    `Close` and `Reset` are asked only when nothing else is in flight on that descriptor. (Asserted.)
//! 7. Outcomes of one socket's `Recv` come in the order of its bytes.
//! 8. A turn with nothing to do waits in the kernel and costs no processor time.
//! 9. What other processes may share is left as it is: a listener stays non-blocking (`O_NONBLOCK`), whoever made it. An
//!    `Accept` fails only for what is wrong with the listener itself; what is wrong with one connection, or at the
//!    moment, is passed over or waited for (`errno.rs`).
//! 10. A `Recv` can be paused and resumed ([`Ops::pause`], [`Ops::resume`]), neither of which is answered. What had
//!     arrived before the pause is still delivered. While it is paused nothing is received, but an error of the
//!     connection, as a reset is one, is told at once: `Broken`, at most once. What arrived before the error can still be
//!     received, by resuming; then comes `Eof` or `Failed`. An error that a send was told of is not told again.

#![expect(unsafe_code, reason = "system calls, and memory that the kernel writes")]

pub mod access;
mod address;
pub mod affinity;
mod epoll;
mod errno;
mod feature;
mod find_root;
mod flush;
mod new_file;
mod notsent_lowat;
mod offload;
mod offloaded;
mod ops;
mod outcome;
mod page_cache;
mod read_dir;
mod recv_size;
mod resolve;
mod resolve_beneath;
mod shortage;
mod sys;
mod unix_connect_retry;
mod uring;
mod waker;

pub mod descriptors;
pub mod limits;
pub mod probe;
pub mod signals;
#[cfg(feature = "internals")]
pub mod sim;

use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub use address::{Address, InvalidUnixPath, UnixPath};
pub use epoll::{Epoll, EpollConfig};
pub use feature::{Feature, FeatureSet, UnknownFeature};
pub use offload::{Offload, OffloadLimits};
pub use ops::{Computation, File, FolderId, Op, OpId, Ops, Request, Root, Socket, SymlinkPolicy, Token};
pub use outcome::{Completion, Fault, FileInfo, FileKind, FolderEntry, Outcome, Peer};
pub use sys::unix_seconds;
pub use uring::{RingSize, Uring, UringConfig, kernel_features};
pub use waker::Waker;

use crate::buffer::Pool;

/// Carries operations out. See the module's page for the contract.
pub trait Driver {
    /// Takes everything queued in `ops`, waits until at least one completion is there, a
    /// [`Waker`] was used, or `wait` has passed (`None`: no limit), and appends the completions to
    /// `done`, at most [`TURN_COMPLETIONS_MAX`] of them.
    ///
    /// # Errors
    /// Only what ends the worker: the kernel refuses the ring or the epoll instance itself. What
    /// goes wrong with one operation is that operation's `Failed`.
    fn turn(&mut self, ops: &mut Ops, wait: Option<Duration>, done: &mut Vec<Completion>) -> io::Result<Turn>;

    /// The time as this driver knows it; never goes backwards.
    fn now(&self) -> Time;

    /// The pool that receive buffers come from.
    fn pool(&self) -> &Pool;

    /// What this driver has done so far.
    fn counters(&self) -> Counters;

    /// How many sockets and files it holds open for machines.
    fn open_descriptors(&self) -> usize;
}

/// What the drivers that stand on a real kernel offer beyond the contract.
pub trait KernelDriver: Driver {
    /// Takes over a socket that was made elsewhere: a bound listener, or one end of a socket pair.
    ///
    /// A listener may be shared with other processes, so it is to be non-blocking already, and stays so (promise 9). Of a
    /// connected socket, which is this process's alone, the driver decides that.
    fn adopt(&mut self, socket: OwnedFd) -> Socket;

    /// What other threads use to end a wait.
    fn waker(&self) -> Waker;
}

/// What a turn brought besides completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The time at which the completions were collected.
    pub now: Time,
    /// Another thread used the waker: look at the messages.
    pub woken: bool,
}

/// A `Read` of more than so much is carried out off the loop even if the page cache has it: copying takes some milliseconds.
const READ_AT_ONCE_MAX: usize = 1 << 20;

/// The most completions one turn hands out, so that timers and messages get their turn too.
pub const TURN_COMPLETIONS_MAX: usize = 4096;

/// A moment, in nanoseconds since an arbitrary start that one driver keeps to.
///
/// It is kept as one more, so that a moment that may be missing takes no more room than one that is there: every idle
/// connection has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU64);

impl Time {
    /// The start of this clock.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The moment `nanos` after the start.
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

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The earlier of two moments, either of which may be missing.
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

/// What a driver has done since it was made. Plain numbers, read by whoever asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `io_uring_enter` or `epoll_wait`.
    pub enters: u64,
    /// Operations taken from machines, and entries submitted for them or attempts made.
    pub submissions: u64,
    /// Outcomes handed to machines.
    pub completions: u64,
    /// Multishot operations armed again after the kernel had ended them.
    pub rearms: u64,
    /// Times a receive found no buffer and had to wait.
    pub buffers_exhausted: u64,
    /// Times accepting paused for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Sends that the kernel took only in part.
    pub short_sends: u64,
    /// Sockets that were moved to large receive buffers.
    pub promotions: u64,
    /// Calls of `io_uring_enter` that left completions in kernel memory, because their queue was full. None is lost.
    pub overflows: u64,
}
