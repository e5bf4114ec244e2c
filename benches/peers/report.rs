//! Medians, spreads and ratios of many runs, as a table or as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Measured;
use crate::run::measured_to_json;
use crate::scenario::Scenario;
use crate::servers::{Product, Server};

/// All rounds of one server in one scenario.
pub struct Series {
    /// Which server.
    pub server: &'static Server,
    /// One run a round; `None` where it was not reached.
    pub runs: Vec<Measured>,
    /// Why there are none.
    pub skipped: Option<String>,
}

/// A column of figures, one a round.
type Column = fn(&Measured) -> f64;

/// Products that the others are compared with.
const BASELINES: [Product; 3] = [Product::Haproxy, Product::Nginx, Product::XpsEpoll];

/// The columns of the table: head, and what stands in it.
const COLUMNS: &[(&str, Column)] = &[
    ("server µs", server_us),
    ("user µs", |run| us(run.usage.server_user) / run.exchanges),
    ("peers µs", |run| us(run.usage.peers) / run.exchanges),
    ("machine µs", |run| us(run.usage.machine) / run.exchanges),
    ("exch./s", |run| run.exchanges / run.usage.elapsed.as_secs_f64()),
    ("p50 µs", |run| us(run.p50)),
    ("p99 µs", |run| us(run.p99)),
    ("busy %", |run| 100.0 * run.usage.server.as_secs_f64() / run.usage.elapsed.as_secs_f64()),
];

fn server_us(run: &Measured) -> f64 {
    us(run.usage.server) / run.exchanges
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The table of one scenario.
pub fn table(scenario: &Scenario, all: &[Series]) -> String {
    let baselines = baselines(all);
    let mut text = format!(
        "\n{}: {} connections, {} bytes asked, {} bytes of body answered; figures are medians, times per exchange\n",
        scenario.name,
        scenario.connections,
        scenario.request().len(),
        scenario.body_bytes
    );
    let _ = write!(text, "{:<15}", "server");
    for (head, _) in COLUMNS {
        let _ = write!(text, " {head:>10}");
        if *head == COLUMNS[0].0 {
            let _ = write!(text, " {:>17}", "(least to most)");
        }
    }
    for (product, _) in &baselines {
        let _ = write!(text, " {:>13}", format!("÷ {}", product.name()));
    }
    text.push('\n');
    for series in all {
        let _ = write!(text, "{:<15}", series.server.name);
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
        for (_, baseline) in &baselines {
            let ratio = ratio(series, baseline).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = write!(text, " {ratio:>13}");
        }
        text.push('\n');
    }
    text
}

/// What the columns mean.
pub const LEGEND: &str = "
server µs   processor time of the server's processes per exchange, the ratios' base
user µs     its part outside the kernel, estimated by the kernel from its ticks
peers µs    processor time of load generator and origin per exchange
machine µs  time in which any processor was not idle, per exchange: also what the kernel did for nobody
busy %      part of one processor that the server used
÷ NAME      median of the rounds' ratios of server time to that product's cheapest variant
";

/// Everything, for machines.
pub fn to_json(scenario: &Scenario, all: &[Series]) -> Value {
    let baselines = baselines(all);
    let servers: Vec<Value> = all
        .iter()
        .map(|series| {
            let medians: serde_json::Map<_, _> =
                COLUMNS.iter().map(|(head, column)| ((*head).to_owned(), json!(series.median(*column)))).collect();
            let ratios: serde_json::Map<_, _> = baselines
                .iter()
                .map(|(product, baseline)| (product.name().to_owned(), json!(ratio(series, baseline))))
                .collect();
            json!({
                "server": series.server.name,
                "skipped": series.skipped,
                "medians": medians,
                "ratios": ratios,
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

/// Of each product to compare with, its cheapest variant that ran.
fn baselines(all: &[Series]) -> Vec<(Product, &Series)> {
    BASELINES
        .into_iter()
        .filter_map(|product| {
            let cheapest = all
                .iter()
                .filter(|series| series.server.product == product && !series.runs.is_empty())
                .min_by(|a, b| a.median(server_us).total_cmp(&b.median(server_us)))?;
            Some((product, cheapest))
        })
        .collect()
}

/// Runs of one round stand side by side in time, so their ratio holds less of the machine's mood
/// than that of the medians.
fn ratio(series: &Series, baseline: &Series) -> Option<f64> {
    let ratios: Vec<_> =
        series.runs.iter().zip(&baseline.runs).map(|(run, base)| server_us(run) / server_us(base)).collect();
    (!ratios.is_empty()).then(|| median(ratios))
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
