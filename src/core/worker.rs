//! The loop of one worker: connects a [`Core`] to a driver.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::opened::OpenedService;
use super::service_builder::ServiceBuilder;
use super::state::{Core, ListenerId};
use crate::config::Limits;
use crate::driver::{Completion, Driver, KernelDriver, Time, Waker, unix_seconds};
use crate::limit::{Access, Admission};
use crate::session::ListenerContext;

/// How often unused receive buffer memory is returned to the system, while there is traffic.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// A message to a worker. The sender wakes the worker after sending it.
#[derive(Debug)]
pub enum Message {
    /// Stop accepting. Live connections continue for the configured drain timeout.
    Drain,
    /// Apply this plan. Live connections continue.
    Serve(Box<WorkerPlan>),
}

/// What a worker serves.
#[derive(Debug)]
pub struct WorkerPlan {
    pub(super) limits: Limits,
    pub(super) admission: Arc<Admission>,
    /// Number of this worker among `workers` with the same plan.
    pub(super) number: usize,
    pub(super) workers: usize,
    pub(super) listeners: Vec<ListenerPlan>,
}

/// One listening address: its new sockets, besides those that the worker has, and its service.
#[derive(Debug)]
pub(super) struct ListenerPlan {
    pub(super) id: ListenerId,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) access: Access,
    pub(super) expects_proxy_header: bool,
    pub(super) opened: OpenedService,
}

/// A core and its driver, run by one thread.
#[derive(Debug)]
pub struct Worker<D> {
    driver: D,
    core: Core,
    messages: Receiver<Message>,
    drain_timeout: Duration,
    trim: Trim,
    builder: ServiceBuilder,
    failure_notifier: Option<FailureNotifier>,
}

/// Reports to the supervisor that a worker will return an error. This comes first because draining
/// its connections may take a while.
#[derive(Debug)]
pub(super) struct FailureNotifier {
    pub(super) is_failing: Arc<AtomicBool>,
    pub(super) supervisor: Waker,
}

impl FailureNotifier {
    fn raise(&self) {
        self.is_failing.store(true, Ordering::Release);
        self.supervisor.wake();
    }
}

impl<D: KernelDriver> Worker<D> {
    /// A worker that runs `core` on `driver`.
    pub fn new(driver: D, core: Core, messages: Receiver<Message>, drain_timeout: Duration) -> Self {
        let (trim, builder) = (Trim::NotNeeded, ServiceBuilder::default());
        Self { driver, core, messages, drain_timeout, trim, builder, failure_notifier: None }
    }

    /// Sets the notifier for a failure of this worker.
    pub(super) fn set_failure_notifier(&mut self, failure_notifier: FailureNotifier) {
        self.failure_notifier = Some(failure_notifier);
    }

    /// Serves until it has drained after a [`Message::Drain`] and nothing is left. Returns the
    /// finished core.
    ///
    /// # Errors
    /// The kernel refuses the ring or the epoll instance itself. Or a listener failed for good; the
    /// other connections have been drained by then.
    pub fn run(mut self) -> io::Result<Core> {
        let mut done: Vec<Completion> = Vec::new();
        let mut broken = None;
        let mut now = self.driver.now();
        while !self.core.is_finished() {
            let mut wait = match (self.core.wait(now), self.trim.wait(now)) {
                (Some(core), Some(trim)) => Some(core.min(trim)),
                (core, trim) => core.or(trim),
            };
            let deadline = wait.map(|wait| now + wait);
            let mut woken = false;
            // A single call site, so that the driver's turn is inlined into the loop.
            let turn = loop {
                let turn = self.driver.turn(self.core.ops(), wait, &mut done)?;
                woken |= turn.woken;
                if !is_late(deadline, turn.now) || wait == Some(Duration::ZERO) {
                    break turn;
                }
                // Collect everything that has arrived by now before acting on timers that are due.
                wait = Some(Duration::ZERO);
            };
            // The rest of the iteration takes microseconds, so the clock is not read again.
            now = turn.now;
            if woken {
                self.take_messages(now);
            }
            self.trim.on_turn(!done.is_empty(), now, &self.driver);
            self.core.set_share(self.driver.pool().share());
            self.core.set_unix_seconds(unix_seconds());
            self.core.on_turn(now, &mut done);
            if let Some(fault) = self.core.take_broken() {
                broken.get_or_insert(fault);
                self.failure_notifier.iter().for_each(FailureNotifier::raise);
                self.drain(now);
            }
        }
        tracing::debug!(counters = ?self.driver.counters(), "worker at rest");
        match broken {
            Some(fault) => Err(io::Error::other(format!("a listener accepts no more: {fault}"))),
            None => Ok(self.core),
        }
    }

    fn drain(&mut self, now: Time) {
        let timeout = Some(self.drain_timeout).filter(|timeout| !timeout.is_zero());
        self.core.drain(now, timeout);
    }

    /// Applies a plan, the first or a new one.
    pub(super) fn serve(&mut self, plan: WorkerPlan) {
        let WorkerPlan { limits, admission, number, workers, listeners } = plan;
        self.builder.share_among(number, workers);
        self.drain_timeout = limits.drain_timeout;
        self.core.set_limits(limits);
        admission.register_waker(self.driver.waker());
        self.core.admit_by(admission);
        let ids: Vec<ListenerId> = listeners.iter().map(|listener| listener.id).collect();
        self.core.keep_listeners(|id| ids.contains(&id));
        for ListenerPlan { id, sockets, access, expects_proxy_header, opened } in listeners {
            let context = ListenerContext { access, expects_proxy_header, service: self.builder.service(opened) };
            self.core.replace(id, &context);
            for socket in sockets {
                self.core.add_listener(id, self.driver.adopt(socket), context.clone());
            }
        }
        self.core.keep_root_paths(self.builder.take_root_paths(), self.driver.now());
        self.core.monitor_upstreams(&self.builder.take_groups(), self.driver.now());
    }

    fn take_messages(&mut self, now: Time) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Drain => {
                    tracing::debug!("drain requested");
                    self.drain(now);
                }
                Message::Serve(plan) => self.serve(*plan),
            }
        }
    }
}

/// Whether a turn ended so late after `due` that peers may have met their deadlines unnoticed.
///
/// A driver that waits for a moment polls again when the moment has come. But a process that was
/// stopped or not scheduled returns late and may not have polled since.
fn is_late(due: Option<Time>, now: Time) -> bool {
    due.is_some_and(|due| now >= due + LATE)
}

/// From this delay on, a turn counts as late.
const LATE: Duration = Duration::from_millis(1);

/// Returns unused buffer memory periodically and lets a quiet worker sleep. Two intervals after the
/// last traffic it stops; the first of them may still find buffers in use.
#[derive(Clone, Copy, Debug)]
enum Trim {
    NotNeeded,
    Armed { at: Time, had_traffic: bool },
}

impl Trim {
    fn wait(self, now: Time) -> Option<Duration> {
        match self {
            Self::NotNeeded => None,
            Self::Armed { at, .. } => Some(at.since(now)),
        }
    }

    fn on_turn(&mut self, has_traffic: bool, now: Time, driver: &impl Driver) {
        match self {
            Self::NotNeeded if has_traffic => *self = Self::Armed { at: now + TRIM_INTERVAL, had_traffic: true },
            Self::NotNeeded => {}
            Self::Armed { at, had_traffic } if now < *at => *had_traffic |= has_traffic,
            Self::Armed { had_traffic, .. } => {
                driver.pool().trim();
                *self = if *had_traffic || has_traffic {
                    Self::Armed { at: now + TRIM_INTERVAL, had_traffic: has_traffic }
                } else {
                    Self::NotNeeded
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_late_that_ends_well_after_what_it_waited_for() {
        let due = Time::ZERO + Duration::from_secs(5);
        assert!(!is_late(Some(due), due + LATE / 2));
        assert!(is_late(Some(due), due + LATE));
        // A turn without a deadline is never late.
        assert!(!is_late(None, due));
    }
}
