//! `xps bench`: asks a server as fast as it can, or at a fixed rate, and reports what it measured.

mod progress;
mod target;

use std::time::Duration;

use self::progress::ProgressLine;
use super::Invocation;
use super::args::{BenchOptions, ExpectOptions};
use super::failure::Failure;
use super::serve::config_of;
use crate::config::ServerConfig;
use crate::core::StartError;
use crate::driver::probe;
use crate::driver::signals::StopSignals;
use crate::load::processor::{ProcessorTime, resident_bytes_max};
use crate::load::report::{export, table};
use crate::load::{Circumstances, Expect, Plan, Report, Run, RunError, ServerUse, Stop};
use crate::telemetry;

/// How often it is looked at what the threads have counted.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Measures, and prints the report.
pub fn run(options: BenchOptions, invocation: &Invocation) -> Result<(), Failure> {
    let setup = telemetry::LogSetup::for_clients(options.log.log_level, invocation.log_format);
    let _log = telemetry::start(setup)?;
    let targets = target::read(&options)?;
    let plan = plan_of(&options, &targets, invocation)?;
    let report = measure(&plan, targets.into_iter().map(|target| target.url).collect(), options.output.pid)?;
    let text = if options.output.json { export::json(&report) } else { table::text(&report) };
    super::print(text.as_bytes())?;
    if report.requests == 0 { Err(Failure::NothingMeasured) } else { Ok(()) }
}

/// What is to be done.
fn plan_of(options: &BenchOptions, targets: &[target::Target], invocation: &Invocation) -> Result<Plan, Failure> {
    let ServerConfig { backend, uring_off, limits, .. } = config_of(&[&options.backend]);
    invocation.backend.set(backend);
    let load = &options.load;
    // More connections than requests would have nothing to do.
    let requests = load.requests.and_then(|requests| u32::try_from(requests).ok()).unwrap_or(u32::MAX);
    let connections = load.connections.min(requests);
    let threads = load.threads.min(connections);
    let selection = probe::choose(backend, uring_off, threads as usize).map_err(StartError::from)?;
    let ExpectOptions { expect_status, expect_length, expect_sha256, expect_same } = &options.expect;
    let expect = Expect {
        statuses: expect_status.clone(),
        length: *expect_length,
        sha256: *expect_sha256,
        is_same: *expect_same,
    };
    Ok(Plan {
        origins: target::origins(targets, options)?,
        connections,
        idle: load.idle,
        slow: load.slow,
        pipeline: load.pipeline as usize,
        streams: load.streams as usize,
        requests_per_connection: if load.no_keepalive { Some(1) } else { load.requests_per_connection },
        stop: load.requests.map_or(Stop::After(load.duration.0), Stop::Requests),
        warmup: load.warmup.0,
        rate: load.rate,
        timeout: load.timeout.0,
        expect,
        threads,
        selection,
        uring_off,
        pool: limits.pool,
    })
}

/// What was used up to a moment.
struct Meter {
    client: ProcessorTime,
    server: Option<ProcessorTime>,
}

impl Meter {
    fn read(server: Option<u32>) -> Self {
        let client = ProcessorTime::of(std::process::id()).unwrap_or_default();
        Self { client, server: server.and_then(ProcessorTime::of) }
    }
}

/// One run. A stop signal ends it early; what was measured until then is reported.
fn measure(plan: &Plan, urls: Vec<String>, pid: Option<u32>) -> Result<Report, Failure> {
    if let Some(pid) = pid
        && ProcessorTime::of(pid).is_none()
    {
        return Err(Failure::Usage(format!("there is no process {pid}, or its times cannot be read")));
    }
    let run = Run::start(plan)?;
    let signals = StopSignals::install(run.waker().clone()).map_err(RunError::Driver)?;
    let mut progress = ProgressLine::new(plan);
    let mut begun = None;
    while !run.is_measured() {
        run.wait(PROGRESS_INTERVAL).map_err(RunError::Driver)?;
        if signals.received().is_some() {
            run.stop();
        }
        if run.is_measuring() {
            begun.get_or_insert_with(|| Meter::read(pid));
            progress.show(run.counts());
        }
    }
    let ended = Meter::read(pid);
    progress.clear();
    let outcome = run.join()?;
    let begun = begun.unwrap_or(Meter { client: ended.client, server: ended.server });
    let server = match (pid, begun.server, ended.server) {
        (Some(pid), Some(before), Some(after)) => Some(ServerUse {
            pid,
            time: after.since(before),
            resident_bytes_max: resident_bytes_max(pid).unwrap_or_default(),
            ring: None,
        }),
        _ => None,
    };
    let circumstances = Circumstances {
        targets: urls,
        command: std::env::args().collect(),
        client: ended.client.since(begun.client),
        server,
    };
    Ok(Report::new(plan, &outcome, circumstances))
}
