//! The figures as plain text: for pipes, files and terminals that cannot be drawn on.

use std::fmt::Write as _;

use super::figures::{Figures, Totals};
use super::text::{age, bytes, number, percent, seconds};

/// Everything, as tables.
pub(super) fn tables(figures: &Figures) -> String {
    let mut text = format!("{}\n", title(figures));
    for (name, value, more) in tiles(&figures.totals) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<22}{value:>12}   {more}");
    }
    let routes = figures.routes.iter().map(route_cells);
    text.push_str(&table(&ROUTE_HEADS, routes));
    let upstreams = figures.upstreams.iter().map(upstream_cells);
    text.push_str(&table(&UPSTREAM_HEADS, upstreams));
    text
}

/// The head of the lines of [`line`].
pub(super) const HEAD: &str = "      requests/s    half    99 %   5xx  connections      sent/s  cpu";

/// The totals on one line.
pub(super) fn line(
    Totals { requests, half_within, most_within, failed, connections, sent_bytes, processors, .. }: &Totals,
) -> String {
    format!(
        "{:>16}{:>8}{:>8}{:>6}{:>13}{:>12}{:>5}",
        number(*requests),
        seconds(*half_within),
        seconds(*most_within),
        percent(*failed),
        number(*connections),
        bytes(*sent_bytes),
        percent(*processors),
    )
}

/// The server in one line.
pub(super) fn title(figures: &Figures) -> String {
    let Figures { version, backend, workers, uptime, .. } = figures;
    let uptime = uptime.map(|uptime| format!(", up {}", age(uptime))).unwrap_or_default();
    format!("xps {version} - {backend}, {workers} workers{uptime}")
}

/// The totals: name, value and what else belongs to it.
pub(super) fn tiles(totals: &Totals) -> [(&'static str, String, String); 7] {
    let Totals { requests, in_flight, failed, half_within, most_within, connections, accepted, .. } = *totals;
    let Totals {
        sent_bytes, received_bytes, processors, processor_time, ring_enters, memory_bytes, descriptors, ..
    } = *totals;
    [
        ("requests a second", number(requests), format!("{} in flight, {} failed", number(in_flight), percent(failed))),
        ("99 of 100 within", seconds(most_within), format!("half within {}", seconds(half_within))),
        ("open connections", number(connections), format!("{} new a second", number(accepted))),
        ("sent a second", bytes(sent_bytes), format!("received {}", bytes(received_bytes))),
        ("processor", percent(processors), format!("{} a request", seconds(processor_time))),
        ("ring calls a request", number(ring_enters), String::new()),
        ("memory", bytes(memory_bytes), format!("{} descriptors", number(descriptors))),
    ]
}

pub(super) const ROUTE_HEADS: [&str; 9] = ["host", "route", "requests/s", "2xx", "3xx", "4xx", "5xx", "half", "99 %"];

pub(super) fn route_cells(row: &super::figures::RouteRow) -> [String; 9] {
    let [ok, elsewhere, refused, failed] = row.statuses.map(number);
    let (half, most) = (seconds(row.half_within), seconds(row.most_within));
    [row.host.clone(), row.route.clone(), number(row.requests), ok, elsewhere, refused, failed, half, most]
}

pub(super) const UPSTREAM_HEADS: [&str; 10] =
    ["group", "address", "state", "requests/s", "in flight", "idle", "connect", "response", "retries", "failures"];

pub(super) fn upstream_cells(row: &super::figures::UpstreamRow) -> [String; 10] {
    let state = if row.state.is_empty() { "not checked" } else { &row.state };
    [
        row.group.clone(),
        row.address.clone(),
        state.to_owned(),
        number(row.requests),
        number(row.in_flight),
        number(row.idle),
        seconds(row.connect),
        seconds(row.response),
        number(row.retries),
        number(row.failures),
    ]
}

/// A table, or nothing if it has no row. The first two columns are texts.
fn table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    if rows.len() == 1 {
        return String::new();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::from("\n");
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = if column < 2 { write!(text, "{cell:<width$}  ") } else { write!(text, "{cell:>width$}  ") };
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}
