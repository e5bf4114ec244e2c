//! Checks upstream groups: the upstreams, load balancing and health checks.

use std::collections::HashMap;

use jsonc_parser::ast::{Object, Value};

use super::route::is_reserved;
use crate::config::UpstreamAddress;
use crate::config::file::check::report::{Report, is_missing};
use crate::config::file::tree::{get, list, text};

/// The protocol of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Http,
    Tcp,
}

/// Reports problems of the upstreams of a route or server, and of how they are chosen. `place` is
/// the value that requires upstreams.
pub(super) fn check(owner: &Object<'_>, place: &Value<'_>, over: Over, report: &mut Report<'_, '_>) {
    if is_missing(owner, "upstreams") {
        report.add(place, "this needs `upstreams`");
    } else if let Some(property) = get(owner, "upstreams")
        && property.value.as_array().is_some_and(|array| array.elements.is_empty())
    {
        report.add(&property.value, "`upstreams` is empty, but needs at least one element");
    }
    upstreams(owner, report);
    tls(owner, report);
    balancing(owner, over, report);
    let active = get(owner, "health_check")
        .and_then(|property| property.value.as_object())
        .and_then(|health| get(health, "active"))
        .and_then(|property| property.value.as_object());
    if let Some(active) = active {
        health(active, report);
    }
}

fn upstreams(owner: &Object<'_>, report: &mut Report<'_, '_>) {
    let upstreams = list(owner, "upstreams");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for upstream in upstreams {
        let address = match upstream {
            Value::StringLit(literal) => Some(literal.value.as_ref()),
            Value::Object(object) => text(object, "address"),
            Value::NumberLit(_) | Value::BooleanLit(_) | Value::Array(_) | Value::NullKeyword(_) => None,
        };
        let Some(address) = address else { continue };
        let line = report.line(upstream);
        if let Some(first) = seen.get(address) {
            let hint = "use `weight` for a larger share".to_owned();
            report.add_with_hint(upstream, format!("duplicate upstream; the first is on line {first}"), hint);
        } else {
            seen.insert(address, line);
        }
    }
    let is_backup = |upstream: &Value<'_>| {
        let backup = upstream.as_object().and_then(|object| get(object, "backup"));
        backup.and_then(|property| property.value.as_boolean_lit()).is_some_and(|literal| literal.value)
    };
    if let (Some(property), false) = (get(owner, "upstreams"), upstreams.is_empty())
        && upstreams.iter().all(is_backup)
    {
        report.add(property, "all upstreams are backups; at least one must not be");
    }
}

/// Reports options of TLS that have no effect.
fn tls(owner: &Object<'_>, report: &mut Report<'_, '_>) {
    let is_tls = |upstream: &Value<'_>| {
        let address = match upstream {
            Value::StringLit(literal) => Some(literal.value.as_ref()),
            Value::Object(object) => text(object, "address"),
            Value::NumberLit(_) | Value::BooleanLit(_) | Value::Array(_) | Value::NullKeyword(_) => None,
        };
        let address = address.and_then(|address| address.parse::<UpstreamAddress>().ok());
        address.is_some_and(|address| address.is_tls())
    };
    let has_tls = list(owner, "upstreams").iter().any(is_tls);
    if let Some(property) = get(owner, "upstream_tls").filter(|_| !has_tls) {
        report.add(property, "`upstream_tls` has no effect without an upstream that begins with `https://`");
    }
}

fn balancing(owner: &Object<'_>, over: Over, report: &mut Report<'_, '_>) {
    let balancing = get(owner, "load_balancing");
    let name = if balancing.is_some() { text(owner, "load_balancing") } else { Some("round_robin") };
    let Some(name) = name else { return };
    if let Some(property) = balancing
        && over == Over::Tcp
        && matches!(name, "header_hash" | "path_hash" | "sticky_cookie")
    {
        report.add(&property.value, format!("`{name}` needs HTTP requests, which a `tcp_proxy` does not parse"));
    }
    if let Some(property) = balancing
        && name == "header_hash"
        && is_missing(owner, "hash_header")
    {
        report.add(&property.value, "`header_hash` needs `hash_header`, the field to hash");
    }
    for (key, wanted) in [("hash_header", "header_hash"), ("cookie_name", "sticky_cookie")] {
        if let Some(property) = get(owner, key).filter(|_| name != wanted) {
            report.add(property, format!("`{key}` has no effect without `\"load_balancing\": \"{wanted}\"`"));
        }
    }
    if name == "round_robin" {
        for upstream in list(owner, "upstreams").iter().filter_map(Value::as_object) {
            if let Some(property) = get(upstream, "weight") {
                let hint = "use `\"load_balancing\": \"weighted_round_robin\"`".to_owned();
                report.add_with_hint(property, "`weight` has no effect with `round_robin`", hint);
            }
        }
    }
}

fn health(active: &Object<'_>, report: &mut Report<'_, '_>) {
    if text(active, "type") != Some("http") {
        for key in ["path", "method", "host", "headers", "status", "body"] {
            if let Some(property) = get(active, key) {
                report.add(property, format!("`{key}` has no effect without `\"type\": \"http\"`"));
            }
        }
    }
    if let (Some("HEAD"), Some(body)) = (text(active, "method"), get(active, "body")) {
        let hint = "use `\"method\": \"GET\"`".to_owned();
        report.add_with_hint(body, "a response to HEAD has no body", hint);
    }
    let Some(fields) = get(active, "headers").and_then(|property| property.value.as_object()) else { return };
    for field in fields.properties.iter().filter(|field| is_reserved(field.name.as_str())) {
        let name = field.name.as_str();
        let hint = name.eq_ignore_ascii_case("host").then(|| "use the option `host` of the check".to_owned());
        report.add_with_hint(field, format!("`{name}` is set by xps and cannot be changed"), hint);
    }
}
