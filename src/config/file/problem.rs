//! A problem in a configuration file, with its position.

use std::fmt;
use std::ops::Range;

/// A problem in a configuration file.
///
/// `Display` writes several lines: position and message, the line of the file, and a mark beneath
/// the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length of the mark in characters, up to the end of the line. At least 1.
    pub length: usize,
    /// What is wrong, and what is expected.
    pub message: String,
    /// What was probably meant, or how to fix it.
    pub hint: Option<String>,
    /// The line of the file. Of a long line, the part around the position.
    pub source_line: String,
    /// Number of characters of `source_line` before the position.
    indent: usize,
}

impl Problem {
    /// The same problem with this hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Option<String>>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The problem, to be displayed with the file's name in front.
    pub const fn in_file<'p>(&'p self, name: &'p str) -> ProblemInFile<'p> {
        ProblemInFile { problem: self, name }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // A tab stays a tab, so that the mark is beneath the position whatever the tab width.
        let before = self.source_line.chars().take(self.indent).map(|c| if c == '\t' { c } else { ' ' });
        let (before, mark) = (before.collect::<String>(), "^".repeat(self.length));
        write!(f, "\n{margin} |\n{number} | {}\n{margin} | {before}{mark}", self.source_line)
    }
}

/// A [`Problem`] and the file's name.
#[derive(Clone, Copy, Debug)]
pub struct ProblemInFile<'p> {
    problem: &'p Problem,
    name: &'p str,
}

impl fmt::Display for ProblemInFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.problem)
    }
}

/// The text of a configuration file, and where its lines begin.
#[derive(Debug)]
pub(super) struct Source<'t> {
    text: &'t str,
    /// Byte offsets, ascending; the first is 0.
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, line_starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// A problem at these bytes of the text.
    pub(super) fn problem(&self, bytes: Range<usize>, message: impl Into<String>) -> Problem {
        let line = self.line_of(bytes.start);
        let line_start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let source_line = rest.lines().next().unwrap_or_default();
        let before = characters(self.text, line_start..bytes.start);
        let length = characters(self.text, bytes);
        let width = source_line.chars().count();
        // At the end of a line the mark still has a length of 1.
        let length = length.min(width.saturating_sub(before)).clamp(1, SHOWN_MAX);
        let first_shown = if before + length <= SHOWN_MAX { 0 } else { before.saturating_sub(SHOWN_BEFORE) };
        let shown = source_line.chars().skip(first_shown).take(SHOWN_MAX).map(visible);
        Problem {
            line,
            column: before + 1,
            length: length.min(SHOWN_MAX - (before - first_shown).min(SHOWN_MAX - 1)),
            message: message.into(),
            hint: None,
            source_line: shown.collect(),
            indent: before - first_shown,
        }
    }

    /// The number of the line with this byte, from 1.
    pub(super) fn line_of(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= byte).max(1)
    }
}

/// Maximum number of characters shown of a line.
const SHOWN_MAX: usize = 160;

/// Number of characters shown before the position in a longer line.
const SHOWN_BEFORE: usize = 40;

/// Number of characters that begin in these bytes. Any range is allowed.
fn characters(text: &str, bytes: Range<usize>) -> usize {
    let end = bytes.end.min(text.len());
    let bytes = text.as_bytes().get(bytes.start..end).unwrap_or_default();
    const CONTINUATION: u8 = 0b1000_0000;
    bytes.iter().filter(|&&byte| byte & 0b1100_0000 != CONTINUATION).count()
}

/// Replaces control characters, which a terminal would interpret.
fn visible(character: char) -> char {
    if character.is_control() && character != '\t' { char::REPLACEMENT_CHARACTER } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_beneath_the_place() {
        let source = Source::new("{\n\t\"é\": 1,\n}");
        let problem = source.problem(9..10, "too small").with_hint("write 2".to_owned());
        assert_eq!((problem.line, problem.column, problem.length), (2, 7, 1));
        let shown = "x.json:2:7: too small (write 2)\n  |\n2 | \t\"é\": 1,\n  | \t     ^";
        assert_eq!(problem.in_file("x.json").to_string(), shown);
    }

    #[test]
    fn a_place_over_several_lines_is_marked_on_its_first() {
        let problem = Source::new("ab\r\ncd").problem(1..6, "");
        assert_eq!((problem.line, problem.column, problem.length), (1, 2, 1));
        assert_eq!(problem.source_line, "ab");
    }

    #[test]
    fn the_end_of_the_text_is_a_place() {
        let problem = Source::new("{\n").problem(2..2, "");
        assert_eq!((problem.line, problem.column, problem.length), (2, 1, 1));
        assert_eq!(Source::new("").problem(0..0, "").column, 1);
    }

    #[test]
    fn of_a_long_line_only_a_part_is_shown() {
        let text = format!("{}!{}", "a".repeat(1000), "b".repeat(1000));
        let problem = Source::new(&text).problem(1000..1001, "");
        assert_eq!(problem.column, 1001);
        assert_eq!(problem.source_line.chars().nth(problem.indent), Some('!'));
        assert_eq!(problem.source_line.chars().count(), SHOWN_MAX);
    }

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(Source::new("a\u{1b}[2J").problem(0..1, "").source_line, "a\u{fffd}[2J");
    }
}
