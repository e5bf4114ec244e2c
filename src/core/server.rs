//! [`Server`]: the workers of one process, from the binding of ports to the last connection's end.
//!
//! ```text
//!   start: choose a driver ─► bind ports ─► one thread a worker: driver, core, loop
//!   run:   wait for a signal, a stop or a worker's end ─► drain all ─► join all
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::blueprint::{Blueprint, Builder};
use super::listen::{self, Bound};
use super::state::Core;
use super::worker::{Message, Worker};
use crate::config::{Limits, ServerConfig};
use crate::driver::probe::{self, Backend, Selection, Unavailable};
use crate::driver::signals::StopSignals;
use crate::driver::{Epoll, EpollConfig, FeatureSet, KernelDriver, Uring, UringConfig, Waker, affinity};

/// Running workers.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    selection: Selection,
    workers: Vec<WorkerHandle>,
    stop: Stop,
    signals: StopSignals,
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
        address: SocketAddr,
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
    /// An upstream's name can stand in no request.
    #[error("`{address}` cannot be an upstream: {reason}")]
    Upstream {
        /// What was configured.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
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

#[derive(Debug)]
struct WorkerHandle {
    thread: JoinHandle<io::Result<()>>,
    messages: Sender<Message>,
    waker: Waker,
    connections: Arc<AtomicUsize>,
    has_ended: Arc<AtomicBool>,
}

impl Server {
    /// Binds every address, starts the workers, and returns when all of them accept. From before that
    /// on, and until the server is gone, the process's SIGTERM, SIGINT and SIGUSR1 are its own.
    ///
    /// # Errors
    /// Nothing is left running then.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let selection = probe::choose(config.backend, config.uring_off)?;
        let blueprints =
            config.listeners.iter().map(|listener| Blueprint::new(&listener.service)).collect::<Result<Vec<_>, _>>()?;
        let supervisor = Waker::new().map_err(StartError::Worker)?;
        // Before anybody can connect: who sees an open port may send a signal at once.
        let signals = StopSignals::install(supervisor.clone()).map_err(StartError::Worker)?;
        let mut bound = bind_all(&config)?;
        let addresses = bound.iter().map(|bound| bound.address).collect();
        let mut server = Self {
            addresses,
            selection,
            workers: Vec::new(),
            stop: Stop { asked: Arc::new(AtomicBool::new(false)), supervisor },
            signals,
        };
        let cpus = if config.pin_workers { affinity::allowed_cpus().map_err(StartError::Worker)? } else { Vec::new() };
        for number in 0..config.workers {
            let sockets = bound.iter_mut().filter_map(|bound| bound.sockets.pop());
            let plan = WorkerPlan {
                number,
                backend: server.selection.backend,
                uring_off: config.uring_off,
                limits: config.limits.clone(),
                cpu: number.checked_rem(cpus.len()).map(|index| cpus[index]),
                entrances: sockets.zip(blueprints.iter().cloned()).collect(),
            };
            match plan.spawn(server.stop.supervisor.clone()) {
                Ok(worker) => server.workers.push(worker),
                Err(error) => {
                    server.drain();
                    server.join().ok();
                    return Err(StartError::Worker(error));
                }
            }
        }
        for (listener, address) in config.listeners.iter().zip(&server.addresses) {
            tracing::info!(%address, service = listener.service.name(), "listening");
        }
        Ok(server)
    }

    /// Where it listens, in the order of the configuration, with real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
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

    /// Serves until SIGTERM, SIGINT or a [`Stop`], then drains. `on_drain` is told how many
    /// connections are still live when draining begins. A second signal ends the process at once.
    ///
    /// # Errors
    /// What ended a worker before that.
    pub fn run(self, mut on_drain: impl FnMut(usize)) -> Result<(), RunError> {
        let mut is_draining = false;
        loop {
            let has_ended = |worker: &WorkerHandle| worker.has_ended.load(Ordering::Acquire);
            let is_asked = self.signals.received().is_some() || self.stop.asked.load(Ordering::Relaxed);
            if !is_draining && (is_asked || self.workers.iter().any(has_ended)) {
                is_draining = true;
                let connections = self.connections();
                tracing::info!(connections, signal = self.signals.received(), "draining");
                on_drain(connections);
                self.drain();
            }
            if self.workers.iter().all(has_ended) {
                break;
            }
            self.stop.supervisor.wait().map_err(RunError::Supervise)?;
        }
        self.join()
    }

    fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).sum()
    }

    fn drain(&self) {
        for worker in &self.workers {
            // A worker that is gone needs no message.
            if worker.messages.send(Message::Drain).is_ok() {
                worker.waker.wake();
            }
        }
    }

    fn join(self) -> Result<(), RunError> {
        let mut result = Ok(());
        for worker in self.workers {
            let ended = match worker.thread.join() {
                Ok(ended) => ended.map_err(RunError::Worker),
                Err(_) => Err(RunError::Panicked),
            };
            result = result.and(ended);
        }
        result
    }
}

impl Stop {
    /// Asks for an orderly stop. Asking twice changes nothing.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.supervisor.wake();
    }
}

fn bind_all(config: &ServerConfig) -> Result<Vec<Bound>, StartError> {
    let all = || config.listeners.iter().map(|listener| listener.address);
    let bind = |address| {
        let v6_only = listen::leaves_v4_alone(address, all());
        listen::listen(address, v6_only, config.limits.backlog, config.workers)
            .map_err(|source| StartError::Bind { address, source })
    };
    all().map(bind).collect()
}

/// Everything a worker's thread begins with.
struct WorkerPlan {
    number: usize,
    backend: Backend,
    uring_off: FeatureSet,
    limits: Limits,
    cpu: Option<usize>,
    entrances: Vec<(OwnedFd, Blueprint)>,
}

/// What a worker's thread reports when it is set up.
type Ready = io::Result<Waker>;

impl WorkerPlan {
    /// Starts the thread and waits until it accepts. `supervisor` is used when it ends.
    fn spawn(self, supervisor: Waker) -> io::Result<WorkerHandle> {
        let (ready, is_ready) = mpsc::channel::<Ready>();
        let (messages, inbox) = mpsc::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let has_ended = Arc::new(AtomicBool::new(false));
        let gauge = Arc::clone(&connections);
        let obituary = Obituary { has_ended: Arc::clone(&has_ended), supervisor };
        let thread = thread::Builder::new().name(format!("xps-worker-{}", self.number)).spawn(move || {
            let _obituary = obituary;
            self.run(&ready, inbox, gauge)
        })?;
        match is_ready.recv() {
            Ok(Ok(waker)) => Ok(WorkerHandle { thread, messages, waker, connections, has_ended }),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => Err(io::Error::other("the worker ended while it was being set up")),
        }
    }

    fn run(self, ready: &Sender<Ready>, inbox: Receiver<Message>, gauge: Arc<AtomicUsize>) -> io::Result<()> {
        let _entered = tracing::info_span!("worker", number = self.number).entered();
        if let Some(cpu) = self.cpu
            && let Err(error) = affinity::pin_thread(cpu)
        {
            tracing::warn!(cpu, %error, "cannot tie the worker to its CPU");
        }
        let pool = self.limits.pool;
        match self.backend {
            Backend::IoUring => {
                let driver = Uring::new(UringConfig { off: self.uring_off, ..UringConfig::new(pool) });
                self.serve(driver, ready, inbox, gauge)
            }
            Backend::Epoll => self.serve(Epoll::new(EpollConfig { pool }), ready, inbox, gauge),
        }
    }

    fn serve<D: KernelDriver>(
        self,
        driver: io::Result<D>,
        ready: &Sender<Ready>,
        inbox: Receiver<Message>,
        gauge: Arc<AtomicUsize>,
    ) -> io::Result<()> {
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                // The starter reports it.
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let drain_timeout = self.limits.drain_timeout;
        let mut core = Core::new(self.limits);
        let mut builder = Builder::default();
        for (socket, blueprint) in self.entrances {
            core.add_listener(driver.adopt(socket), builder.template(blueprint));
        }
        // Nobody to tell: the starter has given up, and the drain that follows ends this worker.
        let _ = ready.send(Ok(driver.waker()));
        Worker::new(driver, core, inbox, drain_timeout, gauge).run().map(drop)
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
