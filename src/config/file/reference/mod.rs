//! The configuration reference, generated from the schema that the server checks files against.

use std::fmt::{self, Write};

use serde_json::Value as Json;

use super::model::text::KINDS;
use super::model::{FileOptions, GroupOptions, ProxyOptions, TcpOptions};
use super::{SCHEMA, keys_of, profile};

/// An example configuration file with many of the options.
pub const EXAMPLE: &str = include_str!("example.json");

const INTRODUCTION: &str = include_str!("introduction.md");

/// The reference, in Markdown.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    // Writing to a string cannot fail.
    let _ = write(&mut out);
    out
}

/// A section of the reference.
struct Section {
    title: &'static str,
    /// The definition in the schema. `None`: the top level of the file.
    definition: Option<&'static str>,
    /// Only these keys. `None`: all.
    only: Option<Vec<String>>,
    /// Except these keys.
    without: Vec<String>,
    introduction: &'static str,
}

impl Section {
    const fn whole(title: &'static str, definition: &'static str) -> Self {
        Self { title, definition: Some(definition), only: None, without: Vec::new(), introduction: "" }
    }
}

fn sections() -> Vec<Section> {
    let (tcp, group) = (keys_of::<TcpOptions>(), keys_of::<GroupOptions>());
    let (files, proxy) = (keys_of::<FileOptions>(), keys_of::<ProxyOptions>());
    vec![
        Section {
            definition: None,
            introduction: "Keys at the top level of the file, beside `servers`.",
            ..Section::whole("Top level", "")
        },
        Section { introduction: "An access log with options.", ..Section::whole("Access logs", "DetailedAccessLog") },
        Section { without: tcp.clone(), ..Section::whole("Servers", "Server") },
        Section::whole("Listeners", "Listener"),
        Section::whole("Metrics", "MetricsListener"),
        Section::whole("Admin socket", "Admin"),
        Section::whole("TLS", "Tls"),
        Section::whole("TLS to upstreams", "UpstreamTls"),
        Section::whole("Certificates", "CertificateFiles"),
        Section::whole("Automatic certificates", "Acme"),
        Section::whole("Client certificates", "ClientAuth"),
        Section::whole("HSTS", "Hsts"),
        Section { without: [files.as_slice(), proxy.as_slice()].concat(), ..Section::whole("Routes", "Route") },
        Section {
            only: Some(files),
            introduction: "Options of routes with `\"type\": \"file_serve\"`. `dir_path` is required. `headers` also \
                           applies to redirects and metrics, and `cors` to all types.",
            ..Section::whole("Files", "Route")
        },
        Section {
            only: Some(proxy),
            without: group.clone(),
            introduction: "Options of routes with `\"type\": \"reverse_proxy\"`, in addition to those of \
                           [upstreams](#upstreams). A client that shuts down its sending side within a second of \
                           its request still gets the response. If it does so later, or in the middle of a body, \
                           it counts as disconnected and the request is cancelled.\n\n\
                           A path is forwarded unchanged, including `%2F`, if every server would match it to the same \
                           route (and so to the same access lists). Otherwise the response is 400. Servers differ in \
                           whether they decode escapes (never, after they split the path into segments, before that, \
                           or twice), treat `\\` as a slash, remove `;parameters`, remove empty segments, and \
                           resolve `.` and `..`. A path that is above the root for one of them is also rejected. So \
                           `/group%2Fproject` is accepted, but with routes for `/admin` and `/` the paths \
                           `/admin/..%2fx`, `/admin;x/y` and `/x/..;/admin` are not. If a server ignores more, such as \
                           the case of letters or dots at the end of a name, let all routes of the host lead to that \
                           server.\n\n\
                           These fields apply to the next proxy only and are not forwarded: `Proxy-Connection`, \
                           `Proxy-Authorization`, `Proxy-Authenticate` and `Proxy-Authentication-Info`. `Proxy` is \
                           not forwarded either, since CGI programs receive it as `HTTP_PROXY`. `Max-Forwards` is \
                           supported for OPTIONS: at 0 xps responds itself.",
            ..Section::whole("Proxies", "Route")
        },
        Section {
            only: Some(group.clone()),
            introduction: "Options of routes with `\"type\": \"reverse_proxy\"`, and of servers with \
                           `\"handler\": \"tcp_proxy\"`. `upstreams` is required in both.",
            ..Section::whole("Upstreams", "Route")
        },
        Section { introduction: "An upstream with options.", ..Section::whole("One upstream", "DetailedUpstream") },
        Section::whole("Health checks", "HealthCheck"),
        Section::whole("Active checks", "ActiveCheck"),
        Section::whole("Passive checks", "PassiveCheck"),
        Section::whole("The queue", "Queue"),
        Section::whole("Idle upstream connections", "Keepalive"),
        Section::whole("Field rules", "FieldRules"),
        Section {
            only: Some(tcp),
            without: group,
            introduction: "Options of servers with `\"protocol\": \"tcp\"`. Those of [upstreams](#upstreams) are for \
                           `\"handler\": \"tcp_proxy\"`.",
            ..Section::whole("TCP servers", "Server")
        },
        Section::whole("Limits", "Limits"),
        Section::whole("Limits of the buffers", "PoolLimits"),
        Section::whole("Limits of HTTP", "HttpLimits"),
        Section::whole("Limits of HTTP/2", "Http2Limits"),
        Section::whole("Limits of the file cache", "StoreLimits"),
        Section::whole("Limits of the offload threads", "OffloadLimits"),
    ]
}

fn write(out: &mut String) -> fmt::Result {
    let sections = sections();
    for section in &sections {
        write_section(section, &sections, out)?;
    }
    profile::describe(out);
    writeln!(out, "\n## Kinds of values\n")?;
    writeln!(out, "| type | example | meaning |\n|---|---|---|")?;
    writeln!(
        out,
        "| time | `\"30s\"`, `\"1m30s\"`, `\"500ms\"`, `2.5` | a number with `ms`, `s`, `m`, `h` or `d`; without a unit: seconds |"
    )?;
    writeln!(out, "| size | `\"64k\"`, `\"1m\"`, `4096` | a number with `k`, `m` or `g`; without a unit: bytes |")?;
    for (format, example, meaning) in KINDS {
        writeln!(out, "| {} | `\"{example}\"` | {} |", kind_name(format), cell(meaning))?;
    }
    writeln!(out, "\n## An example\n\n```jsonc\n{EXAMPLE}```")
}

fn write_section(section: &Section, sections: &[Section], out: &mut String) -> fmt::Result {
    let schema = section.definition.map_or(&*SCHEMA, |name| &SCHEMA["$defs"][name]);
    let introduction = match section.introduction {
        "" => schema["description"].as_str().unwrap_or_default(),
        introduction => introduction,
    };
    writeln!(out, "\n## {}\n\n{introduction}\n", section.title)?;
    writeln!(out, "| key | type | default | meaning |\n|---|---|---|---|")?;
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut keys: Vec<(&String, &Json)> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| section.only.as_ref().is_none_or(|only| only.contains(key)))
        .filter(|(key, _)| !section.without.contains(key))
        .collect();
    // Required keys first, the others by name.
    keys.sort_by_key(|(key, _)| !required.contains(&key.as_str()));
    for (key, property) in keys {
        let default = if required.contains(&key.as_str()) { "required".to_owned() } else { default(property) };
        let (kind, meaning) = (kind(property, sections), meaning(property));
        writeln!(out, "| `{key}` | {} | {} | {} |", cell(&kind), cell(&default), cell(&meaning))?;
    }
    Ok(())
}

/// Resolves a `$ref`: the definition and its name.
fn resolve(schema: &Json) -> (Option<&str>, &Json) {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        Some(name) => (Some(name), &SCHEMA["$defs"][name]),
        None => (None, schema),
    }
}

/// The type of a key's value, in words.
fn kind(schema: &Json, sections: &[Section]) -> String {
    let (name, schema) = resolve(schema);
    let section = sections.iter().find(|section| section.definition == name && name.is_some());
    if let Some(section) = section {
        let anchor = section.title.to_lowercase().replace(' ', "-").replace('/', "");
        return format!("[object](#{anchor})");
    }
    if let Some(alternatives) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        if alternatives.iter().all(|one| one["const"].is_string()) {
            return "one of these".to_owned();
        }
        let kinds: Vec<String> =
            alternatives.iter().filter(|one| one["type"] != "null").map(|one| kind(one, sections)).collect();
        return kinds.join(" or ");
    }
    let first = schema["type"].as_str().or_else(|| schema["type"].get(0).and_then(Json::as_str));
    match (first.unwrap_or_default(), schema["format"].as_str()) {
        ("string", Some(format)) => kind_name(format),
        ("string", None) => "text".to_owned(),
        ("integer" | "number", _) => format!("number{}", range(schema)),
        ("boolean", _) => "true or false".to_owned(),
        ("array", _) => format!("list of {}", kind(&schema["items"], sections)),
        ("object", _) => {
            let key = schema["propertyNames"]["format"].as_str().map_or_else(|| "text".to_owned(), kind_name);
            format!("object: {key} to {}", kind(&schema["additionalProperties"], sections))
        }
        (other, _) => other.to_owned(),
    }
}

fn kind_name(format: &str) -> String {
    match format {
        "period" => "time".to_owned(),
        other => other.replace('-', " "),
    }
}

fn range(schema: &Json) -> String {
    match (schema["minimum"].as_f64().filter(|least| *least != 0.0), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", 0 to {most}"),
        (None, None) => String::new(),
    }
}

fn default(schema: &Json) -> String {
    match &schema["default"] {
        Json::Null => String::new(),
        Json::Array(elements) if elements.is_empty() => "none".to_owned(),
        // Each key of the object has its own default.
        Json::Object(_) => String::new(),
        value => format!("`{value}`"),
    }
}

fn meaning(schema: &Json) -> String {
    let mut meaning = schema["description"].as_str().unwrap_or_default().to_owned();
    let (_, schema) = resolve(schema);
    let choices = |schema: &Json| -> Vec<(String, String)> {
        let alternatives = schema["oneOf"].as_array().into_iter().flatten();
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        alternatives.map(|one| (text(&one["const"]), text(&one["description"]))).collect()
    };
    let nested = schema["anyOf"].as_array().into_iter().flatten().flat_map(|one| choices(resolve(one).1));
    for (name, description) in choices(schema).into_iter().chain(nested) {
        // Writing to a string cannot fail.
        let _ = write!(meaning, "<br>`{name}`: {description}");
    }
    meaning
}

/// Escapes a text for a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_of_the_schema_has_a_section() {
        let sections = sections();
        for (name, definition) in SCHEMA["$defs"].as_object().unwrap() {
            let is_told = sections.iter().any(|section| section.definition == Some(name));
            assert!(is_told || definition["properties"].is_null(), "{name} has no section");
        }
    }

    #[test]
    fn every_key_stands_in_it_once_for_each_object() {
        let text = reference();
        for key in SCHEMA["$defs"]["Route"]["properties"].as_object().unwrap().keys() {
            assert!(text.contains(&format!("\n| `{key}` |")), "{key} is missing");
        }
        assert_eq!(text.matches("\n| `gzip_enable` |").count(), 1);
    }

    #[test]
    fn the_example_is_a_good_one() {
        let shown = crate::config::file::parse(EXAMPLE).map_err(|problems| problems[0].to_string());
        assert_eq!(shown.map(|file| file.servers.is_empty()), Ok(false));
    }
}
