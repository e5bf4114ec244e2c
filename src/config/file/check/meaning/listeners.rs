//! Checks listeners: each socket is opened once, and the servers on it have different hosts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use jsonc_parser::ast::{Object, Value};
use serde::Deserialize;

use super::{acme, protocol};
use crate::config::file::check::report::{Report, is_missing};
use crate::config::file::model::{AlpnProtocol, Hostname, ListenHost, Protocol, Tls};
use crate::config::file::tree::{get, list, text, to_json};
use crate::config::{HTTP_PROTOCOLS, overlap};

/// Reports listeners without an address, and addresses that conflict.
pub(super) fn check(servers: &[&Object<'_>], report: &mut Report<'_, '_>) {
    let mut sockets: Vec<(Address, Vec<Claim<'_, '_>>)> = Vec::new();
    for server in servers {
        for value in list(server, "listeners") {
            let Some(listener) = value.as_object() else { continue };
            check_form(listener, report);
            check_alpn(server, listener, report);
            acme::check(server, servers, listener, report);
            check_redirect(server, listener, report);
            check_h2c(server, listener, report);
            let Some(address) = address(listener) else { continue };
            let claim = Claim { server, listener };
            if let Some((_, claims)) = sockets.iter_mut().find(|(other, _)| *other == address) {
                if let Some(complaint) = claims.iter().find_map(|earlier| claim.complaint(earlier, report)) {
                    report.add(value, complaint);
                }
                claims.push(claim);
                continue;
            }
            let part = sockets.iter().find(|(other, _)| address.overlaps(other));
            if let Some((other, earlier)) = part.and_then(|(other, claims)| Some((other, claims.first()?))) {
                let complaint = format!(
                    "`{address}` and `{other}`, on line {}, overlap: the kernel lets only one of them listen",
                    report.line(earlier.listener)
                );
                let hint = "list each address, or only the wildcard, which several servers can share by `hostnames`"
                    .to_owned();
                report.add_with_hint(value, complaint, hint);
            }
            sockets.push((address, vec![claim]));
        }
    }
}

/// A listener's address in normal form, for comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inet(a), Self::Inet(b)) => overlap(*a, *b),
            (Self::Inet(_) | Self::Unix(_), _) => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reports listeners that expect a PROXY protocol header although no proxy is trusted.
pub(super) fn check_untrusted(servers: &[&Object<'_>], report: &mut Report<'_, '_>) {
    let listeners = servers.iter().flat_map(|server| list(server, "listeners")).filter_map(Value::as_object);
    for listener in listeners.filter(|listener| get(listener, "unix").is_none() && expects_header(listener)) {
        if let Some(property) = get(listener, "accept_proxy_protocol") {
            let hint =
                "add the networks of the proxies beside `servers`, for example `\"trusted_proxies\": [\"10.0.0.0/8\"]`"
                    .to_owned();
            report.add_with_hint(property, "`accept_proxy_protocol` needs `trusted_proxies`", hint);
        }
    }
}

/// Reports listeners that have neither `host` and `port`, nor `unix` and optionally `mode`.
fn check_form(listener: &Object<'_>, report: &mut Report<'_, '_>) {
    if get(listener, "unix").is_some() {
        for key in ["host", "port"] {
            if let Some(property) = get(listener, key) {
                report.add(property, format!("a listener has either `{key}` or `unix`, not both"));
            }
        }
    } else if is_missing(listener, "port") && is_missing(listener, "unix") {
        report.add(listener, "a listener needs `port` or `unix`");
    } else if let Some(mode) = get(listener, "mode") {
        report.add(mode, "`mode` has no effect without `unix`");
    }
}

/// Reports application protocols that an HTTP server does not speak, though a client could choose
/// them.
fn check_alpn(server: &Object<'_>, listener: &Object<'_>, report: &mut Report<'_, '_>) {
    let Some(tls) = get(listener, "tls").and_then(|property| property.value.as_object()) else { return };
    if protocol(server) != Some(Protocol::Http) {
        return;
    }
    for value in list(tls, "alpn") {
        let name = value.as_string_lit().map(|literal| literal.value.as_ref());
        // What is no name is reported by the check of the shape.
        if let Some(name) = name.filter(|name| name.parse::<AlpnProtocol>().is_ok() && !HTTP_PROTOCOLS.contains(name)) {
            let hint = format!("HTTP servers speak {}", HTTP_PROTOCOLS.join(", "));
            report.add_with_hint(value, format!("`{name}` is not spoken here"), hint);
        }
    }
}

/// Reports HTTP/2 without TLS where there is TLS, or no HTTP.
fn check_h2c(server: &Object<'_>, listener: &Object<'_>, report: &mut Report<'_, '_>) {
    let Some(h2c) = get(listener, "h2c").filter(|property| !is_off(&property.value)) else { return };
    if protocol(server) == Some(Protocol::Tcp) {
        report.add(h2c, "`h2c` has no effect in a TCP server");
    } else if get(listener, "tls").is_some() {
        report.add_with_hint(h2c, "`h2c` has no effect with `tls`", "over TLS, `alpn` offers HTTP/2".to_owned());
    }
}

fn is_off(value: &Value<'_>) -> bool {
    value.as_boolean_lit().is_some_and(|literal| !literal.value)
}

/// Reports a redirect to `https` where there is nothing to redirect.
fn check_redirect(server: &Object<'_>, listener: &Object<'_>, report: &mut Report<'_, '_>) {
    let Some(redirect) = get(listener, "redirect_to_https").filter(|property| !is_off(&property.value)) else {
        return;
    };
    if protocol(server) == Some(Protocol::Tcp) {
        report.add(redirect, "`redirect_to_https` has no effect in a TCP server");
    } else if get(listener, "tls").is_some() {
        let hint = "it belongs on the listener without TLS".to_owned();
        report.add_with_hint(redirect, "`redirect_to_https` has no effect with `tls`", hint);
    }
}

/// The listener's address. `None` if it is invalid, or cannot conflict with another.
pub(super) fn address(listener: &Object<'_>) -> Option<Address> {
    if let Some(path) = text(listener, "unix") {
        let named = Path::new(path).components().filter(|component| *component != Component::CurDir);
        return Some(Address::Unix(named.collect()));
    }
    let port: u16 = get(listener, "port")?.value.as_number_lit()?.value.parse().ok()?;
    let host: ListenHost = match get(listener, "host") {
        Some(_) => text(listener, "host")?.parse().ok()?,
        None => ListenHost(Ipv4Addr::UNSPECIFIED.into()),
    };
    // With port 0 each listener gets a port of its own.
    (port != 0).then(|| Address::Inet(SocketAddr::new(host.0, port)))
}

fn expects_header(listener: &Object<'_>) -> bool {
    is_on(listener, "accept_proxy_protocol")
}

fn is_on(listener: &Object<'_>, key: &str) -> bool {
    get(listener, key).and_then(|property| property.value.as_boolean_lit()).is_some_and(|literal| literal.value)
}

/// A listener of a server.
struct Claim<'d, 't> {
    server: &'d Object<'t>,
    listener: &'d Object<'t>,
}

impl Claim<'_, '_> {
    /// Why it conflicts with an earlier listener on the same socket.
    fn complaint(&self, earlier: &Self, report: &Report<'_, '_>) -> Option<String> {
        let line = report.line(earlier.listener);
        if std::ptr::eq(self.server, earlier.server) {
            return Some(format!("duplicate listener; this server already has it on line {line}"));
        }
        let protocols = (protocol(self.server)?, protocol(earlier.server)?);
        let is_proxy = |claim: &Self| text(claim.server, "handler") == Some("tcp_proxy");
        match protocols {
            (Protocol::Http, Protocol::Http) => {}
            (Protocol::Tcp, Protocol::Tcp) if is_proxy(self) && is_proxy(earlier) => {}
            (Protocol::Http | Protocol::Tcp, _) => {
                return Some(format!(
                    "another server has this listener on line {line}; only HTTP servers, or TCP proxies, can share one"
                ));
            }
        }
        let mode = |claim: &Self| text(claim.listener, "mode").map(str::to_owned);
        let flags = |claim: &Self| (expects_header(claim.listener), is_on(claim.listener, "h2c"));
        if flags(self) != flags(earlier) || mode(self) != mode(earlier) {
            return Some(format!("this listener has other options on line {line}"));
        }
        match (get(self.listener, "tls").is_some(), get(earlier.listener, "tls").is_some()) {
            (true, false) => return Some(format!("this listener has no `tls` on line {line}")),
            (false, true) => return Some(format!("this listener has `tls` on line {line}, and here it has not")),
            (true, true) if tls_options(self.listener)? != tls_options(earlier.listener)? => {
                return Some(format!(
                    "this listener has other `tls` options on line {line}; only `certificates` and `acme` may differ"
                ));
            }
            (true, true) | (false, false) => {}
        }
        let (own, others) = (hostnames(self.server)?, hostnames(earlier.server)?);
        if own.is_empty() && others.is_empty() {
            let what = if protocols.0 == Protocol::Http { "request" } else { "connection" };
            return Some(format!(
                "no {what} reaches this server: the server with this listener on line {line} has no `hostnames` either"
            ));
        }
        let taken = own.iter().find(|name| others.contains(name))?;
        Some(format!("host name `{taken}` belongs to the server with this listener on line {line}"))
    }
}

/// The TLS options of a listener without its certificates: those of all servers are used. `None` if they
/// are invalid.
fn tls_options(listener: &Object<'_>) -> Option<Tls> {
    let options = Tls::deserialize(to_json(&get(listener, "tls")?.value)).ok()?;
    Some(Tls { certificates: Vec::new(), acme: None, ..options })
}

/// The server's host names. `None` if one of them is invalid.
fn hostnames(server: &Object<'_>) -> Option<Vec<Hostname>> {
    list(server, "hostnames").iter().map(|value| value.as_string_lit()?.value.parse().ok()).collect()
}
