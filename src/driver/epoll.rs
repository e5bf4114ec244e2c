//! The `epoll` driver: non-blocking system calls and edge-triggered readiness, reported as
//! completions.
//!
//! It owns the epoll instance, every socket and file that state machines name, and the operations
//! in flight on them. It does not know what the bytes mean or why a state machine sends them.
//!
//! # How an operation is carried out
//!
//! Each socket is registered once, for all events, edge-triggered, and keeps two flags: it may be
//! readable, it may be writable. An operation is tried at once if its flag is set; `EAGAIN` clears
//! the flag, and the next edge sets it again. A request that has arrived, or a response that fits
//! into the socket's buffer, costs one system call, and none to arm or disarm.
//!
//! ```text
//!             submitted                    EAGAIN, short read, short send
//!   queue ────────────► ready list ────────────────────────────────────► waits for an edge
//!                          ▲   │ ▲                                               │
//!              quota spent └───┘ └───────────────────────────────────────────────┘
//!                                              epoll_wait
//! ```
//!
//! * The *ready list* holds sockets with an operation to try. Each gets a quota of bytes or pieces,
//!   then goes to the end of the list, so that one fast socket does not hold up the others.
//! * A receive takes a buffer from the pool only when the socket may be readable. If the pool is
//!   empty, the socket joins the *starving list*, which is served in order.
//! * A listener that hits a limit (`EMFILE`…) pauses until a descriptor is closed, or 100 ms.
//! * Work that may wait for a disk or a name server runs on [`Offload`] threads, which signal an
//!   eventfd when it is done.
//!
//! A turn that already has completions returns without entering the kernel, but not twice in a row.
//! Otherwise a socket that is always ready would delay the events of all others.

mod accept;
mod connect;
#[cfg(feature = "ktls-tx")]
mod kernel_tls;
mod offloaded;
mod outbox;
mod poller;
mod receive;
mod send;
mod send_file;
mod socket_state;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use self::accept::PausedListeners;
use self::outbox::{Location, Outbox};
use self::poller::{OFFLOAD_WAKER, Poller, Readiness, WAKER};
use self::socket_state::{Input, Next, Output, SocketState};
use super::flush::{FlushStatus, Flushes};
use super::notsent_lowat::NotsentLowat;
use super::offload::{Offload, OffloadClient};
use super::offloaded::OffloadResult;
use super::read_memory::ReadPieces;
use super::unix_connect_retry::UnixConnectRetries;
use super::{
    Completion, Counters, Driver, Fault, File, KernelDriver, Op, OpId, Ops, Outcome, Request, Socket,
    TURN_COMPLETIONS_MAX, Time, Turn, Waker, sys,
};
use crate::buffer::{Pool, PoolConfig};
use crate::table::{Key, Table};

/// Configuration of an [`Epoll`].
#[derive(Clone, Debug, Default)]
pub struct EpollConfig {
    /// The receive buffers.
    pub pool: PoolConfig,
    /// The threads for work that would block the loop. All drivers of a process share them.
    pub offload: Offload,
}

/// Executes operations with non-blocking system calls and edge-triggered epoll, where io_uring is
/// missing or forbidden. The contract is that of [`crate::driver`].
#[derive(Debug)]
pub struct Epoll {
    poller: Poller,
    waker: Waker,
    /// The waker of the offload threads. It is separate so that [`Turn::woken`] means a message of
    /// another thread.
    offload_waker: Waker,
    pool: Pool,
    offload: OffloadClient<OffloadResult>,
    sockets: Table<SocketState, Socket>,
    notsent_lowat: NotsentLowat,
    /// Shared with offload threads that read ahead.
    files: Table<Arc<OwnedFd>, File>,
    read_pieces: ReadPieces,
    /// Sockets with an operation to try. A socket is in it at most once ([`SocketState::queued`]).
    ready: VecDeque<Key<Socket>>,
    /// Sockets that wait for a receive buffer. A socket is in it at most once
    /// ([`SocketState::starving`]).
    starving: VecDeque<Key<Socket>>,
    paused: PausedListeners,
    unix_connect_retries: UnixConnectRetries,
    flushes: Flushes,
    outbox: Outbox,
    /// The last turn returned without calling `epoll_wait`.
    skipped_wait: bool,
    counters: Counters,
}

impl Epoll {
    /// Creates a driver with no sockets and no operations.
    ///
    /// # Errors
    /// The process is out of descriptors or memory.
    pub fn new(config: EpollConfig) -> io::Result<Self> {
        let poller = Poller::new()?;
        let waker = Waker::new()?;
        let offload_waker = Waker::new()?;
        poller.add_waker(waker.descriptor(), WAKER)?;
        poller.add_waker(offload_waker.descriptor(), OFFLOAD_WAKER)?;
        Ok(Self {
            poller,
            offload: OffloadClient::new(config.offload, offload_waker.clone()),
            waker,
            offload_waker,
            pool: Pool::new(config.pool),
            sockets: Table::new(),
            files: Table::new(),
            read_pieces: ReadPieces::default(),
            ready: VecDeque::new(),
            starving: VecDeque::new(),
            paused: PausedListeners::default(),
            unix_connect_retries: UnixConnectRetries::default(),
            flushes: Flushes::default(),
            notsent_lowat: NotsentLowat::of_system(),
            outbox: Outbox::default(),
            skipped_wait: false,
            counters: Counters::default(),
        })
    }
}

impl Driver for Epoll {
    fn turn(&mut self, ops: &mut Ops, wait: Option<Duration>, done: &mut Vec<Completion>) -> io::Result<Turn> {
        let mut now = self.now();
        let deadline = wait.map(|wait| now + wait);
        for request in ops.drain() {
            match request {
                Request::Start(id, op) => self.start(id, op),
                Request::Cancel(id) => self.cancel(id),
                Request::Pause(id) => self.set_paused(id, true),
                Request::Resume(id) => self.set_paused(id, false),
            }
        }
        self.feed_starving();
        self.serve_ready();
        let mut woken = false;
        self.skipped_wait = !self.outbox.is_empty() && !self.skipped_wait;
        if !self.skipped_wait {
            loop {
                woken |= self.wait(deadline, now)?;
                self.serve_ready();
                now = self.now();
                if woken || !self.outbox.is_empty() || deadline.is_some_and(|deadline| now >= deadline) {
                    break;
                }
            }
        }
        self.counters.completions += self.outbox.hand_out(done, TURN_COMPLETIONS_MAX) as u64;
        Ok(Turn { now, woken })
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

impl KernelDriver for Epoll {
    fn adopt(&mut self, socket: OwnedFd) -> Socket {
        let nonblocking = sys::set_nonblocking(socket.as_fd());
        let poller = &self.poller;
        Socket(self.sockets.insert_with(|key| {
            let registered = nonblocking.and_then(|()| poller.add(socket.as_fd(), key));
            let mut state = SocketState::new(socket);
            // `adopt` cannot fail: the first operation on the socket fails instead.
            state.unusable = registered.err().map(|error| Fault::from_io(&error));
            state
        }))
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Starting and cancelling operations.
impl Epoll {
    fn start(&mut self, id: OpId, op: Op) {
        match op {
            Op::Accept { listener, most } => {
                self.start_input(id, listener, Input::Accept { id, left: most, failures: 0, paused: false });
            }
            Op::Recv { socket } => self.start_input(id, socket, Input::Recv { id, paused: false }),
            Op::Send { socket, chain } => {
                debug_assert!(!chain.is_empty(), "an empty send on {socket:?}");
                self.start_output(id, socket, Output::Send { id, chain });
            }
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
            Op::SettleKernelTls { socket, alert } => self.start_output(id, socket, Output::Settle { id, alert }),
            Op::Close { socket } => self.close(id, socket),
            Op::Reset { socket } => self.reset(id, socket),
            Op::CloseFile { file } => self.close_file(id, file),
        }
    }

    fn start_input(&mut self, id: OpId, socket: Socket, input: Input) {
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if let Some(fault) = state.unusable {
            return self.outbox.push(id, Outcome::Failed(fault));
        }
        if !matches!(state.input, Input::Idle) {
            return self.reject(id, libc::EBUSY);
        }
        state.input = input;
        self.outbox.enter(id, Location::Input(socket.0));
        self.queue(socket.0);
    }

    fn start_output(&mut self, id: OpId, socket: Socket, output: Output) {
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if let Some(fault) = state.unusable {
            return self.outbox.push(id, Outcome::Failed(fault));
        }
        if !matches!(state.output, Output::Idle) {
            return self.reject(id, libc::EBUSY);
        }
        state.output = output;
        self.outbox.enter(id, Location::Output(socket.0));
        self.queue(socket.0);
    }

    fn tell_local_address(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        self.counters.submissions += 1;
        let outcome = sys::local_address(state.descriptor())
            .map_or_else(|error| Outcome::Failed(Fault::from_io(&error)), Outcome::Local);
        self.outbox.push(id, outcome);
    }

    fn shut_down(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        if !matches!(state.output, Output::Idle) {
            return self.reject(id, libc::EBUSY);
        }
        self.counters.submissions += 1;
        let outcome = match sys::shutdown_write(state.descriptor()) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        self.outbox.push(id, outcome);
    }

    fn start_flush(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if !matches!(state.output, Output::Idle) {
            return self.reject(id, libc::EBUSY);
        }
        self.counters.submissions += 1;
        match FlushStatus::of(state.descriptor()) {
            FlushStatus::Left(left) => {
                state.output = Output::Flush { id };
                self.outbox.enter(id, Location::Output(socket.0));
                self.flushes.add(id, socket.0, left, self.now());
            }
            flush_status @ (FlushStatus::Arrived | FlushStatus::Broken(_)) => {
                if let Some(outcome) = flush_status.outcome() {
                    self.outbox.push(id, outcome);
                }
            }
        }
    }

    fn ask_for_flushes(&mut self, now: Time) {
        let sockets = &self.sockets;
        let flush_status_of = |key| {
            let gone = FlushStatus::Broken(Fault::Os(libc::EBADF));
            sockets.get(key).map_or(gone, |state| FlushStatus::of(state.descriptor()))
        };
        for (id, key, outcome) in self.flushes.ask(now, flush_status_of) {
            if !outcome.is_final() {
                self.outbox.push(id, outcome);
                continue;
            }
            if let Some(state) = self.sockets.get_mut(key) {
                state.output = Output::Idle;
            }
            self.outbox.finish(id, outcome);
        }
    }

    fn close(&mut self, id: OpId, socket: Socket) {
        if self.sockets.get(socket.0).is_none() {
            return self.reject(id, libc::EBADF);
        }
        self.let_go(socket);
        self.outbox.push(id, Outcome::Done);
    }

    fn reset(&mut self, id: OpId, socket: Socket) {
        let Some(state) = self.sockets.get(socket.0) else { return self.reject(id, libc::EBADF) };
        let lost = sys::unacknowledged(state.descriptor()).unwrap_or(0);
        // Unix sockets do not have this option, and closing one is already abrupt.
        let _ = sys::reset_on_close(state.descriptor());
        self.let_go(socket);
        self.outbox.push(id, Outcome::Reset { lost });
    }

    fn let_go(&mut self, socket: Socket) {
        let is_idle = self.sockets.get(socket.0).is_none_or(SocketState::is_idle);
        debug_assert!(is_idle, "guarantee 6: {socket:?} is closed while {:?}", self.sockets.get(socket.0));
        self.abandon(socket.0);
    }

    fn close_file(&mut self, id: OpId, file: File) {
        if self.files.remove(file.0).is_none() {
            return self.reject(id, libc::EBADF);
        }
        self.on_descriptor_closed();
        self.counters.submissions += 1;
        self.outbox.push(id, Outcome::Done);
    }

    fn cancel(&mut self, id: OpId) {
        if let Some(Location::Output(key)) = self.outbox.location_of(id) {
            // It may have been submitted in this turn, and must be tried once (guarantee 4).
            self.serve_output(key);
        }
        let Some(location) = self.outbox.location_of(id) else { return };
        match location {
            Location::Input(key) => {
                if let Some(state) = self.sockets.get_mut(key) {
                    state.input = Input::Idle;
                }
            }
            Location::Output(key) => {
                let output = self.sockets.get_mut(key).map(|state| std::mem::take(&mut state.output));
                match output {
                    // No state machine knows the socket before it is connected.
                    Some(Output::Connect { .. }) => self.abandon(key),
                    Some(Output::SendFile(transfer)) => {
                        if let Some(handle) = transfer.warming() {
                            self.offload.cancel(handle);
                        }
                    }
                    Some(Output::Flush { id }) => self.flushes.remove(id),
                    #[cfg(feature = "ktls-tx")]
                    Some(Output::Settle { .. }) => {}
                    Some(Output::Send { .. } | Output::Idle) | None => {}
                }
            }
            // If it is running already, its result is dropped.
            Location::Offloaded(handle) => self.offload.cancel(handle),
            // Its next try finds it gone and does nothing.
            Location::UnixConnectRetry => {}
        }
        self.outbox.finish(id, Outcome::Cancelled);
    }

    /// A state machine broke guarantee 6, or used a name that it had closed. That is a bug in xps,
    /// so debug builds panic.
    fn reject(&mut self, id: OpId, errno: i32) {
        debug_assert!(false, "operation {id} breaks the contract: {}", Fault::Os(errno));
        tracing::error!(op = %id, errno, "operation breaks the driver's contract");
        self.outbox.push(id, Outcome::Failed(Fault::Os(errno)));
    }

    /// Removes a socket from epoll, then closes it: an open duplicate would keep the registration.
    fn abandon(&mut self, key: Key<Socket>) {
        if let Some(state) = self.sockets.remove(key) {
            self.poller.remove(state.descriptor());
            drop(state);
            self.counters.submissions += 1;
            self.on_descriptor_closed();
        }
    }
}

/// Waiting for readiness, and serving sockets that are ready.
impl Epoll {
    /// Waits until a socket is ready, a pause ends or `deadline` passes. Returns whether the waker
    /// was used. Does not wait if there is work already.
    fn wait(&mut self, deadline: Option<Time>, now: Time) -> io::Result<bool> {
        let timeout = if self.ready.is_empty() && self.outbox.is_empty() {
            Time::earliest(deadline, self.next_retry()).map(|until| until.since(now))
        } else {
            Some(Duration::ZERO)
        };
        self.counters.enters += 1;
        let count = self.poller.wait(timeout)?;
        let mut woken = false;
        for index in 0..count {
            let (data, readiness) = self.poller.event(index);
            match data {
                WAKER => woken |= self.waker.clear(),
                OFFLOAD_WAKER => {
                    self.offload_waker.clear();
                    self.collect_results();
                }
                data => self.on_readiness(poller::key_of(data), readiness),
            }
        }
        if self.next_retry().is_some() {
            self.retry();
        }
        Ok(woken)
    }

    /// When to retry operations that get no event: paused listeners, connects over unix sockets,
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

    fn on_readiness(&mut self, key: Key<Socket>, readiness: Readiness) {
        // The socket was closed in the meantime; its registration was removed before.
        let Some(state) = self.sockets.get_mut(key) else { return };
        if state.on_readiness(readiness) {
            self.queue(key);
        }
    }

    fn queue(&mut self, key: Key<Socket>) {
        if let Some(state) = self.sockets.get_mut(key)
            && !state.queued
        {
            state.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Goes over the ready list once: each socket on it gets one quota.
    fn serve_ready(&mut self) {
        for _ in 0..self.ready.len() {
            if self.outbox.len() >= TURN_COMPLETIONS_MAX {
                return;
            }
            let Some(key) = self.ready.pop_front() else { return };
            self.serve(key);
        }
    }

    fn serve(&mut self, key: Key<Socket>) {
        let Some(state) = self.sockets.get_mut(key) else { return };
        state.queued = false;
        let input = self.serve_input(key);
        let output = self.serve_output(key);
        if input == Next::Again || output == Next::Again {
            self.queue(key);
        }
    }

    fn serve_input(&mut self, key: Key<Socket>) -> Next {
        let Some(state) = self.sockets.get(key) else { return Next::Wait };
        match state.input {
            Input::Accept { id, paused: false, .. } if state.readable => self.accept(key, id),
            Input::Recv { paused: true, .. } if state.is_over => self.report_broken(key),
            Input::Recv { id, paused: false } if state.readable && !state.starving => self.receive(key, id),
            Input::Idle | Input::Accept { .. } | Input::Recv { .. } => Next::Wait,
        }
    }

    fn serve_output(&mut self, key: Key<Socket>) -> Next {
        let Some(state) = self.sockets.get(key) else { return Next::Wait };
        match state.output {
            Output::Connect { id } if state.writable => self.finish_connect(key, id),
            Output::Send { id, .. } if state.writable => self.send(key, id),
            Output::SendFile(ref transfer) if state.writable && transfer.warming().is_none() => self.send_file(key),
            #[cfg(feature = "ktls-tx")]
            Output::Settle { id, alert } if state.writable => self.settle_kernel_tls(key, id, alert),
            Output::Flush { id } if state.is_over => {
                self.flushes.hasten(id, self.now());
                Next::Wait
            }
            #[cfg(feature = "ktls-tx")]
            Output::Settle { .. } => Next::Wait,
            Output::Idle
            | Output::Connect { .. }
            | Output::Send { .. }
            | Output::Flush { .. }
            | Output::SendFile(_) => Next::Wait,
        }
    }
}
