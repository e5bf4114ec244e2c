//! The submission and completion queues, and the one system call of a turn.
//!
//! It owns the ring's descriptor and memory. It does not know what entries mean. It guarantees that
//! no pushed entry is lost, even when the submission queue is full.

use std::collections::VecDeque;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue};

use crate::driver::{Feature, FeatureSet};

/// Constants of `io_uring_enter(2)` that the `io_uring` crate does not export.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// `IORING_REGISTER_RING_FDS` and its counterpart (io_uring_register(2)).
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// An io_uring instance.
pub(super) struct Ring {
    ring: IoUring,
    /// Entries that did not fit into the submission queue, in order.
    overflow: VecDeque<squeue::Entry>,
    /// The index under which the ring's descriptor is registered. It saves the kernel a look-up per
    /// call.
    registered: Option<u32>,
    features: FeatureSet,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct GetEventsArg {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// `struct io_uring_rsrc_update`, for registering ring descriptors.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Ring {
    /// Creates a ring with the wanted set-up features that the kernel supports.
    ///
    /// # Errors
    /// The kernel creates no ring at all.
    pub(super) fn new(sq_entries: u32, cq_entries: u32, wanted: FeatureSet) -> io::Result<Self> {
        let (ring, mut features) = build(sq_entries, cq_entries, wanted)?;
        let mut ring = Self { ring, overflow: VecDeque::new(), registered: None, features };
        if wanted.has(Feature::RegisteredRing) {
            ring.registered = ring.register_own_descriptor().ok();
            if ring.registered.is_some() {
                features = features.with(Feature::RegisteredRing);
            }
        }
        ring.features = features;
        Ok(ring)
    }

    /// The set-up features in use.
    pub(super) const fn features(&self) -> FeatureSet {
        self.features
    }

    /// For registering buffers and probing operations.
    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues an entry for the next [`Ring::enter`].
    ///
    /// # Safety
    /// Everything that the entry points to stays in place until its last completion is reaped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: guaranteed by the caller.
        if !self.overflow.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    /// Whether there are completions to reap.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Submits everything queued and waits until there is a completion or the time has passed.
    /// `None`: no limit. Zero: no wait.
    ///
    /// # Errors
    /// The ring itself can no longer be used.
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let mut min_complete = u32::from(wait != Some(Duration::ZERO));
        loop {
            self.fill_queue();
            let queued = self.ring.submission().len() as u32;
            let more_to_submit = !self.overflow.is_empty();
            if more_to_submit {
                min_complete = 0;
            }
            match self.enter_once(queued, min_complete, wait) {
                Ok(()) if !more_to_submit => return Ok(()),
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // The time has passed, a signal arrived, or the completion queue must be
                    // emptied first.
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Takes the completions that are in the queue now, at most `count_max`. Later ones stay
    /// queued.
    pub(super) fn reap(&mut self, count_max: usize, into: &mut Vec<cqueue::Entry>) {
        let completion = self.ring.completion();
        let count = completion.len().min(count_max);
        into.extend(completion.take(count));
    }

    /// Whether completions wait in kernel memory because the completion queue is full. The next
    /// [`Ring::enter`] fetches them; none is lost (`IORING_FEAT_NODROP`). The queue's own overflow
    /// counter counts lost ones only.
    pub(super) fn has_overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    fn fill_queue(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.overflow.front() {
            // SAFETY: guaranteed by the caller of `Ring::push`.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.overflow.pop_front();
        }
    }

    fn enter_once(&self, to_submit: u32, min_complete: u32, wait: Option<Duration>) -> io::Result<()> {
        let wait = wait.unwrap_or_default();
        let timespec = KernelTimespec { seconds: wait.as_secs() as i64, nanoseconds: i64::from(wait.subsec_nanos()) };
        let has_limit = min_complete > 0 && !wait.is_zero();
        let argument = GetEventsArg {
            sigmask: 0,
            sigmask_bytes: 0,
            min_wait_us: 0,
            timespec: if has_limit { (&raw const timespec) as u64 } else { 0 },
        };
        let (descriptor, flag) = match self.registered {
            Some(number) => (number as i32, ENTER_REGISTERED_RING),
            None => (self.ring.as_raw_fd(), 0),
        };
        // SAFETY: argument and time-out are live, the size is the argument's; the entries meet the contract of `push`.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                descriptor,
                to_submit,
                min_complete,
                ENTER_GETEVENTS | ENTER_EXT_ARG | flag,
                &raw const argument,
                size_of::<GetEventsArg>(),
            )
        };
        if submitted < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn register_own_descriptor(&self) -> io::Result<u32> {
        let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: self.ring.as_raw_fd() as u64 };
        self.register(REGISTER_RING_FDS, &mut update)?;
        Ok(update.offset)
    }

    fn register(&self, operation: u32, update: &mut RingUpdate) -> io::Result<()> {
        // SAFETY: one live structure of the kind that the operation takes.
        let result = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.ring.as_raw_fd(), operation, std::ptr::from_mut(update), 1)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Some(number) = self.registered {
            // A registered ring lives until the thread ends. If unregistering fails, it lives that
            // long.
            let _ = self.register(UNREGISTER_RING_FDS, &mut RingUpdate { offset: number, reserved: 0, data: 0 });
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("features", &self.features).finish_non_exhaustive()
    }
}

/// How completions are processed (task work), and when (`io_uring_setup(2)`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskRun {
    /// By the worker, when it asks for completions (Linux 6.1).
    Deferred,
    /// By the worker, at its next system call (Linux 5.19).
    Cooperative,
    /// By the worker, which the kernel interrupts.
    Interrupting,
}

/// Tries the set-up with all wanted features, then with fewer and fewer.
fn build(sq_entries: u32, cq_entries: u32, wanted: FeatureSet) -> io::Result<(IoUring, FeatureSet)> {
    let mut last = None;
    for task_run in [TaskRun::Deferred, TaskRun::Cooperative, TaskRun::Interrupting] {
        if task_run == TaskRun::Deferred && !wanted.has(Feature::DeferTaskrun) {
            continue;
        }
        for is_flat in [true, false] {
            if is_flat && !wanted.has(Feature::NoSqArray) {
                continue;
            }
            match try_build(sq_entries, cq_entries, task_run, is_flat) {
                Ok(ring) => return Ok((ring, granted(task_run, is_flat))),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL)))
}

fn try_build(sq_entries: u32, cq_entries: u32, task_run: TaskRun, is_flat: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(cq_entries);
    match task_run {
        TaskRun::Deferred => {
            builder.setup_submit_all().setup_single_issuer().setup_defer_taskrun();
        }
        TaskRun::Cooperative => {
            builder.setup_submit_all().setup_coop_taskrun();
        }
        TaskRun::Interrupting => {}
    }
    if is_flat {
        builder.setup_no_sqarray();
    }
    builder.build(sq_entries)
}

fn granted(task_run: TaskRun, is_flat: bool) -> FeatureSet {
    let candidates = [(Feature::DeferTaskrun, task_run == TaskRun::Deferred), (Feature::NoSqArray, is_flat)];
    candidates.into_iter().filter(|(_, is_granted)| *is_granted).map(|(feature, _)| feature).collect()
}
