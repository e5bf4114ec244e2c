//! Medians, spreads and ratios of many runs, and all of them as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Measured;
use crate::run::measured_to_json;
use crate::scenario::Scenario;
use crate::servers::Server;

/// All rounds of one server in one scenario.
pub struct Series {
    /// Which server.
    pub server: &'static Server,
    /// One run a round, or none at all.
    pub runs: Vec<Measured>,
    /// Why there are none.
    pub absence: Option<Absence>,
}

/// Why a server has no figures.
#[derive(Debug, thiserror::Error)]
pub enum Absence {
    /// It, or what the scenario needs of it, is not there.
    #[error("skipped: {0}")]
    Missing(String),
    /// It is there, and did not do what it should.
    #[error("{0}")]
    Failed(String),
}

/// A median, the least and the most.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// Where the true median lies with a probability of 95 %, whatever the distribution; of fewer than 6 values nothing
    /// can be said.
    pub interval: Option<(f64, f64)>,
}

/// A column of figures, one a round.
pub type Column = fn(&Measured) -> f64;

/// The columns of the table: head, and what stands in it.
pub const COLUMNS: &[(&str, Column)] = &[
    ("server µs", server_us),
    ("user µs", user_us),
    ("peers µs", |run| us(run.usage.peers) / run.exchanges),
    ("machine µs", machine_us),
    ("exch./s", rate),
    ("p50 µs", |run| run.p50.map_or(f64::NAN, us)),
    ("p99 µs", |run| run.p99.map_or(f64::NAN, us)),
    ("busy %", |run| percent(run.usage.server, run)),
    ("others %", |run| percent(run.usage.machine.saturating_sub(run.usage.server + run.usage.peers), run)),
];

pub fn server_us(run: &Measured) -> f64 {
    us(run.usage.server) / run.exchanges
}

pub fn machine_us(run: &Measured) -> f64 {
    us(run.usage.machine) / run.exchanges
}

pub fn user_us(run: &Measured) -> f64 {
    us(run.usage.server_user) / run.exchanges
}

pub fn rate(run: &Measured) -> f64 {
    run.exchanges / run.usage.elapsed.as_secs_f64()
}

fn percent(time: Duration, run: &Measured) -> f64 {
    100.0 * time.as_secs_f64() / run.usage.elapsed.as_secs_f64()
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Everything, for machines.
pub fn to_json(scenario: &Scenario, all: &[Series]) -> Value {
    let servers: Vec<Value> = all
        .iter()
        .map(|series| {
            let medians: serde_json::Map<_, _> = COLUMNS
                .iter()
                .map(|(head, column)| ((*head).to_owned(), json!(series.spread(*column).median)))
                .collect();
            let ratios = |column: Column| -> serde_json::Map<_, _> {
                let others = all.iter().filter(|other| !other.runs.is_empty());
                others.map(|other| (other.server.name.to_owned(), json!(series.ratio(other, column).median))).collect()
            };
            json!({
                "server": series.server.name,
                "skipped": series.absence.as_ref().map(ToString::to_string),
                "medians": medians,
                "server_ratios": ratios(server_us),
                "machine_ratios": ratios(machine_us),
                "runs": series.runs.iter().map(measured_to_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "scenario": scenario.name,
        "connections": scenario.connections,
        "streams": scenario.streams(),
        "request_bytes": scenario.request().len(),
        "body_bytes": scenario.body_bytes,
        "servers": servers,
    })
}

impl Series {
    /// Of one figure of all rounds.
    pub fn spread(&self, column: Column) -> Spread {
        Spread::of(self.runs.iter().map(column).collect())
    }

    /// Of the ratio to another server's figure. Runs of one round stand side by side in time, so their
    /// ratio holds less of the machine's mood than that of the medians.
    pub fn ratio(&self, baseline: &Self, column: Column) -> Spread {
        Spread::of(self.runs.iter().zip(&baseline.runs).map(|(run, base)| column(run) / column(base)).collect())
    }
}

impl Spread {
    /// Of these values.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (values.first(), values.last()) else {
            return Self { median: f64::NAN, least: f64::NAN, most: f64::NAN, interval: None };
        };
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        let interval = rank_of_interval(values.len()).map(|rank| (values[rank], values[values.len() - 1 - rank]));
        Self { median, least, most, interval }
    }
}

/// Which of the sorted values bound the 95 % interval of the median, counted from 0 at either end: the highest rank that
/// fewer than 2.5 % of all samples have more values beyond, by the binomial distribution.
fn rank_of_interval(count: usize) -> Option<usize> {
    let mut ways = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut beyond = 0.0;
    let mut rank = None;
    for number in 0..count / 2 {
        beyond += ways;
        if beyond > 0.025 {
            break;
        }
        rank = Some(number);
        ways *= (count - number) as f64 / (number + 1) as f64;
    }
    rank
}
