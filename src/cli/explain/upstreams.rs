//! Describes upstreams, and the request that one of them would get.

use super::report::Report;
use crate::driver::Peer;
use crate::http::forward::{RequestContext, upgrade_to_forward, write_request};
use crate::http::{RequestHead, Scheme};
use crate::limit::Admission;
use crate::session::http::ProxyRoute;
use crate::upstream::group::{CheckKind, HashSource, HttpCheck, Policy};

pub(super) fn upstreams(proxy_route: &ProxyRoute, report: &mut Report) {
    let group = &proxy_route.group;
    let endpoints: Vec<String> = group.ids().map(|id| group.upstream(id).address().to_string()).collect();
    match endpoints.as_slice() {
        [only] => report.add("to", format!("the upstream {only}")),
        several => report.add("to", format!("one of {}, {}", several.join(", "), policy(group.policy()))),
    }
    // The endpoints of a group have the same checks.
    if let Some(check) = group.ids().next().and_then(|first| group.shared(first).check.as_ref()) {
        let checks = check.config();
        let how = match &checks.kind {
            CheckKind::Connect => "by connecting".to_owned(),
            CheckKind::Http(check) => format!("by {} {}", check.method.as_str(), check.target),
        };
        report.add("", format!("checked every {:?} {how}", checks.interval));
        if let CheckKind::Http(check) = &checks.kind {
            http_check(check, report);
        }
    }
    let tries = if proxy_route.connect_policy.tries_max == 0 {
        endpoints.len() as u32
    } else {
        proxy_route.connect_policy.tries_max
    };
    let timeout = proxy_route.response_timeout;
    let response = if timeout.is_zero() { "none".to_owned() } else { format!("{timeout:?}") };
    report.add(
        "tries",
        format!(
            "{tries}; connect timeout {:?}, response timeout {response}",
            proxy_route.connect_policy.connect_timeout
        ),
    );
    if proxy_route.body_bytes_max != 0 {
        report.add("body", format!("at most {} bytes, else 413", proxy_route.body_bytes_max));
    }
    let rules = &proxy_route.response.fields;
    let removed = rules.remove.iter().map(|name| format!("without {}", name.as_str()));
    let set = rules.set.iter().map(|line| format!("{}: {}", line.name().as_str(), line.value()));
    let added = rules.add.iter().map(|line| format!("added {}: {}", line.name().as_str(), line.value()));
    for (index, change) in removed.chain(set).chain(added).enumerate() {
        report.add(if index == 0 { "response" } else { "" }, change);
    }
}

/// What differs from a plain check.
fn http_check(check: &HttpCheck, report: &mut Report) {
    let host = check.host.iter().map(|host| format!("Host: {}", host.as_str()));
    let fields = check.fields.iter().map(|line| format!("{}: {}", line.name().as_str(), line.value()));
    for field in host.chain(fields) {
        report.add("", format!("with {field}"));
    }
    let status: Vec<String> = check.status.iter().map(ToString::to_string).collect();
    let text = check.body.iter().map(|text| format!(" and {text:?} in the body"));
    if check.body.is_some() || check.status != HttpCheck::get("/").status {
        report.add("", format!("expecting {}{}", status.join(" or "), text.collect::<String>()));
    }
}

pub(super) fn policy(policy: &Policy) -> String {
    match policy {
        Policy::RoundRobin => "in turn".to_owned(),
        Policy::LeastConnections => "the one with the fewest requests".to_owned(),
        Policy::RandomOfTwo => "the less loaded of two chosen at random".to_owned(),
        Policy::Hash(HashSource::Client) => "by the client's address".to_owned(),
        Policy::Hash(HashSource::Header(name)) => format!("by the header field {name}"),
        Policy::Hash(HashSource::Path) => "by the path".to_owned(),
        Policy::Sticky { cookie } => format!("by the cookie {cookie}"),
    }
}

pub(super) fn forwarded(
    proxy_route: &ProxyRoute,
    head: &RequestHead<'_>,
    scheme: Scheme,
    peer: Peer,
    admission: &Admission,
) -> String {
    let context = RequestContext {
        client: peer.ip(),
        client_is_trusted: admission.is_trusted(peer),
        scheme,
        client_subject: None,
        upstream_authority: &proxy_route.authority,
        framing: head.framing,
        upgrade: upgrade_to_forward(head).filter(|_| proxy_route.upgrades),
        websocket_key: None,
        request_id: None,
    };
    let mut out = Vec::new();
    write_request(head, &proxy_route.request, &context, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
