//! A report as text for a terminal, at most 80 columns wide.

use std::fmt::Write as _;

use super::units::{self, bytes, printable, rate, share, time, time_column};
use super::{Distribution, Report};

/// The widest line.
const WIDTH: usize = 80;

/// The width of the first column.
const LABEL: usize = 12;

/// Targets that are listed.
const TARGETS_MAX: usize = 4;

/// The report as a table. Control characters in what others wrote are escaped.
pub fn text(report: &Report) -> String {
    let mut out = Lines::default();
    asked(report, &mut out);
    out.blank();
    throughput(report, &mut out);
    out.blank();
    times(report, &mut out);
    costs(report, &mut out);
    if !report.warnings.is_empty() {
        out.blank();
        for warning in &report.warnings {
            out.wrapped("warning:", &printable(warning));
        }
    }
    out.text
}

/// Lines of a label and the rest.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A line that is cut off at the width.
    fn line(&mut self, label: &str, rest: &str) {
        let line = format!("{label:<LABEL$}{rest}");
        let line = line.trim_end();
        if line.chars().count() > WIDTH {
            self.text.extend(line.chars().take(WIDTH - 1));
            self.text.push('…');
        } else {
            self.text.push_str(line);
        }
        self.text.push('\n');
    }

    /// As many lines as the words need. A word that is longer than a line is cut off.
    fn wrapped(&mut self, label: &str, words: &str) {
        let mut label = label;
        let mut line = String::new();
        for word in words.split_whitespace() {
            if !line.is_empty() && LABEL + line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(std::mem::take(&mut label), &line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(label, &line);
    }
}

/// What was asked of whom, and how often.
fn asked(report: &Report, out: &mut Lines) {
    let mut label = "Target";
    for target in report.targets.iter().take(TARGETS_MAX) {
        out.line(std::mem::take(&mut label), &printable(target));
    }
    if report.targets.len() > TARGETS_MAX {
        out.line("", &format!("and {} more", report.targets.len() - TARGETS_MAX));
    }
    let mut how = format!(
        "{}, {} on {}",
        printable(&report.protocol),
        counted(report.connections, "connection"),
        counted(report.threads, "thread")
    );
    if report.requests_per_connection_max > 1 {
        _ = write!(how, ", up to {} requests at a time on each", report.requests_per_connection_max);
    }
    out.wrapped("", &how);
    let seconds = rate(report.seconds);
    match report.rate {
        Some(asked) => out.line("", &format!("open loop, {} requests/s for {seconds} s", rate(asked))),
        None => out.line("", &format!("closed loop for {seconds} s")),
    }
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// How much came, and what did not.
fn throughput(report: &Report, out: &mut Lines) {
    let mut row = |label: &str, total: &str, per_second: &str| {
        out.line(label, &format!("{total:>13}{per_second:>13}"));
    };
    let per_second = |count: u64| {
        let value = if report.seconds > 0.0 { count as f64 / report.seconds } else { 0.0 };
        format!("{}/s", bytes(value))
    };
    row("Requests", &report.requests.to_string(), &format!("{}/s", rate(report.requests_per_second)));
    row("Received", &bytes(report.received_bytes as f64), &per_second(report.received_bytes));
    row("Sent", &bytes(report.sent_bytes as f64), &per_second(report.sent_bytes));
    let errors = report.errors.total();
    let all = errors + report.requests;
    let part = if errors == 0 { String::new() } else { share(errors as f64 / all as f64) };
    row("Errors", &errors.to_string(), &part);
    for (name, count) in report.errors.by_name().into_iter().filter(|(_, count)| *count > 0) {
        row(&format!("  {name}"), &count.to_string(), &share(count as f64 / all as f64));
    }
    if let Some(unsent) = report.pacing.as_ref().map(|pacing| pacing.unsent).filter(|unsent| *unsent > 0) {
        row("Unsent", &unsent.to_string(), "");
    }
    let mut label = "Statuses";
    for (status, count) in &report.statuses {
        row(std::mem::take(&mut label), &count.to_string(), &status.to_string());
    }
}

/// The distributions beside each other. A percentile that the number of values does not support has no
/// row, or a dash if another column has it.
fn times(report: &Report, out: &mut Lines) {
    let pacing = report.pacing.as_ref();
    let columns: Vec<(&str, &Distribution)> = [
        ("response", report.response_time.as_ref()),
        ("service", report.service_time.as_ref()),
        ("connect", report.connect_time.as_ref()),
        ("pacing", pacing.map(|pacing| &pacing.error)),
        ("(on cpu)", pacing.and_then(|pacing| pacing.error_on_processor.as_ref())),
    ]
    .into_iter()
    .filter_map(|(name, values)| values.map(|values| (name, values)))
    .collect();
    if columns.is_empty() {
        return;
    }
    let mut line = |label: &str, cells: &mut dyn Iterator<Item = String>| {
        out.line(label, &cells.map(|cell| format!("{cell:>13}")).collect::<String>());
    };
    let cells = |cell: &dyn Fn(&Distribution) -> Option<f64>| -> Vec<String> {
        let none = || format!("{:>7}   ", "–");
        columns.iter().map(|(_, values)| cell(values).map_or_else(none, time_column)).collect()
    };
    let mut percents: Vec<f64> =
        columns.iter().flat_map(|(_, values)| values.percentiles.iter().map(|at| at.percent)).collect();
    percents.sort_by(f64::total_cmp);
    percents.dedup();
    line("Time", &mut columns.iter().map(|(name, _)| (*name).to_owned()));
    line("  min", &mut cells(&|values| Some(values.min)).into_iter());
    line("  mean", &mut cells(&|values| Some(values.mean)).into_iter());
    line("  deviation", &mut cells(&|values| Some(values.deviation)).into_iter());
    for percent in percents {
        let label = format!("  {:>8}", units::percentile(percent));
        line(&label, &mut cells(&|values| values.percentile(percent)).into_iter());
    }
    line("  max", &mut cells(&|values| Some(values.max)).into_iter());
    line("  samples", &mut columns.iter().map(|(_, values)| values.samples.to_string()));
    out.blank();
}

/// What the server and the load generator paid.
fn costs(report: &Report, out: &mut Lines) {
    if report.connect_time.is_some() {
        out.line("Connects", &format!("{} after the start", report.connects));
    }
    if let Some(server) = &report.server {
        let each = |seconds: f64| {
            if report.requests == 0 { 0.0 } else { seconds * 1e3 / report.requests as f64 }
        };
        let user = time(each(server.user_seconds));
        let system = time(each(server.system_seconds));
        let all = time(server.microseconds_per_request / 1e3);
        out.line("Server", &format!("{all} of processor time a request (user {user}, system {system})"));
        out.line("", &format!("process {}, {} resident at most", server.pid, bytes(server.resident_bytes_max as f64)));
        if let Some(ring) = &server.ring {
            out.line(
                "",
                &format!(
                    "a request: {} enters, {} submissions, {} completions",
                    rate(ring.enters_per_request),
                    rate(ring.submissions_per_request),
                    rate(ring.completions_per_request)
                ),
            );
        }
    }
    let client = &report.client;
    out.line(
        "Client",
        &format!(
            "user {}, system {}, busiest thread ran {} of the time",
            time(client.user_seconds * 1e3),
            time(client.system_seconds * 1e3),
            share(client.busiest_thread_share)
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::sample;

    #[test]
    fn a_closed_loop_is_shown_as_a_table() {
        let text = text(&sample::closed());
        assert_eq!(text, CLOSED, "\n{text}");
    }

    #[test]
    fn an_open_loop_shows_response_times_pacing_and_warnings_last() {
        let text = text(&sample::open());
        let header = text.lines().find(|line| line.starts_with("Time")).expect("a header");
        let names: Vec<&str> = header.split_whitespace().collect();
        assert_eq!(names, ["Time", "response", "service", "connect", "pacing", "(on", "cpu)"]);
        assert!(text.contains("open loop, 10000 requests/s for 10.0 s"), "{text}");
        assert!(text.contains("Unsent                 12\n"), "{text}");
        let (_, warning) = text.split_once("\nwarning:").expect("a warning");
        assert!(warning.ends_with("use more threads\n"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let mut long = sample::open();
        long.targets = vec!["http://example.org/".repeat(20); 9];
        long.warnings.push("word".repeat(100));
        long.statuses = (200..260).map(|status| (status, u64::MAX / 100)).collect();
        long.received_bytes = u64::MAX;
        long.requests = u64::MAX / 2;
        for report in [sample::closed(), sample::open(), sample::failed(), long] {
            let text = text(&report);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(WIDTH), "{text}");
            assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        }
    }

    #[test]
    fn a_percentile_without_enough_values_has_no_row() {
        let mut report = sample::closed();
        report.service_time = sample::distribution(200, 90_000, 40);
        report.connect_time = None;
        let text = text(&report);
        assert!(text.contains("  95 %  "), "{text}");
        assert!(!text.contains("  99 %  ") && !text.contains("–"), "{text}");
    }

    #[test]
    fn only_errors_that_occurred_are_listed() {
        let text = text(&sample::failed());
        assert!(text.contains("  connect            1000        100 %\n"), "{text}");
        assert!(!text.contains("timeout") && !text.contains("Time ") && !text.contains("\n\n\n"), "{text}");
    }

    #[test]
    fn what_others_wrote_cannot_command_the_terminal() {
        let mut report = sample::closed();
        report.targets = vec!["http://a/\u{1b}[2J".to_owned()];
        report.warnings = vec!["\u{7}".to_owned()];
        let text = text(&report);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }

    const CLOSED: &str = "\
Target      http://127.0.0.1:8080/index.html
            HTTP/1.1, 64 connections on 2 threads
            closed loop for 10.0 s

Requests           199990      19999/s
Received          172 MiB   17.2 MiB/s
Sent             11.4 MiB   1.14 MiB/s
Errors                  3     0.0015 %
  reset                 2     0.0010 %
  timeout               1    0.00050 %
Statuses           199990          200
                       10          503

Time              service      connect
  min             67.5 µs      45.2 µs
  mean            91.9 µs      63.1 µs
  deviation       26.8 µs      20.1 µs
      50 %        90.0 µs      59.8 µs
      75 %         101 µs      67.4 µs
      90 %         109 µs         –
      95 %         115 µs         –
      99 %         148 µs         –
    99.9 %         349 µs         –
   99.99 %         935 µs         –
  max             3.62 ms       195 µs
  samples          200000           64

Connects    3 after the start
Server      15.0 µs of processor time a request (user 4.50 µs, system 10.5 µs)
            process 4711, 11.8 MiB resident at most
            a request: 0.12 enters, 2.00 submissions, 3.01 completions
Client      user 3.20 s, system 5.10 s, busiest thread ran 62.0 % of the time
";
}
