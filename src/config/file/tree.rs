//! The configuration file as a JSON tree with positions.

use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::Value as Json;

use super::problem::{Problem, Source};

/// The tree, or the first syntax error.
pub(super) fn parse<'t>(text: &'t str, source: &Source<'_>) -> Result<Value<'t>, Problem> {
    match parse_to_ast(text, &CollectOptions::default(), &SYNTAX) {
        Ok(result) => result.value.ok_or_else(|| {
            source.problem(0..0, "the file is empty").with_hint("write an object with `servers`".to_owned())
        }),
        Err(error) => {
            let Range { start, end } = error.range().start..error.range().end;
            let problem = source.problem(start..end, words(error.kind()));
            Err(problem.with_hint(hint(error.kind()).map(str::to_owned)))
        }
    }
}

/// JSON with comments and trailing commas, and no other extension.
const SYNTAX: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The parser's message, beginning in lower case.
fn words(kind: &ParseErrorKind) -> String {
    let words = kind.to_string();
    let mut characters = words.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn hint(kind: &ParseErrorKind) -> Option<&'static str> {
    match kind {
        ParseErrorKind::ExpectedStringObjectProperty | ParseErrorKind::UnexpectedTokenInObject => {
            Some("write keys in double quotes")
        }
        ParseErrorKind::SingleQuotedStringsNotAllowed => Some("write text in double quotes"),
        ParseErrorKind::UnexpectedWord => {
            Some("write text in double quotes; only true, false and null are written without")
        }
        ParseErrorKind::UnterminatedObject => Some("its `}` is missing"),
        ParseErrorKind::UnterminatedArray => Some("its `]` is missing"),
        ParseErrorKind::UnterminatedCommentBlock => Some("its `*/` is missing"),
        // The messages of all others, and of future ones, need no hint.
        _ => None,
    }
}

/// The position, in bytes.
pub(super) fn range(value: &impl Ranged) -> Range<usize> {
    let range = value.range();
    range.start..range.end
}

/// The type of a value, for messages.
pub(super) const fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "text",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "a boolean",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}

/// The property with this key. Of a duplicate key, the last one.
pub(super) fn get<'v, 't>(object: &'v Object<'t>, key: &str) -> Option<&'v ObjectProp<'t>> {
    let property = object.properties.iter().rev().find(|property| property.name.as_str() == key)?;
    // `null` counts as absent, as it does for optional values when they are deserialized.
    property.value.as_null_keyword().is_none().then_some(property)
}

/// The value of a key, if it is text.
pub(super) fn text<'v>(object: &'v Object<'_>, key: &str) -> Option<&'v str> {
    get(object, key)?.value.as_string_lit().map(|literal| literal.value.as_ref())
}

/// The elements of a key's list. Empty if the value is not a list.
pub(super) fn list<'v, 't>(object: &'v Object<'t>, key: &str) -> &'v [Value<'t>] {
    get(object, key).and_then(|property| property.value.as_array()).map_or(&[], |array| &array.elements)
}

/// Converts the tree to a value for serde, without positions. Of a duplicate key, the last one is
/// used.
pub(super) fn to_json(value: &Value<'_>) -> Json {
    match value {
        Value::StringLit(literal) => Json::String(literal.value.as_ref().to_owned()),
        // The checks reject numbers that serde cannot parse.
        Value::NumberLit(literal) => serde_json::from_str(literal.value).map_or(Json::Null, Json::Number),
        Value::BooleanLit(literal) => Json::Bool(literal.value),
        Value::Object(object) => {
            let pairs = object.properties.iter();
            Json::Object(pairs.map(|pair| (pair.name.as_str().to_owned(), to_json(&pair.value))).collect())
        }
        Value::Array(array) => Json::Array(array.elements.iter().map(to_json).collect()),
        Value::NullKeyword(_) => Json::Null,
    }
}
