//! The document against its schema.
//!
//! This knows the part of JSON Schema that our own schema uses, and no more: `$ref`, `type`, `oneOf`/`anyOf`, `const`,
//! `properties`, `additionalProperties`, `propertyNames`, `required`, `items`, the bounds of numbers and lengths, and
//! `format`, behind which our own types stand.

use std::collections::HashMap;

use jsonc_parser::ast::{NumberLit, Object, StringLit, Value};
use serde_json::Value as Json;

use super::super::model::text;
use super::super::problem::{Problem, Source};
use super::super::tree;
use super::nearest::nearest;

/// All that the schema objects to.
pub(super) fn check(tree: &Value<'_>, schema: &Json, source: &Source<'_>) -> Vec<Problem> {
    let mut walk = Walk { root: schema, source, problems: Vec::new() };
    walk.value(schema, tree, "the document");
    walk.problems
}

struct Walk<'w, 't> {
    root: &'w Json,
    source: &'w Source<'t>,
    problems: Vec<Problem>,
}

impl Walk<'_, '_> {
    /// `name` is what the value is called in messages.
    fn value(&mut self, schema: &Json, value: &Value<'_>, name: &str) {
        let schema = resolve(self.root, schema);
        if let Some(alternatives) = alternatives(schema) {
            return self.any_of(schema, alternatives, value, name);
        }
        if !admits(schema, value) {
            let message = format!("{name} wants {}, but this is {}", wanted(self.root, schema), tree::kind(value));
            return self.report(value, message, unquoted(schema, value));
        }
        match value {
            Value::Object(object) => self.object(schema, object),
            Value::Array(array) => {
                let length = array.elements.len();
                if schema["minItems"].as_u64().is_some_and(|least| (length as u64) < least) {
                    self.report(value, format!("{name} is empty, but wants at least one"), None);
                }
                for element in &array.elements {
                    self.value(&schema["items"], element, &format!("an element of {name}"));
                }
            }
            Value::StringLit(literal) => self.text(schema, literal, name),
            Value::NumberLit(literal) => self.number(schema, literal, name),
            Value::BooleanLit(_) | Value::NullKeyword(_) => {}
        }
    }

    /// Of several schemas that one counts that a value of this kind can fit; then messages are to the point.
    fn any_of(&mut self, schema: &Json, alternatives: &[Json], value: &Value<'_>, name: &str) {
        let choices: Vec<&str> = alternatives.iter().filter_map(|choice| choice["const"].as_str()).collect();
        if choices.is_empty() {
            match alternatives.iter().find(|one| admits(resolve(self.root, one), value)) {
                Some(one) => self.value(one, value, name),
                None => {
                    let wanted = wanted(self.root, schema);
                    self.report(value, format!("{name} wants {wanted}, but this is {}", tree::kind(value)), None);
                }
            }
            return;
        }
        let list = choices.join(", ");
        match value.as_string_lit().map(|literal| literal.value.as_ref()) {
            Some(found) if choices.contains(&found) => {}
            Some(found) => {
                let meant = nearest(found, choices.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
                self.report(value, format!("{name} cannot be `{}`; there are {list}", shortened(found)), meant);
            }
            None => self.report(value, format!("{name} wants one of {list}, but this is {}", tree::kind(value)), None),
        }
    }

    fn object(&mut self, schema: &Json, object: &Object<'_>) {
        let mut first_lines: HashMap<&str, usize> = HashMap::new();
        for property in &object.properties {
            let key = property.name.as_str();
            let at = tree::range(&property.name);
            if let Some(line) = first_lines.get(key) {
                let message = format!("`{}` stands here a second time; the first is on line {line}", shortened(key));
                self.problems.push(self.source.problem(at.clone(), message));
            } else {
                first_lines.insert(key, self.source.line_of(at.start));
            }
            let name = format!("`{}`", shortened(key));
            if let Some(inner) = schema["properties"].get(key) {
                self.value(inner, &property.value, &name);
            } else if schema["additionalProperties"].is_object() {
                let format = schema["propertyNames"]["format"].as_str().unwrap_or_default();
                if let Err(error) = text::verify(format, key) {
                    self.problems.push(self.source.problem(at, format!("{name}: {error}")));
                }
                self.value(&schema["additionalProperties"], &property.value, &name);
            } else if schema["additionalProperties"] == Json::Bool(false) {
                let hint = self.hint_for_unknown(schema, key);
                self.problems.push(self.source.problem(at, format!("unknown key {name}")).with_hint(hint));
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        for missing in required.filter(|key| !first_lines.contains_key(key)) {
            let start = tree::range(object).start;
            self.problems.push(self.source.problem(start..start + 1, format!("`{missing}` is missing here")));
        }
    }

    fn hint_for_unknown(&self, schema: &Json, key: &str) -> Option<String> {
        let known = schema["properties"].as_object().into_iter().flat_map(|known| known.keys());
        if let Some(meant) = nearest(key, known.map(String::as_str)) {
            return Some(format!("did you mean `{meant}`?"));
        }
        let definitions = self.root["$defs"].as_object().into_iter().flatten();
        let mut homes = definitions.filter(|(_, schema)| schema["properties"].get(key).is_some());
        if let Some((home, _)) = homes.next() {
            return Some(format!("it belongs into {}", home_name(home)));
        }
        self.root["properties"].get(key).map(|_| "it belongs to the whole document, beside `servers`".to_owned())
    }

    fn text(&mut self, schema: &Json, literal: &StringLit<'_>, name: &str) {
        let found = literal.value.as_ref();
        let format = schema["format"].as_str().unwrap_or_default();
        let at = || tree::range(literal);
        if let Err(error) = text::verify(format, found) {
            let problem = self.source.problem(at(), format!("{name}, `{}`: {error}", shortened(found)));
            self.problems.push(problem);
            return;
        }
        if let Some(magnitude) = text::magnitude(format, found) {
            if let Some(complaint) = out_of_bounds(schema, magnitude) {
                self.problems.push(self.source.problem(at(), format!("{name} {complaint}")));
            }
            return;
        }
        let length = found.len() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            self.problems.push(self.source.problem(at(), format!("{name} is empty")));
        }
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            self.problems.push(self.source.problem(at(), format!("{name} is longer than {most} bytes")));
        }
    }

    fn number(&mut self, schema: &Json, literal: &NumberLit<'_>, name: &str) {
        let is_whole = literal.value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let complaint = match literal.value.parse::<f64>() {
            _ if !is_whole && !types(schema).any(|kind| kind == "number") => {
                Some("wants a whole number, without a point and without an exponent".to_owned())
            }
            Ok(number) => out_of_bounds(schema, number).or_else(|| {
                let is_too_large = is_whole && literal.value.parse::<i64>().is_err();
                (is_too_large || !number.is_finite()).then(|| "is too large".to_owned())
            }),
            Err(_) => Some("is not a number".to_owned()),
        };
        if let Some(complaint) = complaint {
            self.problems.push(self.source.problem(tree::range(literal), format!("{name} {complaint}")));
        }
    }

    fn report(&mut self, value: &Value<'_>, message: String, hint: Option<String>) {
        // Of what has an inside the whole is not marked.
        let range = tree::range(value);
        let range = match value {
            Value::Object(_) | Value::Array(_) => range.start..range.start + 1,
            Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => range,
        };
        self.problems.push(self.source.problem(range, message).with_hint(hint));
    }
}

/// The schema that a reference leads to. Ours lead to definitions, which are none themselves.
fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let definition = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    definition.and_then(|name| root["$defs"].get(name)).unwrap_or(schema)
}

fn alternatives(schema: &Json) -> Option<&[Json]> {
    schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()).map(Vec::as_slice)
}

/// The kinds of values that a schema admits; none: all.
fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let several = schema["type"].as_array().into_iter().flatten();
    several.chain(std::iter::once(&schema["type"])).filter_map(Json::as_str)
}

/// Whether a value of this kind can fit.
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

/// What a schema wants, in words. Of null nobody needs to hear.
fn wanted(root: &Json, schema: &Json) -> String {
    let schema = resolve(root, schema);
    let example = schema["examples"].get(0).and_then(Json::as_str);
    let words: Vec<String> = match alternatives(schema) {
        Some(alternatives) => {
            let others = alternatives.iter().filter(|one| one["type"] != "null");
            others.map(|one| wanted(root, one)).collect()
        }
        None => types(schema)
            .filter_map(|kind| match kind {
                "string" => {
                    Some(example.map_or_else(|| "text".to_owned(), |example| format!("text such as \"{example}\"")))
                }
                "number" => Some("a number".to_owned()),
                "integer" => Some("a whole number".to_owned()),
                "boolean" => Some("true or false".to_owned()),
                "object" => Some("an object, `{ … }`".to_owned()),
                "array" => Some("a list, `[ … ]`".to_owned()),
                _ => None,
            })
            .collect(),
    };
    words.join(" or ")
}

/// Quotes too many: a hint to leave them out.
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

/// What is wrong with the quantity, if it is not within the schema's bounds.
fn out_of_bounds(schema: &Json, quantity: f64) -> Option<String> {
    let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64().or_else(|| largest(schema)));
    let is_within = least.is_none_or(|least| quantity >= least) && most.is_none_or(|most| quantity <= most);
    if !is_within {
        return Some(match (least, most) {
            (Some(least), Some(most)) => format!("wants from {} to {}", amount(schema, least), amount(schema, most)),
            (Some(least), None) => format!("wants at least {}", amount(schema, least)),
            (None, Some(most)) => format!("wants at most {}", amount(schema, most)),
            (None, None) => "is out of bounds".to_owned(),
        });
    }
    let step = schema["multipleOf"].as_f64().filter(|step| quantity % step != 0.0)?;
    Some(format!("wants a multiple of {step}"))
}

/// The largest number of the type behind the schema, where the schema leaves it to `format`.
fn largest(schema: &Json) -> Option<f64> {
    match schema["format"].as_str()? {
        "uint32" => Some(f64::from(u32::MAX)),
        "int32" => Some(f64::from(i32::MAX)),
        _ => None,
    }
}

/// A bound as it could be written.
fn amount(schema: &Json, bound: f64) -> String {
    match schema["format"].as_str() {
        Some("period") if bound > 0.0 && bound < 1.0 => format!("{}ms", bound * 1000.0),
        Some("period") if bound >= 86_400.0 => format!("{}d", bound / 86_400.0),
        Some("period") => format!("{bound}s"),
        Some(_) | None => bound.to_string(),
    }
}

/// How a definition is called in the reference.
fn home_name(definition: &str) -> String {
    match definition {
        "Server" => "an element of `servers`".to_owned(),
        "Route" => "an element of `routes`".to_owned(),
        "Listener" => "an element of `listeners`".to_owned(),
        "DetailedUpstream" => "an element of `upstreams`".to_owned(),
        "Limits" => "`limits`".to_owned(),
        "HttpLimits" => "`limits.http`".to_owned(),
        "PoolLimits" => "`limits.pool`".to_owned(),
        "StoreLimits" => "`limits.store`".to_owned(),
        "ActiveCheck" => "`health_check.active`".to_owned(),
        "PassiveCheck" => "`health_check.passive`".to_owned(),
        other => format!("`{}`", other.to_lowercase()),
    }
}

/// Not more of what was written than a message can bear.
fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let visible = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    let shown: String = text.chars().take(SHOWN_MAX).map(visible).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}
