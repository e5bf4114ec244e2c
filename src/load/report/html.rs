//! Reports as one page that needs nothing else: no network, no script. Plots are inline SVG, and each has a
//! table beside it.

use std::fmt::Write as _;

use super::compare::{self, Comparison, Side};
use super::figure::Figure;
use super::plot::{Axis, Line, Plot, STYLES};
use super::units::{self, bytes, rate, share, time};
use super::{Distribution, Interval, Report};
use crate::calendar::CivilTime;
use crate::load::statistics::Better;

const STYLE: &str = include_str!("html.css");

/// A report with its name: a file.
#[derive(Clone, Copy, Debug)]
pub struct Named<'r> {
    /// What it is called.
    pub name: &'r str,
    /// The report.
    pub report: &'r Report,
}

/// The page of one report, or of several and their comparison with the first.
pub fn page(reports: &[Named<'_>]) -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n",
    );
    let title = reports.first().map_or(String::new(), |first| first.report.targets.join(" "));
    _ = writeln!(out, "<title>xps bench: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>", escaped(&title));
    if let [only] = reports {
        _ = writeln!(out, "<header>\n<h1>xps bench</h1>\n<p>{}</p>\n</header>\n<main>", asked(only.report));
        run(&mut out, 0, only.report);
    } else {
        _ = writeln!(out, "<header>\n<h1>xps bench: {} runs</h1>\n</header>\n<main>", reports.len());
        comparison(&mut out, reports);
        for (index, Named { name, report }) in reports.iter().enumerate() {
            _ = writeln!(out, "<h2>{}</h2>\n<p class=\"note\">{}</p>", escaped(name), asked(report));
            run(&mut out, index, report);
        }
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// Text of others, for an element or an attribute. Control characters have no place in HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// What was asked, when, and how, as text of HTML.
fn asked(report: &Report) -> String {
    let seconds = i64::try_from(report.manifest.unix_seconds).unwrap_or_default();
    let how = match report.rate {
        Some(asked) => format!("open loop at {} requests/s", rate(asked)),
        None => "closed loop".to_owned(),
    };
    format!(
        "{}; {}, {how}, {} connections, {} threads, {} s; {}",
        escaped(&report.targets.join(" ")),
        escaped(&report.protocol),
        report.connections,
        report.threads,
        rate(report.seconds),
        CivilTime::from_unix_seconds(seconds)
    )
}

/// Everything about one run. `index`: of the run in the page.
fn run(out: &mut String, index: usize, report: &Report) {
    for warning in &report.warnings {
        _ = writeln!(out, "<p class=\"warning\"><strong>Warning:</strong> {}</p>", escaped(warning));
    }
    tiles(out, report);
    latency(out, index, report);
    series(out, index, report);
    counts(out, report);
    manifest(out, report);
}

/// The headline figures.
fn tiles(out: &mut String, report: &Report) {
    out.push_str("<div class=\"tiles\">\n");
    let mut tile = |title: &str, value: &str, more: &str| {
        _ = writeln!(
            out,
            "<div class=\"tile\"><h3>{}</h3><div class=\"value\">{}</div><div class=\"more\">{}</div></div>",
            escaped(title),
            escaped(value),
            escaped(more)
        );
    };
    tile("Requests a second", &rate(report.requests_per_second), &format!("{} in all", report.requests));
    if let Some(times) = report.times() {
        let highest = times.percentiles.iter().rfind(|at| at.percent <= 99.0);
        if let Some(highest) = highest {
            let median = times.percentile(50.0).map(|median| format!("half within {}, ", time(median)));
            let title = format!("{} within", units::percentile(highest.percent));
            let more = format!("{}longest {}", median.unwrap_or_default(), time(times.max));
            tile(&title, &time(highest.value), &more);
        } else {
            tile("Mean time", &time(times.mean), &format!("longest {}", time(times.max)));
        }
    }
    let errors = report.errors.total();
    let kinds = report.errors.by_name().into_iter().filter(|(_, count)| *count > 0);
    let kinds: Vec<String> = kinds.map(|(name, count)| format!("{name} {count}")).collect();
    tile("Errors", &report.error_share().map_or_else(|| errors.to_string(), share), &kinds.join(", "));
    if report.seconds > 0.0 {
        let received = bytes(report.received_bytes as f64 / report.seconds);
        let sent = bytes(report.sent_bytes as f64 / report.seconds);
        tile("Received a second", &received, &format!("sent {sent}"));
    }
    if let Some(server) = &report.server {
        let resident = bytes(server.resident_bytes_max as f64);
        tile(
            "Server's time a request",
            &time(server.microseconds_per_request / 1e3),
            &format!("{resident} resident at most"),
        );
    }
    let client = &report.client;
    let used = format!("user {}, system {}", time(client.user_seconds * 1e3), time(client.system_seconds * 1e3));
    tile("Busiest client thread", &share(client.busiest_thread_share), &used);
    out.push_str("</div>\n");
}

/// A line of the caption: what a kind of line stands for. `class`: `file` may be broken.
fn legend(style: usize, class: &str, name: &str) -> String {
    let style = style % STYLES;
    format!(
        "<span class=\"{class}\"><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"line s{style}\" d=\"M0 5H26\"/></svg>{}</span>",
        escaped(name)
    )
}

/// A plot with its caption. `legend`: of HTML.
fn figure(out: &mut String, plot: &Plot<'_>, legend: &str) {
    _ = writeln!(out, "<figure><figcaption>{}{legend}</figcaption>\n{}</figure>", escaped(plot.title), plot.svg());
}

/// A table that scrolls by itself. The first of the cells of a row names it.
fn table(out: &mut String, label: &str, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    _ = write!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>",
        escaped(label)
    );
    for head in heads {
        _ = write!(out, "<th scope=\"col\">{}</th>", escaped(head));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            _ = if column == 0 { write!(out, "<th scope=\"row\">{cell}</th>") } else { write!(out, "<td>{cell}</td>") };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// Points of a curve of percentiles: the part that is not above, and the value.
fn curve(distribution: &Distribution) -> Vec<(f64, f64)> {
    distribution.curve.iter().map(|at| (100.0 / (100.0 - at.percent), at.value)).collect()
}

/// A plot of curves over percentiles, each with its style.
fn curves<'p>(id: String, title: &'p str, curves: &[(usize, &Distribution)]) -> Plot<'p> {
    let least = curves.iter().map(|(_, values)| values.min).fold(f64::INFINITY, f64::min);
    let greatest = curves.iter().map(|(_, values)| values.max).fold(0.0, f64::max);
    let samples = curves.iter().map(|(_, values)| values.samples).max().unwrap_or_default();
    let line =
        |(style, values): &(usize, &Distribution)| Line { style: *style, points: curve(values), is_stepped: false };
    Plot {
        title,
        id,
        x: Axis::percentiles(samples as f64),
        y: Axis::log(least, greatest, axis_time),
        lines: curves.iter().map(line).collect(),
    }
}

/// A time without digits that a tick does not need: `2 ms`.
fn axis_time(millis: f64) -> String {
    let (value, unit) = match millis {
        0.0 => return "0".to_owned(),
        millis if millis < 0.999 => (millis * 1e3, "µs"),
        millis if millis < 999.0 => (millis, "ms"),
        millis => (millis / 1e3, "s"),
    };
    format!("{} {unit}", short(value))
}

/// A round number: without zeros after the point.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", short(value / 1e6)),
        value if value >= 1e4 => format!("{} k", short(value / 1e3)),
        value => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

/// Percentiles as a plot and as a table.
fn latency(out: &mut String, index: usize, report: &Report) {
    let columns: Vec<(&str, &Distribution)> =
        [("response time", report.response_time.as_ref()), ("service time", report.service_time.as_ref())]
            .into_iter()
            .filter_map(|(name, values)| values.map(|values| (name, values)))
            .collect();
    if columns.is_empty() {
        return;
    }
    out.push_str("<h3>Latency</h3>\n<div class=\"plots\">\n");
    let lines: Vec<(usize, &Distribution)> =
        columns.iter().enumerate().map(|(style, (_, values))| (style, *values)).collect();
    let names = columns.iter().enumerate().map(|(style, (name, _))| legend(style, "", name));
    let plot = curves(format!("latency-{index}"), "Time within which this part was answered", &lines);
    figure(out, &plot, &names.collect::<String>());

    let mut all: Vec<(&str, &Distribution)> = columns;
    all.extend(report.connect_time.as_ref().map(|values| ("connect", values)));
    if let Some(pacing) = &report.pacing {
        all.push(("pacing error", &pacing.error));
        all.extend(pacing.error_on_processor.as_ref().map(|values| ("on processor", values)));
    }
    let row = |name: &str, cell: &dyn Fn(&Distribution) -> Option<String>| {
        let cells = all.iter().map(|(_, values)| cell(values).unwrap_or_else(|| "–".to_owned()));
        [name.to_owned()].into_iter().chain(cells).collect::<Vec<String>>()
    };
    let mut percents: Vec<f64> =
        all.iter().flat_map(|(_, values)| values.percentiles.iter().map(|at| at.percent)).collect();
    percents.sort_by(f64::total_cmp);
    percents.dedup();
    let mut rows = vec![
        row("min", &|values| Some(time(values.min))),
        row("mean", &|values| Some(time(values.mean))),
        row("deviation", &|values| Some(time(values.deviation))),
    ];
    rows.extend(
        percents
            .iter()
            .map(|percent| row(&units::percentile(*percent), &|values| values.percentile(*percent).map(time))),
    );
    rows.push(row("max", &|values| Some(time(values.max))));
    rows.push(row("samples", &|values| Some(values.samples.to_string())));
    let heads: Vec<&str> = [""].into_iter().chain(all.iter().map(|(name, _)| *name)).collect();
    table(out, "Percentiles", &heads, rows);
    out.push_str("</div>\n");
}

/// A line of a figure over the intervals.
fn over_time(style: usize, series: &[Interval], value: impl Fn(&Interval) -> Option<f64>) -> Line {
    let used = series.iter().filter(|interval| interval.seconds > 0.0);
    let mut points: Vec<(f64, f64)> =
        used.filter_map(|interval| value(interval).map(|value| (interval.start_seconds, value))).collect();
    // The last value holds to the end of its interval.
    if let (Some(end), Some((_, value))) = (series.last(), points.last().copied()) {
        points.push((end.start_seconds + end.seconds, value));
    }
    Line { style, points, is_stepped: true }
}

/// A plot of such lines.
fn timeline(id: String, title: &str, lines: Vec<Line>, label: fn(f64) -> String) -> Plot<'_> {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let end = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let greatest = points().map(|(_, y)| *y).fold(0.0, f64::max);
    Plot {
        title,
        id,
        x: Axis::linear_to(end, |seconds| format!("{} s", short(seconds))),
        y: Axis::linear(greatest, label),
        lines,
    }
}

fn per_second(count: u64, interval: &Interval) -> f64 {
    count as f64 / interval.seconds
}

/// What happened in each interval, as plots and as a table.
fn series(out: &mut String, index: usize, report: &Report) {
    let series = &report.series;
    if series.is_empty() {
        return;
    }
    out.push_str("<h3>Over time</h3>\n<div class=\"plots\">\n");
    let rates = over_time(0, series, |interval| Some(per_second(interval.requests, interval)));
    figure(out, &timeline(format!("rate-{index}"), "Correct responses a second", vec![rates], short), "");
    let lines = vec![over_time(1, series, |interval| interval.max), over_time(0, series, |interval| interval.mean)];
    let names = legend(0, "", "mean") + &legend(1, "", "max");
    let mut times = timeline(format!("times-{index}"), "Time of a response", lines, axis_time);
    // The longest is often a hundred times the mean.
    let values = || times.lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
    // Where every request failed there is no time at all.
    if values().next().is_some() {
        times.y = Axis::log(values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max), axis_time);
        figure(out, &times, &names);
    }
    if report.errors.total() > 0 {
        let errors = over_time(3, series, |interval| Some(per_second(interval.errors, interval)));
        figure(out, &timeline(format!("errors-{index}"), "Errors a second", vec![errors], short), "");
    }
    out.push_str("</div>\n<details><summary>The same as a table</summary>\n");
    let or_dash = |millis: Option<f64>| millis.map_or_else(|| "–".to_owned(), time);
    let rows = series.iter().map(|interval| {
        let rates =
            if interval.seconds > 0.0 { rate(per_second(interval.requests, interval)) } else { "–".to_owned() };
        vec![
            format!("{} s", short(interval.start_seconds)),
            interval.requests.to_string(),
            rates,
            interval.errors.to_string(),
            or_dash(interval.mean),
            or_dash(interval.max),
        ]
    });
    table(out, "Intervals", &["from", "requests", "requests/s", "errors", "mean", "max"], rows);
    out.push_str("</details>\n");
}

/// Statuses, errors, and what was paid.
fn counts(out: &mut String, report: &Report) {
    out.push_str("<h3>Counts</h3>\n<div class=\"plots\">\n");
    let statuses = report.statuses.iter().map(|(status, count)| vec![format!("status {status}"), count.to_string()]);
    let errors = report.errors.by_name().into_iter().filter(|(_, count)| *count > 0);
    let errors = errors.map(|(name, count)| vec![format!("error {name}"), count.to_string()]);
    let mut rows: Vec<Vec<String>> = statuses.chain(errors).collect();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("bytes received", report.received_bytes.to_string());
    row("bytes sent", report.sent_bytes.to_string());
    row("connects after the start", report.connects.to_string());
    if let Some(pacing) = &report.pacing {
        row("requests due and not sent", pacing.unsent.to_string());
    }
    table(out, "Counts", &["what", "count"], rows);
    if let Some(server) = &report.server {
        let mut rows = vec![
            vec!["process".to_owned(), server.pid.to_string()],
            vec!["user".to_owned(), time(server.user_seconds * 1e3)],
            vec!["system".to_owned(), time(server.system_seconds * 1e3)],
        ];
        if let Some(ring) = &server.ring {
            rows.push(vec!["enters a request".to_owned(), rate(ring.enters_per_request)]);
            rows.push(vec!["submissions a request".to_owned(), rate(ring.submissions_per_request)]);
            rows.push(vec!["completions a request".to_owned(), rate(ring.completions_per_request)]);
        }
        table(out, "Server", &["server", "value"], rows);
    }
    out.push_str("</div>\n");
}

/// Where and how it was measured.
fn manifest(out: &mut String, report: &Report) {
    let manifest = &report.manifest;
    let unknown = || "unknown".to_owned();
    let mut rows = vec![
        ("xps".to_owned(), manifest.version.clone()),
        ("command".to_owned(), manifest.command.join(" ")),
        ("kernel".to_owned(), manifest.kernel.clone()),
        ("processor".to_owned(), manifest.processor.clone().unwrap_or_else(unknown)),
        ("usable processors".to_owned(), manifest.usable_processors.to_string()),
        ("governor".to_owned(), manifest.governor.clone().unwrap_or_else(unknown)),
        ("back-end of the client".to_owned(), manifest.backend.clone()),
    ];
    rows.extend(manifest.backend_reason.iter().map(|reason| ("because".to_owned(), reason.clone())));
    rows.extend(
        manifest.cgroup_processors.map(|count| ("processors of the control group".to_owned(), count.to_string())),
    );
    rows.extend(manifest.limits.iter().map(|(name, limit)| (format!("limit: {name}"), limit.to_string())));
    rows.extend(manifest.mitigations.iter().map(|(name, state)| (format!("mitigation: {name}"), state.clone())));
    out.push_str("<h3>Manifest</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Manifest\"><table class=\"facts\">\n");
    for (name, value) in rows {
        _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td></tr>",
            escaped(&name),
            escaped(&value)
        );
    }
    out.push_str("</table></div>\n");
}

/// Several reports beside each other.
fn comparison(out: &mut String, reports: &[Named<'_>]) {
    let sides: Vec<Side<'_>> =
        reports.iter().map(|named| Side { name: named.name, reports: vec![named.report] }).collect();
    let all: Vec<&Report> = reports.iter().map(|named| named.report).collect();
    if let Err(refused) = compare::check_environment(&all) {
        let differences = refused
            .differences
            .iter()
            .map(|difference| format!("{} ({})", difference.what, difference.values.join(", ")));
        let differences = differences.collect::<Vec<_>>().join("; ");
        _ = writeln!(
            out,
            "<p class=\"warning\"><strong>The environments differ:</strong> {}</p>",
            escaped(&differences)
        );
    }
    out.push_str("<h2>Comparison</h2>\n<div class=\"plots\">\n");
    let names = reports.iter().enumerate().map(|(style, named)| legend(style, "file", named.name));
    let names: String = names.collect();
    let times: Vec<(usize, &Distribution)> = reports
        .iter()
        .enumerate()
        .filter_map(|(style, named)| named.report.times().map(|times| (style, times)))
        .collect();
    if !times.is_empty() {
        let title = "Time within which this part was answered";
        figure(out, &curves("latency-all".to_owned(), title, &times), &names);
    }
    let rates = reports.iter().enumerate().map(|(style, named)| {
        over_time(style, &named.report.series, |interval| Some(per_second(interval.requests, interval)))
    });
    let plot = timeline("rate-all".to_owned(), "Correct responses a second", rates.collect(), short);
    figure(out, &plot, &names);
    out.push_str("</div>\n");
    // The differences are shown above.
    if let Ok(comparison) = compare::compare(&sides, true) {
        comparison_table(out, &comparison);
    }
}

fn comparison_table(out: &mut String, comparison: &Comparison) {
    out.push_str(
        "<h3>Figures</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures\"><table><thead><tr><th scope=\"col\"></th>",
    );
    for (name, _) in &comparison.sides {
        _ = write!(out, "<th scope=\"col\">{}</th>", escaped(name));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in &comparison.rows {
        _ = write!(out, "<tr><th scope=\"row\">{}</th>", escaped(&row.figure.name()));
        for cell in &row.sides {
            match cell {
                Some(cell) => {
                    let ratio = cell.ratio.map(|ratio| ratio_text(row.figure, ratio)).unwrap_or_default();
                    _ = write!(out, "<td>{}{ratio}</td>", escaped(&row.figure.show(cell.median)));
                }
                None => out.push_str("<td>–</td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// The ratio to the first, in the colour of its direction.
fn ratio_text(figure: Figure, ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    let is_better = (ratio > 1.0) == (figure.better() == Better::Higher);
    let class = if percent.abs() < 0.05 {
        ""
    } else if is_better {
        "better"
    } else {
        "worse"
    };
    format!(" <span class=\"{class}\">{percent:+.1} %</span>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::sample;

    /// What each element has to end with, in order: tags are closed as they were opened.
    fn assert_well_formed(page: &str) {
        const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
        let mut open: Vec<&str> = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_default();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    fn one(report: &Report) -> String {
        page(&[Named { name: "a.json", report }])
    }

    #[test]
    fn the_page_has_figures_plots_tables_and_the_manifest() {
        let page = one(&sample::open());
        assert_well_formed(&page);
        for text in [
            "10000",
            "<title id=\"latency-0\">",
            "<title id=\"rate-0\">",
            "<title id=\"times-0\">",
            "service time",
            "response time",
            "99.99 %",
            "2026-09-21T",
            "Retpolines",
            "Warning:",
        ] {
            assert!(page.contains(text), "{text} is missing");
        }
        assert!(!page.contains("errors-0"), "there were none");
        assert_eq!(page.matches("<svg viewBox=\"0 0 420").count(), page.matches("role=\"img\"").count());
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = one(&sample::closed());
        for word in ["<script", "<link", "<img", "src=", "url(", "@import", "xlink", "<iframe"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(!page.replace("http://127.0.0.1:8080/index.html", "").contains("http"));
        assert!(page.len() < 60_000, "{} bytes", page.len());
    }

    #[test]
    fn a_run_that_failed_has_a_page_too() {
        let page = one(&sample::failed());
        assert_well_formed(&page);
        assert!(page.contains("connect 1000") && !page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn text_of_others_cannot_become_markup() {
        const EVIL: &str = "\"><script>alert('1')</script>&\u{0}";
        let mut report = sample::open();
        report.targets = vec![EVIL.to_owned()];
        report.protocol = EVIL.to_owned();
        report.warnings = vec![EVIL.to_owned()];
        let manifest = &mut report.manifest;
        for text in [&mut manifest.version, &mut manifest.kernel, &mut manifest.backend] {
            *text = EVIL.to_owned();
        }
        (manifest.processor, manifest.governor) = (Some(EVIL.to_owned()), Some(EVIL.to_owned()));
        manifest.backend_reason = Some(EVIL.to_owned());
        manifest.command = vec![EVIL.to_owned()];
        manifest.mitigations = [(EVIL.to_owned(), EVIL.to_owned())].into();
        manifest.limits = [(EVIL.to_owned(), 1)].into();
        let other = sample::closed();
        let page = page(&[Named { name: EVIL, report: &report }, Named { name: "b", report: &other }]);
        assert_well_formed(&page);
        assert!(!page.contains("<script") && !page.contains('\u{0}') && !page.contains("alert('"));
        assert!(page.contains("&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;\u{fffd}"));
    }

    #[test]
    fn several_reports_are_compared() {
        let (a, mut b) = (sample::closed(), sample::closed());
        b.requests_per_second *= 1.1;
        b.manifest.kernel = "6.1.0".to_owned();
        let page = page(&[Named { name: "a.json", report: &a }, Named { name: "b.json", report: &b }]);
        assert_well_formed(&page);
        assert!(page.contains("<td>21999 <span class=\"better\">+10.0 %</span></td>"), "{page}");
        assert!(page.contains("The environments differ:</strong> kernel (6.12.1, 6.1.0)</p>"));
        let mut ids: Vec<&str> =
            page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "ids are unique");
    }
}
