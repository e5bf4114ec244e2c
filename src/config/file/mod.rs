//! `xps_config.json`: text in, a typed document, or every problem with its position, out.
//!
//! Three steps: the text becomes a tree with positions (JSON, with comments and trailing commas); the tree is held
//! against the schema of [`File`] and then against what a schema cannot say (`check`); only a tree without
//! a problem becomes a [`File`]. Nothing is opened, resolved or contacted here, so a document may be well and a server
//! still not start: a port may be taken, a folder missing.
//!
//! ```
//! let text = r#"{ "servers": [{ "listeners": [{ "port": 8080 }], "rotues": [] }] }"#;
//! let problems = xps::config::file::parse(text).unwrap_err();
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

/// Reads a document.
///
/// # Errors
/// All that is wrong with it, in order of position. Of the faults in its syntax only the first is found, and then
/// nothing else.
pub fn parse(text: &str) -> Result<File, Vec<Problem>> {
    parse_with(text, Profile::Xps)
}

/// Reads a document; this profile holds where it names none.
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
    // What the checks let pass can be read; should they ever let too much pass, the reader's own words must do.
    let mut document = tree::to_json(&tree);
    Profile::of(&document).unwrap_or(profile).apply(&mut document);
    File::deserialize(document).map_err(|error| {
        let whole: Range<usize> = tree::range(&tree);
        vec![source.problem(whole, error.to_string())]
    })
}

/// The JSON Schema of the document, for editors.
pub fn schema() -> Json {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(File).to_value();
    unwrap_lines(&mut schema);
    schema
});

/// Descriptions are as long as they are: where their lines broke in the source matters to nobody.
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

/// The keys of a part of the document.
fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

#[cfg(test)]
mod tests;
