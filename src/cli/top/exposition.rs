//! Reads metrics in the text format of Prometheus, and what happened between two readings.

use std::collections::BTreeMap;
use std::time::Instant;

/// The labels of a series: names and values.
pub(super) type Labels<'l> = &'l [(&'l str, &'l str)];

/// All series of a server at one moment.
#[derive(Debug)]
pub(in crate::cli) struct Moment {
    at: Instant,
    families: BTreeMap<String, Vec<Series>>,
}

/// One sample: its labels, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Series {
    /// The value of a label, or an empty text.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(super) const fn value(&self) -> f64 {
        self.value
    }

    fn matches(&self, wanted: Labels<'_>) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == *value)
    }
}

impl Moment {
    /// The series in this text. Lines that are not samples are skipped.
    pub(in crate::cli) fn parse(text: &str, at: Instant) -> Self {
        let mut families: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for (name, series) in text.lines().filter_map(sample) {
            families.entry(name.to_owned()).or_default().push(series);
        }
        Self { at, families }
    }

    /// The series of a family.
    pub(super) fn family(&self, name: &str) -> &[Series] {
        self.families.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum of the series with these labels.
    pub(in crate::cli) fn sum(&self, name: &str, wanted: Labels<'_>) -> f64 {
        // The sum of no number at all is -0.
        self.family(name).iter().filter(|series| series.matches(wanted)).map(Series::value).sum::<f64>() + 0.0
    }

    /// The value of the series with exactly these labels; 0 if it is not there yet.
    fn value(&self, name: &str, labels: &[(String, String)]) -> f64 {
        self.family(name).iter().find(|series| series.labels == labels).map_or(0.0, Series::value)
    }
}

/// A line `name{label="value",…} number`.
fn sample(line: &str) -> Option<(&str, Series)> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Series { labels, value }))
}

/// The value up to its closing quote, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'m> {
    old: &'m Moment,
    now: &'m Moment,
}

impl<'m> Span<'m> {
    pub(super) const fn new(old: &'m Moment, now: &'m Moment) -> Self {
        Self { old, now }
    }

    /// Its end.
    pub(super) const fn now(&self) -> &'m Moment {
        self.now
    }

    /// By how much the counters with these labels have grown. One that is smaller than before has been
    /// started again.
    pub(super) fn grown(&self, name: &str, wanted: Labels<'_>) -> f64 {
        let grown = |series: &Series| (series.value - self.old.value(name, &series.labels)).max(0.0);
        self.now.family(name).iter().filter(|series| series.matches(wanted)).map(grown).sum::<f64>() + 0.0
    }

    /// The same, for each second.
    pub(super) fn rate(&self, name: &str, wanted: Labels<'_>) -> f64 {
        let seconds = self.now.at.duration_since(self.old.at).as_secs_f64();
        if seconds > 0.0 { self.grown(name, wanted) / seconds } else { 0.0 }
    }

    /// The value below which this part of the observations of a histogram is, linear within a bucket.
    /// `None`: nothing was observed.
    pub(super) fn quantile(&self, name: &str, part: f64, wanted: Labels<'_>) -> Option<f64> {
        let family = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for series in self.now.family(&family).iter().filter(|series| series.matches(wanted)) {
            let bound = series.label("le").parse().unwrap_or(f64::INFINITY);
            let count = (series.value - self.old.value(&family, &series.labels)).max(0.0);
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let (mut below, mut from) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= part * all {
                let inside = if count > below { (part * all - below) / (count - below) } else { 0.0 };
                return Some(if bound.is_finite() { from + (bound - from) * inside } else { from });
            }
            (below, from) = (count, bound);
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a Text.\n# TYPE a counter\na 1\nb{x=\"1\",y=\"q\\\"\\\\\\n}\"} 2.5\nc{le=\"+Inf\"} 3 99\nbroken{x=\"1\n\n";
        let moment = Moment::parse(text, Instant::now());
        assert_eq!(moment.sum("a", &[]), 1.0);
        assert_eq!(moment.family("b")[0].label("y"), "q\"\\\n}");
        assert_eq!(moment.family("b")[0].label("z"), "");
        assert_eq!(moment.sum("b", &[("x", "1")]), 2.5);
        assert_eq!(moment.sum("b", &[("x", "2")]), 0.0);
        assert_eq!(moment.sum("c", &[]), 3.0);
        assert!(moment.family("broken").is_empty());
    }

    #[test]
    fn growth_is_that_of_the_same_series() {
        let start = Instant::now();
        let old = Moment::parse("n{host=\"a\"} 5\nn{host=\"b\"} 100\n", start);
        let now =
            Moment::parse("n{host=\"a\"} 25\nn{host=\"b\"} 4\nn{host=\"c\"} 10\n", start + Duration::from_secs(2));
        let span = Span::new(&old, &now);
        assert_eq!(span.grown("n", &[("host", "a")]), 20.0);
        // It began again at 0.
        assert_eq!(span.grown("n", &[("host", "b")]), 0.0);
        assert_eq!(span.rate("n", &[]), 15.0);
        assert_eq!(Span::new(&now, &now).rate("n", &[]), 0.0);
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let text = |counts: [u32; 3]| {
            let [a, b, all] = counts;
            format!("t_bucket{{le=\"0.01\"}} {a}\nt_bucket{{le=\"0.1\"}} {b}\nt_bucket{{le=\"+Inf\"}} {all}\n")
        };
        let now = Instant::now();
        let (old, new) = (Moment::parse(&text([10, 10, 10]), now), Moment::parse(&text([60, 100, 110]), now));
        let quantile = |part| Span::new(&old, &new).quantile("t", part, &[]).unwrap();
        assert!((quantile(0.25) - 0.005).abs() < 1e-9);
        assert!((quantile(0.7) - 0.055).abs() < 1e-9);
        // Above the last bound, that bound is all that is known.
        assert!((quantile(0.99) - 0.1).abs() < 1e-9);
        assert_eq!(Span::new(&new, &new).quantile("t", 0.5, &[]), None);
    }
}
