//! The text format of Prometheus (exposition formats, version 0.0.4): families and their samples.

use std::fmt::{Display, Write as _};

use super::histogram::{BOUNDS, Distribution, seconds};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Durations in buckets, in seconds.
    Histogram,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is known of a family without its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyInfo {
    /// Its name, as in a query.
    pub name: &'static str,
    /// Its type, as in the text.
    pub kind: &'static str,
    /// What it counts, in one line.
    pub help: &'static str,
}

/// The text while it is written.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    /// All families so far, also those without samples.
    families: Vec<FamilyInfo>,
}

/// A family of the text. It appears with its first sample.
#[derive(Debug)]
pub(super) struct Family<'t> {
    text: &'t mut String,
    info: FamilyInfo,
    has_begun: bool,
}

impl Text {
    /// Begins a family. `help` is one line without a backslash.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        let info = FamilyInfo { name, kind: kind.name(), help };
        self.families.push(info);
        Family { text: &mut self.text, info, has_begun: false }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn into_families(self) -> Vec<FamilyInfo> {
        self.families
    }
}

impl Family<'_> {
    /// The only sample of a family without labels.
    pub(super) fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }

    /// A sample. The values of labels are arbitrary texts.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The samples of a distribution.
    pub(super) fn distribution(&mut self, labels: &[(&str, &str)], distribution: &Distribution) {
        let mut so_far = 0;
        for ((_, bound), count) in BOUNDS.iter().zip(&distribution.buckets) {
            so_far += count;
            self.line("_bucket", labels, Some(("le", bound)), so_far);
        }
        // Not read again: it has to be that of the buckets.
        let count = distribution.count();
        self.line("_bucket", labels, Some(("le", "+Inf")), count);
        self.line("_sum", labels, None, seconds(distribution.nanos));
        self.line("_count", labels, None, count);
    }

    /// A line. `last`: a label that stands behind the others.
    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], last: Option<(&str, &str)>, value: impl Display) {
        let FamilyInfo { name, kind, help } = self.info;
        // Writing to a string cannot fail.
        if !std::mem::replace(&mut self.has_begun, true) {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(last) {
            self.text.push(before);
            before = ',';
            self.text.push_str(label);
            self.text.push_str("=\"");
            push_escaped(self.text, value);
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Appends the value of a label.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_appears_with_its_first_sample() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "Nothing.");
        text.family("b", Kind::Gauge, "One.").value(1);
        let mut family = text.family("c", Kind::Gauge, "Two.");
        family.sample(&[("x", "1"), ("y", "\"\\\n")], 2);
        family.sample(&[("x", "2"), ("y", "")], 0.5);
        let expected = "# HELP b One.\n# TYPE b gauge\nb 1\n# HELP c Two.\n# TYPE c gauge\n\
            c{x=\"1\",y=\"\\\"\\\\\\n\"} 2\nc{x=\"2\",y=\"\"} 0.5\n";
        assert_eq!(text.text, expected);
        assert_eq!(text.into_families().len(), 3);
    }
}
