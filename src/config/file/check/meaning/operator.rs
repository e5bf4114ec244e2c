//! Checks the listeners for those who operate the server: their addresses are no others'.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use jsonc_parser::ast::{Object, ObjectProp};
use serde::Deserialize;

use super::listeners::{Address, address};
use crate::config::file::check::report::Report;
use crate::config::file::model::Metrics;
use crate::config::file::tree::{get, list, text, to_json};

/// Reports options that do not fit together, and addresses that a server or the other of them has.
pub(super) fn check(document: &Object<'_>, servers: &[&Object<'_>], report: &mut Report<'_, '_>) {
    let (metrics, admin) = (get(document, "metrics"), get(document, "admin"));
    if let Some(listener) = metrics.and_then(|metrics| metrics.value.as_object()) {
        check_form(listener, report);
    }
    let of_metrics = metrics.and_then(|property| Some((property, address_of(property)?)));
    let of_admin = admin.and_then(|property| Some((property, path_of(property)?)));
    for (property, own) in of_metrics.iter().chain(&of_admin) {
        refuse_conflict(own, property, servers, report);
    }
    if let (Some((metrics, of_metrics)), Some((admin, of_admin))) = (&of_metrics, &of_admin)
        && of_metrics == of_admin
    {
        let line = report.line(*metrics);
        report.add(*admin, format!("`{of_admin}`, the address of `admin`, is that of `metrics` on line {line}"));
    }
}

fn check_form(listener: &Object<'_>, report: &mut Report<'_, '_>) {
    if get(listener, "unix").is_some() {
        for key in ["host", "port"] {
            if let Some(property) = get(listener, key) {
                report.add(property, format!("a listener has either `{key}` or `unix`, not both"));
            }
        }
        if let Some(allow) = get(listener, "allow").filter(|_| !list(listener, "allow").is_empty()) {
            let hint = "`mode` decides who may connect to it".to_owned();
            report.add_with_hint(allow, "`allow` has no effect on a unix socket", hint);
        }
    } else if let Some(mode) = get(listener, "mode") {
        report.add(mode, "`mode` has no effect without `unix`");
    }
}

fn refuse_conflict(own: &Address, property: &ObjectProp<'_>, servers: &[&Object<'_>], report: &mut Report<'_, '_>) {
    let listeners = servers.iter().flat_map(|server| list(server, "listeners")).filter_map(|value| value.as_object());
    let conflicts = |listener: &&Object<'_>| address(listener).is_some_and(|it| it == *own || it.overlaps(own));
    if let Some(other) = listeners.into_iter().find(conflicts) {
        let key = property.name.as_str();
        let line = report.line(other);
        report.add(property, format!("`{own}`, the address of `{key}`, is that of the listener on line {line}"));
    }
}

/// The address of the metrics listener. `None`: there is none, or it cannot conflict.
fn address_of(metrics: &ObjectProp<'_>) -> Option<Address> {
    let listener = Metrics::deserialize(to_json(&metrics.value)).ok()?.listener()?;
    match listener.unix {
        Some(path) => Some(Address::Unix(normal(path))),
        None => inet(listener.host.0, listener.port),
    }
}

/// The path of the admin socket, if it has one.
fn path_of(admin: &ObjectProp<'_>) -> Option<Address> {
    text(admin.value.as_object()?, "unix").map(|path| Address::Unix(normal(path.into())))
}

fn inet(ip: IpAddr, port: u16) -> Option<Address> {
    (port != 0).then(|| Address::Inet(SocketAddr::new(ip, port)))
}

/// The path without components that change nothing.
fn normal(path: PathBuf) -> PathBuf {
    path.components().filter(|component| *component != std::path::Component::CurDir).collect()
}
