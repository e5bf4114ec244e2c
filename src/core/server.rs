//! [`Server`]: the workers of one process, from binding ports to the end of the last connection.
//!
//! ```text
//!   start: choose a driver ─► bind ports ─► one thread per worker: driver, core, loop
//!   run:   wait for a signal, a stop or a worker's end ─► not ready ─► drain all ─► drain operators ─► join all
//! ```

mod changes;
mod commands;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::commands::Reloads;
use super::expiry_watch::ExpiryWatch;
use super::inherit::{self, Executable, InheritedSockets, ReplacementOutcome};
use super::listeners::Listeners;
use super::look;
use super::opened::{OpenedService, open_tls};
use super::operator::OperatorWorker;
use super::pid_file::PidFile;
use super::supervised::{ListenerPlan, Message, WorkerPlan};
use super::thread::{WorkerHandle, WorkerThreadConfig};
use crate::acme::Acme;
use crate::config::{ListenerConfig, ServerConfig, ServiceConfig};
use crate::driver::probe::{self, Selection, Unavailable};
use crate::driver::signals::{self, StopSignals};
use crate::driver::{Address, FeatureSet, Offload, Waker, affinity, unix_seconds};
use crate::limit::Admission;
use crate::session::SessionEnd;
use crate::telemetry::access_log::{AccessLogOutput, AccessLogs};
use crate::telemetry::metrics::{Metrics, WorkerCounters};
use crate::tls::server::Crypto;
use crate::tls::{self, Issued, TicketKeys};
use crate::upstream::{GroupConfig, SharedEndpoints};

/// A running server: its workers and listening sockets.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    listeners: Listeners,
    admission: Arc<Admission>,
    /// What the workers share of the endpoints of upstream groups.
    endpoints: Arc<SharedEndpoints>,
    access_logs: AccessLogs,
    /// Keys of TLS session tickets. They outlive a reload, so that clients can resume.
    ticket_keys: Arc<TicketKeys>,
    /// Threads for blocking calls, shared by all workers.
    offload: Offload,
    selection: Selection,
    workers: Vec<WorkerHandle>,
    operator: OperatorWorker,
    stop: Stop,
    signals: StopSignals,
    executable: io::Result<Executable>,
    replacement: Arc<Replacement>,
    replace_timeout: Duration,
    drain_delay: Duration,
    metrics: Arc<Metrics>,
    expiry_watch: ExpiryWatch,
    acme: Acme,
    /// The configuration in force.
    config: ServerConfig,
    reloads: Reloads,
    /// Removed when this is dropped.
    pid_file: Option<PidFile>,
    /// When it started, in seconds since 1970.
    started: u64,
}

/// What a configuration becomes once everything in it is opened.
struct Prepared {
    /// One for each worker.
    plans: Vec<WorkerPlan>,
    /// That of the worker for operators.
    operator_plan: WorkerPlan,
    /// The certificates that are obtained while the server runs.
    issued: Vec<Arc<Issued>>,
    /// Whether a listener speaks HTTP without TLS.
    has_plain_http: bool,
}

/// Callbacks to the program that runs a server.
pub trait ServerHooks {
    /// Draining has begun with this many live connections. The server waits for this call, so it
    /// must not block.
    fn on_drain(&mut self, connections: usize, cause: DrainCause);

    /// Called on SIGHUP, after [`signals::take_hangup`] was called, and when an operator asks for it.
    /// Returns the new configuration, or why it cannot be read; `None`: there is no other.
    fn reload(&mut self) -> Option<Result<ServerConfig, String>> {
        None
    }

    /// The server has ended. `last` is the session that ended last, if there was any.
    fn on_ended(&mut self, last: Option<SessionEnd>) {
        let _ = last;
    }

    /// The result of a reload. After an error nothing has changed. Returns it, or its text, for an operator
    /// who asked for the reload.
    ///
    /// # Errors
    /// The text of the error.
    fn on_reloaded(&mut self, result: Result<&[Address], StartError>) -> Result<(), String> {
        result.map(drop).map_err(|error| error.to_string())
    }
}

impl<F: FnMut(usize)> ServerHooks for F {
    fn on_drain(&mut self, connections: usize, _: DrainCause) {
        self(connections);
    }
}

/// Why a server drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainCause {
    /// A signal or a [`Stop`] requested it, or a worker has ended.
    Stopped,
    /// A replacement process serves on the same sockets.
    Replaced,
}

/// What a running server is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// It accepts connections, and says that it is not ready.
    Leaving {
        until: Instant,
    },
    Draining,
}

impl Phase {
    fn is_over(self, now: Instant) -> bool {
        matches!(self, Self::Leaving { until } if now >= until)
    }
}

/// Progress of the replacement by another process.
#[derive(Debug, Default)]
struct Replacement {
    is_underway: AtomicBool,
    is_done: AtomicBool,
}

/// Stops a server from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    supervisor: Waker,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The requested driver is not available.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The configured address.
        address: Address,
        /// The error of the system call.
        source: io::Error,
    },
    /// A file or folder to be served cannot be opened.
    #[error("cannot send {}: {source}", path.display())]
    File {
        /// The configured path.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// An access log cannot be written.
    #[error("cannot write the access log {output}: {source}")]
    AccessLog {
        /// The configured file.
        output: AccessLogOutput,
        /// The error of the system call.
        source: io::Error,
    },
    /// An error page cannot be read.
    #[error("cannot read the error page {}: {source}", path.display())]
    ErrorPage {
        /// The configured path.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The folder for received files cannot be opened.
    #[error("cannot receive {}: {source}", path.display())]
    Receive {
        /// The configured path.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// An upstream's name is not valid in the `Host` field of a request.
    #[error("`{address}` cannot be an upstream: {reason}")]
    Upstream {
        /// The configured address.
        address: String,
        /// What is invalid about it.
        reason: &'static str,
    },
    /// A certificate, a private key, or an authority of client certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::LoadError),
    /// The TLS settings of a listener cannot be used together.
    #[error("cannot set TLS up: {0}")]
    TlsSettings(#[source] rustls::Error),
    /// The certificates that are obtained cannot be stored.
    #[error("cannot store certificates in {}: {source}", path.display())]
    AcmeStorage {
        /// The configured folder.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file with the process ID cannot be written.
    #[error("cannot write the pid file {}: {source}", path.display())]
    PidFile {
        /// The configured path.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A descriptor named in the environment is not that of a listening socket.
    #[error("cannot use the inherited sockets: {0}")]
    Inherit(#[source] io::Error),
    /// A worker cannot be set up.
    #[error("cannot set a worker up: {0}")]
    Worker(#[source] io::Error),
}

/// Why a running server ended without a request to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A worker's loop failed: the kernel refused the ring or the epoll instance, or a listener
    /// failed.
    #[error("a worker failed: {0}")]
    Worker(#[source] io::Error),
    /// A worker panicked, which is a bug.
    #[error("a worker panicked: this is a bug in xps, please report it")]
    Panicked,
    /// Waiting for signals or worker threads failed.
    #[error("cannot wait for signals: {0}")]
    Supervise(#[source] io::Error),
}

impl Server {
    /// Binds every address or takes over inherited sockets, and starts the workers. Returns when
    /// all of them are about to accept.
    ///
    /// The server handles the process's SIGTERM, SIGINT, SIGUSR1 and SIGUSR2, from before it binds
    /// until it is dropped.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let metrics = Metrics::new(config.workers);
        let executable = Executable::of_this_process();
        let mut inherited = InheritedSockets::from_environment().map_err(StartError::Inherit)?;
        let selection = probe::choose(config.backend, config.uring_off, config.workers)?;
        let supervisor = Waker::new().map_err(StartError::Worker)?;
        metrics.set_backend(selection.backend.name(), selection.is_fallback.then_some(&*selection.reason));
        // Before the ports open: a program that sees an open port may send a signal at once.
        let signals = StopSignals::install(supervisor.clone()).map_err(StartError::Worker)?;
        let mut server = Self {
            addresses: Vec::new(),
            listeners: Listeners::default(),
            admission: Arc::default(),
            endpoints: SharedEndpoints::import(&inherit::ENDPOINT_SETTINGS.take_over()),
            access_logs: AccessLogs::default(),
            ticket_keys: TicketKeys::import(Crypto::default(), &inherit::TICKET_KEYS.take_over()),
            offload: Offload::new(config.limits.offload),
            selection,
            workers: Vec::new(),
            operator: OperatorWorker::new(supervisor.clone()),
            stop: Stop { asked: Arc::new(AtomicBool::new(false)), supervisor },
            signals,
            executable,
            replacement: Arc::default(),
            replace_timeout: config.limits.replace_timeout,
            drain_delay: config.limits.drain_delay,
            acme: Acme::new(Arc::clone(&metrics)),
            metrics,
            expiry_watch: ExpiryWatch::default(),
            config: config.clone(),
            reloads: Reloads::default(),
            pid_file: None,
            started: unix_seconds(),
        };
        let Prepared { plans, operator_plan, issued, has_plain_http } =
            server.prepare(&config, config.workers, &mut inherited)?;
        for address in inherited.left_over() {
            tracing::warn!(%address, "an inherited socket matches no configured address");
        }
        let started = server.start_workers(plans, config.pin_workers, config.uring_off).map_err(StartError::Worker);
        if let Err(error) = started.and_then(|()| server.write_pid_file()) {
            server.drain();
            server.operator.drain();
            server.join().ok();
            return Err(error);
        }
        server.operator.serve(operator_plan);
        server.log_addresses(&config);
        inherit::notify_predecessor();
        server.all_listeners().for_each(Listeners::own_files);
        // The workers answer the challenges.
        server.acme.manage(issued, has_plain_http);
        Ok(server)
    }

    /// Opens and binds what the configuration names. If it fails, nothing has changed.
    fn prepare(
        &mut self,
        config: &ServerConfig,
        workers: usize,
        inherited: &mut InheritedSockets,
    ) -> Result<Prepared, StartError> {
        // Before anything is created.
        if let Some(missing) = look::missing(config).into_iter().next() {
            return Err(missing);
        }
        let logs = &mut self.access_logs;
        let open = |listener: &ListenerConfig| OpenedService::new(&listener.service, Some(&mut *logs));
        let mut opened_services = config.listeners.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let open = |listener: &ListenerConfig| {
            listener.tls.as_ref().map(|settings| open_tls(settings, &self.ticket_keys)).transpose()
        };
        let opened_tls = config.listeners.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let change = self.listeners.prepare(config.listeners.iter(), config, workers, inherited)?;
        let operator_listeners = || config.operator.listeners().map(|(_, listener)| listener);
        let operator_change = self.operator.listeners.prepare(operator_listeners(), config, 1, inherited)?;
        let open = |listener: &ListenerConfig| OpenedService::new(&listener.service, None);
        let operator_services = operator_listeners().map(open).collect::<Result<Vec<_>, _>>()?;
        if operator_listeners().next().is_some() {
            let Self { operator, metrics, offload, stop, .. } = self;
            operator.start(metrics, offload, &stop.supervisor).map_err(StartError::Worker)?;
        }
        let admission = Admission::succeeding(&self.admission, &config.admission);
        let issued: Vec<Arc<Issued>> = opened_tls.iter().flatten().flat_map(|tls| tls.issued.iter().cloned()).collect();
        let challenge_tokens = (!issued.is_empty()).then(|| Arc::clone(self.acme.tokens()));
        let endpoints = SharedEndpoints::succeeding(&self.endpoints, workers, config.groups());
        let plan = |number| WorkerPlan {
            limits: config.limits.clone(),
            admission: Arc::clone(&admission),
            endpoints: Arc::clone(&endpoints),
            number,
            workers,
            listeners: Vec::new(),
            challenge_tokens: challenge_tokens.clone(),
            control: Arc::clone(&self.operator.control),
        };
        let mut operator_plan = WorkerPlan {
            limits: OperatorWorker::limits(),
            admission: Arc::default(),
            // It has no upstreams.
            endpoints: Arc::default(),
            workers: 1,
            challenge_tokens: None,
            ..plan(0)
        };
        let mut all: Vec<WorkerPlan> = (0..workers).map(plan).collect();
        let shares = self.listeners.commit(change);
        let operator_shares = self.operator.listeners.commit(operator_change);
        for (((id, shares), opened), listener) in
            operator_shares.into_iter().zip(operator_services).zip(operator_listeners())
        {
            let (sockets, access) = (shares.into_iter().flatten().collect(), listener.access.clone());
            let (expects_proxy_header, tls, h2c) = (false, None, false);
            let series = None;
            operator_plan.listeners.push(ListenerPlan {
                id,
                sockets,
                access,
                expects_proxy_header,
                tls,
                h2c,
                opened,
                series,
            });
        }
        let expiries: Vec<_> = opened_tls.iter().flatten().flat_map(|tls| tls.expiries.iter().cloned()).collect();
        // Of those that are obtained, failures to renew them are told.
        let files: Vec<String> = issued.iter().map(|issued| issued.source().file().display().to_string()).collect();
        let watched: Vec<_> = expiries.iter().filter(|expiry| !files.contains(&expiry.certificate)).cloned().collect();
        self.expiry_watch = ExpiryWatch::new(&watched, Crypto::default().now());
        self.metrics.set_certificates(expiries);
        self.metrics.set_server_name(server_name(config).unwrap_or("xps"));
        let labels = opened_services.iter().flat_map(OpenedService::route_labels).collect();
        let mut series = self.metrics.set_routes(labels).into_iter();
        opened_services.iter_mut().for_each(|opened| opened.count_by(&mut series));
        self.addresses = self.listeners.addresses();
        let addresses: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        self.metrics.set_endpoints(config.groups().flat_map(GroupConfig::labels).collect());
        let listener_series = self.metrics.set_listeners(addresses);
        let opened_tls = opened_tls.into_iter().map(|tls| tls.map(|opened| opened.tls));
        let opened = opened_services.into_iter().zip(opened_tls);
        let listeners = config.listeners.iter().zip(listener_series);
        for (((id, shares), (opened, tls)), (listener, series)) in shares.into_iter().zip(opened).zip(listeners) {
            let mut shares = shares.into_iter();
            for plan in &mut all {
                let (sockets, access) = (shares.next().unwrap_or_default(), listener.access.clone());
                let (expects_proxy_header, tls, h2c) = (listener.expects_proxy_header, tls.clone(), listener.h2c);
                let (opened, series) = (opened.clone(), Some(Arc::clone(&series)));
                plan.listeners.push(ListenerPlan {
                    id,
                    sockets,
                    access,
                    expects_proxy_header,
                    tls,
                    h2c,
                    opened,
                    series,
                });
            }
        }
        self.admission = admission;
        self.endpoints = endpoints;
        self.replace_timeout = config.limits.replace_timeout;
        self.drain_delay = config.limits.drain_delay;
        let is_plain_http =
            |listener: &ListenerConfig| listener.tls.is_none() && matches!(listener.service, ServiceConfig::Http(_));
        let has_plain_http = config.listeners.iter().any(is_plain_http);
        Ok(Prepared { plans: all, operator_plan, issued, has_plain_http })
    }

    fn start_workers(&mut self, plans: Vec<WorkerPlan>, pin: bool, uring_off: FeatureSet) -> io::Result<()> {
        let cpus = if pin { affinity::allowed_cpus()? } else { Vec::new() };
        for (number, plan) in plans.iter().enumerate() {
            let cpu = number.checked_rem(cpus.len()).map(|index| cpus[index]);
            let counters = WorkerCounters::new(Arc::clone(&self.metrics), number);
            let (offload, limits) = (self.offload.clone(), plan.limits.clone());
            let Selection { backend, ring_size, .. } = self.selection;
            let number = Some(number);
            let config = WorkerThreadConfig { number, backend, uring_off, ring_size, offload, cpu, limits, counters };
            self.workers.push(config.spawn(self.stop.supervisor.clone())?);
        }
        // Only after all threads have started. If one failed to start, connections that the others
        // had accepted would be lost, although another process that listens there could serve them.
        for (worker, plan) in self.workers.iter().zip(plans) {
            worker.tell(Message::Serve(Box::new(plan)));
        }
        Ok(())
    }

    fn write_pid_file(&mut self) -> Result<(), StartError> {
        if let Some(path) = &self.config.operator.pid_file {
            let failed = |source| StartError::PidFile { path: path.clone(), source };
            self.pid_file = Some(PidFile::write(path).map_err(failed)?);
        }
        Ok(())
    }

    fn log_addresses(&self, config: &ServerConfig) {
        for (listener, address) in config.listeners.iter().zip(&self.addresses) {
            tracing::info!(%address, service = listener.service_name(), "listening");
        }
        for ((role, _), address) in config.operator.listeners().zip(self.operator.listeners.addresses()) {
            tracing::info!(%address, role, "listening for operators");
        }
    }

    /// Those for clients, and those for operators.
    fn all_listeners(&self) -> impl Iterator<Item = &Listeners> {
        [&self.listeners, &self.operator.listeners].into_iter()
    }

    /// Applies another configuration to new requests, also on existing connections. Requests in
    /// progress go on under the old one. The number of workers, the back-end and the receive
    /// buffers do not change.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing has changed.
    pub fn reload(&mut self, config: &ServerConfig) -> Result<(), StartError> {
        let workers = self.workers.len();
        let Prepared { plans, operator_plan, issued, has_plain_http } =
            self.prepare(config, workers, &mut InheritedSockets::default())?;
        for (worker, plan) in self.workers.iter().zip(plans) {
            worker.tell(Message::Serve(Box::new(plan)));
        }
        self.operator.serve(operator_plan);
        self.offload.set_limits(config.limits.offload);
        self.config = config.clone();
        self.log_addresses(config);
        self.acme.manage(issued, has_plain_http);
        Ok(())
    }

    /// Starts a process with the same command and the same listening sockets. This one drains when
    /// the new one serves.
    fn start_replacement(&self) {
        if std::process::id() == FIRST_PROCESS {
            return tracing::warn!(
                "no new process is started: this is process 1, with whose end its container ends (pid_namespaces(7)); \
                 replace the container, or start xps in it by an init that outlives it"
            );
        }
        if self.replacement.is_underway.swap(true, Ordering::AcqRel) {
            return tracing::warn!("a new process is being started already");
        }
        let replacement_process = match &self.executable {
            Ok(executable) => {
                let state = [
                    (inherit::TICKET_KEYS, self.ticket_keys.export()),
                    (inherit::ENDPOINT_SETTINGS, self.endpoints.export()),
                ];
                let sockets = self.all_listeners().map(Listeners::export_sockets).collect::<io::Result<Vec<_>>>();
                sockets
                    .and_then(|sockets| executable.start_replacement(sockets.into_iter().flatten().collect(), &state))
            }
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let (replacement, supervisor) = (Arc::clone(&self.replacement), self.stop.supervisor.clone());
        let timeout = self.replace_timeout;
        let started = replacement_process.and_then(|replacement_process| {
            tracing::info!(process = replacement_process.id(), "a new process takes over");
            thread::Builder::new().name("xps-successor".to_owned()).spawn(move || {
                let outcome = replacement_process.wait_until_ready(timeout);
                // Before it is logged: who reads the log may ask for the next process at once.
                if outcome != ReplacementOutcome::Serves {
                    replacement.is_underway.store(false, Ordering::Release);
                }
                match outcome {
                    ReplacementOutcome::Serves => replacement.is_done.store(true, Ordering::Release),
                    ReplacementOutcome::Ended => {
                        tracing::warn!("the new process ended before it served; this one goes on")
                    }
                    ReplacementOutcome::Killed => {
                        tracing::warn!(
                            ?timeout,
                            "the new process did not come to serve and was killed; this one goes on"
                        );
                    }
                }
                supervisor.wake();
            })
        });
        if let Err(error) = started {
            self.replacement.is_underway.store(false, Ordering::Release);
            tracing::warn!(%error, "no new process could be started; this one goes on");
        }
    }

    /// The bound addresses, in the order of the configuration, with real ports.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The driver in use, and why it was chosen.
    pub const fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Number of worker threads.
    pub const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// A handle that stops this server from another thread.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until SIGTERM, SIGINT or a [`Stop`], then drains. A second signal ends the process at
    /// once. `hooks`, which may be a function of the number of connections, is called when draining
    /// begins.
    ///
    /// # Errors
    /// The error of a worker that failed.
    pub fn run(mut self, mut hooks: impl ServerHooks) -> Result<(), RunError> {
        let mut phase = Phase::Serving;
        loop {
            let asked = signals::take_asked();
            let is_serving = phase == Phase::Serving;
            if is_serving && asked.reload {
                // The hooks say what came of it.
                let _ = self.reload_by(&mut hooks);
            }
            if is_serving && asked.upgrade {
                self.start_replacement();
            }
            self.execute_commands(phase, &mut hooks);
            let is_asked = self.signals.received().is_some() || self.stop.asked.load(Ordering::Relaxed);
            let is_broken = self.workers.iter().any(WorkerHandle::is_broken);
            let is_replaced = self.replacement.is_done.load(Ordering::Acquire);
            if is_serving && is_asked {
                let delay = self.drain_delay;
                self.operator.control.leave();
                if !delay.is_zero() {
                    tracing::info!(signal = self.signals.received(), ?delay, "not ready from now on; draining follows");
                }
                phase = Phase::Leaving { until: Instant::now() + delay };
            }
            if phase != Phase::Draining && (phase.is_over(Instant::now()) || is_broken || is_replaced) {
                phase = Phase::Draining;
                if is_replaced {
                    // Operators who ask from now on have to reach the new process, which is ready.
                    self.operator.drain();
                } else {
                    self.operator.control.leave();
                }
                let connections = self.connections();
                tracing::info!(connections, signal = self.signals.received(), is_replaced, "draining");
                self.drain();
                hooks.on_drain(connections, if is_replaced { DrainCause::Replaced } else { DrainCause::Stopped });
            }
            if self.workers.iter().all(WorkerHandle::has_ended) {
                self.operator.drain();
                if self.operator.has_ended() {
                    break;
                }
            }
            if phase == Phase::Serving {
                self.warn_of_expiry();
            }
            let wait = match phase {
                Phase::Leaving { until } => Some(until.saturating_duration_since(Instant::now())),
                Phase::Serving | Phase::Draining => self.expiry_watch.wait(),
            };
            self.stop.supervisor.wait(wait).map_err(RunError::Supervise)?;
        }
        hooks.on_ended(self.join()?);
        Ok(())
    }

    fn warn_of_expiry(&mut self) {
        if self.expiry_watch.wait().is_some() {
            self.expiry_watch.due(Crypto::default().now()).iter().for_each(|notice| tracing::warn!("{notice}"));
        }
    }

    fn connections(&self) -> usize {
        usize::try_from(self.metrics.connections()).unwrap_or(usize::MAX)
    }

    fn drain(&mut self) {
        self.acme.stop();
        self.listeners.close_sockets();
        self.operator.listeners.close_sockets();
        if self.replacement.is_underway.load(Ordering::Acquire) {
            self.all_listeners().for_each(Listeners::disown_files);
        }
        for worker in &self.workers {
            worker.tell(Message::Drain);
        }
    }

    /// Waits for the workers to end, then removes the files of unix sockets.
    fn join(self) -> Result<Option<SessionEnd>, RunError> {
        let mut result = Ok(None);
        // The files of its sockets are removed at the end, with those for clients.
        let OperatorWorker { listeners: _operator_listeners, worker, .. } = self.operator;
        for worker in worker.into_iter().chain(self.workers) {
            let ended = match worker.thread.join() {
                Ok(ended) => ended.map_err(RunError::Worker),
                Err(_) => Err(RunError::Panicked),
            };
            result = result.and_then(|last| ended.map(|session_end| session_end.or(last)));
        }
        result
    }
}

/// The name that responses carry in `Server`.
fn server_name(config: &ServerConfig) -> Option<&str> {
    config.listeners.iter().find_map(|listener| match &listener.service {
        ServiceConfig::Http(router) => router.responses.server_name.as_deref(),
        _ => None,
    })
}

/// The init process of a system or container. When it exits, the kernel kills all others.
const FIRST_PROCESS: u32 = 1;

impl Stop {
    /// Requests an orderly stop. Further calls change nothing.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.supervisor.wake();
    }
}
