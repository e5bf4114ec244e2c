//! [`Server`]: the workers of one process, from the binding of ports to the last connection's end.
//!
//! ```text
//!   start: choose a driver ─► bind ports ─► one thread a worker: driver, core, loop
//!   run:   wait for a signal, a stop or a worker's end ─► drain all ─► join all
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::inherit::{self, Executable, InheritedSockets, ReplacementOutcome};
use super::listeners::Listeners;
use super::service_builder::ResolvedService;
use super::thread::{WorkerHandle, WorkerThreadConfig};
use super::worker::{ListenerPlan, Message, WorkerPlan};
use crate::config::ServerConfig;
use crate::driver::probe::{self, Selection, Unavailable};
use crate::driver::signals::{self, StopSignals};
use crate::driver::{Address, FeatureSet, Offload, Waker, affinity};
use crate::limit::Admission;
use crate::session::SessionEnd;
use crate::telemetry::metrics::{Metrics, WorkerCounters};

/// Running workers.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<Address>,
    listeners: Listeners,
    admission: Arc<Admission>,
    /// Threads that all workers share.
    offload: Offload,
    selection: Selection,
    workers: Vec<WorkerHandle>,
    stop: Stop,
    signals: StopSignals,
    executable: io::Result<Executable>,
    replacement: Arc<Replacement>,
    replace_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// Whoever runs a server, and is asked or told what only they can know or need to know.
pub trait ServerHooks {
    /// The server has begun to stop; this many connections were live. It waits for this call, which must not block.
    fn on_drain(&mut self, connections: usize, cause: DrainCause);

    /// SIGHUP has come, which it does if [`signals::take_hangup`] was called: the configuration as it is to be from now on;
    /// `None`: nothing changes.
    fn reload(&mut self) -> Option<ServerConfig> {
        None
    }

    /// The server has ended; so did the session that was the last to end, if there was any.
    fn on_ended(&mut self, last: Option<SessionEnd>) {
        let _ = last;
    }

    /// What was reloaded is in force, or was refused for this reason and nothing has changed.
    fn on_reloaded(&mut self, result: Result<&[Address], StartError>) {
        let _ = result;
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
    /// A signal or a [`Stop`] asked for it, or a worker has ended.
    Stopped,
    /// Another process has taken its place; the service goes on.
    Replaced,
}

/// Whether another process is about to take this one's place.
#[derive(Debug, Default)]
struct Replacement {
    is_underway: AtomicBool,
    is_done: AtomicBool,
}

/// Asks a server to stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    supervisor: Waker,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The demanded driver is not available.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file to be sent cannot be.
    #[error("cannot send {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Files cannot be written where they should be.
    #[error("cannot receive {}: {source}", path.display())]
    Receive {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An upstream's name can stand in no request.
    #[error("`{address}` cannot be an upstream: {reason}")]
    Upstream {
        /// What was configured.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What this process was started with is not what it was told.
    #[error("the sockets that were handed over cannot be used: {0}")]
    Inherit(#[source] io::Error),
    /// A worker could not be set up.
    #[error("cannot set a worker up: {0}")]
    Worker(#[source] io::Error),
}

/// Why a running server ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A worker's loop failed: the kernel refused the ring or the epoll instance.
    #[error("a worker failed: {0}")]
    Worker(#[source] io::Error),
    /// A worker panicked: a bug.
    #[error("a worker panicked: this is a bug in xps, please report it")]
    Panicked,
    /// Signals or worker threads cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Supervise(#[source] io::Error),
}

impl Server {
    /// Binds every address, or takes over sockets that were handed to this process; starts the workers, and returns when all
    /// of them are about to accept. From before that on, and until the server is gone, the process's SIGTERM, SIGINT, SIGUSR1 and
    /// SIGUSR2 are its own.
    ///
    /// # Errors
    /// Nothing is left running then.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let executable = Executable::of_this_process();
        let mut inherited = InheritedSockets::from_environment().map_err(StartError::Inherit)?;
        let selection = probe::choose(config.backend, config.uring_off, config.workers)?;
        let supervisor = Waker::new().map_err(StartError::Worker)?;
        // Before anybody can connect: who sees an open port may send a signal at once.
        let signals = StopSignals::install(supervisor.clone()).map_err(StartError::Worker)?;
        let mut server = Self {
            addresses: Vec::new(),
            listeners: Listeners::default(),
            admission: Arc::default(),
            offload: Offload::new(config.limits.offload),
            selection,
            workers: Vec::new(),
            stop: Stop { asked: Arc::new(AtomicBool::new(false)), supervisor },
            signals,
            executable,
            replacement: Arc::default(),
            replace_timeout: config.limits.replace_timeout,
            metrics: Metrics::new(config.workers),
        };
        let plans = server.prepare(&config, config.workers, &mut inherited)?;
        for address in inherited.left_over() {
            tracing::warn!(%address, "a socket was handed over for an address that is not configured");
        }
        if let Err(error) = server.start_workers(plans, config.pin_workers, config.uring_off) {
            server.drain();
            server.join().ok();
            return Err(StartError::Worker(error));
        }
        server.log_addresses(&config);
        inherit::notify_predecessor();
        server.listeners.own_files();
        Ok(server)
    }

    /// Opens and binds what the configuration names, and says what each worker has to do then. Nothing changes if it fails.
    fn prepare(
        &mut self,
        config: &ServerConfig,
        workers: usize,
        inherited: &mut InheritedSockets,
    ) -> Result<Vec<WorkerPlan>, StartError> {
        let resolved_services = config
            .listeners
            .iter()
            .map(|listener| ResolvedService::new(&listener.service))
            .collect::<Result<Vec<_>, _>>()?;
        let change = self.listeners.prepare(config, workers, inherited)?;
        let admission = Admission::succeeding(&self.admission, &config.admission);
        let plan = |number| WorkerPlan {
            limits: config.limits.clone(),
            admission: Arc::clone(&admission),
            number,
            workers,
            listeners: Vec::new(),
        };
        let mut all: Vec<WorkerPlan> = (0..workers).map(plan).collect();
        let shares = self.listeners.commit(change);
        for (((id, shares), resolved), listener) in shares.into_iter().zip(resolved_services).zip(&config.listeners) {
            let mut shares = shares.into_iter();
            for plan in &mut all {
                let (sockets, access) = (shares.next().unwrap_or_default(), listener.access.clone());
                let (expects_proxy_header, resolved) = (listener.expects_proxy_header, resolved.clone());
                plan.listeners.push(ListenerPlan { id, sockets, access, expects_proxy_header, resolved });
            }
        }
        self.admission = admission;
        self.replace_timeout = config.limits.replace_timeout;
        self.addresses = self.listeners.addresses();
        Ok(all)
    }

    fn start_workers(&mut self, plans: Vec<WorkerPlan>, pin: bool, uring_off: FeatureSet) -> io::Result<()> {
        let cpus = if pin { affinity::allowed_cpus()? } else { Vec::new() };
        for (number, plan) in plans.iter().enumerate() {
            let cpu = number.checked_rem(cpus.len()).map(|index| cpus[index]);
            let counters = WorkerCounters::new(Arc::clone(&self.metrics), number);
            let (offload, limits) = (self.offload.clone(), plan.limits.clone());
            let Selection { backend, ring_size, .. } = self.selection;
            let config = WorkerThreadConfig { number, backend, uring_off, ring_size, offload, cpu, limits, counters };
            self.workers.push(config.spawn(self.stop.supervisor.clone())?);
        }
        // Only now: were one of them not to be had, what the others have accepted would be lost to who else listens.
        for (worker, plan) in self.workers.iter().zip(plans) {
            worker.tell(Message::Serve(Box::new(plan)));
        }
        Ok(())
    }

    fn log_addresses(&self, config: &ServerConfig) {
        for (listener, address) in config.listeners.iter().zip(&self.addresses) {
            tracing::info!(%address, service = listener.service.name(), "listening");
        }
    }

    /// Serves by another configuration from now on: for new requests, also on connections that are there. What is under way
    /// goes on as it began. The number of workers, the back-end and the receive buffers stay as they are.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn reload(&mut self, config: &ServerConfig) -> Result<(), StartError> {
        let plans = self.prepare(config, self.workers.len(), &mut InheritedSockets::default())?;
        for (worker, plan) in self.workers.iter().zip(plans) {
            worker.tell(Message::Serve(Box::new(plan)));
        }
        self.offload.set_limits(config.limits.offload);
        self.log_addresses(config);
        Ok(())
    }

    /// Starts a process like this one, with the same listening sockets; once it serves, this one drains.
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
            Ok(executable) => self.listeners.export_sockets().and_then(|sockets| executable.start_replacement(sockets)),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let (replacement, supervisor) = (Arc::clone(&self.replacement), self.stop.supervisor.clone());
        let timeout = self.replace_timeout;
        let started = replacement_process.and_then(|replacement_process| {
            tracing::info!(process = replacement_process.id(), "a new process takes over");
            thread::Builder::new().name("xps-successor".to_owned()).spawn(move || {
                let outcome = replacement_process.wait_until_ready(timeout);
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
                if outcome != ReplacementOutcome::Serves {
                    replacement.is_underway.store(false, Ordering::Release);
                }
                supervisor.wake();
            })
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no new process could be started; this one goes on");
            self.replacement.is_underway.store(false, Ordering::Release);
        }
    }

    /// Where it listens, in the order of the configuration, with real ports.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Which driver runs, and why that one.
    pub const fn selection(&self) -> &Selection {
        &self.selection
    }

    /// How many workers run.
    pub const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What stops it from another thread.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until SIGTERM, SIGINT or a [`Stop`], then drains. A second signal ends the process at once. The operator, who
    /// may be a function of the number of connections, is told when draining begins.
    ///
    /// # Errors
    /// What ended a worker before that.
    pub fn run(mut self, mut hooks: impl ServerHooks) -> Result<(), RunError> {
        let mut is_draining = false;
        loop {
            let asked = signals::take_asked();
            if !is_draining
                && asked.reload
                && let Some(config) = hooks.reload()
            {
                let result = self.reload(&config);
                hooks.on_reloaded(result.map(|()| self.addresses.as_slice()));
            }
            if !is_draining && asked.upgrade {
                self.start_replacement();
            }
            let is_asked = self.signals.received().is_some() || self.stop.asked.load(Ordering::Relaxed);
            let is_broken = self.workers.iter().any(WorkerHandle::is_broken);
            let is_replaced = self.replacement.is_done.load(Ordering::Acquire);
            if !is_draining && (is_asked || is_broken || is_replaced) {
                is_draining = true;
                let connections = self.connections();
                tracing::info!(connections, signal = self.signals.received(), is_replaced, "draining");
                self.drain();
                hooks.on_drain(connections, if is_replaced { DrainCause::Replaced } else { DrainCause::Stopped });
            }
            if self.workers.iter().all(WorkerHandle::has_ended) {
                break;
            }
            self.stop.supervisor.wait().map_err(RunError::Supervise)?;
        }
        hooks.on_ended(self.join()?);
        Ok(())
    }

    fn connections(&self) -> usize {
        usize::try_from(self.metrics.connections()).unwrap_or(usize::MAX)
    }

    fn drain(&mut self) {
        self.listeners.close_sockets();
        if self.replacement.is_underway.load(Ordering::Acquire) {
            self.listeners.disown_files();
        }
        for worker in &self.workers {
            worker.tell(Message::Drain);
        }
    }

    /// Waits for the workers; then the files of unix sockets go.
    fn join(self) -> Result<Option<SessionEnd>, RunError> {
        let mut result = Ok(None);
        for worker in self.workers {
            let ended = match worker.thread.join() {
                Ok(ended) => ended.map_err(RunError::Worker),
                Err(_) => Err(RunError::Panicked),
            };
            result = result.and_then(|last| ended.map(|session_end| session_end.or(last)));
        }
        result
    }
}

/// The first process of a system or a container: when it ends, the kernel ends all others.
const FIRST_PROCESS: u32 = 1;

impl Stop {
    /// Asks for an orderly stop. Asking twice changes nothing.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.supervisor.wake();
    }
}
