//! One run: an origin, one server before it, and the load.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::certificate::Identity;
use crate::clocks::{Groups, Usage, children_of};
use crate::h2load;
use crate::load::{Measured, Task};
use crate::probe::{self, Target};
use crate::processes::{Guarded, Processors, interrupted, tie};
use crate::scenario::Scenario;
use crate::servers::{Product, Server, Setup};
use crate::tls::Version;
use crate::wrk;

/// Who generates the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Load {
    /// This program; of HTTP/2 h2load.
    Own,
    /// wrk: an independent check. It opens its connections and warms up within the measured time.
    Wrk,
}

/// What every run needs to know.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The xps binary.
    pub xps: PathBuf,
    /// Another one to compare with.
    pub baseline: Option<PathBuf>,
    /// The folder that servers of files serve.
    pub documents: PathBuf,
    /// What servers and origin show where there is TLS.
    pub identity: Identity,
    /// What TLS clients speak.
    pub version: Version,
    /// Which processors to use.
    pub processors: Processors,
    /// The measured time of one run.
    pub measured: Duration,
    /// Who generates the load.
    pub load: Load,
    /// Exchanges to begin each second; `None`: as many as can be.
    pub rate: Option<u32>,
    /// Connections beside the scenario's that are used once and then stay open.
    pub idle: u32,
}

/// Why a run gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server cannot run here: no reason to distrust the others.
    #[error("does not start: {0}")]
    Start(String),
    /// The server ran, but not as it should, or the benchmark itself failed.
    #[error("failed: {0}")]
    Failed(#[from] io::Error),
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Time for a server to answer its first request.
const START_MAX: Duration = Duration::from_secs(5);

/// How often to try. Foreign servers offer no event to wait for.
const START_POLL: Duration = Duration::from_millis(20);

/// Connections that servers are told to expect, beyond idle ones: more than any scenario has.
const SPARE_CONNECTIONS: u32 = 4096;

impl Bench {
    /// The xps binary that a row of the table means, or that servers beside it are measured with; `None`: there is none.
    pub fn xps_of(&self, server: &Server) -> Option<&Path> {
        match server.product {
            Product::Baseline => self.baseline.as_deref(),
            Product::XpsUring | Product::XpsEpoll | Product::Haproxy | Product::Nginx => Some(&self.xps),
        }
    }

    /// Starts everything, measures, ends everything.
    pub fn run(&self, server: &Server, scenario: &'static Scenario) -> Result<Measured, RunError> {
        let result = self.run_guarded(server, scenario);
        if interrupted() { Err(RunError::Interrupted) } else { result }
    }

    fn run_guarded(&self, server: &Server, scenario: &'static Scenario) -> Result<Measured, RunError> {
        let folder = tempfile::tempdir()?;
        // A server of files has no use for it; then it sleeps.
        let arguments = [OsStr::new(ORIGIN), OsStr::new(scenario.name), self.identity.folder().as_os_str()];
        let (origin, origin_port) = origin_of(&arguments, &self.processors)?;
        let setup = Setup {
            scenario,
            folder: folder.path(),
            documents: &self.documents,
            identity: &self.identity,
            port: free_port()?,
            origin: origin_port,
            connections: self.idle + SPARE_CONNECTIONS,
            concurrency: scenario.concurrency(),
            xps: self.xps_of(server).unwrap_or(&self.xps),
        };
        let mut task = Task {
            port: setup.port,
            measured: self.measured,
            rate: self.rate,
            idle: self.idle,
            identity: self.identity.clone(),
            version: self.version,
            groups: Groups { server: Vec::new(), peers: vec![origin.id()] },
        };
        let process = self.start_server(server, &setup, &task.target(scenario)?)?;
        task.groups.server = children_of(process.id());
        task.groups.server.push(process.id());
        let measured = match self.load {
            Load::Own if scenario.streams().is_some() => h2load::run(scenario, &task, self.processors.peers),
            Load::Own => self.own_load(scenario, &task),
            Load::Wrk => wrk::run(scenario, &task, self.processors.peers),
        };
        measured.map_err(|error| match complaints(folder.path()) {
            said if said.is_empty() => RunError::Failed(error),
            said => RunError::Failed(io::Error::new(error.kind(), format!("{error}; it said: {said}"))),
        })
    }

    fn start_server(&self, server: &Server, setup: &Setup<'_>, target: &Target) -> Result<Guarded, RunError> {
        let mut command = (server.command)(setup)?;
        let log = File::create(setup.folder.join(LOG))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process =
            Guarded::start(command, self.processors.server).map_err(|error| RunError::Start(error.to_string()))?;
        let deadline = Instant::now() + START_MAX;
        // When one succeeds, all processes of the server are up.
        while let Err(error) = serves(setup.scenario, target) {
            if let Some(status) = process.child().try_wait()? {
                return Err(RunError::Start(format!("{status}; {}", complaints(setup.folder))));
            }
            if Instant::now() > deadline {
                return Err(RunError::Start(format!("no answer within {START_MAX:?}: {error}")));
            }
            if interrupted() {
                return Err(RunError::Interrupted);
            }
            thread::sleep(START_POLL);
        }
        Ok(process)
    }

    fn own_load(&self, scenario: &Scenario, task: &Task) -> io::Result<Measured> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([LOAD, scenario.name, &to_json(task).to_string()]).stdin(Stdio::null());
        tie(&mut command, self.processors.peers);
        let output = command.output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        serde_json::from_slice(&output.stdout)
            .ok()
            .as_ref()
            .and_then(measured_of)
            .ok_or_else(|| io::Error::other("the load generator's answer is not understood"))
    }
}

/// An origin, which is this program with these arguments, and its port.
pub fn origin_of<S: AsRef<OsStr>>(arguments: &[S], processors: &Processors) -> io::Result<(Guarded, u16)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut origin = Guarded::start(command, processors.peers)?;
    let mut line = String::new();
    if let Some(stdout) = origin.child().stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let port = line.trim().parse().map_err(|_| io::Error::other("the origin did not start"))?;
    Ok((origin, port))
}

/// Whether a server completes an exchange.
fn serves(scenario: &Scenario, target: &Target) -> io::Result<()> {
    match scenario.streams() {
        Some(_) => h2load::exchange(scenario, target.port),
        None => probe::exchange(scenario, target, START_MAX).map(drop),
    }
}

/// The hidden arguments with which the benchmark starts itself.
pub const ORIGIN: &str = "--as-origin";
pub const LOAD: &str = "--as-load";

/// Where a server's complaints go.
const LOG: &str = "stderr.log";

/// What a server wrote to its standard error, shortened.
fn complaints(folder: &Path) -> String {
    let text = std::fs::read(folder.join(LOG)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).take(5).collect();
    lines.join(" | ").chars().take(600).collect()
}

/// A port that was free a moment ago.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn to_json(task: &Task) -> Value {
    json!({
        "port": task.port,
        "measured_ns": ns(task.measured),
        "rate": task.rate,
        "idle": task.idle,
        "identity": task.identity.folder(),
        "tls": task.version.name(),
        "server": task.groups.server,
        "peers": task.groups.peers,
    })
}

/// The task that [`Bench`] wrote for the load generator.
pub fn task_of(text: &str) -> Option<Task> {
    let value: Value = serde_json::from_str(text).ok()?;
    let pids = |name: &str| -> Option<Vec<u32>> {
        value[name].as_array()?.iter().map(|pid| u32::try_from(pid.as_u64()?).ok()).collect()
    };
    Some(Task {
        port: u16::try_from(value["port"].as_u64()?).ok()?,
        measured: Duration::from_nanos(value["measured_ns"].as_u64()?),
        rate: value["rate"].as_u64().and_then(|rate| u32::try_from(rate).ok()),
        idle: u32::try_from(value["idle"].as_u64()?).ok()?,
        identity: Identity::at(Path::new(value["identity"].as_str()?)),
        version: Version::from_str(value["tls"].as_str()?, false).ok()?,
        groups: Groups { server: pids("server")?, peers: pids("peers")? },
    })
}

/// What a run showed, for machines.
pub fn measured_to_json(measured: &Measured) -> Value {
    let usage = &measured.usage;
    json!({
        "exchanges": measured.exchanges,
        "p50_ns": measured.p50.map(ns),
        "p99_ns": measured.p99.map(ns),
        "elapsed_ns": ns(usage.elapsed),
        "server_ns": ns(usage.server),
        "server_user_ns": ns(usage.server_user),
        "peers_ns": ns(usage.peers),
        "machine_ns": ns(usage.machine),
        "stolen_ns": ns(usage.stolen),
    })
}

fn measured_of(value: &Value) -> Option<Measured> {
    let time = |name: &str| Some(Duration::from_nanos(value[name].as_u64()?));
    Some(Measured {
        exchanges: value["exchanges"].as_f64()?,
        p50: time("p50_ns"),
        p99: time("p99_ns"),
        usage: Usage {
            elapsed: time("elapsed_ns")?,
            server: time("server_ns")?,
            server_user: time("server_user_ns")?,
            peers: time("peers_ns")?,
            machine: time("machine_ns")?,
            stolen: time("stolen_ns")?,
        },
    })
}

/// Nanoseconds, for JSON.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
