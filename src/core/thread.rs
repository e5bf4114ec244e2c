//! A worker's thread: how it is started, and what its supervisor holds of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::state::Core;
use super::worker::{Duties, Message, Worker};
use crate::driver::probe::Backend;
use crate::driver::{Epoll, EpollConfig, FeatureSet, KernelDriver, Offload, Uring, UringConfig, Waker, affinity};
use crate::session::Farewell;
use crate::telemetry::metrics::Counting;

/// A running worker, as its supervisor sees it.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    /// It returns how the session ended that was the last to end.
    pub(super) thread: JoinHandle<io::Result<Option<Farewell>>>,
    pub(super) messages: Sender<Message>,
    pub(super) waker: Waker,
    pub(super) has_ended: Arc<AtomicBool>,
}

impl WorkerHandle {
    /// Tells it something; one that is gone needs to be told nothing.
    pub(super) fn tell(&self, message: Message) {
        if self.messages.send(message).is_ok() {
            self.waker.wake();
        }
    }

    /// Whether its thread has ended, or is about to.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }
}

/// Everything a worker's thread begins with.
pub(super) struct WorkerPlan {
    pub(super) number: usize,
    pub(super) backend: Backend,
    pub(super) uring_off: FeatureSet,
    pub(super) offload: Offload,
    pub(super) cpu: Option<usize>,
    pub(super) duties: Duties,
    pub(super) counting: Counting,
}

/// What a worker's thread reports when it is set up.
type Ready = io::Result<Waker>;

impl WorkerPlan {
    /// Starts the thread and waits until it accepts. `supervisor` is used when it ends.
    pub(super) fn spawn(self, supervisor: Waker) -> io::Result<WorkerHandle> {
        let (ready, is_ready) = mpsc::channel::<Ready>();
        let (messages, inbox) = mpsc::channel();
        let has_ended = Arc::new(AtomicBool::new(false));
        let obituary = Obituary { has_ended: Arc::clone(&has_ended), supervisor };
        let thread = thread::Builder::new().name(format!("xps-worker-{}", self.number)).spawn(move || {
            let _obituary = obituary;
            self.run(&ready, inbox)
        })?;
        match is_ready.recv() {
            Ok(Ok(waker)) => Ok(WorkerHandle { thread, messages, waker, has_ended }),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => Err(io::Error::other("the worker ended while it was being set up")),
        }
    }

    fn run(self, ready: &Sender<Ready>, inbox: Receiver<Message>) -> io::Result<Option<Farewell>> {
        let _entered = tracing::info_span!("worker", number = self.number).entered();
        if let Some(cpu) = self.cpu
            && let Err(error) = affinity::pin_thread(cpu)
        {
            tracing::warn!(cpu, %error, "cannot tie the worker to its CPU");
        }
        let limits = &self.duties.limits;
        let pool = limits.pool.within(limits.pipe_bytes_max);
        tracing::debug!(backend = self.backend.name(), uring_off = %self.uring_off, ?pool, "worker starts");
        match self.backend {
            Backend::IoUring => {
                let (off, offload) = (self.uring_off, self.offload.clone());
                let driver = Uring::new(UringConfig { off, offload, ..UringConfig::new(pool) });
                self.serve(driver, ready, inbox)
            }
            Backend::Epoll => {
                let offload = self.offload.clone();
                self.serve(Epoll::new(EpollConfig { pool, offload }), ready, inbox)
            }
        }
    }

    fn serve<D: KernelDriver>(
        self,
        driver: io::Result<D>,
        ready: &Sender<Ready>,
        inbox: Receiver<Message>,
    ) -> io::Result<Option<Farewell>> {
        let driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                // The starter reports it.
                let _ = ready.send(Err(error));
                return Ok(None);
            }
        };
        let waker = driver.waker();
        let mut core = Core::new(self.duties.limits.clone());
        core.count_at(self.counting);
        let mut worker = Worker::new(driver, core, inbox, self.duties.limits.drain_timeout);
        worker.serve(self.duties);
        // Nobody to tell: the starter has given up, and the drain that follows ends this worker.
        let _ = ready.send(Ok(waker));
        worker.run().map(|core| core.farewell())
    }
}

/// Tells the supervisor that a thread has ended, also by a panic.
struct Obituary {
    has_ended: Arc<AtomicBool>,
    supervisor: Waker,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        self.supervisor.wake();
    }
}
