//! Calls that may wait (name look-ups, cold files), carried out by a few threads off the loop.
//!
//! One per driver. Threads start when the first task comes and end when the driver is dropped.
//! A task cannot be interrupted: who cancels stops waiting for it, and its result is discarded.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::waker::Waker;

/// The most threads one worker's driver starts: enough to overlap a few slow look-ups.
const THREADS_MAX: usize = 4;

/// Threads that run tasks and hand back a `T` each, announced through the driver's waker.
#[derive(Debug)]
pub(super) struct Offload<T> {
    shared: Arc<Shared<T>>,
    threads: usize,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    work: Condvar,
    waker: Waker,
}

struct State<T> {
    tasks: VecDeque<Task<T>>,
    results: Vec<T>,
    idle_threads: usize,
    closed: bool,
}

type Task<T> = Box<dyn FnOnce() -> T + Send>;

impl<T> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl<T: Send + 'static> Offload<T> {
    /// No threads yet; `waker` is used when a result is there.
    pub(super) fn new(waker: Waker) -> Self {
        let state = State { tasks: VecDeque::new(), results: Vec::new(), idle_threads: 0, closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), waker }), threads: 0 }
    }

    /// Runs `task` soon on another thread. If no thread can be started at all, runs it here.
    pub(super) fn run(&mut self, task: impl FnOnce() -> T + Send + 'static) {
        let mut state = self.shared.lock();
        state.tasks.push_back(Box::new(task));
        let wants_thread = state.idle_threads < state.tasks.len() && self.threads < THREADS_MAX;
        drop(state);
        if wants_thread {
            let shared = Arc::clone(&self.shared);
            match thread::Builder::new().name("xps-offload".into()).spawn(move || shared.work()) {
                Ok(_) => self.threads += 1,
                Err(error) => tracing::warn!(%error, "cannot start a helper thread"),
            }
        }
        if self.threads == 0 {
            let task = self.shared.lock().tasks.pop_front();
            if let Some(task) = task {
                let result = task();
                self.shared.finish(result);
            }
        } else {
            self.shared.work.notify_one();
        }
    }

    /// Every result that is there, oldest first.
    pub(super) fn results(&self) -> Vec<T> {
        std::mem::take(&mut self.shared.lock().results)
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // A panicking task runs outside the lock, so the state is whole even then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                let result = task();
                self.finish(result);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle_threads += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle_threads -= 1;
            }
        }
    }

    fn finish(&self, result: T) {
        self.lock().results.push(result);
        self.waker.wake();
    }
}

impl<T> Drop for Offload<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.tasks.clear();
        drop(state);
        self.shared.work.notify_all();
    }
}
