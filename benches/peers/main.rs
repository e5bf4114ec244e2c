//! `cargo bench --bench peers`: xps beside HAProxy and nginx, in processor time per exchange.
//!
//! The program writes each server's configuration to a temporary folder, ties the server to one
//! processor and the load generator and the origin (itself, started again) to another, and
//! interleaves rounds: A B C, C B A, and so on. What it measures and why: `docs/benchmarks.md`.

mod clocks;
mod histogram;
mod load;
mod origin;
mod poll;
mod processes;
mod report;
mod run;
mod scenario;
mod servers;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use processes::Processors;
use report::Series;
use run::{Bench, Load, RunError};
use scenario::{SCENARIOS, Scenario};
use servers::{Product, SERVERS};

/// Compares xps with other servers on this machine.
#[derive(Parser)]
#[command(name = "cargo bench --bench peers --")]
struct Options {
    /// Rounds: each runs every server once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',', value_parser = SCENARIOS.iter().map(|s| s.name).collect::<Vec<_>>())]
    scenario: Vec<String>,
    /// Only these servers.
    #[arg(long, value_delimiter = ',', value_parser = SERVERS.iter().map(|s| s.name).collect::<Vec<_>>())]
    server: Vec<String>,
    /// Who generates the load.
    #[arg(long, value_enum, default_value_t = Load::Own)]
    load: Load,
    /// The xps binary to measure, instead of the one that cargo built with the benchmark.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_xps"))]
    xps: PathBuf,
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
        [run::ORIGIN, scenario] => origin(scenario),
        [run::LOAD, scenario, task] => load(scenario, task),
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

fn origin(scenario: &str) -> Result<(), String> {
    let scenario = Scenario::named(scenario).ok_or("no such scenario")?;
    origin::run(scenario).map_err(|error| error.to_string())
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
    processes::catch_interrupts();
    let processors = Processors::choose();
    eprintln!("{}", headline(&processors));
    let bench = Bench {
        xps: options.xps.clone(),
        processors,
        measured: Duration::from_secs(options.seconds.into()),
        load: options.load,
    };
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| chosen(&options.scenario, scenario.name)) {
        let all = rounds(&bench, scenario, options)?;
        failures.extend(all.iter().filter_map(|series| series.failure(scenario)));
        if options.json {
            reports.push(report::to_json(scenario, &all));
        } else {
            print!("{}", report::table(scenario, &all));
        }
    }
    if options.json {
        println!("{}", json!({ "rounds": options.rounds, "seconds": options.seconds, "scenarios": reports }));
    } else {
        print!("{}", report::LEGEND);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// All rounds of one scenario, odd ones backwards, so that no server always follows the same one.
fn rounds(bench: &Bench, scenario: &'static Scenario, options: &Options) -> Result<Vec<Series>, String> {
    let mut all: Vec<Series> = SERVERS
        .iter()
        .filter(|server| (server.fits)(scenario) && chosen(&options.server, server.name))
        .map(|server| Series { server, runs: Vec::new(), skipped: server.product.missing() })
        .collect();
    for round in 0..options.rounds {
        let mut order: Vec<&mut Series> = all.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for series in order.into_iter().filter(|series| series.skipped.is_none()) {
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
                    series.skipped = Some(error.to_string());
                }
            }
        }
    }
    Ok(all)
}

impl Series {
    /// A peer that is not there is skipped; that xps does not run is a failure.
    fn failure(&self, scenario: &Scenario) -> Option<String> {
        let why = self.skipped.as_ref()?;
        match self.server.product {
            Product::XpsUring | Product::XpsEpoll => Some(format!("{} {}: {why}", scenario.name, self.server.name)),
            Product::Haproxy | Product::Nginx => None,
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
