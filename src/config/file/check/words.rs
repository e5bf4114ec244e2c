//! Describes parts of a schema in words, for messages.

use serde_json::Value as Json;

/// Resolves a `$ref` to its definition. The definitions of this schema are not references
/// themselves.
pub(super) fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let definition = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    definition.and_then(|name| root["$defs"].get(name)).unwrap_or(schema)
}

pub(super) fn alternatives(schema: &Json) -> Option<&[Json]> {
    schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()).map(Vec::as_slice)
}

/// The types of values that a schema allows. Empty: all.
pub(super) fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let several = schema["type"].as_array().into_iter().flatten();
    several.chain(std::iter::once(&schema["type"])).filter_map(Json::as_str)
}

/// The types that a schema allows, in words, without null.
pub(super) fn wanted(root: &Json, schema: &Json) -> String {
    let schema = resolve(root, schema);
    let words: Vec<String> = match alternatives(schema) {
        Some(alternatives) => {
            let others = alternatives.iter().filter(|one| one["type"] != "null");
            others.map(|one| wanted(root, one)).collect()
        }
        None => types(schema).filter_map(|kind| kind_in_words(schema, kind)).collect(),
    };
    words.join(" or ")
}

fn kind_in_words(schema: &Json, kind: &str) -> Option<String> {
    Some(match kind {
        "string" => match schema["examples"].get(0).and_then(Json::as_str) {
            Some(example) => format!("text such as \"{example}\""),
            None => "text".to_owned(),
        },
        "number" => "a number".to_owned(),
        "integer" => "a whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "object" => "an object, `{ … }`".to_owned(),
        "array" => "a list, `[ … ]`".to_owned(),
        _ => return None,
    })
}

/// The bounds of a number, in words.
pub(super) fn bounds(schema: &Json, least: Option<f64>, most: Option<f64>) -> String {
    let amount = |bound| amount(schema, bound);
    match (least, most) {
        (Some(least), Some(most)) => format!("must be from {} to {}", amount(least), amount(most)),
        (Some(least), None) => format!("must be at least {}", amount(least)),
        (None, Some(most)) => format!("must be at most {}", amount(most)),
        (None, None) => "is out of bounds".to_owned(),
    }
}

/// A bound as it is written in the file.
fn amount(schema: &Json, bound: f64) -> String {
    const SECONDS_A_DAY: f64 = 86_400.0;
    match schema["format"].as_str() {
        Some("period") if bound > 0.0 && bound < 1.0 => format!("{}ms", bound * 1000.0),
        Some("period") if bound >= SECONDS_A_DAY => format!("{}d", bound / SECONDS_A_DAY),
        Some("period") => format!("{bound}s"),
        Some(_) | None => bound.to_string(),
    }
}

/// Where in the file the object of a schema's definition is.
pub(super) fn home(definition: &str) -> String {
    let path = match definition {
        "Server" => return "each of `servers`".to_owned(),
        "Route" => return "each of `routes`".to_owned(),
        "Listener" => return "each of `listeners`".to_owned(),
        "DetailedUpstream" => return "each of `upstreams`".to_owned(),
        "CertificateFiles" => return "each of `tls.certificates`".to_owned(),
        "FieldRules" => return "`headers`, `request_headers` and `response_headers`".to_owned(),
        "DetailedAccessLog" => "access_log",
        "Limits" => "limits",
        "HttpLimits" => "limits.http",
        "Http2Limits" => "limits.http2",
        "PoolLimits" => "limits.pool",
        "StoreLimits" => "limits.store",
        "OffloadLimits" => "limits.offload",
        "HealthCheck" => "health_check",
        "ActiveCheck" => "health_check.active",
        "PassiveCheck" => "health_check.passive",
        "Keepalive" => "keepalive",
        "Queue" => "queue",
        "Hsts" => "hsts",
        "Tls" => "tls",
        "ClientAuth" => "tls.client_auth",
        "Acme" => "tls.acme",
        other => other,
    };
    format!("`{path}`")
}
