//! Checks the configuration file against its schema.
//!
//! Only the part of JSON Schema that this schema uses is supported: `$ref`, `type`,
//! `oneOf`/`anyOf`, `const`, `properties`, `additionalProperties`, `propertyNames`, `required`,
//! `items`, the bounds of numbers and lengths, and `format`, which names a type of the model.
//! [`super::words`] provides the wording.

use std::collections::HashMap;

use jsonc_parser::ast::{NumberLit, Object, StringLit, Value};
use serde_json::{Number, Value as Json};

use super::super::model::text;
use super::super::tree;
use super::report::{Report, is_missing, shortened};
use super::words::{self, alternatives, resolve, types};
use crate::nearest::nearest;

/// Reports all violations of the schema.
pub(super) fn check(tree: &Value<'_>, schema: &Json, report: &mut Report<'_, '_>) {
    Walk { root: schema, report }.value(schema, tree, "the file");
}

struct Walk<'w, 'r, 't> {
    root: &'w Json,
    report: &'w mut Report<'r, 't>,
}

impl Walk<'_, '_, '_> {
    /// Checks a value. `name` is used for it in messages.
    fn value(&mut self, schema: &Json, value: &Value<'_>, name: &str) {
        let schema = resolve(self.root, schema);
        if let Some(alternatives) = alternatives(schema) {
            return self.any_of(schema, alternatives, value, name);
        }
        if !admits(schema, value) {
            return self.wrong_kind(schema, value, name);
        }
        match value {
            Value::Object(object) => self.object(schema, object),
            Value::Array(array) => {
                if array.elements.is_empty() && schema["minItems"].as_u64().is_some_and(|least| least > 0) {
                    self.report.add(value, format!("{name} is empty, but needs at least one element"));
                }
                for element in &array.elements {
                    self.value(&schema["items"], element, &format!("an element of {name}"));
                }
            }
            Value::StringLit(literal) => self.text(schema, value, literal, name),
            Value::NumberLit(literal) => self.number(schema, value, literal, name),
            Value::BooleanLit(_) | Value::NullKeyword(_) => {}
        }
    }

    /// Of several schemas, checks the one that allows this type of value, so that the message is
    /// specific.
    fn any_of(&mut self, schema: &Json, alternatives: &[Json], value: &Value<'_>, name: &str) {
        let choices: Vec<&str> = alternatives.iter().filter_map(|choice| choice["const"].as_str()).collect();
        if choices.is_empty() {
            match alternatives.iter().find(|one| admits(resolve(self.root, one), value)) {
                Some(one) => self.value(one, value, name),
                None => self.wrong_kind(schema, value, name),
            }
            return;
        }
        let list = choices.join(", ");
        match value.as_string_lit().map(|literal| literal.value.as_ref()) {
            Some(found) if choices.contains(&found) => {}
            Some(found) => {
                let meant = nearest(found, choices.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
                let message = format!("{name} must be one of {list}, not `{}`", shortened(found));
                self.report.add_with_hint(value, message, meant);
            }
            None => self.report.add(value, format!("{name} must be one of {list}, not {}", tree::kind(value))),
        }
    }

    fn wrong_kind(&mut self, schema: &Json, value: &Value<'_>, name: &str) {
        let wanted = words::wanted(self.root, schema);
        let message = format!("{name} must be {wanted}, not {}", tree::kind(value));
        self.report.add_with_hint(value, message, unquoted(schema, value));
    }

    fn object(&mut self, schema: &Json, object: &Object<'_>) {
        let mut first_lines: HashMap<&str, usize> = HashMap::new();
        for property in &object.properties {
            let key = property.name.as_str();
            let name = format!("`{}`", shortened(key));
            if let Some(line) = first_lines.get(key) {
                self.report.add(property, format!("duplicate key {name}; the first is on line {line}"));
            } else {
                first_lines.insert(key, self.report.line(property));
            }
            if let Some(inner) = schema["properties"].get(key) {
                self.value(inner, &property.value, &name);
            } else if schema["additionalProperties"].is_object() {
                let format = schema["propertyNames"]["format"].as_str().unwrap_or_default();
                if let Err(error) = text::verify(format, key) {
                    self.report.add(property, format!("{name}: {error}"));
                }
                self.value(&schema["additionalProperties"], &property.value, &name);
            } else if schema["additionalProperties"] == Json::Bool(false) {
                let hint = self.hint_for_unknown(schema, key);
                self.report.add_with_hint(property, format!("unknown key {name}"), hint);
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        for missing in required.filter(|key| is_missing(object, key)) {
            self.report.add(object, format!("missing key `{missing}`"));
        }
    }

    fn hint_for_unknown(&self, schema: &Json, key: &str) -> Option<String> {
        let known = schema["properties"].as_object().into_iter().flat_map(|known| known.keys());
        let translated =
            TRANSLATED.iter().find(|(theirs, ours)| *theirs == key && !schema["properties"][ours].is_null());
        if let Some((_, ours)) = translated {
            return Some(format!("use `{ours}`"));
        }
        if let Some(meant) = nearest(key, known.map(String::as_str)) {
            return Some(format!("did you mean `{meant}`?"));
        }
        let definitions = self.root["$defs"].as_object().into_iter().flatten();
        let homes = definitions.filter(|(_, schema)| schema["properties"].get(key).is_some());
        // Its keys for a request have the names of those of routes and listeners, which are rather meant.
        if let Some((home, _)) = homes.min_by_key(|(home, _)| *home == "ActiveCheck") {
            return Some(format!("it belongs in {}", words::home(home)));
        }
        self.root["properties"].get(key).map(|_| "it belongs at the top level, beside `servers`".to_owned())
    }

    fn text(&mut self, schema: &Json, value: &Value<'_>, literal: &StringLit<'_>, name: &str) {
        let found = literal.value.as_ref();
        let format = schema["format"].as_str().unwrap_or_default();
        if let Err(error) = text::verify(format, found) {
            return self.report.add(value, format!("{name}, `{}`: {error}", shortened(found)));
        }
        let complaint = match text::magnitude(format, found) {
            Some(magnitude) => out_of_bounds(schema, magnitude),
            None => wrong_length(schema, found.len() as u64),
        };
        if let Some(complaint) = complaint {
            self.report.add(value, format!("{name} {complaint}"));
        } else if found.contains('\0') {
            self.report.add(value, format!("{name} contains a NUL character"));
        }
    }

    fn number(&mut self, schema: &Json, value: &Value<'_>, literal: &NumberLit<'_>, name: &str) {
        let wants_whole = !types(schema).any(|kind| kind == "number");
        let complaint = match serde_json::from_str::<Number>(literal.value) {
            Err(_) => Some("is not a number, or is too large".to_owned()),
            Ok(number) => match number.as_f64() {
                Some(quantity) if wants_whole && quantity.fract() != 0.0 => Some("must be a whole number".to_owned()),
                Some(quantity) => out_of_bounds(schema, quantity).or_else(|| {
                    // `1e3`, `4.0`, `-0` and numbers with too many digits are parsed as
                    // floating-point numbers.
                    (wants_whole && number.is_f64())
                        .then(|| "must be written in digits only, and be below 2^64".to_owned())
                }),
                None => Some("is too large".to_owned()),
            },
        };
        if let Some(complaint) = complaint {
            self.report.add(value, format!("{name} {complaint}"));
        }
    }
}

/// Directives of nginx, and the corresponding keys.
const TRANSLATED: [(&str, &str); 19] = [
    ("listen", "listeners"),
    ("location", "req_path"),
    ("locations", "routes"),
    ("root", "dir_path"),
    ("alias", "dir_path"),
    ("autoindex", "listing"),
    ("try_files", "fallback"),
    ("error_page", "error_pages"),
    ("return", "redirect_url"),
    ("proxy_pass", "upstreams"),
    ("client_max_body_size", "max_body_size"),
    ("allow", "ip_whitelist"),
    ("deny", "ip_blacklist"),
    ("ssl", "tls"),
    ("ssl_certificate", "cert"),
    ("ssl_certificate_key", "key"),
    ("ssl_client_certificate", "ca"),
    ("ssl_protocols", "min_version"),
    ("ssl_session_tickets", "tickets"),
];

/// Whether the schema allows this type of value.
fn admits(schema: &Json, value: &Value<'_>) -> bool {
    if schema["type"].is_null() {
        return true;
    }
    types(schema).any(|kind| match value {
        Value::StringLit(_) => kind == "string",
        Value::NumberLit(_) => kind == "number" || kind == "integer",
        Value::BooleanLit(_) => kind == "boolean",
        Value::Object(_) => kind == "object",
        Value::Array(_) => kind == "array",
        Value::NullKeyword(_) => kind == "null",
    })
}

/// A hint to remove the quotes, if the value would be valid without them.
fn unquoted(schema: &Json, value: &Value<'_>) -> Option<String> {
    let found = value.as_string_lit()?.value.as_ref();
    let is_one = types(schema).any(|kind| match kind {
        "integer" => found.parse::<i64>().is_ok(),
        "number" => found.parse::<f64>().is_ok(),
        "boolean" => found == "true" || found == "false",
        _ => false,
    });
    is_one.then(|| format!("write {found}, without quotes"))
}

/// The message for a number that is not within the schema's bounds.
fn out_of_bounds(schema: &Json, quantity: f64) -> Option<String> {
    let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64().or_else(|| largest(schema)));
    let is_within = least.is_none_or(|least| quantity >= least) && most.is_none_or(|most| quantity <= most);
    if !is_within {
        return Some(words::bounds(schema, least, most));
    }
    let step = schema["multipleOf"].as_f64().filter(|step| quantity % step != 0.0)?;
    Some(format!("must be a multiple of {step}"))
}

/// The maximum of the integer type, where the schema gives it only as `format`.
fn largest(schema: &Json) -> Option<f64> {
    match schema["format"].as_str()? {
        "uint32" => Some(f64::from(u32::MAX)),
        "int32" => Some(f64::from(i32::MAX)),
        _ => None,
    }
}

fn wrong_length(schema: &Json, length: u64) -> Option<String> {
    if schema["minLength"].as_u64().is_some_and(|least| length < least) {
        return Some("is empty".to_owned());
    }
    let most = schema["maxLength"].as_u64().filter(|most| length > *most)?;
    Some(format!("is longer than {most} bytes"))
}
