//! [`OperatorWorker`]: the worker for those who operate the server, on a thread of its own.
//!
//! It is a worker as the others are, with the same core and HTTP sessions, and differs in when it lives
//! and what bounds it:
//!
//! ```text
//!   first listener for operators ─► thread, always on epoll ─► serves ─► drains, and ends
//!                                                                ▲  stop: when all other workers have ended
//!                                                                └─ replacement: as soon as it serves
//! ```
//!
//! So metrics can be read while a drain waits for a client. No ring and no locked memory are needed for
//! it, its connections count for no limit of the server, and nothing that it does is counted in the
//! metrics that it shows. Its sockets are kept, inherited and handed on like those for clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::listeners::Listeners;
use super::supervised::{Message, WorkerPlan};
use super::thread::{WorkerHandle, WorkerThreadConfig};
use crate::buffer::PoolConfig;
use crate::config::{HttpLimits, Limits};
use crate::driver::probe::Backend;
use crate::driver::{FeatureSet, Offload, RingSize, Waker};
use crate::session::control::Control;
use crate::telemetry::metrics::{Metrics, WorkerCounters};
use crate::waiter::Waiter;

/// The listeners for operators, and their worker.
#[derive(Debug, Default)]
pub(super) struct OperatorWorker {
    pub(super) listeners: Listeners,
    /// What its requests share with the server.
    pub(super) control: Arc<Control>,
    /// Started with the first listener. It stays if all of them are removed.
    pub(super) worker: Option<WorkerHandle>,
    is_draining: bool,
}

/// Connections of operators at most.
const CONNECTIONS_MAX: usize = 64;

/// Descriptors that the operators' worker needs: one for each connection, its poller, wakers and listeners.
pub(crate) const OPERATOR_DESCRIPTORS: u64 = CONNECTIONS_MAX as u64 + 16;

/// How long its connections may continue once it drains. 1 s: nothing that it serves takes long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an idle connection stays open then. 50 ms. A scraper that keeps its connection does not delay
/// the end of the process.
const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_millis(50);

/// Small receive buffers at most: requests are heads, two for each connection are more than enough.
const BUFFERS_MAX: usize = 2 * CONNECTIONS_MAX;

impl OperatorWorker {
    /// Without listeners and without a thread. Commands wake `supervisor`.
    pub(super) fn new(supervisor: Waker) -> Self {
        Self { control: Arc::new(Control::new(supervisor)), ..Self::default() }
    }

    /// The limits of the worker, which are the same for every server.
    pub(super) fn limits() -> Limits {
        Limits {
            connections_max: CONNECTIONS_MAX,
            drain_timeout: DRAIN_TIMEOUT,
            pool: PoolConfig { small_max: BUFFERS_MAX, large_max: 1, ..PoolConfig::default() },
            http: HttpLimits { drain_idle_timeout: DRAIN_IDLE_TIMEOUT, ..HttpLimits::default() },
            ..Limits::default()
        }
    }

    /// Starts the thread if it does not run.
    pub(super) fn start(&mut self, metrics: &Arc<Metrics>, offload: &Offload, supervisor: &Waker) -> io::Result<()> {
        if self.worker.is_none() {
            let config = WorkerThreadConfig {
                number: None,
                backend: Backend::Epoll,
                uring_off: FeatureSet::NONE,
                ring_size: RingSize::FULL,
                offload: offload.clone(),
                cpu: None,
                limits: Self::limits(),
                counters: WorkerCounters::observing(Arc::clone(metrics)),
            };
            self.worker = Some(config.spawn(supervisor.clone())?);
        }
        Ok(())
    }

    /// Serves this plan from now on.
    pub(super) fn serve(&self, plan: WorkerPlan) {
        if let Some(worker) = &self.worker {
            worker.tell(Message::Serve(Box::new(plan)));
        }
    }

    /// Has a request go on whose command has a reply.
    pub(super) fn resume(&self, waiter: Waiter) {
        if let Some(worker) = &self.worker {
            worker.tell(Message::Resume(waiter));
        }
    }

    /// Makes the worker stop accepting and end.
    pub(super) fn drain(&mut self) {
        if !std::mem::replace(&mut self.is_draining, true)
            && let Some(worker) = &self.worker
        {
            worker.tell(Message::Drain);
        }
    }

    /// Whether the worker has ended, or there is none.
    pub(super) fn has_ended(&self) -> bool {
        self.worker.as_ref().is_none_or(WorkerHandle::has_ended)
    }
}
