//! Everything that is wrong with a document, found in one go.
//!
//! * [`shape`] holds it against the schema: kinds of values, unknown and missing keys, ranges, formats.
//! * [`meaning`] asks whether what is said goes together. It looks at the tree, not at the typed document, so that it
//!   speaks even of a document whose shape is wrong elsewhere; what shape has to do with is not its business.

mod nearest;
mod shape;

use jsonc_parser::ast::Value;

use super::SCHEMA;
use super::problem::{Problem, Source};

/// All problems, in order of position.
pub(super) fn all(tree: &Value<'_>, source: &Source<'_>) -> Vec<Problem> {
    let mut problems = shape::check(tree, &SCHEMA, source);
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}
