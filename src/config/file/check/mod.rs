//! Finds all problems of a configuration file in one pass.
//!
//! * [`shape`] checks it against the schema: types of values, unknown and missing keys, ranges, formats.
//! * [`meaning`] checks that the options fit together. It reads the tree, not the typed file, so it also
//!   works on a file whose shape is wrong elsewhere. It does not report problems of shape.

mod meaning;
mod report;
mod shape;
mod words;

use jsonc_parser::ast::Value;

use self::report::Report;
use super::SCHEMA;
use super::problem::{Problem, Source};

/// All problems, in order of position.
pub(super) fn all(tree: &Value<'_>, source: &Source<'_>) -> Vec<Problem> {
    let mut report = Report::new(source);
    shape::check(tree, &SCHEMA, &mut report);
    if let Some(document) = tree.as_object() {
        meaning::check(document, &mut report);
    }
    report.finish()
}
