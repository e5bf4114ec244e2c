//! The output of `xps explain`: labelled lines, then a text.

use super::request::Request;

/// Labelled lines, and a text below them.
pub(super) struct Report {
    lines: Vec<(&'static str, String)>,
    appendix: String,
}

impl Report {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new(), appendix: String::new() }
    }

    /// Adds a line. An empty name continues the line before.
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
