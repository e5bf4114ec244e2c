//! What is printed: lines with names before them, and a text below.

use super::request::Request;

/// Lines with names before them, one below the other.
pub(super) struct Report {
    lines: Vec<(&'static str, String)>,
    appendix: String,
}

impl Report {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new(), appendix: String::new() }
    }

    /// Adds a line; one without a name goes on with the one before.
    pub(super) fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.lines.push((name, value.into()));
    }

    /// Adds a text after all lines.
    pub(super) fn then(&mut self, title: &str, text: &str) {
        let indented: String = text.lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")).collect();
        self.appendix = format!("\n{title}\n{indented}");
    }

    pub(super) fn text(&self, request: &Request) -> String {
        let lines: String = self.lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
        format!("{}\n\n{lines}{}", request.line, self.appendix)
    }
}
