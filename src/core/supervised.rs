//! [`SupervisedCore`]: a core that takes messages from the supervisor, as a server's workers do.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::opened::OpenedService;
use super::service_builder::ServiceBuilder;
use super::state::{Core, ListenerId};
use super::worker::{Environment, Machine};
use crate::config::Limits;
use crate::driver::{Completion, Counters, Fault, KernelDriver, Ops, Time, Waker};
use crate::limit::{Access, Admission};
use crate::session::ListenerContext;
use crate::session::control::Control;
use crate::telemetry::metrics::ListenerSeries;
use crate::tls::{ChallengeTokens, ServerTls};
use crate::upstream::SharedEndpoints;
use crate::waiter::Waiter;

/// A message to a worker. The sender wakes the worker after sending it.
#[derive(Debug)]
pub enum Message {
    /// Stop accepting. Live connections continue for the configured drain timeout.
    Drain,
    /// Apply this plan. Live connections continue.
    Serve(Box<WorkerPlan>),
    /// There is a reply to the command of this request.
    Resume(Waiter),
    /// An operator has set something of an endpoint.
    Reconsider,
}

/// What a worker serves.
#[derive(Debug)]
pub struct WorkerPlan {
    pub(super) limits: Limits,
    pub(super) admission: Arc<Admission>,
    pub(super) endpoints: Arc<SharedEndpoints>,
    /// Number of this worker among `workers` with the same plan.
    pub(super) number: usize,
    pub(super) workers: usize,
    pub(super) listeners: Vec<ListenerPlan>,
    /// The pending validations of certificates, which all HTTP listeners answer; `None`: there are never
    /// any.
    pub(super) challenge_tokens: Option<Arc<ChallengeTokens>>,
    /// What the operators' requests share with the server.
    pub(super) control: Arc<Control>,
}

/// One listening address: its new sockets, besides those that the worker has, and its service.
#[derive(Debug)]
pub(super) struct ListenerPlan {
    pub(super) id: ListenerId,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) access: Access,
    pub(super) expects_proxy_header: bool,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) h2c: bool,
    pub(super) opened: OpenedService,
    /// What counts its connections; `None`: only the worker does.
    pub(super) series: Option<Arc<ListenerSeries>>,
}

/// A core, the messages to it, and what they need.
#[derive(Debug)]
pub struct SupervisedCore {
    core: Core,
    messages: Receiver<Message>,
    drain_timeout: Duration,
    builder: ServiceBuilder,
    failure_notifier: Option<FailureNotifier>,
    /// Why a listener accepts no more.
    broken: Option<Fault>,
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

impl SupervisedCore {
    /// A core that takes from `messages` what to serve, and when to drain.
    pub fn new(core: Core, messages: Receiver<Message>, drain_timeout: Duration) -> Self {
        let builder = ServiceBuilder::default();
        Self { core, messages, drain_timeout, builder, failure_notifier: None, broken: None }
    }

    /// Sets the notifier for a failure of this worker.
    pub(super) fn set_failure_notifier(&mut self, failure_notifier: FailureNotifier) {
        self.failure_notifier = Some(failure_notifier);
    }

    /// The core, once it has finished.
    ///
    /// # Errors
    /// A listener failed for good; the other connections have been drained.
    pub fn into_core(self) -> io::Result<Core> {
        match self.broken {
            Some(fault) => Err(io::Error::other(format!("a listener accepts no more: {fault}"))),
            None => Ok(self.core),
        }
    }

    fn drain(&mut self, now: Time) {
        let timeout = Some(self.drain_timeout).filter(|timeout| !timeout.is_zero());
        self.core.drain(now, timeout);
    }

    /// Reports that a listener failed for good, and drains the other connections.
    #[cold]
    fn fail(&mut self, fault: Fault, now: Time) {
        self.broken.get_or_insert(fault);
        self.failure_notifier.iter().for_each(FailureNotifier::raise);
        self.drain(now);
    }

    /// Applies a plan, the first or a new one.
    fn serve(&mut self, plan: WorkerPlan, driver: &mut impl KernelDriver) {
        let WorkerPlan { limits, admission, endpoints, number, workers, listeners, challenge_tokens, control } = plan;
        self.builder.share_among(number, workers);
        self.builder.count_by(Arc::clone(self.core.counters().metrics()));
        self.builder.answer_challenges(challenge_tokens);
        self.builder.control_by(control);
        self.drain_timeout = limits.drain_timeout;
        self.core.set_limits(limits);
        admission.register_waker(driver.waker());
        self.core.admit_by(admission);
        endpoints.register_waker(driver.waker());
        self.builder.share_endpoints(Arc::clone(&endpoints));
        self.core.share_endpoints(endpoints, number);
        let ids: Vec<ListenerId> = listeners.iter().map(|listener| listener.id).collect();
        self.core.keep_listeners(|id| ids.contains(&id));
        for ListenerPlan { id, sockets, access, expects_proxy_header, tls, h2c, opened, series } in listeners {
            let service = self.builder.service(opened);
            let counters = series.map(|series| Rc::new(series.of_worker(number)));
            let context = ListenerContext { access, expects_proxy_header, tls, h2c, service, counters };
            self.core.replace(id, &context);
            for socket in sockets {
                self.core.add_listener(id, driver.adopt(socket), context.clone());
            }
        }
        self.core.keep_root_paths(self.builder.take_root_paths(), driver.now());
        self.core.monitor_upstreams(&self.builder.take_groups(), driver.now());
    }
}

impl Machine for SupervisedCore {
    fn ops(&mut self) -> &mut Ops {
        self.core.ops()
    }

    fn wait(&self, now: Time) -> Option<Duration> {
        self.core.wait(now)
    }

    fn on_wake(&mut self, driver: &mut impl KernelDriver, now: Time) {
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Drain => {
                    tracing::debug!("drain requested");
                    self.drain(now);
                }
                Message::Serve(plan) => self.serve(*plan, driver),
                Message::Resume(waiter) => self.core.resume(waiter),
                Message::Reconsider => self.core.reconsider_upstreams(self.builder.groups_in_force(), now),
            }
        }
        self.core.on_wake(now);
    }

    #[inline]
    fn on_turn(&mut self, environment: Environment, done: &mut Vec<Completion>) {
        let Environment { now, share, unix_seconds } = environment;
        self.core.set_share(share);
        self.core.set_unix_seconds(unix_seconds);
        self.core.on_turn(now, done);
        if let Some(fault) = self.core.take_broken() {
            self.fail(fault, now);
        }
    }

    fn on_counters(&mut self, counters: Counters) {
        self.core.set_driver_counters(&counters);
    }

    fn is_finished(&self) -> bool {
        self.core.is_finished()
    }
}
