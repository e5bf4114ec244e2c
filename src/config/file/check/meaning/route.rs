//! Checks routes: the options that the type needs are present, and all options have an effect.

use jsonc_parser::ast::{Object, Value};

use super::group;
use crate::config::file::check::report::{Report, is_missing};
use crate::config::file::keys_of;
use crate::config::file::model::{FileOptions, PathPrefix, ProxyOptions, RouteKind};
use crate::config::file::tree::{get, list, text};
use crate::http::forward::FieldName;
use crate::http::path::rest_beneath;
use crate::http::token::is_token;
use crate::http::{Known, is_own};

/// Reports problems of one route.
pub(super) fn check(route: &Object<'_>, report: &mut Report<'_, '_>) {
    for key in ["headers", "request_headers", "response_headers"] {
        if let Some(rules) = get(route, key).and_then(|property| property.value.as_object()) {
            check_fields(rules, key == "headers", report);
        }
    }
    let Some(kind) = text(route, "type").and_then(RouteKind::named) else { return };
    let Some(place) = get(route, "type").map(|property| &property.value) else { return };
    match kind {
        RouteKind::FileServe => files(route, place, report),
        RouteKind::ReverseProxy => proxy(route, place, report),
        RouteKind::Redirect => redirect(route, place, report),
        RouteKind::Metrics | RouteKind::Api => {}
    }
    check_strangers(route, kind, report);
}

fn files(route: &Object<'_>, place: &Value<'_>, report: &mut Report<'_, '_>) {
    if is_missing(route, "dir_path") {
        report.add(place, "a `file_serve` route needs a `dir_path`");
    }
    for (ours, theirs) in [("compression", "gzip_enable"), ("compression_level", "gzip_level")] {
        if let (Some(_), Some(property)) = (get(route, ours), get(route, theirs)) {
            report.add(property, format!("`{theirs}` and `{ours}` cannot be used together"));
        }
    }
}

fn proxy(route: &Object<'_>, place: &Value<'_>, report: &mut Report<'_, '_>) {
    group::check(route, place, group::Over::Http, report);
    client_subject(route, report);
    let prefix = |key| text(route, key)?.parse::<PathPrefix>().ok();
    let (Some(prefix), Some(stripped)) = (prefix("req_path"), prefix("strip_prefix")) else { return };
    let begins = |path: &PathPrefix, start: &PathPrefix| rest_beneath(path.0.decoded(), start.0.decoded()).is_some();
    if !begins(&prefix, &stripped) && !begins(&stripped, &prefix) {
        let Some(property) = get(route, "strip_prefix") else { return };
        report.add(&property.value, format!("no path beneath `{prefix}` begins with `{stripped}`"));
    }
}

/// Reports a field for the client's subject that has another meaning, or that other options change.
fn client_subject(route: &Object<'_>, report: &mut Report<'_, '_>) {
    let Some(property) = get(route, "client_cert_header") else { return };
    // A name that is no token is reported by the check of the shape.
    let Some(name) = text(route, "client_cert_header").filter(|name| is_token(name.as_bytes())) else { return };
    if is_own(name) || Known::recognise(name.as_bytes()).is_some() || FieldName::new(name).is_err() {
        let hint = "choose one of your own, for example `X-Client-Subject`".to_owned();
        report.add_with_hint(&property.value, format!("the field `{name}` has another meaning"), hint);
    }
    let Some(rules) = get(route, "request_headers").and_then(|property| property.value.as_object()) else { return };
    let message = format!("`{name}` is the field of `client_cert_header` and cannot be changed");
    for part in ["set", "add"] {
        let Some(fields) = get(rules, part).and_then(|property| property.value.as_object()) else { continue };
        for field in fields.properties.iter().filter(|field| field.name.as_str().eq_ignore_ascii_case(name)) {
            report.add(field, message.clone());
        }
    }
    for value in list(rules, "remove") {
        if value.as_string_lit().is_some_and(|literal| literal.value.eq_ignore_ascii_case(name)) {
            report.add(value, message.clone());
        }
    }
}

fn redirect(route: &Object<'_>, place: &Value<'_>, report: &mut Report<'_, '_>) {
    if is_missing(route, "redirect_url") {
        report.add(place, "a `redirect` route needs a `redirect_url`");
    }
    let Some(status) = get(route, "http_status_code") else { return };
    let code = status.value.as_number_lit().and_then(|literal| literal.value.parse::<u16>().ok());
    const NOT_MODIFIED: u16 = 304;
    if code.is_some_and(|code| !(300..400).contains(&code) || code == NOT_MODIFIED) {
        let hint = "permanent: 301, 308; temporary: 302, 303, 307".to_owned();
        report.add_with_hint(&status.value, "not a redirect status", hint);
    }
}

/// Keys of eXpServer, which ignores them where they have no effect. Its files must be accepted.
const TOLERATED: [&str; 7] =
    ["dir_path", "index", "gzip_enable", "gzip_level", "gzip_mime_types", "upstreams", "load_balancing"];

/// Reports keys that have no effect with this type.
fn check_strangers(route: &Object<'_>, kind: RouteKind, report: &mut Report<'_, '_>) {
    let of_files = keys_of::<FileOptions>().into_iter().map(|key| (key, RouteKind::FileServe));
    let of_proxies = keys_of::<ProxyOptions>().into_iter().map(|key| (key, RouteKind::ReverseProxy));
    for (key, home) in
        of_files.chain(of_proxies).filter(|(key, home)| *home != kind && !TOLERATED.contains(&key.as_str()))
    {
        let Some(property) = get(route, &key) else { continue };
        let hint = match (key.as_str(), kind) {
            // These apply to all responses of xps itself.
            ("headers", RouteKind::Redirect | RouteKind::Metrics | RouteKind::Api) | ("cors", _) => continue,
            ("headers", RouteKind::ReverseProxy) => Some("use `response_headers`".to_owned()),
            ("response_headers", _) => Some("use `headers`".to_owned()),
            _ => None,
        };
        let message =
            format!("`{key}` has no effect in a `{}` route; it is an option of `{}`", kind.name(), home.name());
        report.add_with_hint(property, message, hint);
    }
}

/// Reports fields that xps writes itself: framing, connection and `Host` fields, and `Date` in
/// responses of xps itself.
fn check_fields(rules: &Object<'_>, of_own_responses: bool, report: &mut Report<'_, '_>) {
    let is_own = |name: &str| is_reserved(name) || of_own_responses && name.eq_ignore_ascii_case("date");
    let hint = |name: &str| name.eq_ignore_ascii_case("host").then(|| "use the option `host` of the route".to_owned());
    let own = |name: &str| (format!("`{name}` is set by xps and cannot be changed"), hint(name));
    for part in ["set", "add"] {
        let Some(fields) = get(rules, part).and_then(|property| property.value.as_object()) else { continue };
        for field in fields.properties.iter().filter(|field| is_own(field.name.as_str())) {
            let (message, hint) = own(field.name.as_str());
            report.add_with_hint(field, message, hint);
        }
    }
    for value in list(rules, "remove") {
        if let Some(literal) = value.as_string_lit().filter(|literal| is_own(&literal.value)) {
            let (message, hint) = own(&literal.value);
            report.add_with_hint(value, message, hint);
        }
    }
}

/// Whether xps itself writes this field of every message. Invalid names are reported by the check of
/// the shape.
pub(super) fn is_reserved(name: &str) -> bool {
    is_own(name) || is_token(name.as_bytes()) && FieldName::new(name).is_err()
}
