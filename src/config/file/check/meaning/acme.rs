//! Checks the certificates that are obtained: their names, and that a challenge can be answered.

use jsonc_parser::ast::{Object, Value};

use super::protocol;
use crate::config::file::check::report::{Report, is_missing};
use crate::config::file::model::{AcmeDomain, Hostname, Protocol};
use crate::config::file::tree::{get, list, text};
use crate::tls::acme::LETS_ENCRYPT;

/// Reports a listener with TLS and no certificate, and certificates that cannot be obtained.
pub(super) fn check(server: &Object<'_>, servers: &[&Object<'_>], listener: &Object<'_>, report: &mut Report<'_, '_>) {
    let Some(tls) = get(listener, "tls").and_then(|property| property.value.as_object()) else { return };
    if is_missing(tls, "certificates") && is_missing(tls, "acme") {
        report.add(tls, "missing key `certificates` or `acme`");
    }
    let Some(acme) = get(tls, "acme").and_then(|property| property.value.as_object()) else { return };
    check_names(server, acme, report);
    check_challenge(server, servers, tls, acme, report);
}

fn check_names(server: &Object<'_>, acme: &Object<'_>, report: &mut Report<'_, '_>) {
    let is_public = text(acme, "directory").unwrap_or(LETS_ENCRYPT).contains(".letsencrypt.org/");
    let (names, is_default) = match get(acme, "domains") {
        Some(_) => (list(acme, "domains"), false),
        None => (list(server, "hostnames"), true),
    };
    if names.is_empty() && is_default {
        let hint = "add `domains`, or `hostnames` beside `listeners`".to_owned();
        report.add_with_hint(acme, "`acme` has no host name to obtain a certificate for", hint);
    }
    for value in names {
        let Some(name) = value.as_string_lit().map(|literal| literal.value.as_ref()) else { continue };
        match name.parse::<AcmeDomain>() {
            Ok(domain) if is_public && !domain.0.contains('.') => {
                let hint = "a private authority has a `directory` of its own".to_owned();
                report.add_with_hint(value, format!("Let's Encrypt issues no certificate for `{name}`"), hint);
            }
            Ok(_) => {}
            // A name that is none is reported by the check of the shape.
            Err(error) if is_default && name.parse::<Hostname>().is_ok() => {
                let hint = "name the `domains` of `acme`, which may be others than the `hostnames`".to_owned();
                report.add_with_hint(value, format!("no certificate for `{name}`: {error}"), hint);
            }
            Err(_) => {}
        }
    }
}

fn check_challenge(
    server: &Object<'_>,
    servers: &[&Object<'_>],
    tls: &Object<'_>,
    acme: &Object<'_>,
    report: &mut Report<'_, '_>,
) {
    let has_alpn = match get(tls, "alpn") {
        Some(_) => !list(tls, "alpn").is_empty(),
        None => protocol(server) != Some(Protocol::Tcp),
    };
    let auth = get(tls, "client_auth").and_then(|property| property.value.as_object());
    let requires_certificate = auth.is_some_and(|auth| text(auth, "mode").is_none_or(|mode| mode == "require"));
    let answers_tls = has_alpn && !requires_certificate;
    let is_plain = |listener: &Object<'_>| get(listener, "tls").is_none();
    let answers_http = servers
        .iter()
        .filter(|server| protocol(server) != Some(Protocol::Tcp))
        .flat_map(|server| list(server, "listeners"))
        .filter_map(Value::as_object)
        .any(is_plain);
    let chosen = get(acme, "challenge");
    let no_http = || "`http-01` needs an HTTP server with a listener without `tls`, on port 80";
    let no_tls = || {
        if requires_certificate {
            "`tls-alpn-01` cannot be answered by a listener that requires certificates of clients"
        } else {
            "`tls-alpn-01` needs `alpn` on the listener"
        }
    };
    match (chosen, text(acme, "challenge")) {
        (Some(chosen), Some("http-01")) if !answers_http => report.add(&chosen.value, no_http()),
        (Some(chosen), Some("tls-alpn-01")) if !answers_tls => report.add(&chosen.value, no_tls()),
        (None, _) if !answers_http && !answers_tls => {
            report.add_with_hint(acme, no_tls(), no_http().to_owned());
        }
        _ => {}
    }
}
