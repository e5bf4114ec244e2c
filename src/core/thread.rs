//! A worker's thread: its start, and the handle that the supervisor keeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::state::Core;
use super::supervised::{FailureNotifier, Message, SupervisedCore};
use super::worker::Worker;
use crate::config::Limits;
use crate::driver::probe::Backend;
use crate::driver::{
    Epoll, EpollConfig, FeatureSet, KernelDriver, Offload, RingSize, Uring, UringConfig, Waker, affinity,
};
use crate::session::SessionEnd;
use crate::telemetry::metrics::WorkerCounters;

/// The supervisor's handle of a running worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    /// Returns how the session that ended last has ended.
    pub(super) thread: JoinHandle<io::Result<Option<SessionEnd>>>,
    pub(super) messages: Sender<Message>,
    pub(super) waker: Waker,
    pub(super) has_ended: Arc<AtomicBool>,
    pub(super) is_failing: Arc<AtomicBool>,
}

impl WorkerHandle {
    /// Sends a message. A worker that has ended is ignored.
    pub(super) fn tell(&self, message: Message) {
        if self.messages.send(message).is_ok() {
            self.waker.wake();
        }
    }

    /// Whether the thread has ended or is about to return.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Whether the thread has ended or will return an error.
    pub(super) fn is_broken(&self) -> bool {
        self.has_ended() || self.is_failing.load(Ordering::Acquire)
    }
}

/// What a worker's thread is started with.
pub(super) struct WorkerThreadConfig {
    /// `None`: the worker for operators.
    pub(super) number: Option<usize>,
    pub(super) backend: Backend,
    pub(super) uring_off: FeatureSet,
    pub(super) ring_size: RingSize,
    pub(super) offload: Offload,
    pub(super) cpu: Option<usize>,
    pub(super) limits: Limits,
    pub(super) counters: WorkerCounters,
}

/// Result of the setup of a worker's thread.
type Ready = io::Result<Waker>;

impl WorkerThreadConfig {
    /// Starts the thread and waits until it is set up. It accepts connections after the first
    /// [`Message::Serve`]. It wakes `supervisor` when it ends.
    pub(super) fn spawn(self, supervisor: Waker) -> io::Result<WorkerHandle> {
        let (ready, is_ready) = mpsc::channel::<Ready>();
        let (messages, inbox) = mpsc::channel();
        let has_ended = Arc::new(AtomicBool::new(false));
        let is_failing = Arc::new(AtomicBool::new(false));
        let failure_notifier = FailureNotifier { is_failing: Arc::clone(&is_failing), supervisor: supervisor.clone() };
        let exit_guard = ThreadExitGuard { has_ended: Arc::clone(&has_ended), supervisor };
        let thread = thread::Builder::new().name(self.name()).spawn(move || {
            let _exit_guard = exit_guard;
            self.run(&ready, inbox, failure_notifier)
        })?;
        match is_ready.recv() {
            Ok(Ok(waker)) => Ok(WorkerHandle { thread, messages, waker, has_ended, is_failing }),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => Err(io::Error::other("the worker ended while it was being set up")),
        }
    }

    fn name(&self) -> String {
        self.number.map_or_else(|| "xps-operator".to_owned(), |number| format!("xps-worker-{number}"))
    }

    fn run(
        self,
        ready: &Sender<Ready>,
        inbox: Receiver<Message>,
        failure_notifier: FailureNotifier,
    ) -> io::Result<Option<SessionEnd>> {
        self.counters.note_thread();
        let span = match self.number {
            Some(number) => tracing::info_span!("worker", number),
            None => tracing::info_span!("operator"),
        };
        let _entered = span.entered();
        if let Some(cpu) = self.cpu
            && let Err(error) = affinity::pin_thread(cpu)
        {
            tracing::warn!(cpu, %error, "cannot tie the worker to its CPU");
        }
        let pool = self.limits.pool.within(self.limits.pipe_bytes_max);
        tracing::debug!(backend = self.backend.name(), uring_off = %self.uring_off, ?pool, "worker starts");
        match self.backend {
            Backend::IoUring => {
                let (off, size, offload) = (self.uring_off, self.ring_size, self.offload.clone());
                let config = UringConfig { off, size, offload, ..UringConfig::new(pool) };
                let driver = Uring::new_or_smaller(config);
                self.serve(driver, ready, inbox, failure_notifier)
            }
            Backend::Epoll => {
                let offload = self.offload.clone();
                self.serve(Epoll::new(EpollConfig { pool, offload }), ready, inbox, failure_notifier)
            }
        }
    }

    fn serve<D: KernelDriver>(
        self,
        driver: io::Result<D>,
        ready: &Sender<Ready>,
        inbox: Receiver<Message>,
        failure_notifier: FailureNotifier,
    ) -> io::Result<Option<SessionEnd>> {
        let driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                // The starter reports it.
                let _ = ready.send(Err(error));
                return Ok(None);
            }
        };
        let waker = driver.waker();
        let drain_timeout = self.limits.drain_timeout;
        let mut core = Core::new(self.limits);
        core.set_counters(self.counters);
        let mut core = SupervisedCore::new(core, inbox, drain_timeout);
        core.set_failure_notifier(failure_notifier);
        // An error means that the starter has given up; the drain that follows ends this worker.
        let _ = ready.send(Ok(waker));
        Worker::new(driver, core).run()?.into_core().map(|core| core.session_end())
    }
}

/// Reports to the supervisor that a thread has ended, also by a panic.
struct ThreadExitGuard {
    has_ended: Arc<AtomicBool>,
    supervisor: Waker,
}

impl Drop for ThreadExitGuard {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        self.supervisor.wake();
    }
}
