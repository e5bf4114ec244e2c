//! Whether a route has what its type needs, and nothing that means nothing to it.

use jsonc_parser::ast::{Object, Value};

use super::group;
use crate::config::file::check::report::{Report, is_missing};
use crate::config::file::keys_of;
use crate::config::file::model::{FileOptions, PathPrefix, ProxyOptions, RouteKind};
use crate::config::file::tree::{get, list, text};
use crate::http::forward::FieldName;
use crate::http::is_own;
use crate::http::path::rest_beneath;
use crate::http::token::is_token;

/// Reports what is amiss with one route.
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
        RouteKind::Metrics => {}
    }
    check_strangers(route, kind, report);
}

fn files(route: &Object<'_>, place: &Value<'_>, report: &mut Report<'_, '_>) {
    if is_missing(route, "dir_path") {
        report.add(place, "a `file_serve` route wants a `dir_path`");
    }
    for (ours, theirs) in [("compression", "gzip_enable"), ("compression_level", "gzip_level")] {
        if let (Some(_), Some(property)) = (get(route, ours), get(route, theirs)) {
            report.add(property, format!("`{theirs}` says what `{ours}` says; one is enough"));
        }
    }
}

fn proxy(route: &Object<'_>, place: &Value<'_>, report: &mut Report<'_, '_>) {
    group::check(route, place, group::Over::Http, report);
    let prefix = |key| text(route, key)?.parse::<PathPrefix>().ok();
    let (Some(prefix), Some(stripped)) = (prefix("req_path"), prefix("strip_prefix")) else { return };
    let begins = |path: &PathPrefix, start: &PathPrefix| rest_beneath(path.0.decoded(), start.0.decoded()).is_some();
    if !begins(&prefix, &stripped) && !begins(&stripped, &prefix) {
        let Some(property) = get(route, "strip_prefix") else { return };
        report.add(&property.value, format!("no path beneath `{prefix}` begins so"));
    }
}

fn redirect(route: &Object<'_>, place: &Value<'_>, report: &mut Report<'_, '_>) {
    if is_missing(route, "redirect_url") {
        report.add(place, "a `redirect` route wants a `redirect_url`");
    }
    let Some(status) = get(route, "http_status_code") else { return };
    let code = status.value.as_number_lit().and_then(|literal| literal.value.parse::<u16>().ok());
    const NOT_MODIFIED: u16 = 304;
    if code.is_some_and(|code| !(300..400).contains(&code) || code == NOT_MODIFIED) {
        let hint = "301 and 308 are for good, 302, 303 and 307 for now".to_owned();
        report.add_with_hint(&status.value, "this is not the status of a redirect", hint);
    }
}

/// Keys of the original, which takes no offence at them where they mean nothing; its files must be read.
const TOLERATED: [&str; 7] =
    ["dir_path", "index", "gzip_enable", "gzip_level", "gzip_mime_types", "upstreams", "load_balancing"];

/// Keys that mean nothing to this type.
fn check_strangers(route: &Object<'_>, kind: RouteKind, report: &mut Report<'_, '_>) {
    let of_files = keys_of::<FileOptions>().into_iter().map(|key| (key, RouteKind::FileServe));
    let of_proxies = keys_of::<ProxyOptions>().into_iter().map(|key| (key, RouteKind::ReverseProxy));
    for (key, home) in
        of_files.chain(of_proxies).filter(|(key, home)| *home != kind && !TOLERATED.contains(&key.as_str()))
    {
        let Some(property) = get(route, &key) else { continue };
        let hint = match (key.as_str(), kind) {
            // What xps answers of itself has fields, whatever the answer is.
            ("headers", RouteKind::Redirect | RouteKind::Metrics) | ("cors", _) => continue,
            ("headers", RouteKind::ReverseProxy) => Some("`response_headers` is meant for that".to_owned()),
            ("response_headers", _) => Some("`headers` is meant for that".to_owned()),
            _ => None,
        };
        let message = format!("`{key}` means nothing to a `{}` route; it is for `{}`", kind.name(), home.name());
        report.add_with_hint(property, message, hint);
    }
}

/// Fields that say how a message is framed, what becomes of the connection or who is asked, and in responses of our own when
/// they were made: xps writes them itself.
fn check_fields(rules: &Object<'_>, of_own_responses: bool, report: &mut Report<'_, '_>) {
    // Of what is no name at all the shape tells.
    let is_own = |name: &str| {
        is_own(name)
            || is_token(name.as_bytes()) && FieldName::new(name).is_err()
            || of_own_responses && name.eq_ignore_ascii_case("date")
    };
    let hint = |name: &str| name.eq_ignore_ascii_case("host").then(|| "a proxy has an option `host`".to_owned());
    let own = |name: &str| (format!("`{name}` is xps's own to say"), hint(name));
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
