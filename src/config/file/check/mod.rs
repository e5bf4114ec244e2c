//! Everything that is wrong with a document, found in one go.
//!
//! * [`shape`] holds it against the schema: kinds of values, unknown and missing keys, ranges, formats.
//! * [`meaning`] asks whether what is said goes together. It looks at the tree, not at the typed document, so that it
//!   speaks even of a document whose shape is wrong elsewhere; of shape itself it says nothing.

mod meaning;
mod nearest;
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
