//! Work that waits or takes long, off the loop: name look-ups, disk, computation.
//!
//! One [`Offload`] serves the drivers of all workers of a process, so the number of threads does not grow with the number of
//! workers. Each kind of work has a *lane* of its own, with threads and a queue of its own, so a name server that does not
//! answer holds up no file, and compression holds up neither.
//!
//! ```text
//!   driver ── run, resolve ──► lane: queue ──► its threads ──► the driver's inbox, and its waker
//!          ── cancel ────────► out of the queue; what runs already goes on, and its result is dropped
//! ```
//!
//! * Look-ups of one name are merged: while one is queued or running, further requests for that name share its answer.
//! * Large computations leave a thread for small ones, which go first, and computation has a lower scheduling priority than
//!   the loop, which has other clients to serve meanwhile.
//! * Threads start with the work and end when there has been none for a while. Where the system grants no further thread, the
//!   lane goes on with those it has. Without any, disk operations run on the loop and the others fail; the next one tries
//!   again.

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

/// The bounds of an [`Offload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadLimits {
    /// Names that are looked up at the same time.
    pub names_threads: usize,
    /// Files and folders that are read at the same time.
    pub disk_threads: usize,
    /// Computations at the same time. All but one of these threads may be busy with large ones. 0: as many as there are
    /// processors, at least two.
    pub computation_threads: usize,
    /// Tasks that may wait in each lane; a further one fails.
    pub queue_max: usize,
    /// A thread without work ends after so long.
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
    /// With the number of processors where it is meant.
    fn settled(self) -> Self {
        let computation_threads = match self.computation_threads {
            0 => usable_cpus().max(2),
            threads => threads,
        };
        Self { computation_threads, ..self }
    }
}

/// Threads for what must not hold up a loop. Cheap to clone; they end when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Offload(Arc<Owner>);

/// Computations of at least this many bytes are large: they take some milliseconds.
const LARGE_BYTES_MIN: usize = 256 << 10;

/// How much computation yields to everything else (`nice(2)`): about a tenth of a processor that is wanted elsewhere.
const COMPUTATION_NICE: i32 = 10;

/// Ends the threads with the last [`Offload`]; they hold only what is inside.
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

/// What a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    Names,
    Disk,
    Computation,
}

/// Names a task that was queued, until it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskHandle {
    Task(LaneKind, Order),
    /// A request that waits for a name.
    Waiter(u64),
}

/// A place in a queue: small tasks before large ones, then first come, first served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    is_large: bool,
    number: u64,
}

impl Offload {
    /// No threads yet.
    pub fn new(limits: OffloadLimits) -> Self {
        Self::with_resolver(limits, resolve::resolve)
    }

    /// The same, with another resolver than the system's. It gets a name and gives addresses, whose ports do not matter.
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

    /// Other bounds from now on. Threads beyond them end when they have nothing to do.
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
            // Their drop may take other locks.
            drop(queue);
            lane.work.notify_all();
        }
    }
}

/// One driver's way to the threads, and its inbox of results. What it has queued is dropped with it.
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
    /// `waker` is used when a result is there.
    pub(super) fn new(offload: Offload, waker: Waker) -> Self {
        let number = offload.0.0.number();
        Self { offload, number, inbox: Arc::new(Inbox { results: Mutex::default(), waker }) }
    }

    /// Runs `task`, which works on `bytes` of input, soon on a thread of that lane.
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

    /// Looks a name up, or waits for the look-up of it that is queued or running.
    pub(super) fn resolve(
        &self,
        host: &str,
        complete: impl FnOnce(Result<Vec<SocketAddr>, Fault>) -> T + Send + 'static,
    ) -> Result<TaskHandle, Fault> {
        let inbox = Arc::clone(&self.inbox);
        let complete = Box::new(move |found: &Found| inbox.put(complete(found.clone())));
        self.offload.0.0.look_up(host, self.number, complete).map(TaskHandle::Waiter)
    }

    /// A task that is still queued is dropped. One that runs goes on, and its result is for the caller to ignore.
    pub(super) fn cancel(&self, handle: TaskHandle) {
        let shared = &self.offload.0.0;
        match handle {
            TaskHandle::Task(kind, order) => drop(shared.lane(kind).withdraw(order)),
            TaskHandle::Waiter(waiter) => shared.give_up(waiter),
        }
    }

    /// Every result that is there, oldest first.
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

    /// Queues a task, and starts a thread for it if none is idle and the lane may have another.
    fn submit(self: &Arc<Self>, kind: LaneKind, order: Order, task: Task) -> Result<(), Fault> {
        let lane = self.lane(kind);
        let mut state = lane.lock();
        if state.queue.len() >= state.limits.queue_max {
            let queue_max = state.limits.queue_max;
            drop(state);
            tracing::warn!(lane = kind.name(), queue_max, "too much work waits for threads; see limits.offload");
            return Err(SHORTAGE);
        }
        state.queue.insert(order, task);
        if state.idle < state.queue.len() && state.threads < lane.threads_max(state.limits) {
            let shared = Arc::clone(self);
            // Started and counted under the lock: no other submission may conclude meanwhile that there is no thread.
            match thread::Builder::new().name(kind.thread_name().into()).spawn(move || shared.lane(kind).work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads > 0 => {
                    tracing::debug!(lane = kind.name(), threads = state.threads, %error, "no further thread; these go on");
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
        // Names differ in letters only (RFC 4343).
        let name: Arc<str> = host.to_ascii_lowercase().into();
        let mut lookups = locked(&self.lookups);
        if !lookups.by_name.contains_key(&name) {
            let order = Order { is_large: false, number };
            let (shared, asked) = (Arc::clone(self), Arc::clone(&name));
            // It has many owners, and leaves the queue with the last waiter.
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

    /// Asks the resolver, and hands the answer to every waiter, also to those that came meanwhile.
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

    /// Removes a waiter. A look-up that runs goes on without any: the next request for the name shares it.
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

/// A lane has no thread and gets none. The disk is waited for on the loop, which mostly is short; a name server is not, and
/// what only saves bytes is left out.
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

/// What an operation gets that found no thread and no place in a queue.
const SHORTAGE: Fault = Fault::Os(libc::ENOBUFS);

/// The owner of tasks that no single client may take out of the queue.
const NO_CLIENT: u64 = u64::MAX;

type Reply = dyn FnOnce(&Found) + Send;

/// The names that are being looked up.
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

/// One kind of work: its queue, and its threads.
struct Lane {
    kind: LaneKind,
    state: Mutex<LaneState>,
    work: Condvar,
}

struct LaneState {
    limits: OffloadLimits,
    queue: BTreeMap<Order, Task>,
    threads: usize,
    /// Of these, those that wait for work.
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

    /// Takes a task out of the queue, if it is still there.
    fn withdraw(&self, order: Order) -> Option<Task> {
        self.lock().queue.remove(&order)
    }

    /// What a thread does until there has been nothing to do for a while.
    fn work(&self) {
        if self.kind == LaneKind::Computation
            && let Err(error) = sys::lower_thread_priority(COMPUTATION_NICE)
        {
            tracing::debug!(%error, "computation has the priority of everything else");
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
    /// The task to run next. Small ones go first and always have a thread; so has one large one, if there are two threads.
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

/// Tasks run outside of the locks, so what they guard is whole even after a panic.
fn locked<S>(mutex: &Mutex<S>) -> MutexGuard<'_, S> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
