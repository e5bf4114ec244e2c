//! Collects the problems that the checks find.

use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;

use super::super::problem::{Problem, Source};
use super::super::tree;
use crate::nearest::nearest;

/// The problems so far.
pub(super) struct Report<'r, 't> {
    source: &'r Source<'t>,
    problems: Vec<Problem>,
}

impl<'r, 't> Report<'r, 't> {
    pub(super) const fn new(source: &'r Source<'t>) -> Self {
        Self { source, problems: Vec::new() }
    }

    /// All problems, in order of position.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    pub(super) fn add(&mut self, location: &impl Location, message: impl Into<String>) {
        self.add_with_hint(location, message, None);
    }

    pub(super) fn add_with_hint(
        &mut self,
        location: &impl Location,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(self.source.problem(location.marked(), message).with_hint(hint));
        }
    }

    /// The line on which the location begins.
    pub(super) fn line(&self, location: &impl Location) -> usize {
        self.source.line_of(location.marked().start)
    }
}

/// Maximum number of problems reported.
const PROBLEMS_MAX: usize = 1000;

/// A part of the tree that a problem can point at.
pub(super) trait Location {
    /// The bytes to mark. Of objects and lists only the opening bracket is marked.
    fn marked(&self) -> Range<usize>;
}

impl Location for Value<'_> {
    fn marked(&self) -> Range<usize> {
        match self {
            Self::Object(object) => object.marked(),
            Self::Array(_) => first(self),
            Self::StringLit(_) | Self::NumberLit(_) | Self::BooleanLit(_) | Self::NullKeyword(_) => tree::range(self),
        }
    }
}

impl Location for Object<'_> {
    fn marked(&self) -> Range<usize> {
        first(self)
    }
}

/// Marks the key.
impl Location for ObjectProp<'_> {
    fn marked(&self) -> Range<usize> {
        tree::range(&self.name)
    }
}

fn first(value: &impl Ranged) -> Range<usize> {
    let start = value.range().start;
    start..start + 1
}

/// Whether the key is missing. A misspelled key does not count: it is reported as unknown.
pub(super) fn is_missing(object: &Object<'_>, key: &str) -> bool {
    tree::get(object, key).is_none()
        && !object.properties.iter().any(|property| nearest(property.name.as_str(), [key]).is_some())
}

/// A text from the file, shortened for a message.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let visible = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    let mut shown: String = text.chars().take(SHOWN_MAX).map(visible).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}
