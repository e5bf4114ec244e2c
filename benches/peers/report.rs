//! Medians, spreads and ratios of many runs, as a table or as JSON.

use std::fmt::Write;
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
    pub skipped: Option<String>,
}

/// Of the first column.
const WIDTH: usize = 18;

/// A column of figures, one a round.
type Column = fn(&Measured) -> f64;

/// The columns of the table: head, and what stands in it.
const COLUMNS: &[(&str, Column)] = &[
    ("server µs", server_us),
    ("user µs", |run| us(run.usage.server_user) / run.exchanges),
    ("peers µs", |run| us(run.usage.peers) / run.exchanges),
    ("machine µs", machine_us),
    ("exch./s", |run| run.exchanges / run.usage.elapsed.as_secs_f64()),
    ("p50 µs", |run| us(run.p50)),
    ("p99 µs", |run| us(run.p99)),
    ("busy %", |run| percent(run.usage.server, run)),
    ("others %", |run| percent(run.usage.machine.saturating_sub(run.usage.server + run.usage.peers), run)),
];

fn server_us(run: &Measured) -> f64 {
    us(run.usage.server) / run.exchanges
}

fn machine_us(run: &Measured) -> f64 {
    us(run.usage.machine) / run.exchanges
}

fn percent(time: Duration, run: &Measured) -> f64 {
    100.0 * time.as_secs_f64() / run.usage.elapsed.as_secs_f64()
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The table of one scenario.
pub fn table(scenario: &Scenario, all: &[Series]) -> String {
    let mut text = format!(
        "\n{}: {} connections, {} bytes asked, {} bytes of body answered; figures are medians, times per exchange\n",
        scenario.name,
        scenario.connections,
        scenario.request().len(),
        scenario.body_bytes
    );
    let _ = write!(text, "{:<WIDTH$}", "server");
    for (head, _) in COLUMNS {
        let _ = write!(text, " {head:>10}");
        if *head == COLUMNS[0].0 {
            let _ = write!(text, " {:>17}", "(least to most)");
        }
    }
    text.push('\n');
    for series in all {
        let _ = write!(text, "{:<WIDTH$}", series.server.name);
        if let Some(why) = &series.skipped {
            let _ = writeln!(text, " skipped: {why}");
            continue;
        }
        for (head, column) in COLUMNS {
            let _ = write!(text, " {:>10}", figure(series.median(*column)));
            if *head == COLUMNS[0].0 {
                let (least, most) = series.range(*column);
                let _ = write!(text, " {:>17}", format!("({} to {})", figure(least), figure(most)));
            }
        }
        text.push('\n');
    }
    text + &matrix(all)
}

/// How the servers' times relate, each to each.
fn matrix(all: &[Series]) -> String {
    let ran: Vec<_> = all.iter().filter(|series| !series.runs.is_empty()).collect();
    if ran.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:<WIDTH$}", "");
    for baseline in &ran {
        let _ = write!(text, " {:>20}", format!("÷ {}", baseline.server.name));
    }
    text.push('\n');
    for series in &ran {
        let _ = write!(text, "{:<WIDTH$}", series.server.name);
        for baseline in &ran {
            let cell =
                format!("{:.2} ({:.2})", ratio(series, baseline, server_us), ratio(series, baseline, machine_us));
            let _ = write!(text, " {cell:>20}");
        }
        text.push('\n');
    }
    text
}

/// What the columns mean.
pub const LEGEND: &str = "
server µs   processor time of the server's processes per exchange
user µs     its part outside the kernel, estimated by the kernel from its ticks
peers µs    processor time of load generator and origin per exchange
machine µs  time in which any processor was not idle, per exchange: also what the kernel did for nobody
busy %      part of one processor that the server used
others %    part of one processor used by none of these: the kernel's threads, and whatever disturbs
a ÷ b       server time of a in that of b, median over rounds; in brackets the whole machine's
";

/// Everything, for machines.
pub fn to_json(scenario: &Scenario, all: &[Series]) -> Value {
    let servers: Vec<Value> = all
        .iter()
        .map(|series| {
            let medians: serde_json::Map<_, _> =
                COLUMNS.iter().map(|(head, column)| ((*head).to_owned(), json!(series.median(*column)))).collect();
            let ratios = |column: Column| -> serde_json::Map<_, _> {
                let others = all.iter().filter(|other| !other.runs.is_empty());
                others.map(|other| (other.server.name.to_owned(), json!(ratio(series, other, column)))).collect()
            };
            json!({
                "server": series.server.name,
                "skipped": series.skipped,
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
        "request_bytes": scenario.request().len(),
        "body_bytes": scenario.body_bytes,
        "servers": servers,
    })
}

impl Series {
    fn median(&self, column: Column) -> f64 {
        median(self.runs.iter().map(column).collect())
    }

    fn range(&self, column: Column) -> (f64, f64) {
        self.runs
            .iter()
            .map(column)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
    }
}

/// Runs of one round stand side by side in time, so their ratio holds less of the machine's mood
/// than that of the medians.
fn ratio(series: &Series, baseline: &Series, column: Column) -> f64 {
    median(series.runs.iter().zip(&baseline.runs).map(|(run, base)| column(run) / column(base)).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// Three or four digits that matter.
fn figure(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value < 100.0 => format!("{value:.2}"),
        value if value < 1000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
