//! Thread pools for work that blocks or takes long: name lookups, disk access, computation.
//!
//! One [`Offload`] serves the drivers of all workers of a process, so the number of threads does
//! not grow with the number of workers. Each kind of work is a *lane* with its own threads and
//! queue, so a name server that does not respond delays no file, and compression delays neither.
//!
//! ```text
//!   driver ── run, resolve ──► lane: queue ──► its threads ──► the driver's inbox, and its waker
//!          ── cancel ────────► removed from the queue; a running task continues, its result is dropped
//! ```
//!
//! * Lookups of one name are merged: while one is queued or running, further requests for that name
//!   share its result.
//! * Small computations go first, and large ones always leave one thread to them. Computation has a
//!   lower scheduling priority than the loop, which serves other clients meanwhile.
//! * Threads start on demand and end after an idle time. If the system grants no further thread, the
//!   lane continues with those it has. Without any thread, disk operations run on the loop and the
//!   others fail; the next task tries again to start a thread.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::limits::usable_cpus;
use super::waker::Waker;
use super::{Fault, resolve, sys};

/// The limits of an [`Offload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadLimits {
    /// Concurrent name lookups.
    pub names_threads: usize,
    /// Concurrent disk operations.
    pub disk_threads: usize,
    /// Concurrent computations. Large computations occupy all but one of these threads at most. 0:
    /// the number of usable processors, at least two.
    pub computation_threads: usize,
    /// Queued tasks in each lane. When the queue is full, further tasks fail.
    pub queue_max: usize,
    /// The idle time after which a thread ends.
    pub idle_for: Duration,
}

impl Default for OffloadLimits {
    fn default() -> Self {
        Self {
            names_threads: 8,
            disk_threads: 16,
            computation_threads: 0,
            queue_max: 16_384,
            idle_for: Duration::from_secs(10),
        }
    }
}

impl OffloadLimits {
    /// Replaces a `computation_threads` of 0 with its default.
    fn settled(self) -> Self {
        let computation_threads = match self.computation_threads {
            0 => usable_cpus().max(2),
            threads => threads,
        };
        Self { computation_threads, ..self }
    }
}

/// Threads for work that must not block a loop. Cheap to clone; they end when the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Offload(Arc<Owner>);

/// The smallest input of a large computation, in bytes: it takes some milliseconds.
const LARGE_BYTES_MIN: usize = 256 << 10;

/// The `nice(2)` value of computation threads: on a contended processor they get about a tenth of
/// it.
const COMPUTATION_NICE: i32 = 10;

/// Ends the threads when the last [`Offload`] is dropped; the threads themselves hold only
/// `Shared`.
#[derive(Debug)]
struct Owner(Arc<Shared>);

struct Shared {
    names: Lane,
    disk: Lane,
    computation: Lane,
    lookups: Mutex<Lookups>,
    resolver: Box<Resolver>,
    numbers: AtomicU64,
}

/// Addresses of a name, with port 0, in the order in which to try them.
type Found = Result<Vec<SocketAddr>, Fault>;
type Resolver = dyn Fn(&str) -> Found + Send + Sync;

/// A kind of work, which has its own lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    Names,
    Disk,
    Computation,
}

/// Identifies a queued task, until it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskHandle {
    Task(LaneKind, Order),
    /// A request that waits for the lookup of a name.
    Waiter(u64),
}

/// A position in a queue: small tasks before large ones, then in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    is_large: bool,
    number: u64,
}

impl Offload {
    /// Starts no thread yet.
    pub fn new(limits: OffloadLimits) -> Self {
        Self::with_resolver(limits, resolve::resolve)
    }

    /// As [`Offload::new`], with a resolver other than the system's. It maps a name to addresses,
    /// whose ports are ignored.
    pub fn with_resolver(
        limits: OffloadLimits,
        resolver: impl Fn(&str) -> Result<Vec<SocketAddr>, Fault> + Send + Sync + 'static,
    ) -> Self {
        let lane = |kind| Lane::new(kind, limits.settled());
        Self(Arc::new(Owner(Arc::new(Shared {
            names: lane(LaneKind::Names),
            disk: lane(LaneKind::Disk),
            computation: lane(LaneKind::Computation),
            lookups: Mutex::default(),
            resolver: Box::new(resolver),
            numbers: AtomicU64::new(0),
        }))))
    }

    /// Replaces the limits. Threads beyond them end after their present task.
    pub fn set_limits(&self, limits: OffloadLimits) {
        for lane in self.0.0.lanes() {
            lane.lock().limits = limits.settled();
        }
    }
}

impl Default for Offload {
    fn default() -> Self {
        Self::new(OffloadLimits::default())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for lane in self.0.lanes() {
            let mut state = lane.lock();
            state.is_closed = true;
            let queue = std::mem::take(&mut state.queue);
            drop(state);
            // Dropping the tasks may take other locks.
            drop(queue);
            lane.work.notify_all();
        }
    }
}

/// One driver's access to the threads, and its inbox of results. Its queued tasks are dropped with
/// it.
#[derive(Debug)]
pub(super) struct OffloadClient<T> {
    offload: Offload,
    number: u64,
    inbox: Arc<Inbox<T>>,
}

struct Inbox<T> {
    results: Mutex<Vec<T>>,
    waker: Waker,
}

impl<T> std::fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

impl<T> Inbox<T> {
    fn put(&self, result: T) {
        locked(&self.results).push(result);
        self.waker.wake();
    }
}

impl<T: Send + 'static> OffloadClient<T> {
    /// `waker` is used for each result.
    pub(super) fn new(offload: Offload, waker: Waker) -> Self {
        let number = offload.0.0.number();
        Self { offload, number, inbox: Arc::new(Inbox { results: Mutex::default(), waker }) }
    }

    /// Queues `task`, which has `bytes` bytes of input, for the threads of a lane.
    pub(super) fn run(
        &self,
        kind: LaneKind,
        bytes: usize,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<TaskHandle, Fault> {
        let inbox = Arc::clone(&self.inbox);
        let shared = &self.offload.0.0;
        let order = Order { is_large: bytes >= LARGE_BYTES_MIN, number: shared.number() };
        let task = Task { client: self.number, run: Box::new(move || inbox.put(task())) };
        shared.submit(kind, order, task)?;
        Ok(TaskHandle::Task(kind, order))
    }

    /// Looks a name up, or joins a queued or running lookup of the same name.
    pub(super) fn resolve(
        &self,
        host: &str,
        complete: impl FnOnce(Result<Vec<SocketAddr>, Fault>) -> T + Send + 'static,
    ) -> Result<TaskHandle, Fault> {
        let inbox = Arc::clone(&self.inbox);
        let complete = Box::new(move |found: &Found| inbox.put(complete(found.clone())));
        self.offload.0.0.look_up(host, self.number, complete).map(TaskHandle::Waiter)
    }

    /// Drops a task that is still queued. A running task continues, and the caller must ignore its
    /// result.
    pub(super) fn cancel(&self, handle: TaskHandle) {
        let shared = &self.offload.0.0;
        match handle {
            TaskHandle::Task(kind, order) => drop(shared.lane(kind).withdraw(order)),
            TaskHandle::Waiter(waiter) => shared.give_up(waiter),
        }
    }

    /// Takes every result in the inbox, oldest first.
    pub(super) fn results(&self) -> Vec<T> {
        std::mem::take(&mut locked(&self.inbox.results))
    }
}

impl<T> Drop for OffloadClient<T> {
    fn drop(&mut self) {
        let shared = &self.offload.0.0;
        // `give_up` takes the lock itself.
        let waiters = locked(&shared.lookups).waiters_of(self.number);
        for waiter in waiters {
            shared.give_up(waiter);
        }
        for lane in shared.lanes() {
            let own: Vec<_> = lane.lock().queue.extract_if(.., |_, task| task.client == self.number).collect();
            drop(own);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    const fn lanes(&self) -> [&Lane; 3] {
        [&self.names, &self.disk, &self.computation]
    }

    const fn lane(&self, kind: LaneKind) -> &Lane {
        match kind {
            LaneKind::Names => &self.names,
            LaneKind::Disk => &self.disk,
            LaneKind::Computation => &self.computation,
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a task, and starts a thread if too few are idle and the lane may have another.
    fn submit(self: &Arc<Self>, kind: LaneKind, order: Order, task: Task) -> Result<(), Fault> {
        let lane = self.lane(kind);
        let mut state = lane.lock();
        if state.queue.len() >= state.limits.queue_max {
            let queue_max = state.limits.queue_max;
            drop(state);
            tracing::warn!(lane = kind.name(), queue_max, "offload queue is full; see limits.offload");
            return Err(SHORTAGE);
        }
        state.queue.insert(order, task);
        if state.idle < state.queue.len() && state.threads < lane.threads_max(state.limits) {
            let shared = Arc::clone(self);
            // Started and counted under the lock, so that no other submission finds the lane
            // without a thread meanwhile.
            match thread::Builder::new().name(kind.thread_name().into()).spawn(move || shared.lane(kind).work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads > 0 => {
                    tracing::debug!(lane = kind.name(), threads = state.threads, %error, "cannot start another thread");
                }
                Err(error) => {
                    let task = state.queue.remove(&order);
                    drop(state);
                    return run_without_thread(kind, task, &error);
                }
            }
        }
        drop(state);
        lane.work.notify_one();
        Ok(())
    }

    fn look_up(self: &Arc<Self>, host: &str, client: u64, complete: Box<Reply>) -> Result<u64, Fault> {
        let number = self.number();
        // Names are case-insensitive (RFC 4343).
        let name: Arc<str> = host.to_ascii_lowercase().into();
        let mut lookups = locked(&self.lookups);
        if !lookups.by_name.contains_key(&name) {
            let order = Order { is_large: false, number };
            let (shared, asked) = (Arc::clone(self), Arc::clone(&name));
            // The lookup belongs to all its waiters, and leaves the queue with the last of them.
            let task = Task { client: NO_CLIENT, run: Box::new(move || shared.complete(&asked)) };
            self.submit(LaneKind::Names, order, task)?;
            lookups.by_name.insert(Arc::clone(&name), Lookup { order, waiters: Vec::new() });
        }
        if let Some(lookup) = lookups.by_name.get_mut(&name) {
            lookup.waiters.push(Waiter { number, client, complete });
        }
        lookups.by_waiter.insert(number, name);
        Ok(number)
    }

    /// Calls the resolver, and passes the result to every waiter, including those that joined
    /// meanwhile.
    fn complete(&self, name: &Arc<str>) {
        let found = catch_unwind(AssertUnwindSafe(|| (self.resolver)(name))).unwrap_or(Err(Fault::Os(libc::EIO)));
        let mut lookups = locked(&self.lookups);
        let waiters = lookups.by_name.remove(name).map(|lookup| lookup.waiters).unwrap_or_default();
        for waiter in &waiters {
            lookups.by_waiter.remove(&waiter.number);
        }
        drop(lookups);
        for waiter in waiters {
            (waiter.complete)(&found);
        }
    }

    /// Removes a waiter. A running lookup continues without waiters, and the next request for the
    /// name joins it.
    fn give_up(&self, waiter: u64) {
        let mut lookups = locked(&self.lookups);
        let Some(name) = lookups.by_waiter.remove(&waiter) else { return };
        let Some(lookup) = lookups.by_name.get_mut(&name) else { return };
        lookup.waiters.retain(|other| other.number != waiter);
        if lookup.waiters.is_empty()
            && let Some(task) = self.names.withdraw(lookup.order)
        {
            lookups.by_name.remove(&name);
            drop(lookups);
            drop(task);
        }
    }
}

/// Handles a task for which no thread can be started. A disk operation runs on the loop, where the
/// wait is mostly short. A name lookup fails, since the wait may be long; a computation fails,
/// since it only saves bytes.
fn run_without_thread(kind: LaneKind, task: Option<Task>, error: &std::io::Error) -> Result<(), Fault> {
    let remedy = "raise the limit of tasks (pids.max, TasksMax=, RLIMIT_NPROC)";
    tracing::warn!(lane = kind.name(), %error, remedy, "no thread can be started");
    match (kind, task) {
        (LaneKind::Disk, Some(task)) => {
            (task.run)();
            Ok(())
        }
        (LaneKind::Names | LaneKind::Computation | LaneKind::Disk, _) => Err(SHORTAGE),
    }
}

/// The fault of an operation that cannot be queued, or gets no thread.
const SHORTAGE: Fault = Fault::Os(libc::ENOBUFS);

/// The owner of tasks that no single client may take out of the queue.
const NO_CLIENT: u64 = u64::MAX;

type Reply = dyn FnOnce(&Found) + Send;

/// The lookups that are queued or running.
#[derive(Default)]
struct Lookups {
    by_name: HashMap<Arc<str>, Lookup>,
    by_waiter: HashMap<u64, Arc<str>>,
}

struct Lookup {
    order: Order,
    waiters: Vec<Waiter>,
}

struct Waiter {
    number: u64,
    client: u64,
    complete: Box<Reply>,
}

impl Lookups {
    fn waiters_of(&self, client: u64) -> Vec<u64> {
        let waiters = self.by_name.values().flat_map(|lookup| &lookup.waiters);
        waiters.filter(|waiter| waiter.client == client).map(|waiter| waiter.number).collect()
    }
}

/// The queue and the threads of one kind of work.
struct Lane {
    kind: LaneKind,
    state: Mutex<LaneState>,
    work: Condvar,
}

struct LaneState {
    limits: OffloadLimits,
    queue: BTreeMap<Order, Task>,
    threads: usize,
    /// The part of `threads` that waits for work.
    idle: usize,
    large_running: usize,
    is_closed: bool,
}

struct Task {
    client: u64,
    run: Box<dyn FnOnce() + Send>,
}

impl LaneKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Disk => "disk",
            Self::Computation => "computation",
        }
    }

    const fn thread_name(self) -> &'static str {
        match self {
            Self::Names => "xps-names",
            Self::Disk => "xps-disk",
            Self::Computation => "xps-compute",
        }
    }
}

impl Lane {
    const fn new(kind: LaneKind, limits: OffloadLimits) -> Self {
        let queue = BTreeMap::new();
        let state = LaneState { limits, queue, threads: 0, idle: 0, large_running: 0, is_closed: false };
        Self { kind, state: Mutex::new(state), work: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        locked(&self.state)
    }

    fn threads_max(&self, limits: OffloadLimits) -> usize {
        let threads = match self.kind {
            LaneKind::Names => limits.names_threads,
            LaneKind::Disk => limits.disk_threads,
            LaneKind::Computation => limits.computation_threads,
        };
        threads.max(1)
    }

    /// Removes a task from the queue, if it is still there.
    fn withdraw(&self, order: Order) -> Option<Task> {
        self.lock().queue.remove(&order)
    }

    /// The main function of a thread: runs tasks until the idle time is over.
    fn work(&self) {
        if self.kind == LaneKind::Computation
            && let Err(error) = sys::lower_thread_priority(COMPUTATION_NICE)
        {
            tracing::debug!(%error, "cannot lower the priority of a computation thread");
        }
        let mut state = self.lock();
        loop {
            let threads_max = self.threads_max(state.limits);
            if state.is_closed || state.threads > threads_max {
                break;
            }
            if let Some((order, task)) = state.take(threads_max) {
                state.large_running += usize::from(order.is_large);
                drop(state);
                if catch_unwind(AssertUnwindSafe(task.run)).is_err() {
                    tracing::error!(lane = self.kind.name(), "a task panicked: this is a bug in xps");
                }
                state = self.lock();
                state.large_running -= usize::from(order.is_large);
                continue;
            }
            let idle_for = state.limits.idle_for;
            state.idle += 1;
            let (guard, timeout) = self.work.wait_timeout(state, idle_for).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if timeout.timed_out() && state.next(threads_max).is_none() {
                break;
            }
        }
        state.threads -= 1;
    }
}

impl LaneState {
    /// The task to run next. Small tasks go first and always have a thread. With two threads or
    /// more, one large task always has a thread too.
    fn next(&self, threads_max: usize) -> Option<Order> {
        let first = *self.queue.first_key_value()?.0;
        if first.is_large {
            return (self.large_running < (threads_max - 1).max(1)).then_some(first);
        }
        let smallest = Order { is_large: true, number: 0 };
        let large = || self.queue.range(smallest..).next().map(|(order, _)| *order);
        if self.large_running == 0 && threads_max > 1 { large().or(Some(first)) } else { Some(first) }
    }

    fn take(&mut self, threads_max: usize) -> Option<(Order, Task)> {
        let order = self.next(threads_max)?;
        self.queue.remove(&order).map(|task| (order, task))
    }
}

/// Locks, also a poisoned mutex: tasks run outside of the locks, so the data is consistent after a
/// panic.
fn locked<S>(mutex: &Mutex<S>) -> MutexGuard<'_, S> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
