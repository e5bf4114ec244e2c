//! Reports beside each other: `xps compare`, and `--baseline` with `--max-regression`.
//!
//! Reports of different environments do not compare: what differs between them is then not known to be
//! what one wants to compare. They are refused, unless the caller allows it.

use std::fmt;
use std::fmt::Write as _;

use super::Report;
use super::figure::Figure;
use super::units::{printable, rate, share};
use crate::load::statistics::{Better, median};

/// Runs of the same thing.
#[derive(Clone, Debug)]
pub struct Side<'r> {
    /// What it is called: a file.
    pub name: &'r str,
    /// One report for each run.
    pub reports: Vec<&'r Report>,
}

/// What differs between the environments of reports, and does not belong to what is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentDifference {
    /// What differs: `kernel`.
    pub what: &'static str,
    /// Each value that it has, in the order of the reports.
    pub values: Vec<String>,
}

/// Reports that are not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub differences: Vec<EnvironmentDifference>,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reports are of different environments: ")?;
        for (index, EnvironmentDifference { what, values }) in self.differences.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{what} ({})", values.join(", "))?;
        }
        f.write_str("; --any-environment compares them nevertheless")
    }
}

/// One figure of several sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The figure.
    pub figure: Figure,
    /// Of each side. `None` if one of its reports lacks the figure.
    pub sides: Vec<Option<Cell>>,
}

/// One figure of one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The median of the runs.
    pub median: f64,
    /// The difference between greatest and least, as a part of the median. `None` with one run.
    pub spread: Option<f64>,
    /// The median divided by the first side's. `None` for the first side, and where that has none or 0.
    pub ratio: Option<f64>,
}

/// Sides beside each other; the first is the one that the others are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Names of the sides and the number of their runs.
    pub sides: Vec<(String, usize)>,
    /// The figures that at least one side has.
    pub rows: Vec<Row>,
}

/// Compares sides. `any_environment`: even if their environments differ.
pub fn compare(sides: &[Side<'_>], any_environment: bool) -> Result<Comparison, Refused> {
    let reports: Vec<&Report> = sides.iter().flat_map(|side| side.reports.iter().copied()).collect();
    if !any_environment {
        check_environment(&reports)?;
    }
    let mut rows = Vec::new();
    for figure in Figure::COMPARED {
        let mut cells: Vec<Option<Cell>> = Vec::new();
        for side in sides {
            let values: Option<Vec<f64>> = side.reports.iter().map(|report| figure.value(report)).collect();
            let first = cells.first().copied();
            cells.push(values.and_then(|values| cell(&values, first)));
        }
        if cells.iter().any(Option::is_some) {
            rows.push(Row { figure, sides: cells });
        }
    }
    let sides = sides.iter().map(|side| (side.name.to_owned(), side.reports.len())).collect();
    Ok(Comparison { sides, rows })
}

/// `first`: the first side's, which the first side itself does not have.
fn cell(values: &[f64], first: Option<Option<Cell>>) -> Option<Cell> {
    let median = median(values)?;
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let spread = (values.len() > 1 && median > 0.0).then(|| (max - min) / median);
    let ratio = first.flatten().filter(|first| first.median > 0.0).map(|first| median / first.median);
    Some(Cell { median, spread, ratio })
}

/// Refuses reports that were not measured in the same environment, in the same way.
pub fn check_environment(reports: &[&Report]) -> Result<(), Refused> {
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let values: Vec<[(&'static str, String); 12]> = reports
        .iter()
        .map(|report| {
            let manifest = &report.manifest;
            let mitigations: Vec<String> =
                manifest.mitigations.iter().map(|(name, state)| format!("{name}: {state}")).collect();
            [
                ("kernel", manifest.kernel.clone()),
                ("processor", or_unknown(manifest.processor.clone())),
                ("usable processors", manifest.usable_processors.to_string()),
                (
                    "processors of the control group",
                    or_unknown(manifest.cgroup_processors.map(|count| count.to_string())),
                ),
                ("governor", or_unknown(manifest.governor.clone())),
                ("mitigations", mitigations.join("; ")),
                ("back-end", manifest.backend.clone()),
                ("protocol", report.protocol.clone()),
                ("connections", report.connections.to_string()),
                ("requests at a time", report.requests_per_connection_max.to_string()),
                ("threads", report.threads.to_string()),
                ("rate", report.rate.map_or_else(|| "none".to_owned(), rate)),
            ]
        })
        .collect();
    let mut differences = Vec::new();
    if let Some(first) = values.first() {
        for (index, (what, _)) in first.iter().enumerate() {
            let mut seen: Vec<String> = Vec::new();
            for value in values.iter().map(|values| &values[index].1) {
                if !seen.contains(value) {
                    seen.push(value.clone());
                }
            }
            if seen.len() > 1 {
                differences.push(EnvironmentDifference { what, values: seen });
            }
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(Refused { differences }) }
}

/// A figure that is worse than in the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// The figure.
    pub figure: String,
    /// The baseline's, with its unit.
    pub before: String,
    /// The new one.
    pub now: String,
    /// The new one divided by the baseline's; infinite if that is 0.
    pub ratio: f64,
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, before, now, ratio } = self;
        write!(f, "{figure}: {now}, and {before} in the baseline")?;
        if ratio.is_finite() { write!(f, " ({:+.1} %)", (ratio - 1.0) * 100.0) } else { Ok(()) }
    }
}

/// The figures that are worse than the baseline's by more than `max`, a part of 1: rate, share of errors,
/// processor time of the server for a request, mean, and percentiles up to 99. Higher ones differ more between equal
/// runs than any limit that is of use. Errors where the baseline has none are a regression.
pub fn regressions(
    baseline: &Report,
    now: &Report,
    max: f64,
    any_environment: bool,
) -> Result<Vec<Regression>, Refused> {
    if !any_environment {
        check_environment(&[baseline, now])?;
    }
    let mut found = Vec::new();
    for figure in Figure::COMPARED {
        match figure {
            Figure::Max => continue,
            Figure::Percentile(percent) if percent > 99.0 => continue,
            _ => {}
        }
        let (Some(before), Some(after)) = (figure.value(baseline), figure.value(now)) else { continue };
        let is_worse = match figure.better() {
            Better::Higher => after < before * (1.0 - max),
            Better::Lower => after > before * (1.0 + max),
        };
        if is_worse {
            found.push(Regression {
                figure: figure.name(),
                before: figure.show(before),
                now: figure.show(after),
                ratio: after / before,
            });
        }
    }
    Ok(found)
}

/// The comparison as text, at most 80 columns wide: a table for each side but the first.
pub fn text(comparison: &Comparison) -> String {
    const NAME_MAX: usize = 60;
    let mut out = String::new();
    let letter =
        |side: usize| u8::try_from(side).ok().filter(|side| *side < 26).map_or('?', |side| char::from(b'A' + side));
    for (side, (name, runs)) in comparison.sides.iter().enumerate() {
        let name: String = printable(name).chars().take(NAME_MAX).collect();
        let runs = if *runs == 1 { String::new() } else { format!(" ({runs} runs)") };
        _ = writeln!(out, "{}  {name}{runs}", letter(side));
    }
    let has_spread = |side: usize| comparison.sides[side].1 > 1;
    for other in 1..comparison.sides.len() {
        let mut line = |figure: &str, cells: [&str; 5]| {
            let [a, a_spread, b, b_spread, ratio] = cells;
            let line = format!("{figure:<12}{a:>12}{a_spread:>12}{b:>12}{b_spread:>12}{ratio:>9}");
            _ = writeln!(out, "{}", line.trim_end());
        };
        let heading = |side: usize| if has_spread(side) { "spread" } else { "" };
        let (a, b) = (letter(0).to_string(), letter(other).to_string());
        line("", [""; 5]);
        line("", [&a, heading(0), &b, heading(other), &format!("{b}/{a}")]);
        for row in &comparison.rows {
            let show =
                |side: usize| row.sides[side].map_or_else(|| "–".to_owned(), |cell| row.figure.show(cell.median));
            let spread = |side: usize| row.sides[side].and_then(|cell| cell.spread).map(share).unwrap_or_default();
            let ratio = row.sides[other].and_then(|cell| cell.ratio).map(|ratio| format!("{ratio:.3}"));
            let ratio = ratio.unwrap_or_else(|| "–".to_owned());
            line(&row.figure.name(), [&show(0), &spread(0), &show(other), &spread(other), &ratio]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::{ErrorCounts, sample};

    fn with_rate(per_second: f64) -> Report {
        Report { requests_per_second: per_second, ..sample::closed() }
    }

    fn side<'r>(name: &'r str, reports: &'r [Report]) -> Side<'r> {
        Side { name, reports: reports.iter().collect() }
    }

    #[test]
    fn sides_are_compared_with_the_first() {
        let a = [with_rate(10_000.0)];
        let mut b = [with_rate(12_000.0)];
        b[0].server = None;
        let comparison = compare(&[side("a.json", &a), side("b.json", &b)], false).expect("the same environment");
        let rate = &comparison.rows[0];
        assert_eq!(rate.figure, Figure::Rate);
        assert_eq!(rate.sides[0].map(|cell| (cell.ratio, cell.spread)), Some((None, None)));
        assert_eq!(rate.sides[1].and_then(|cell| cell.ratio), Some(1.2));
        let cpu = comparison.rows.iter().find(|row| row.figure == Figure::ServerTime).expect("one side has it");
        assert!(cpu.sides[0].is_some() && cpu.sides[1].is_none());
    }

    #[test]
    fn of_several_runs_there_are_median_and_spread() {
        let a = [9_000.0, 10_000.0, 11_000.0].map(with_rate);
        let b = [20_000.0, 20_000.0].map(with_rate);
        let comparison = compare(&[side("a", &a), side("b", &b)], false).expect("the same environment");
        let [Some(a), Some(b)] = comparison.rows[0].sides[..] else { panic!("two sides") };
        assert_eq!((a.median, a.spread), (10_000.0, Some(0.2)));
        assert_eq!((b.median, b.spread, b.ratio), (20_000.0, Some(0.0), Some(2.0)));
    }

    #[test]
    fn the_text_is_a_table_for_each_further_side() {
        let a = [9_000.0, 10_000.0, 11_000.0].map(with_rate);
        let b = [with_rate(20_000.0)];
        let c = [sample::failed()];
        let long = "long".repeat(50);
        let sides = [side("a.json", &a), side(&long, &b), side("\u{1b}c", &c)];
        let text = text(&compare(&sides, false).expect("the same environment"));
        assert!(text.lines().all(|line| line.chars().count() <= 80 && line.trim_end() == line), "{text}");
        assert!(text.starts_with("A  a.json (3 runs)\nB  longlong"), "{text}");
        assert!(text.contains("\nC  \\u{1b}c\n"), "{text}");
        assert!(text.contains("\nrequests/s         10000      20.0 %       20000                2.000\n"), "{text}");
        assert!(text.contains("\nmean             91.9 µs      0.00 %           –                    –\n"), "{text}");
        assert_eq!(text.matches("\nrequests/s ").count(), 2, "{text}");
    }

    #[test]
    fn different_environments_are_refused_by_name() {
        let a = [sample::closed()];
        let mut b = [sample::closed()];
        b[0].manifest.kernel = "6.1.0".to_owned();
        b[0].manifest.unix_seconds += 100;
        b[0].connections = 8;
        b[0].rate = Some(500.0);
        let sides = [side("a", &a), side("b", &b)];
        let refused = compare(&sides, false).expect_err("another kernel");
        assert_eq!(
            refused.to_string(),
            "the reports are of different environments: kernel (6.12.1, 6.1.0); connections (64, 8); rate (none, 500); \
             --any-environment compares them nevertheless"
        );
        assert!(compare(&sides, true).is_ok());
        assert_eq!(regressions(&a[0], &b[0], 0.05, false), Err(refused));
    }

    #[test]
    fn what_is_worse_than_the_baseline_is_named() {
        let baseline = sample::closed();
        let found = |now: &Report| regressions(&baseline, now, 0.05, false).expect("the same environment");
        assert_eq!(found(&baseline), []);
        assert_eq!(found(&with_rate(19_100.0)), []);
        assert_eq!(found(&with_rate(40_000.0)), []);
        let slower = found(&with_rate(18_000.0));
        let texts: Vec<String> = slower.iter().map(Regression::to_string).collect();
        assert_eq!(texts, ["requests/s: 18000, and 19999 in the baseline (-10.0 %)"]);

        let mut now = sample::closed();
        now.service_time = sample::distribution(200_000, 99_000, 40);
        let figures: Vec<String> = found(&now).into_iter().map(|regression| regression.figure).collect();
        assert_eq!(figures, ["mean", "50 %", "90 %", "99 %"]);
    }

    #[test]
    fn errors_are_a_regression_where_there_were_none() {
        let baseline = Report { errors: ErrorCounts::default(), ..sample::closed() };
        let found = regressions(&baseline, &sample::closed(), 0.05, false).expect("the same environment");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "errors: 0.0015 %, and 0.00 % in the baseline");
    }
}
