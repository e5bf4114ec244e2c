//! Tables for people, in the Markdown of `docs/benchmarks.md`.

use std::fmt::Write;

use crate::report::{COLUMNS, Column, Series, Spread, machine_us, rate, server_us, user_us};
use crate::scenario::{Scenario, Service};
use crate::servers::Product;

/// The figures of one scenario, and how those of xps relate to the others'.
pub fn table(scenario: &Scenario, all: &[Series]) -> String {
    let mut rows = vec![vec![scenario.name.to_owned()]];
    rows[0].extend(COLUMNS.iter().map(|(head, _)| (*head).to_owned()));
    for series in all {
        let mut row = vec![series.server.name.to_owned()];
        match &series.absence {
            Some(absence) => row.push(absence.to_string().replace('|', "/")),
            None => row.extend(COLUMNS.iter().enumerate().map(|(index, (_, column))| {
                let spread = series.spread(*column);
                // The first is what all is about.
                if index == 0 { with_range(spread) } else { figure(spread.median) }
            })),
        }
        rows.push(row);
    }
    let asked = match scenario.streams() {
        Some(streams) => format!("{streams} streams of HTTP/2 on each"),
        None => format!("{} bytes asked", scenario.request().len()),
    };
    format!(
        "\n{}: {} connections, {asked}, {} bytes of body; medians of {} rounds, times per exchange\n\n{}{}",
        scenario.name,
        scenario.connections,
        scenario.body_bytes,
        all.iter().map(|series| series.runs.len()).max().unwrap_or_default(),
        aligned(&rows),
        relations(scenario, all),
    )
}

/// Those that ran, of xps's.
fn ours(all: &[Series]) -> impl Iterator<Item = &Series> {
    all.iter().filter(|series| !series.runs.is_empty() && is_ours(series))
}

fn is_ours(series: &Series) -> bool {
    match series.server.product {
        Product::XpsUring | Product::XpsEpoll => true,
        Product::Baseline | Product::Haproxy | Product::Nginx => false,
    }
}

/// xps's times in those of every other server.
fn relations(scenario: &Scenario, all: &[Series]) -> String {
    let mut rows = vec![vec![format!("{}, ratios", scenario.name)]];
    for own in ours(all) {
        rows[0].extend([format!("{} ÷ it", own.server.name), "machine".to_owned()]);
    }
    for baseline in all.iter().filter(|series| !series.runs.is_empty()) {
        let mut row = vec![baseline.server.name.to_owned()];
        for own in ours(all) {
            if std::ptr::eq(own, baseline) {
                row.extend([String::new(), String::new()]);
            } else {
                row.push(with_interval(own.ratio(baseline, server_us)));
                row.push(figure(own.ratio(baseline, machine_us).median));
            }
        }
        rows.push(row);
    }
    if rows[0].len() == 1 || rows.len() < 3 { String::new() } else { format!("\n{}", aligned(&rows)) }
}

/// For each service of which there are several scenarios, one line a scenario.
pub fn overviews(results: &[(&Scenario, Vec<Series>)]) -> String {
    let services = [Service::Relay, Service::Files, Service::HttpProxy];
    let of = |service| results.iter().filter(move |(scenario, _)| scenario.service == service).collect::<Vec<_>>();
    services.into_iter().map(of).filter(|results| results.len() > 1).map(|results| overview(&results)).collect()
}

/// Servers that run in every scenario of a service, in its overview.
const OURS: [&str; 2] = ["xps-io_uring", "xps-epoll"];
const PEERS: [&str; 2] = ["haproxy", "nginx"];

fn overview(results: &[&(&Scenario, Vec<Series>)]) -> String {
    let ran = |name: &&str| results.iter().any(|(_, all)| running(all, name).is_some());
    let ours: Vec<&str> = OURS.into_iter().filter(ran).collect();
    let peers: Vec<&str> = PEERS.into_iter().filter(ran).collect();
    let mut head = vec!["server time".to_owned()];
    for name in &peers {
        head.extend([format!("{name} µs"), "/s".to_owned()]);
    }
    for name in &ours {
        head.extend([format!("{name} µs"), "user µs".to_owned(), "/s".to_owned()]);
        head.extend(peers.iter().map(|peer| format!("÷ {peer}")));
    }
    let mut rows = vec![head];
    for (scenario, all) in results {
        let cell = |name: &str, column: Column| {
            running(all, name).map(|series| figure(series.spread(column).median)).unwrap_or_default()
        };
        let mut row = vec![scenario.name.to_owned()];
        for name in &peers {
            row.extend([cell(name, server_us), cell(name, rate)]);
        }
        for name in &ours {
            row.extend([cell(name, server_us), cell(name, user_us), cell(name, rate)]);
            row.extend(peers.iter().map(|peer| match (running(all, name), running(all, peer)) {
                (Some(own), Some(baseline)) => with_range(own.ratio(baseline, server_us)),
                (None, _) | (_, None) => String::new(),
            }));
        }
        rows.push(row);
    }
    format!("\n{}", aligned(&rows))
}

fn running<'a>(all: &'a [Series], name: &str) -> Option<&'a Series> {
    all.iter().find(|series| series.server.name == name && !series.runs.is_empty())
}

/// A Markdown table whose first row is its head; columns are as wide as their widest cells, so that it can be read as it
/// is. A row that stops short has a last cell that may be long.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let mut widths = vec![0; columns];
    for row in rows.iter().filter(|row| row.len() == columns) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

fn with_range(Spread { median, least, most, .. }: Spread) -> String {
    format!("{} ({} to {})", figure(median), figure(least), figure(most))
}

/// With the 95 % interval, where there is one.
fn with_interval(spread: Spread) -> String {
    let (least, most) = spread.interval.unwrap_or((spread.least, spread.most));
    with_range(Spread { least, most, ..spread })
}

/// Three or four digits that matter.
pub fn figure(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value < 100.0 => format!("{value:.2}"),
        value if value < 1000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// What the columns mean.
pub const LEGEND: &str = "
server µs   processor time of the server's processes per exchange, with the least and the most
user µs     its part outside the kernel, estimated by the kernel from its ticks
peers µs    processor time of load generator and origin per exchange
machine µs  time in which any processor was not idle, per exchange: also what the kernel did for nobody
busy %      part of one processor that the server used
others %    part of one processor used by none of these: the kernel's threads, and whatever disturbs
a ÷ b       server time of a in that of b: made within each round, their median and its 95 % interval, or of fewer
            than 6 rounds the least and the most; 'machine': the same of the whole machine's time
";
