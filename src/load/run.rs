//! Runs a [`Plan`]: one thread for each share of it, and one that waits for them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::generator::{Generator, ThreadResult};
use super::plan::Plan;
use super::progress::{Progress, Shared};
use super::tally::Tally;
use crate::core::Worker;
use crate::driver::probe::Backend;
use crate::driver::{Epoll, EpollConfig, KernelDriver, Uring, UringConfig, Waker, timer_slack};
use crate::upstream::{ConnectError, UpstreamAddress};

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {error}")]
    Unreachable {
        /// Where to.
        address: UpstreamAddress,
        /// Why not.
        error: ConnectError,
    },
    /// The driver cannot be set up, or it failed.
    #[error("the event loop failed: {0}")]
    Driver(#[from] io::Error),
}

/// What a run has found out.
#[derive(Debug)]
pub struct Outcome {
    /// What all threads have counted.
    pub tally: Tally,
    /// How long they measured: the mean of the threads.
    pub measured: Duration,
    /// How long the busiest of them ran on a processor meanwhile.
    pub busiest: Duration,
    /// The protocols that were spoken.
    pub protocols: BTreeSet<&'static str>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Run {
    threads: Vec<JoinHandle<io::Result<ThreadResult>>>,
    wakers: Vec<Waker>,
    shared: Arc<Shared>,
    waker: Waker,
    addresses: Vec<UpstreamAddress>,
}

impl Run {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread or its driver cannot be created.
    pub fn start(plan: &Plan) -> Result<Self, RunError> {
        let (backend, uring_off) = (plan.selection.backend.name(), plan.uring_off);
        tracing::debug!(backend, %uring_off, threads = plan.threads, connections = plan.connections, "measuring");
        let waker = Waker::new()?;
        let shared = Shared::new(plan.threads, waker.clone());
        let mut run = Self {
            threads: Vec::new(),
            wakers: Vec::new(),
            shared,
            waker,
            addresses: plan.origins.iter().map(|origin| origin.address.clone()).collect(),
        };
        for index in 0..plan.threads {
            let (ready, is_ready) = mpsc::channel();
            let (share, progress) = (plan.share(index), run.shared.of_thread(index));
            let thread = thread::Builder::new().name(format!("xps-load-{index}")).spawn(move || {
                let result = generate(share, progress.clone(), &ready);
                progress.on_end();
                result
            })?;
            run.threads.push(thread);
            match is_ready.recv() {
                Ok(waker) => run.wakers.push(waker),
                // It has ended with an error, which is found when it is joined.
                Err(mpsc::RecvError) => run.stop(),
            }
        }
        Ok(run)
    }

    /// Waits until something begins or ends, or the time has passed.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.waker.wait(Some(timeout))?;
        self.waker.clear();
        Ok(())
    }

    /// The handle that ends [`Run::wait`].
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether all threads measure.
    pub fn is_measuring(&self) -> bool {
        self.shared.is_measuring()
    }

    /// Whether one of them has ended measuring, or has ended.
    pub fn is_measured(&self) -> bool {
        self.shared.is_measured() || self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Correct responses and errors so far.
    pub fn counts(&self) -> (u64, u64) {
        self.shared.counts()
    }

    /// Ends it early. What was counted so far is the result.
    pub fn stop(&self) {
        self.shared.stop();
        self.wakers.iter().for_each(Waker::wake);
    }

    /// Waits for the threads.
    ///
    /// # Errors
    /// No connection could be made, or a driver failed.
    pub fn join(self) -> Result<Outcome, RunError> {
        let mut results = Vec::new();
        for thread in self.threads {
            results.push(thread.join().map_err(|_| io::Error::other("a thread of the load generator panicked"))??);
        }
        let count = results.len().max(1) as u32;
        let measured = results.iter().map(|result| result.measured).sum::<Duration>() / count;
        let busiest = results.iter().map(|result| result.busy).max().unwrap_or_default();
        let mut all: Option<Tally> = None;
        let mut unreachable = None;
        let has_any = results.iter().any(|result| result.unreachable.is_none());
        let mut protocols = BTreeSet::new();
        for ThreadResult { tally, unreachable: failed, protocols: spoken, .. } in results {
            protocols.extend(spoken);
            unreachable = unreachable.or(failed);
            match &mut all {
                Some(all) => all.add(&tally),
                None => all = Some(tally),
            }
        }
        if let Some((origin, error)) = unreachable.filter(|_| !has_any) {
            return Err(RunError::Unreachable { address: self.addresses[origin].clone(), error });
        }
        let tally = all.ok_or_else(|| io::Error::other("a run without threads"))?;
        Ok(Outcome { tally, measured, busiest, protocols })
    }
}

/// One thread. It passes its waker on once it is set up.
fn generate(share: Plan, progress: Progress, ready: &Sender<Waker>) -> io::Result<ThreadResult> {
    timer_slack::minimise();
    match share.selection.backend {
        Backend::IoUring => {
            let (off, size) = (share.uring_off, share.selection.ring_size);
            let driver = Uring::new_or_smaller(UringConfig { off, size, ..UringConfig::new(share.pool) })?;
            drive(driver, share, progress, ready)
        }
        Backend::Epoll => {
            let driver = Epoll::new(EpollConfig { pool: share.pool, ..EpollConfig::default() })?;
            drive(driver, share, progress, ready)
        }
    }
}

fn drive(
    driver: impl KernelDriver,
    share: Plan,
    progress: Progress,
    ready: &Sender<Waker>,
) -> io::Result<ThreadResult> {
    // Who started it waits for this.
    let _ = ready.send(driver.waker());
    let generator = Generator::new(share, progress, driver.now());
    Ok(Worker::new(driver, generator).run()?.result())
}
