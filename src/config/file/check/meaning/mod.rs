//! Checks what a schema cannot express: that the options of a configuration file fit together.
//!
//! The checks read the tree. A check reports nothing if a value it needs has the wrong type.

mod group;
mod listeners;
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
    let mut seen: HashMap<Hostname, usize> = HashMap::new();
    for value in list(server, "hostnames") {
        let Some(Ok(name)) = value.as_string_lit().map(|literal| literal.value.parse::<Hostname>()) else { continue };
        let line = report.line(value);
        if let Some(first) = seen.get(&name) {
            report.add(value, format!("duplicate host name `{name}`; the first is on line {first}"));
        } else {
            seen.insert(name, line);
        }
    }
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

/// Keys of a server that apply to requests.
const HTTP_ONLY: [&str; 5] = ["routes", "hostnames", "access_log", "access_format", "hsts"];

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
