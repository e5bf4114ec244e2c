//! The `uring` driver: operations become io_uring submission entries, completions become outcomes.
//!
//! It owns the ring, the receive buffers that the kernel picks from, every socket and file that
//! state machines name, and the operations in flight with all memory that the kernel may access for
//! them. It does not know what the bytes mean or why a state machine sends them.
//!
//! # A turn
//!
//! ```text
//!   requests ──► entries ─┐                     ┌─► outcomes for state machines
//!                         ├─► enter ─► reap ────┤
//!   re-arms, retries ─────┘    (one system call) └─► re-arms, retries: with the next turn's entries
//! ```
//!
//! # Memory that the kernel uses
//!
//! An operation has at most one entry in flight at a time. Its user data is the operation's id with
//! its generation, so a completion is never taken for that of another operation. Buffers, messages,
//! paths and addresses that an entry points to live in the operation's `OpState` until its last
//! completion is reaped. Dropping the driver cancels everything and reaps before it frees memory.
//!
//! # Pitfalls, and where they are handled
//!
//! * A receive that finds no buffer has ended: it queues until there is one (`receive.rs`).
//! * Any completion of a multishot operation may be its last: `IORING_CQE_F_MORE` is checked each
//!   time.
//! * A cancel may lose the race: an operation ends with its own last completion, never with that of
//!   the cancel.
//! * Connected sockets are blocking, since the ring fails at once with `EAGAIN` on a non-blocking
//!   one. Direct calls pass `MSG_DONTWAIT`; `sendfile(2)` has no such flag, so the socket is
//!   non-blocking while it runs (`send_file.rs`). This process alone uses connected sockets.
//!   Listeners may be shared, and stay non-blocking (`accept.rs`).

mod accept;
mod buffer_ring;
mod close;
mod connect;
mod detect;
mod files;
mod in_flight;
#[cfg(feature = "ktls-tx")]
mod kernel_tls;
mod offloaded;
mod receive;
mod ring;
mod send;
mod send_file;
mod size;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, squeue, types};

use self::accept::Paused;
use self::buffer_ring::BufferRing;
pub use self::detect::kernel_features;
pub(super) use self::detect::{Refused, What, try_out};
use self::in_flight::{InFlight, Work};
use self::ring::Ring;
use self::send::SpareSends;
pub use self::size::RingSize;
use self::size::Rings;
pub(super) use self::size::fitting;
use super::flush::Flushes;
use super::notsent_lowat::NotsentLowat;
use super::offload::{Offload, OffloadClient};
use super::offloaded::OffloadResult;
use super::outcome::hand_out;
use super::read_memory::ReadPieces;
use super::recv_size::RecvSize;
use super::unix_connect_retry::UnixConnectRetries;
use super::{
    Completion, Counters, Driver, Fault, Feature, FeatureSet, File, KernelDriver, Op, OpId, Ops, Outcome, Request,
    Socket, TURN_COMPLETIONS_MAX, Time, Turn, Waker, sys,
};
use crate::buffer::{Pool, PoolConfig};
use crate::table::{Key, Table};

/// Configuration of a [`Uring`].
#[derive(Clone, Debug)]
pub struct UringConfig {
    /// The receive buffers.
    pub pool: PoolConfig,
    /// The threads for work that would block the loop. All drivers of a process share them.
    pub offload: Offload,
    /// Optional features to leave unused even where the kernel has them.
    pub off: FeatureSet,
    /// Sizes of the rings.
    pub size: RingSize,
}

impl UringConfig {
    /// The configuration for a server: the largest rings, all features.
    pub fn new(pool: PoolConfig) -> Self {
        Self { pool, offload: Offload::default(), off: FeatureSet::NONE, size: RingSize::FULL }
    }
}

/// The io_uring driver; the module's documentation describes it.
#[derive(Debug)]
pub struct Uring {
    ring: Ring,
    features: FeatureSet,
    pool: Pool,
    small: Option<BufferRing>,
    large: Option<BufferRing>,
    waker: Waker,
    /// The waker of the offload threads. It is separate so that [`Turn::woken`] means a message of
    /// another thread.
    offload_waker: Waker,
    offload: OffloadClient<OffloadResult>,
    sockets: Table<SocketState, Socket>,
    notsent_lowat: NotsentLowat,
    files: Table<Arc<OwnedFd>, File>,
    read_pieces: ReadPieces,
    in_flight: InFlight,
    spare_sends: SpareSends,
    /// Operations that can continue at once.
    ready: VecDeque<OpId>,
    /// Receives that wait for a buffer, in order.
    starving: VecDeque<OpId>,
    /// Receives into large buffers, which are submitted a few at a time, in order.
    queued_receives: VecDeque<OpId>,
    /// Receives that were paused recently, with the count of system calls at that moment.
    parked: VecDeque<(OpId, u64)>,
    paused: Paused,
    unix_connect_retries: UnixConnectRetries,
    flushes: Flushes,
    outbox: Vec<Completion>,
    reaped: Vec<cqueue::Entry>,
    woken: bool,
    counters: Counters,
}

/// The state of one socket.
#[derive(Debug)]
struct SocketState {
    socket: OwnedFd,
    recv_size: RecvSize,
    receiving: Option<OpId>,
    sending: Option<OpId>,
}

/// User data of entries that belong to no operation: an index that no operation has, and the
/// entry's purpose.
const INTERNAL: u64 = u32::MAX as u64;
const WAKER: u64 = INTERNAL | 1 << 32;
const OFFLOAD_WAKER: u64 = INTERNAL | 2 << 32;
const CANCEL: u64 = INTERNAL | 3 << 32;

const SMALL_GROUP: u16 = 0;
const LARGE_GROUP: u16 = 1;

/// Buffers in the buffer rings at first. The kernel uses the buffers of a ring in turn, so a small
/// number of them is more likely to stay in the processor's cache.
const SMALL_TARGET: u16 = 128;
const LARGE_TARGET: u16 = 8;

/// How long dropping a driver waits for the kernel to stop using its memory.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

impl Uring {
    /// Creates a driver with no sockets and no operations, on the thread that will use it. If
    /// locked memory is short, retries for one second: the kernel frees closed rings with a delay.
    ///
    /// # Errors
    /// The kernel does not create a ring, or a limit was reached.
    pub fn new(config: UringConfig) -> io::Result<Self> {
        let wanted = FeatureSet::ALL.minus(config.off);
        let Rings { ring, small, large } = Rings::patiently(config.size, wanted, kernel_features().minus(config.off))?;
        let set_up = [Feature::DeferTaskrun, Feature::NoSqArray, Feature::RegisteredRing];
        let mut features = kernel_features().minus(config.off);
        for feature in set_up {
            features = if ring.features().has(feature) { features.with(feature) } else { features.without(feature) };
        }
        if !features.has(Feature::AcceptPollFirst) {
            features = features.without(Feature::AcceptMultishot);
        }
        if small.is_none() {
            features = features.without(Feature::RecvMultishot).without(Feature::LargeBuffers);
        }
        let waker = Waker::new()?;
        let offload_waker = Waker::new()?;
        let mut driver = Self {
            ring,
            features,
            pool: Pool::new(config.pool),
            small,
            large,
            offload: OffloadClient::new(config.offload, offload_waker.clone()),
            waker,
            offload_waker,
            sockets: Table::new(),
            files: Table::new(),
            read_pieces: ReadPieces::default(),
            in_flight: InFlight::default(),
            spare_sends: SpareSends::default(),
            ready: VecDeque::new(),
            starving: VecDeque::new(),
            queued_receives: VecDeque::new(),
            parked: VecDeque::new(),
            paused: Paused::default(),
            unix_connect_retries: UnixConnectRetries::default(),
            flushes: Flushes::default(),
            notsent_lowat: NotsentLowat::of_system(),
            outbox: Vec::new(),
            reaped: Vec::new(),
            woken: false,
            counters: Counters::default(),
        };
        driver.watch(WAKER);
        driver.watch(OFFLOAD_WAKER);
        Ok(driver)
    }

    /// The optional features in use.
    pub const fn features(&self) -> FeatureSet {
        self.features
    }
}

impl Driver for Uring {
    fn turn(&mut self, ops: &mut Ops, wait: Option<Duration>, done: &mut Vec<Completion>) -> io::Result<Turn> {
        let mut now = self.now();
        let deadline = wait.map(|wait| now + wait);
        for request in ops.drain() {
            match request {
                Request::Start(id, op) => self.start(id, op),
                Request::Cancel(id) => self.cancel(id),
                Request::Pause(id) => self.pause(id),
                Request::Resume(id) => self.resume(id),
            }
        }
        loop {
            self.feed_starving();
            self.arm_queued();
            self.serve_ready();
            let may_wait = wait != Some(Duration::ZERO) && !self.has_work();
            self.watch_parked(may_wait);
            self.enter(deadline, now, may_wait)?;
            self.reap();
            now = self.now();
            if self.woken || !self.outbox.is_empty() || deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
        }
        self.counters.completions += hand_out(&mut self.outbox, done, TURN_COMPLETIONS_MAX) as u64;
        Ok(Turn { now, woken: std::mem::take(&mut self.woken) })
    }

    fn now(&self) -> Time {
        Time::from_nanos(sys::monotonic_ns())
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn trim(&mut self) {
        self.pool.trim();
        self.read_pieces.trim();
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn open_descriptors(&self) -> usize {
        self.sockets.len() + self.files.len()
    }
}

impl KernelDriver for Uring {
    fn adopt(&mut self, socket: OwnedFd) -> Socket {
        // Other processes may share a listener and rely on `O_NONBLOCK`; `accept.rs` works with
        // that.
        let is_listener = sys::is_listener(socket.as_fd());
        let set = if is_listener { sys::set_nonblocking } else { sys::set_blocking };
        if let Err(error) = set(socket.as_fd()) {
            // The ring's operations on it will fail at once instead of waiting.
            tracing::error!(%error, is_listener, "cannot set or clear O_NONBLOCK on an adopted socket");
        }
        self.insert(socket)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Starting and cancelling operations.
impl Uring {
    fn start(&mut self, id: OpId, op: Op) {
        match op {
            Op::Accept { listener, most } => self.start_accept(id, listener, most),
            Op::Recv { socket } => self.start_recv(id, socket),
            Op::Send { socket, chain } => self.start_send(id, socket, chain),
            Op::SendFile { socket, head, file, offset, length } => {
                self.start_send_file(id, socket, head, file, (offset, length));
            }
            Op::Connect { address } => self.start_connect(id, address),
            Op::Resolve { host, port } => self.start_resolve(id, &host, port),
            Op::FindRoot { path, symlinks, present } => self.start_find_root(id, path, symlinks, present),
            Op::Open { root, path, known_regular } => self.start_open(id, root, path, known_regular),
            Op::Read { file, offset, length } => self.start_read(id, file, offset, length),
            Op::Create { root, name } => self.start_create(id, root, name),
            Op::Write { file, offset, bytes } => self.start_write(id, file, offset, bytes),
            Op::Publish { root, file, from, to, replaces } => self.start_publish(id, root, file, (from, to), replaces),
            Op::Remove { root, name } => self.start_remove(id, root, name),
            Op::List { root, path } => self.start_list(id, root, path),
            Op::Compute(computation) => self.start_compute(id, computation),
            Op::LocalAddress { socket } => self.tell_local_address(id, socket),
            Op::Shutdown { socket } => self.shut_down(id, socket),
            Op::Flush { socket } => self.start_flush(id, socket),
            #[cfg(feature = "ktls-tx")]
            Op::BeginKernelTls { socket, keys } => self.begin_kernel_tls(id, socket, &keys),
            #[cfg(feature = "ktls-tx")]
            Op::SettleKernelTls { socket, alert } => self.start_settling(id, socket, alert),
            Op::Close { socket } => self.close(id, socket),
            Op::Reset { socket } => self.reset(id, socket),
            Op::CloseFile { file } => self.close_file(id, file),
        }
    }

    fn tell_local_address(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        let outcome = sys::local_address(state.socket.as_fd())
            .map_or_else(|error| Outcome::Failed(Fault::from_io(&error)), Outcome::Local);
        self.emit(id, outcome);
    }

    fn cancel(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        if matches!(op_state.work, Work::SendFile(_)) && !op_state.is_in_kernel {
            // It may have been submitted in this turn, and must be tried once (guarantee 4).
            self.serve_send_file(id);
        }
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        if matches!(op_state.work, Work::Close { .. }) {
            // It ends soon anyway, and a cancelled close would leave the descriptor open.
            return;
        }
        op_state.is_cancelled = true;
        if let Work::Offloaded(handle) = &op_state.work {
            // If it is running already, its result is dropped.
            self.offload.cancel(**handle);
            self.finish(id, Outcome::Cancelled);
        } else if op_state.is_in_kernel {
            self.cancel_entry(id);
        } else {
            if let Work::SendFile(transfer) = &op_state.work
                && let Some(handle) = transfer.warming()
            {
                self.offload.cancel(handle);
            }
            self.finish(id, Outcome::Cancelled);
        }
    }

    /// Asks the kernel to end an operation's entry; whether the operation ends or continues is
    /// decided when it has.
    fn cancel_entry(&mut self, id: OpId) {
        let entry = opcode::AsyncCancel::new(id.to_bits()).build().user_data(CANCEL);
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry) };
    }

    /// A state machine broke guarantee 6, or used a name that it had closed. That is a bug in xps,
    /// so debug builds panic.
    fn reject(&mut self, id: OpId, errno: i32) {
        debug_assert!(false, "operation {id} breaks the contract: {}", Fault::Os(errno));
        tracing::error!(op = %id, errno, "operation breaks the driver's contract");
        self.emit(id, Outcome::Failed(Fault::Os(errno)));
    }

    fn insert(&mut self, socket: OwnedFd) -> Socket {
        let state = SocketState { socket, recv_size: RecvSize::default(), receiving: None, sending: None };
        Socket(self.sockets.insert(state))
    }
}

/// Submitting entries and ending operations.
impl Uring {
    /// Queues an entry that belongs to no operation.
    ///
    /// # Safety
    /// As [`Ring::push`].
    unsafe fn push(&mut self, entry: squeue::Entry) {
        self.counters.submissions += 1;
        // SAFETY: guaranteed by the caller.
        unsafe { self.ring.push(entry) };
    }

    /// Queues the entry of an operation that is in flight and has no other entry.
    ///
    /// # Safety
    /// As [`Ring::push`]: what the operation's state owns is not moved until then.
    unsafe fn submit(&mut self, id: OpId, entry: squeue::Entry) {
        self.in_flight.enter_kernel(id);
        // SAFETY: guaranteed by the caller.
        unsafe { self.push(entry.user_data(id.to_bits())) };
    }

    /// Ends an operation in flight.
    fn finish(&mut self, id: OpId, outcome: Outcome) {
        debug_assert!(outcome.is_final(), "{outcome:?} is not final");
        if let Some(op_state) = self.in_flight.remove(id) {
            debug_assert!(!op_state.is_in_kernel, "{id} ends with an entry in the kernel");
            match op_state.work {
                Work::Accept(accepting) => self.release_receiver(accepting.listener),
                Work::Recv { socket, .. } => self.release_receiver(socket),
                Work::Send(sending) => {
                    self.release_sender(sending.socket);
                    self.spare_sends.put_back(sending);
                }
                Work::SendFile(transfer) => self.release_sender(transfer.socket),
                Work::Flush { socket } => {
                    self.release_sender(socket);
                    self.flushes.remove(id);
                }
                #[cfg(feature = "ktls-tx")]
                Work::Settle { socket, .. } => self.release_sender(socket),
                Work::Connect(_)
                | Work::ConnectLater
                | Work::Open { .. }
                | Work::Read(_)
                | Work::Write(_)
                | Work::Offloaded(_)
                | Work::Close { .. } => {}
            }
        }
        self.emit(id, outcome);
    }

    fn release_receiver(&mut self, key: Key<Socket>) {
        if let Some(state) = self.sockets.get_mut(key) {
            state.receiving = None;
        }
    }

    fn release_sender(&mut self, key: Key<Socket>) {
        if let Some(state) = self.sockets.get_mut(key) {
            state.sending = None;
        }
    }

    fn emit(&mut self, id: OpId, outcome: Outcome) {
        self.outbox.push(Completion { id, outcome });
    }

    /// Arms a poll for one of the two wakers.
    fn watch(&mut self, which: u64) {
        let waker = if which == WAKER { &self.waker } else { &self.offload_waker };
        let entry = opcode::PollAdd::new(types::Fd(waker.descriptor().as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: the entry points to nothing, and the descriptor lives as long as the ring.
        unsafe { self.push(entry.user_data(which)) };
    }
}

/// The parts of a turn.
impl Uring {
    /// Whether there is work to do at once, so that the next system call must not wait.
    fn has_work(&mut self) -> bool {
        !self.outbox.is_empty()
            || !self.ready.is_empty()
            || !self.queued_receives.is_empty()
            || self.ring.has_completions()
            || self.ring.has_overflowed()
    }

    fn enter(&mut self, deadline: Option<Time>, now: Time, may_wait: bool) -> io::Result<()> {
        let wait = if may_wait {
            Time::earliest(deadline, self.next_retry()).map(|until| until.since(now))
        } else {
            Some(Duration::ZERO)
        };
        self.counters.enters += 1;
        self.ring.enter(wait)?;
        self.counters.overflows += u64::from(self.ring.has_overflowed());
        if self.next_retry().is_some() {
            self.retry();
        }
        Ok(())
    }

    /// When to retry operations that get no completion: paused accepts, connects over unix sockets,
    /// flushes.
    fn next_retry(&self) -> Option<Time> {
        Time::earliest(Time::earliest(self.paused.until(), self.unix_connect_retries.until()), self.flushes.until())
    }

    #[cold]
    fn retry(&mut self) {
        let now = self.now();
        if self.paused.until().is_some_and(|until| now >= until) {
            self.resume_listeners();
        }
        self.retry_connects(now);
        self.ask_for_flushes(now);
    }

    fn reap(&mut self) {
        let mut reaped = std::mem::take(&mut self.reaped);
        // If a turn could not hand out everything, only as much is reaped as fits into the next.
        self.ring.reap(TURN_COMPLETIONS_MAX.saturating_sub(self.outbox.len()), &mut reaped);
        for entry in reaped.drain(..) {
            self.on_completion(&entry);
        }
        self.reaped = reaped;
    }

    fn on_completion(&mut self, entry: &cqueue::Entry) {
        match entry.user_data() {
            WAKER => {
                self.woken |= self.waker.clear();
                self.watch(WAKER);
            }
            OFFLOAD_WAKER => {
                self.offload_waker.clear();
                self.collect_results();
                self.watch(OFFLOAD_WAKER);
            }
            // Found, not found or too late: the operation's own completion decides.
            CANCEL => {}
            bits => self.on_operation(OpId::from_bits(bits), entry.result(), entry.flags()),
        }
    }

    fn on_operation(&mut self, id: OpId, result: i32, flags: u32) {
        if !cqueue::more(flags) {
            self.in_flight.leave_kernel(id);
        }
        let Some(op_state) = self.in_flight.get_mut(id) else {
            debug_assert!(false, "a completion for {id}, which has ended: {result}");
            tracing::error!(op = %id, result, "completion of an operation that has already ended");
            return;
        };
        match &op_state.work {
            Work::Accept(_) => self.on_accept(id, result, flags),
            Work::Recv { .. } => self.on_recv(id, result, flags),
            Work::Send(_) => self.on_send(id, result),
            Work::SendFile(_) => self.on_send_file(id, result),
            #[cfg(feature = "ktls-tx")]
            Work::Settle { .. } => self.on_settling(id, result),
            Work::Connect(_) => self.on_connect(id, result),
            Work::Open { .. } => self.on_open(id, result),
            Work::Read(_) => self.on_read(id, result),
            Work::Write(_) => self.on_write(id, result),
            Work::Close { descriptor, lost } => {
                let lost = *lost;
                sys::close_if_left(*descriptor, result);
                self.on_close(id, lost);
            }
            Work::ConnectLater | Work::Flush { .. } | Work::Offloaded(_) => {
                debug_assert!(false, "{id} is not in the kernel and has a completion")
            }
        }
    }

    /// Goes over the ready list once.
    fn serve_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { return };
            self.serve_send_file(id);
        }
    }
}

impl Drop for Uring {
    /// The kernel may write to buffers and read from chains until the last completion, so
    /// everything is cancelled and reaped.
    #[expect(clippy::mem_forget, reason = "memory that the kernel may still write to must not be freed")]
    fn drop(&mut self) {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any().all()).build().user_data(CANCEL);
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry) };
        let deadline = Instant::now() + DROP_TIMEOUT;
        while self.in_flight.in_kernel() > 0 && Instant::now() < deadline {
            if self.ring.enter(Some(Duration::from_millis(10))).is_err() {
                break;
            }
            let mut reaped = Vec::new();
            self.ring.reap(usize::MAX, &mut reaped);
            for entry in reaped.iter().filter(|entry| entry.user_data() & INTERNAL != INTERNAL) {
                self.on_last_completion(OpId::from_bits(entry.user_data()), entry.result(), entry.flags());
            }
        }
        if self.in_flight.in_kernel() > 0 {
            tracing::error!(
                operations = self.in_flight.in_kernel(),
                "operations did not end in time: leaking their memory"
            );
            std::mem::forget(std::mem::take(&mut self.in_flight));
            std::mem::forget(self.pool.clone());
            return;
        }
        for buffers in [self.small.take(), self.large.take()].into_iter().flatten() {
            if let Err(error) = buffers.close(&self.ring.submitter(), &self.pool) {
                tracing::error!(%error, "cannot unregister a buffer ring: leaking its memory");
                std::mem::forget(self.pool.clone());
            }
        }
    }
}

impl Uring {
    /// A completion during drop: frees what it carries and starts nothing.
    fn on_last_completion(&mut self, id: OpId, result: i32, flags: u32) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        match &op_state.work {
            Work::Recv { .. } => {
                if let Some(index) = cqueue::buffer_select(flags) {
                    self.take_buffer(id, index, 0);
                }
            }
            Work::Accept(_) if !self.features.has(Feature::AcceptPollFirst) => {}
            Work::Accept(_) | Work::Open { .. } => drop(sys::adopt_result(result)),
            Work::Close { descriptor, .. } => sys::close_if_left(*descriptor, result),
            #[cfg(feature = "ktls-tx")]
            Work::Settle { .. } => {}
            Work::Send(_)
            | Work::SendFile(_)
            | Work::Connect(_)
            | Work::ConnectLater
            | Work::Flush { .. }
            | Work::Read(_)
            | Work::Write(_)
            | Work::Offloaded(_) => {}
        }
        if !cqueue::more(flags) {
            self.in_flight.leave_kernel(id);
            drop(self.in_flight.remove(id));
        }
    }
}
