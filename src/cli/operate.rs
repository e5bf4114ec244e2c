//! Runs a server: prints the banner, notifies the service manager, reloads, and sets the descriptor
//! limit.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;

use super::args::LogOptions;
use super::background::BackgroundTasks;
use super::failure::Failure;
use super::overrides::Overrides;
use super::process::ProcessSettings;
use super::{Invocation, banner};
use crate::config::units::Period;
use crate::config::{HandlerConfig, Limits, ListenerConfig, ServerConfig, ServiceConfig, overlap};
use crate::core::{DrainCause, OPERATOR_DESCRIPTORS, RunError, Server, ServerHooks, StartError};
use crate::driver::probe::Selection;
use crate::driver::{Address, limits, signals};
use crate::session::SessionEnd;
use crate::telemetry::{self, LogFormat, access_log};

/// Time that the end of the program waits for access logs to be written. 1 s.
const ACCESS_LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the configuration again.
pub type Reload = Box<dyn FnMut() -> Result<ServerConfig, Failure>>;

/// Starts a server, prints the banner, and serves until stopped. `hints` are lines for the banner.
pub fn operate(
    config: ServerConfig,
    log: &LogOptions,
    hints: &[String],
    reload: Option<Reload>,
    invocation: &Invocation,
) -> Result<(), Failure> {
    operate_to_end(config, log, hints, reload, invocation).map(drop)
}

/// Serves one connection. Returns how it ended, or `None` if the server was stopped before one came.
pub fn operate_once(
    config: ServerConfig,
    log: &LogOptions,
    invocation: &Invocation,
) -> Result<Option<SessionEnd>, Failure> {
    let limits = Limits { connections_total: 1, ..config.limits };
    operate_to_end(ServerConfig { workers: 1, limits, ..config }, log, &[], None, invocation)
}

fn operate_to_end(
    mut config: ServerConfig,
    log: &LogOptions,
    hints: &[String],
    reload: Option<Reload>,
    invocation: &Invocation,
) -> Result<Option<SessionEnd>, Failure> {
    let setup = telemetry::LogSetup::for_servers(log.level.log_level, invocation.log_format, log.log_target.clone());
    let _log = telemetry::start(setup)?;
    invocation.backend.set(config.backend);
    invocation.is_server.set(true);
    let speaks = !log.quiet && invocation.log_format == LogFormat::Human;
    let terminal = speaks.then(|| BackgroundTasks::new("xps-terminal")).transpose().map_err(Failure::Thread)?;
    let manager = Manager::new().map_err(Failure::Thread)?;
    let descriptors = raise_descriptors();
    prepare(&mut config, descriptors)?;
    let listeners = &config.listeners;
    let services: Vec<&'static str> = listeners.iter().map(ListenerConfig::service_name).collect();
    let drain_timeout = Period(config.limits.drain_timeout);
    if reload.is_some() {
        signals::take_hangup().map_err(|error| Failure::Run(RunError::Supervise(error)))?;
    }
    let overrides = if reload.is_some() { Overrides::of(&invocation.given) } else { Overrides::default() };
    let process = ProcessSettings::of(&config);
    signals::keep_to_the_end();
    let server = Server::start(config)?;
    log_choice(&server);
    overrides.tell();
    // After a replacement, this tells the service manager that this process is now the main one.
    manager.tell([NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    if let Some(terminal) = &terminal {
        let hints: Vec<String> = overrides.lines().chain(hints.iter().cloned()).collect();
        let banner = banner::banner(&server, &services, &hints);
        terminal.run(move || super::say(&banner));
    }
    let last = Rc::default();
    let shared = Rc::clone(&last);
    let result =
        server.run(Console { terminal, manager, drain_timeout, descriptors, reload, overrides, process, last: shared });
    // All workers have ended, so no access log is in use any more. Also after an error, lines may wait.
    let lost = access_log::finish(ACCESS_LOG_TIMEOUT);
    if lost > 0 {
        tracing::warn!(dropped = lost, "access log lines were lost in all");
    }
    result?;
    Ok(last.get())
}

/// The terminal and the service manager that a server was started from.
struct Console {
    /// `None` with `--quiet` or with a JSON log.
    terminal: Option<BackgroundTasks>,
    manager: Manager,
    drain_timeout: Period,
    descriptors: Option<u64>,
    reload: Option<Reload>,
    overrides: Overrides,
    process: ProcessSettings,
    /// The end of the last session.
    last: Rc<Cell<Option<SessionEnd>>>,
}

impl ServerHooks for Console {
    fn on_drain(&mut self, connections: usize, cause: DrainCause) {
        match cause {
            DrainCause::Stopped => self.manager.tell([NotifyState::Stopping]),
            // The service goes on: the new process has notified the service manager.
            DrainCause::Replaced => {}
        }
        if let Some(terminal) = self.terminal.as_ref().filter(|_| connections > 0) {
            let drain_timeout = self.drain_timeout;
            terminal.run(move || {
                super::say(&format!(
                    "xps: draining {connections} connections, at most {drain_timeout}; interrupt again to stop at once\n"
                ));
            });
        }
    }

    fn reload(&mut self) -> Option<Result<ServerConfig, String>> {
        let reload = self.reload.as_mut()?;
        self.manager.tell_reloading();
        let config = reload().and_then(|mut config| {
            self.process.keep(&mut config);
            prepare(&mut config, self.descriptors).map(|()| config)
        });
        if let Ok(config) = &config {
            self.drain_timeout = Period(config.limits.drain_timeout);
        }
        Some(config.map_err(|failure| {
            tracing::warn!("the configuration is refused, and nothing has changed: {failure}");
            self.manager.tell([NotifyState::Ready]);
            failure.with_help()
        }))
    }

    fn on_ended(&mut self, last: Option<SessionEnd>) {
        self.last.set(last);
    }

    fn on_reloaded(&mut self, result: Result<&[Address], StartError>) -> Result<(), String> {
        let result = match result {
            Ok(addresses) => {
                tracing::info!(listeners = addresses.len(), "the configuration was reloaded");
                self.overrides.tell();
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the configuration is refused, and nothing has changed");
                Err(Failure::Start(error).with_help())
            }
        };
        self.manager.tell([NotifyState::Ready]);
        result
    }
}

/// The service manager, if it requested notifications (`NOTIFY_SOCKET`, sd_notify(3)).
struct Manager(Option<BackgroundTasks>);

impl Manager {
    fn new() -> io::Result<Self> {
        std::env::var_os("NOTIFY_SOCKET").map(|_| BackgroundTasks::new("xps-manager")).transpose().map(Self)
    }

    fn tell<const N: usize>(&self, states: [NotifyState<'static>; N]) {
        if let Some(background_tasks) = &self.0 {
            background_tasks.run(move || {
                if let Err(error) = sd_notify::notify(&states) {
                    tracing::warn!(%error, "cannot notify the service manager");
                }
            });
        }
    }

    /// A manager that requested the reload waits for this message, and then for
    /// [`NotifyState::Ready`], whether the reload succeeded or not (systemd.service(5),
    /// `Type=notify-reload`).
    fn tell_reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell([NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot notify the service manager: no monotonic clock"),
        }
    }
}

/// Checks the listeners against each other, and divides the descriptors among the workers.
fn prepare(config: &mut ServerConfig, descriptors: Option<u64>) -> Result<(), Failure> {
    let operator = config.operator.listeners().map(|(_, listener)| listener);
    refuse_twice(config.listeners.iter().chain(operator))?;
    if let Some(descriptors) = descriptors {
        let own = if config.operator.listeners().next().is_some() { OPERATOR_DESCRIPTORS } else { 0 };
        share_descriptors(
            descriptors.saturating_sub(own) / config.workers as u64,
            &config.listeners,
            &mut config.limits,
        );
    }
    Ok(())
}

/// Refuses duplicate and overlapping listen addresses. Connections could not be assigned to one of
/// two equal addresses; and the kernel's error (`EADDRINUSE`) would suggest that another process has
/// the port.
fn refuse_twice<'c>(listeners: impl Iterator<Item = &'c ListenerConfig> + Clone) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    let twice = listeners.clone().map(|listener| listener.address.address()).find(|address| {
        // The kernel chooses a different port for each 0.
        address.inet().is_none_or(|address| address.port() != 0) && !seen.insert(address.clone())
    });
    if let Some(address) = twice {
        return Err(Failure::ListedTwice(address));
    }
    let all: Vec<SocketAddr> = listeners.filter_map(|listener| listener.address.inet()).collect();
    for (at, first) in all.iter().enumerate() {
        if let Some(second) = all[..at].iter().find(|second| overlap(*first, **second)) {
            let (one, all) = if first.ip().is_unspecified() { (*second, *first) } else { (*first, *second) };
            return Err(Failure::Overlap { one, all });
        }
    }
    Ok(())
}

/// Logs which driver runs and why. The banner shows it too, but is not always printed.
fn log_choice(server: &Server) {
    let Selection { backend, reason, is_fallback, remedy, .. } = server.selection();
    let (backend, workers, version) = (backend.name(), server.workers(), env!("CARGO_PKG_VERSION"));
    if *is_fallback {
        tracing::warn!(backend, reason, remedy, workers, version, "started without io_uring");
    } else {
        tracing::info!(backend, reason, workers, version, "started");
    }
}

/// Whether a connection may need a second descriptor: for its upstream, or for a file.
fn takes_another(service: &ServiceConfig) -> bool {
    match service {
        ServiceConfig::TcpProxy(..)
        | ServiceConfig::TcpProxyByName(_)
        | ServiceConfig::SendFile { .. }
        | ServiceConfig::Receive { .. } => true,
        ServiceConfig::Http(router) => {
            let mut routes = router.hosts.iter().flat_map(|host| &host.routes);
            routes.any(|route| matches!(route.handler, HandlerConfig::Forward(_)))
        }
        ServiceConfig::Echo | ServiceConfig::Reverse | ServiceConfig::SendText(_) => false,
    }
}

/// The number of folders that a worker holds open for a service.
fn served_folders(service: &ServiceConfig) -> usize {
    match service {
        ServiceConfig::Http(router) => {
            let routes = router.hosts.iter().flat_map(|host| &host.routes);
            routes
                .filter(|route| matches!(&route.handler, HandlerConfig::Files(file_route) if file_route.root.is_some()))
                .count()
        }
        ServiceConfig::SendFile { .. } | ServiceConfig::Receive { .. } => 1,
        ServiceConfig::Echo
        | ServiceConfig::Reverse
        | ServiceConfig::TcpProxy(..)
        | ServiceConfig::TcpProxyByName(_)
        | ServiceConfig::SendText(_) => 0,
    }
}

/// One in this many descriptors may hold a cached file that is not being sent.
const OPEN_FILES_SHARE: u64 = 8;

/// Descriptors that a worker itself needs: its ring, its wakers, its share of the listeners, and a
/// reserve.
const OWN_DESCRIPTORS: u64 = 24;

/// Folders included in [`OWN_DESCRIPTORS`]. Each further folder adds one.
const OWN_FOLDERS: u64 = 4;

/// A descriptor limit that allows fewer connections per worker causes a warning.
const FEW_CONNECTIONS: usize = 64;

/// Limits connections so that each can open its file or upstream. Waiting in the backlog is better
/// than a connection that cannot be served.
fn share_descriptors(descriptors: u64, listeners: &[ListenerConfig], limits: &mut Limits) {
    let serves = |is: fn(&ServiceConfig) -> bool| listeners.iter().any(|listener| is(&listener.service));
    let for_files =
        if serves(|service| matches!(service, ServiceConfig::Http(_))) { descriptors / OPEN_FILES_SHARE } else { 0 };
    let each = if serves(takes_another) { 2 } else { 1 };
    let folders: usize = listeners.iter().map(|listener| served_folders(&listener.service)).sum();
    let own = OWN_DESCRIPTORS + (folders as u64).saturating_sub(OWN_FOLDERS);
    let connections = descriptors.saturating_sub(own + for_files) / each;
    let connections = usize::try_from(connections).unwrap_or(usize::MAX).max(1);
    if connections < FEW_CONNECTIONS.min(limits.connections_max) {
        let remedy = "raise it (ulimit -n, LimitNOFILE=), or use fewer workers";
        tracing::warn!(connections, remedy, "the descriptor limit allows each worker few connections");
    }
    limits.connections_max = limits.connections_max.min(connections);
    limits.store.open_max = limits.store.open_max.min(u32::try_from(for_files).unwrap_or(u32::MAX));
}

/// Raises the descriptor limit as far as allowed. Returns it, or `None` if there is none or it is
/// unknown.
fn raise_descriptors() -> Option<u64> {
    match limits::raise_descriptors() {
        Ok((before, after)) => {
            if before == after {
                tracing::debug!(limit = after.soft, "descriptor limit is as high as allowed");
            } else {
                tracing::info!(from = before.soft, to = after.soft, "descriptor limit raised");
            }
            after.soft
        }
        Err(error) => {
            tracing::warn!(%error, "cannot raise the descriptor limit");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_given_twice_is_refused_but_not_a_port_that_the_kernel_chooses() {
        let listen = |texts: &[&str]| {
            let listener = |text: &&str| ListenerConfig::new(text.parse().unwrap(), ServiceConfig::Echo);
            refuse_twice(texts.iter().map(listener).collect::<Vec<_>>().iter())
        };
        assert!(matches!(listen(&["8004", ":8004"]), Err(Failure::ListedTwice(_))));
        assert!(matches!(listen(&["unix:/a", "unix:/b", "unix:/a"]), Err(Failure::ListedTwice(_))));
        assert!(matches!(listen(&["8004", "127.0.0.1:8004"]), Err(Failure::Overlap { .. })));
        assert!(listen(&["127.0.0.1:8004", "127.0.0.2:8004", "8003"]).is_ok());
        assert!(listen(&["127.0.0.1:0", "127.0.0.1:0"]).is_ok());
    }
}
