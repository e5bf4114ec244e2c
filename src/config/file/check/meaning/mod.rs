//! Checks what a schema cannot express: that the options of a configuration file fit together.
//!
//! The checks read the tree. A check reports nothing if a value it needs has the wrong type.

mod acme;
mod group;
mod listeners;
mod operator;
mod route;

use std::collections::HashMap;

use jsonc_parser::ast::{Object, Value};

use super::report::{Report, is_missing};
use crate::config::file::keys_of;
use crate::config::file::model::{Hostname, PathPrefix, Protocol, TcpOptions};
use crate::config::file::tree::{get, list, text};

/// Reports options that do not fit together.
pub(super) fn check(document: &Object<'_>, report: &mut Report<'_, '_>) {
    if let (Some(burst), None) = (get(document, "burst"), get(document, "requests_per_second")) {
        report.add(burst, "`burst` has no effect without `requests_per_second`");
    }
    let servers: Vec<&Object<'_>> = list(document, "servers").iter().filter_map(Value::as_object).collect();
    for server in &servers {
        match protocol(server) {
            Some(Protocol::Http) => http(server, report),
            Some(Protocol::Tcp) => tcp(server, report),
            None => {}
        }
    }
    listeners::check(&servers, report);
    operator::check(document, &servers, report);
    if list(document, "trusted_proxies").is_empty() {
        listeners::check_untrusted(&servers, report);
    }
}

/// The protocol of the server. `None` if the value is invalid.
fn protocol(server: &Object<'_>) -> Option<Protocol> {
    match (get(server, "protocol"), text(server, "protocol")) {
        (None, _) | (_, Some("http")) => Some(Protocol::Http),
        (_, Some("tcp")) => Some(Protocol::Tcp),
        (Some(_), Some(_) | None) => None,
    }
}

fn http(server: &Object<'_>, report: &mut Report<'_, '_>) {
    for key in keys_of::<TcpOptions>() {
        if let Some(property) = get(server, &key) {
            let hint = match key.as_str() {
                "handler" => "add `\"protocol\": \"tcp\"`".to_owned(),
                _ => "it belongs in each of `routes`, or in a server with `\"protocol\": \"tcp\"`".to_owned(),
            };
            report.add_with_hint(property, format!("`{key}` has no effect in an HTTP server"), hint);
        }
    }
    let has_tls = |listener: &Object<'_>| get(listener, "tls").is_some();
    if let Some(hsts) = get(server, "hsts")
        && !list(server, "listeners").iter().filter_map(Value::as_object).any(has_tls)
    {
        report.add(hsts, "`hsts` has no effect without a listener that has `tls`");
    }
    repeated(server, report);
    // Two routes must not have the same path, however it is spelled.
    let mut seen: HashMap<Box<[u8]>, usize> = HashMap::new();
    for route in list(server, "routes").iter().filter_map(Value::as_object) {
        if let (Some(text), Some(place)) = (text(route, "req_path"), get(route, "req_path"))
            && let Ok(PathPrefix(prefix)) = text.parse::<PathPrefix>()
        {
            if let Some(first) = seen.get(prefix.decoded()) {
                report.add(&place.value, format!("duplicate route for `{text}`; the first is on line {first}"));
            } else {
                seen.insert(prefix.decoded().into(), report.line(place));
            }
        }
        route::check(route, report);
    }
}

/// Reports host names that are listed twice.
fn repeated(server: &Object<'_>, report: &mut Report<'_, '_>) {
    let mut seen: HashMap<Hostname, usize> = HashMap::new();
    for (value, name) in hostnames(server) {
        let line = report.line(value);
        if let Some(first) = seen.get(&name) {
            report.add(value, format!("duplicate host name `{name}`; the first is on line {first}"));
        } else {
            seen.insert(name, line);
        }
    }
}

/// The host names of a server that are valid.
fn hostnames<'d, 't>(server: &'d Object<'t>) -> impl Iterator<Item = (&'d Value<'t>, Hostname)> {
    let name = |value: &'d Value<'t>| Some((value, value.as_string_lit()?.value.parse().ok()?));
    list(server, "hostnames").iter().filter_map(name)
}

/// Reports what makes it impossible to choose a TCP server by the name that a TLS client asks for.
fn server_names(server: &Object<'_>, handler: &str, report: &mut Report<'_, '_>) {
    let Some(property) = get(server, "hostnames").filter(|_| !list(server, "hostnames").is_empty()) else { return };
    if handler != "tcp_proxy" {
        return report.add(property, "`hostnames` has no effect with this handler; only `tcp_proxy` is chosen by name");
    }
    repeated(server, report);
    for (value, _) in hostnames(server).filter(|(_, name)| name.port.is_some()) {
        report.add(value, "the name that a TLS client asks for has no port");
    }
    for listener in list(server, "listeners").iter().filter_map(Value::as_object) {
        if let Some(tls) = get(listener, "tls") {
            let hint = "`hostnames` in a TCP server pass TLS on to the upstreams, as it is".to_owned();
            report.add_with_hint(tls, "`tls` cannot be used with `hostnames` in a TCP server", hint);
        }
    }
    for upstream in list(server, "upstreams") {
        let address = match upstream {
            Value::Object(object) => text(object, "address"),
            other => other.as_string_lit().map(|literal| literal.value.as_ref()),
        };
        if address.is_some_and(|address| address.starts_with("https://")) {
            let hint = "write it without https://".to_owned();
            report.add_with_hint(upstream, "what is passed on is encrypted already", hint);
        }
    }
}

/// Keys of a server that apply to requests.
const HTTP_ONLY: [&str; 4] = ["routes", "access_log", "access_format", "hsts"];

fn tcp(server: &Object<'_>, report: &mut Report<'_, '_>) {
    for key in HTTP_ONLY {
        if let Some(property) = get(server, key) {
            report.add(property, format!("`{key}` has no effect in a TCP server"));
        }
    }
    let Some(handler) = get(server, "handler") else {
        if is_missing(server, "handler") {
            let hint = "echo, reverse, tcp_proxy or send_file".to_owned();
            report.add_with_hint(server, "a TCP server needs a `handler`", hint);
        }
        return;
    };
    let Some(name) = text(server, "handler") else { return };
    server_names(server, name, report);
    match name {
        "tcp_proxy" => group::check(server, &handler.value, group::Over::Tcp, report),
        "send_file" if is_missing(server, "file") => report.add(&handler.value, "`send_file` needs a `file`"),
        _ => {}
    }
    for key in keys_of::<TcpOptions>() {
        let home = match key.as_str() {
            "handler" => continue,
            "root" | "file" | "on_missing" => "send_file",
            _ => "tcp_proxy",
        };
        if let Some(property) = get(server, &key).filter(|_| home != name) {
            report.add(property, format!("`{key}` has no effect with this handler; it is an option of `{home}`"));
        }
    }
}
