//! What the threads of a run tell the one that waits for them, while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::driver::Waker;

/// What all threads of a run share.
#[derive(Debug)]
pub struct Shared {
    /// Threads that have begun to measure.
    measuring: AtomicU32,
    /// Threads that have ended measuring.
    measured: AtomicU32,
    /// They are to end at once.
    is_stopped: AtomicBool,
    /// Woken when a thread begins or ends to measure.
    waker: Waker,
    threads: Vec<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
}

/// The handle of one thread.
#[derive(Clone, Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    index: usize,
}

impl Shared {
    /// For this number of threads. `waker` is woken when one begins or ends to measure.
    pub fn new(threads: u32, waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            measuring: AtomicU32::new(0),
            measured: AtomicU32::new(0),
            is_stopped: AtomicBool::new(false),
            waker,
            threads: (0..threads).map(|_| Counts::default()).collect(),
        })
    }

    /// The handle of a thread.
    pub fn of_thread(self: &Arc<Self>, index: u32) -> Progress {
        Progress { shared: Arc::clone(self), index: index as usize }
    }

    /// Whether every thread measures.
    pub fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Acquire) as usize >= self.threads.len()
    }

    /// Whether a thread has ended measuring.
    pub fn is_measured(&self) -> bool {
        self.measured.load(Ordering::Acquire) > 0
    }

    /// Correct responses and errors so far.
    pub fn counts(&self) -> (u64, u64) {
        self.threads.iter().fold((0, 0), |(requests, errors), counts| {
            (requests + counts.requests.load(Ordering::Relaxed), errors + counts.errors.load(Ordering::Relaxed))
        })
    }

    /// Asks the threads to end. They have to be woken.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }
}

impl Progress {
    /// The thread measures from now on.
    pub fn on_measuring(&self) {
        self.shared.measuring.fetch_add(1, Ordering::AcqRel);
        self.shared.waker.wake();
    }

    /// The thread has ended measuring.
    pub fn on_measured(&self) {
        self.shared.measured.fetch_add(1, Ordering::AcqRel);
        self.shared.waker.wake();
    }

    /// The thread ends.
    pub fn on_end(&self) {
        self.shared.waker.wake();
    }

    /// What it has counted so far.
    pub fn set(&self, requests: u64, errors: u64) {
        let counts = &self.shared.threads[self.index];
        counts.requests.store(requests, Ordering::Relaxed);
        counts.errors.store(errors, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }
}
