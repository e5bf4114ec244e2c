//! `cargo bench --bench peers`: xps beside HAProxy and nginx, in processor time per exchange:
//! as a relay of TCP, a server of files, and a proxy of HTTP, with and without TLS, over HTTP/1.1 and HTTP/2.
//!
//! The program writes each server's configuration to a temporary folder, ties the server to one
//! processor and the load generator and the origin (itself, started again) to another, and
//! interleaves rounds: A B C, C B A, and so on. What it measures and why: `docs/benchmarks.md`.

#![expect(unsafe_code, reason = "clocks, signals and epoll, as the servers that are measured use them")]

mod abuse;
mod attacker;
mod certificate;
mod channel;
mod clocks;
mod documents;
mod h2;
mod h2load;
mod histogram;
mod load;
mod markdown;
mod origin;
mod poll;
mod probe;
mod processes;
mod report;
mod response;
mod run;
mod scenario;
mod servers;
mod tls;
mod wrk;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use abuse::{ATTACKS, Comparison};
use certificate::Identity;
use processes::Processors;
use report::{Absence, Series};
use run::{Bench, Load, RunError};
use scenario::{Pattern, SCENARIOS, Scenario, Service};
use servers::{Product, SERVERS};
use tls::Version;

/// Compares xps with other servers on this machine.
#[derive(Parser)]
#[command(name = "cargo bench --bench peers --")]
struct Options {
    /// Rounds: each runs every server once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',', value_parser = SCENARIOS.iter().map(|s| s.name).collect::<Vec<_>>())]
    scenario: Vec<String>,
    /// Only scenarios in which servers do this.
    #[arg(long, value_enum, value_delimiter = ',')]
    service: Vec<Service>,
    /// Only these servers.
    #[arg(long, value_delimiter = ',', value_parser = SERVERS.iter().map(|s| s.name).collect::<Vec<_>>())]
    server: Vec<String>,
    /// Who generates the load.
    #[arg(long, value_enum, default_value_t = Load::Own)]
    load: Load,
    /// Begin so many exchanges each second, whatever is under way, instead of as many as can be. Latencies then count from
    /// when an exchange was to begin.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// Keep so many more connections open, each used once: what they cost those that are busy.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    idle: u32,
    /// The version of TLS that clients speak, where a scenario has TLS.
    #[arg(long, value_enum, default_value_t = Version::V13)]
    tls: Version,
    /// The xps binary to measure, instead of the one that cargo built with the benchmark.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_xps"))]
    xps: PathBuf,
    /// Another xps binary to compare with, in the same rounds: `baseline-io_uring` and `baseline-epoll` in the tables.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Measure what attacks over HTTP/2 cost xps on io_uring and nginx, instead of the scenarios.
    #[arg(long)]
    abuse: bool,
    /// Only these attacks.
    #[arg(long, value_delimiter = ',', requires = "abuse", value_parser = ATTACKS.iter().map(|a| a.name).collect::<Vec<_>>())]
    attack: Vec<String>,
    /// Print every run and the medians as JSON, instead of tables.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds, and `cargo test` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [run::ORIGIN, scenario, identity] => origin(scenario, Path::new(identity)),
        [run::LOAD, scenario, task] => load(scenario, task),
        [abuse::SILENT_ORIGIN] => origin::run_silent().map_err(|error| error.to_string()),
        [abuse::ATTACKER, name, task] => attacker::run(name, task).map_err(|error| error.to_string()),
        _ => compare(&Options::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn origin(scenario: &str, identity: &Path) -> Result<(), String> {
    let scenario = Scenario::named(scenario).ok_or("no such scenario")?;
    origin::run(scenario, &Identity::at(identity)).map_err(|error| error.to_string())
}

fn load(scenario: &str, task: &str) -> Result<(), String> {
    let scenario = Scenario::named(scenario).ok_or("no such scenario")?;
    let task = run::task_of(task).ok_or("the task is not understood")?;
    let measured = load::run(scenario, task).map_err(|error| error.to_string())?;
    println!("{}", run::measured_to_json(&measured));
    Ok(())
}

fn compare(options: &Options) -> Result<(), String> {
    if !options.bench {
        println!("a benchmark: run it with `cargo bench --bench peers`");
        return Ok(());
    }
    if options.load == Load::Wrk && servers::find("wrk").is_none() {
        return Err("wrk is not in PATH; Debian: apt-get install wrk".to_owned());
    }
    if options.load == Load::Wrk && options.rate.is_some() {
        return Err("wrk knows no rate".to_owned());
    }
    if options.load == Load::Wrk && options.idle > 0 {
        return Err("wrk keeps no idle connections".to_owned());
    }
    processes::catch_interrupts();
    let processors = Processors::choose();
    eprintln!("{}", headline(&processors));
    if options.abuse {
        let measured = Duration::from_secs(options.seconds.into());
        let (rounds, names) = (options.rounds, &options.attack);
        let comparison = Comparison { xps: &options.xps, processors: &processors, measured, rounds, names };
        print!("{}", comparison.run()?);
        return Ok(());
    }
    let documents = documents::write().map_err(|error| format!("cannot write the files to serve: {error}"))?;
    let (_folder, identity) = Identity::write().map_err(|error| format!("cannot write a certificate: {error}"))?;
    let bench = Bench {
        xps: options.xps.clone(),
        baseline: options.baseline.clone(),
        documents: documents.path().to_owned(),
        identity,
        version: options.tls,
        processors,
        measured: Duration::from_secs(options.seconds.into()),
        load: options.load,
        rate: options.rate,
        idle: options.idle,
    };
    let mut results = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants(scenario)) {
        let all = rounds(&bench, scenario, options)?;
        if !options.json {
            print!("{}", markdown::table(scenario, &all));
        }
        results.push((scenario, all));
    }
    if options.json {
        let scenarios: Vec<_> = results.iter().map(|(scenario, all)| report::to_json(scenario, all)).collect();
        println!("{}", json!({ "rounds": options.rounds, "seconds": options.seconds, "scenarios": scenarios }));
    } else {
        print!("{}{}", markdown::overviews(&results), markdown::LEGEND);
    }
    let failures: Vec<_> =
        results.iter().flat_map(|(scenario, all)| all.iter().filter_map(|series| series.failure(scenario))).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

impl Options {
    fn wants(&self, scenario: &Scenario) -> bool {
        let chosen = chosen(&self.scenario, scenario.name)
            && (self.service.is_empty() || self.service.contains(&scenario.service));
        let can = match self.load {
            Load::Wrk => wrk::fits(scenario),
            Load::Own if scenario.streams().is_some() => {
                self.rate.is_none() && self.idle == 0 && h2load::fits(scenario, self.tls)
            }
            // Only one request at a time on a connection that stays can be paced.
            Load::Own => self.rate.is_none() || scenario.pattern == Pattern::KeepAlive,
        };
        if chosen && !can {
            eprintln!("{}: skipped, it cannot be done like this", scenario.name);
        }
        chosen && can
    }
}

/// All rounds of one scenario, odd ones backwards, so that no server always follows the same one.
fn rounds(bench: &Bench, scenario: &'static Scenario, options: &Options) -> Result<Vec<Series>, String> {
    let mut all: Vec<Series> = SERVERS
        .iter()
        .filter(|server| (server.fits)(scenario) && chosen(&options.server, server.name))
        .filter_map(|server| Some((server, bench.xps_of(server)?)))
        .map(|(server, xps)| {
            let absence = server.missing(scenario, xps).map(Absence::Missing);
            if let Some(absence) = &absence {
                eprintln!("{} {}: {absence}", scenario.name, server.name);
            }
            Series { server, runs: Vec::new(), absence }
        })
        .collect();
    for round in 0..options.rounds {
        let mut order: Vec<&mut Series> = all.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for series in order.into_iter().filter(|series| series.absence.is_none()) {
            let name = series.server.name;
            eprint!("{} round {}/{} {name:<18}", scenario.name, round + 1, options.rounds);
            match bench.run(series.server, scenario) {
                Ok(measured) => {
                    eprintln!(" {:>12.0} exchanges", measured.exchanges);
                    series.runs.push(measured);
                }
                Err(RunError::Interrupted) => return Err("interrupted".to_owned()),
                Err(error @ (RunError::Start(_) | RunError::Failed(_))) => {
                    eprintln!(" {error}");
                    // Its figures so far would no longer pair with the others' rounds.
                    series.runs.clear();
                    series.absence = Some(Absence::Failed(error.to_string()));
                }
            }
        }
    }
    Ok(all)
}

impl Series {
    /// What is not there is skipped; that xps, being there, does not run is a failure.
    fn failure(&self, scenario: &Scenario) -> Option<String> {
        match (self.server.product, self.absence.as_ref()?) {
            (Product::XpsUring | Product::XpsEpoll | Product::Baseline, failed @ Absence::Failed(_)) => {
                Some(format!("{} {}: {failed}", scenario.name, self.server.name))
            }
            (_, Absence::Missing(_)) | (Product::Haproxy | Product::Nginx, Absence::Failed(_)) => None,
        }
    }
}

fn chosen(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)
}

/// What a reader must know of this machine.
fn headline(processors: &Processors) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned()))
        })
        .unwrap_or_default();
    let place = match (processors.server, processors.peers) {
        (Some(server), Some(peers)) => format!("server on processor {server}, load and origin on {peers}"),
        (None, _) | (_, None) => "nothing is tied to a processor".to_owned(),
    };
    let remark = processors.remark.map(|remark| format!("\nnote: {remark}")).unwrap_or_default();
    format!("Linux {}; {model}; {place}{remark}", kernel.trim())
}
