//! Reads `xps_config.json`: returns a typed [`File`], or every problem with its position.
//!
//! There are three steps. The text is parsed into a tree with positions (JSON with comments and
//! trailing commas). The tree is checked against the schema of [`File`], and then for what a schema
//! cannot express (`check`). Only a tree without problems is deserialized into a [`File`]. Nothing
//! is opened, resolved or contacted here, so a server may fail to start with a valid file: a port
//! may be in use, or a folder missing.
//!
//! ```
//! let text = r#"{ "servers": [{ "listeners": [{ "port": 8080 }], "rotues": [] }] }"#;
//! let problems = xps::internals::config::file::parse(text).unwrap_err();
//! assert!(problems[0].to_string().starts_with("1:50: unknown key `rotues` (did you mean `routes`?)\n"));
//! ```

mod check;
mod model;
mod problem;
mod profile;
mod reference;
mod tree;

use std::ops::Range;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

pub use self::model::*;
use self::problem::Source;
pub use self::problem::{Problem, ProblemInFile};
pub use self::reference::{EXAMPLE, reference};

/// Reads a configuration file.
///
/// # Errors
/// All problems, in order of position. After a syntax error nothing else is checked, so it is the
/// only problem.
pub fn parse(text: &str) -> Result<File, Vec<Problem>> {
    parse_with(text, Profile::Xps)
}

/// Reads a configuration file. `profile` applies if the file names none.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, profile: Profile) -> Result<File, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(text);
    let tree = tree::parse(text, &source).map_err(|problem| vec![problem])?;
    let problems = check::all(&tree, &source);
    if !problems.is_empty() {
        return Err(problems);
    }
    // Whatever passes the checks can be deserialized. If it cannot, that is a bug in the checks,
    // and the deserializer's message is shown.
    let mut document = tree::to_json(&tree);
    Profile::of(&document).unwrap_or(profile).apply(&mut document);
    File::deserialize(document).map_err(|error| {
        let whole: Range<usize> = tree::range(&tree);
        vec![source.problem(whole, error.to_string())]
    })
}

/// The JSON Schema of the configuration file, for editors.
pub fn schema() -> Json {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(File).to_value();
    unwrap_lines(&mut schema);
    schema
});

/// Replaces line breaks in descriptions by spaces, since they come from the wrapped doc comments.
fn unwrap_lines(schema: &mut Json) {
    match schema {
        Json::Object(members) => {
            if let Some(Json::String(description)) = members.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            members.values_mut().for_each(unwrap_lines);
        }
        Json::Array(elements) => elements.iter_mut().for_each(unwrap_lines),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// The keys of a part of the configuration file.
fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

#[cfg(test)]
mod tests;
