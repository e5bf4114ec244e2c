//! `xps explain`: shows how a server would handle a request, with the code that would handle it and
//! without contacting anything.

mod files;
mod http2;
mod report;
mod request;
mod response;
mod tls;
mod upstreams;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use self::http2::Reply;
use self::report::Report;
use self::request::Request;
use self::response::DryRunResponse;
use self::upstreams::{forwarded, policy, upstreams};
use super::args::ExplainOptions;
use super::failure::Failure;
use super::run::{place, read};
use crate::config::resolve::resolve;
use crate::config::{ListenerConfig, NameRouteConfig, ServerConfig, ServiceConfig};
use crate::core;
use crate::driver::Peer;
use crate::http::forward::forwards_left;
use crate::http::request::{Parsed, parse};
use crate::http::{ErrorResponse, Known};
use crate::limit::{Access, Admission};
use crate::session::ServerNames;
use crate::session::http::{Files, Metrics, Route, Router, VirtualHost};
use crate::upstream::GroupConfig;

/// Prints the explanation. A request that would be refused is also a failure.
pub fn run(options: &ExplainOptions) -> Result<(), Failure> {
    let (folder, path) = place(&options.file)?;
    let file = read(&path, options.profile.unwrap_or_default())?;
    let config = resolve(&file, &folder, 1)?;
    let request = Request::of(options)?;
    let mut report = Report::new();
    let verdict = explain(&config, &request, &mut report);
    super::print(report.text(&request).as_bytes())?;
    verdict
}

fn explain(config: &ServerConfig, request: &Request, report: &mut Report) -> Result<(), Failure> {
    let reached = config.listeners.iter().filter(|listener| request.reaches(&listener.address));
    // As in the kernel, a specific address takes precedence over the wildcard.
    let is_for_all =
        |listener: &&ListenerConfig| listener.address.inet().is_some_and(|address| address.ip().is_unspecified());
    let listener = reached.min_by_key(is_for_all).ok_or_else(|| {
        let all: Vec<String> = config.listeners.iter().map(|listener| listener.address.address().to_string()).collect();
        Failure::NotServed(format!("no listener for this address; listeners: {}", all.join(", ")))
    })?;
    let service = &listener.service;
    report.add("listener", format!("{}, {}", listener.address.address(), listener.service_name()));
    if listener.expects_proxy_header {
        report.add("", "expects a PROXY protocol header");
    }
    if listener.h2c {
        report.add("", "a client that begins with the preface of HTTP/2 speaks it (h2c)");
    }
    tls::explain(listener, request, report)?;
    let peer = Peer::Inet(SocketAddr::new(request.client, 0));
    match core::router_of(service)? {
        Some(router) => explain_http(config, listener, &router, request, peer, report),
        None => explain_tcp(listener, request.server_name(), peer, report),
    }
}

fn explain_tcp(
    listener: &ListenerConfig,
    server_name: Option<&str>,
    peer: Peer,
    report: &mut Report,
) -> Result<(), Failure> {
    let route = match &listener.service {
        ServiceConfig::TcpProxyByName(routes) => Some(named_route(routes, server_name)?),
        _ => None,
    };
    if let Some(NameRouteConfig { names, .. }) = route {
        report.add("server", if names.is_empty() { "for every other name".to_owned() } else { names.join(", ") });
    }
    report.add("client", shown(peer));
    let allowed = route.map_or(&listener.access, |route| &route.access);
    access(allowed, report);
    if !allowed.admits(peer) {
        return Err(Failure::NotServed("the connection is reset: this client address is denied".to_owned()));
    }
    report.add(
        "to",
        match &listener.service {
            ServiceConfig::Echo => "received bytes are sent back".to_owned(),
            ServiceConfig::Reverse => "each line is sent back reversed".to_owned(),
            ServiceConfig::TcpProxy(group, _) => relayed_to(group),
            ServiceConfig::TcpProxyByName(_) => route.map(|route| relayed_to(&route.group)).unwrap_or_default(),
            ServiceConfig::SendText(_) => "a text is sent".to_owned(),
            ServiceConfig::Receive { root, name, .. } => {
                format!("received bytes are written to {}", root.join(name).display())
            }
            ServiceConfig::SendFile { root, path, .. } => format!("the file {} is sent", root.join(path).display()),
            ServiceConfig::Http(_) => "HTTP".to_owned(),
        },
    );
    Ok(())
}

/// The route of a client that asks for this name.
fn named_route<'r>(routes: &'r [NameRouteConfig], server_name: Option<&str>) -> Result<&'r NameRouteConfig, Failure> {
    let names = ServerNames::new(routes.iter().map(|route| route.names.as_slice()));
    names.find(server_name).and_then(|at| routes.get(at)).ok_or_else(|| {
        let name = server_name.unwrap_or("clients that ask for no name");
        Failure::NotServed(format!("the handshake fails: no server for {name}, and none without `hostnames`"))
    })
}

fn relayed_to(group: &GroupConfig) -> String {
    let endpoints: Vec<String> = group.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    match endpoints.as_slice() {
        [only] => format!("bytes are relayed to {only}"),
        several => format!("bytes are relayed to one of {}, {}", several.join(", "), policy(&group.policy)),
    }
}

fn explain_http(
    config: &ServerConfig,
    listener: &ListenerConfig,
    router: &Router,
    request: &Request,
    peer: Peer,
    report: &mut Report,
) -> Result<(), Failure> {
    let head_limits = &config.limits.http.head;
    let stored;
    let head = if request.is_http2 {
        http2::offered(listener, report)?;
        stored = http2::stored_head(request, head_limits)?;
        http2::head(&stored, head_limits)?
    } else {
        match parse(request.head.as_bytes(), head_limits) {
            Ok(Parsed::Complete { head, .. }) => head,
            Ok(Parsed::Partial) => return Err(Failure::NotServed("the request is incomplete".to_owned())),
            Err(error) => return Err(refused(error)),
        }
    };
    let admission = Admission::succeeding(&Admission::default(), &config.admission);
    let client_address = admission.client_address(peer, head.fields.all_known(Known::XForwardedFor));
    let is_told = client_address.ip() != peer.ip();
    report.add(
        "client",
        if is_told {
            format!("{}, from X-Forwarded-For of {}", shown(client_address), shown(peer))
        } else {
            shown(peer)
        },
    );
    limits(config, report);
    let Some(host) = router.host_for(&head) else {
        let name = head.host.unwrap_or("requests without a host");
        return Err(Failure::NotServed(format!("404: no server at {} matches {name}", listener.address.address())));
    };
    report.add("server", if host.names.is_empty() { "for every host".to_owned() } else { host.names.join(", ") });
    access(&host.access, report);
    let route = match router.route(host, &head, client_address) {
        Ok(Some(route)) => route,
        Ok(None) => {
            let all: Vec<String> = host.routes.iter().map(|route| prefix(route)).collect();
            return Err(Failure::NotServed(format!("404: no route matches; routes: {}", all.join(", "))));
        }
        Err(error) => return Err(refused(error)),
    };
    report.add("route", format!("{}{}", prefix(route), shorter(host, route)));
    access(&route.access, report);
    if let Some(proxy_route) = route.handler.proxy_route()
        && forwards_left(&head) != Some(0)
    {
        proxy_route.check(&head).map_err(refused)?;
        upstreams(proxy_route, report);
        report.then("The upstream gets:", &forwarded(proxy_route, &head, router.scheme, peer, &admission));
        return Ok(());
    }
    let response = dry_run(config, listener, request, peer, &admission)?;
    report.then("The client gets:", &response.without_date());
    match route.handler.name() {
        Files::NAME => files::explain(&route.file_route, &head, &response, report),
        Metrics::NAME if response.status == 200 => {
            report.add("to", "the server's counters");
            Ok(())
        }
        _ => response.plainly(report),
    }
}

/// The response of the server to the request.
fn dry_run(
    config: &ServerConfig,
    listener: &ListenerConfig,
    request: &Request,
    peer: Peer,
    admission: &Arc<Admission>,
) -> Result<DryRunResponse, Failure> {
    let run = |bytes: Vec<u8>, head_length: core::HeadLength| {
        core::dry_run(&listener.service, bytes, head_length, peer, Arc::clone(admission), config.limits.clone())
    };
    let response = if request.is_http2 {
        let bytes = run(http2::bytes(request), |bytes| http2::reply(bytes).map(|_| bytes.len()))?;
        match http2::reply(&bytes) {
            Some(Reply::Fields(fields)) => DryRunResponse::of_http2(&fields),
            Some(Reply::Error(code)) => return Err(http2::ended(&code)),
            None => None,
        }
    } else {
        const END: &[u8] = b"\r\n\r\n";
        let end = |bytes: &[u8]| bytes.windows(END.len()).position(|bytes| bytes == END).map(|at| at + END.len());
        DryRunResponse::of(&run(request.head.clone().into(), end)?)
    };
    response.ok_or_else(|| Failure::NotServed("the connection is closed without a response".to_owned()))
}

fn refused(error: ErrorResponse) -> Failure {
    Failure::NotServed(format!("{}: {}", error.status.code(), error.reason))
}

fn shown(peer: Peer) -> String {
    peer.ip().map_or_else(|| "unknown".to_owned(), |ip| ip.to_string())
}

/// Reports which networks are allowed and denied, if either list has entries.
fn access(access: &Access, report: &mut Report) {
    let list =
        |networks: &crate::limit::Networks| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (access.allow.is_empty(), access.deny.is_empty()) {
        (true, true) => {}
        (true, false) => report.add("", format!("denied: {}", list(&access.deny))),
        (false, true) => report.add("", format!("allowed: only {}", list(&access.allow))),
        (false, false) => {
            report.add("", format!("allowed: only {}, except {}", list(&access.allow), list(&access.deny)));
        }
    }
}

/// Reports the limits for all clients.
fn limits(config: &ServerConfig, report: &mut Report) {
    let admission = &config.admission;
    let mut bounds = Vec::new();
    if let Some(rate) = admission.rate {
        bounds.push(format!("{} requests per second per address, burst {}", rate.per_second, rate.burst));
    }
    if admission.connections_per_address > 0 {
        bounds.push(format!("{} connections per address", admission.connections_per_address));
    }
    if admission.connections_max > 0 {
        bounds.push(format!("{} connections in total", admission.connections_max));
    }
    if !bounds.is_empty() {
        report.add("limits", bounds.join("; "));
    }
}

fn prefix(route: &Route) -> String {
    format!("/{}", String::from_utf8_lossy(&route.prefix))
}

/// The other routes that match, with shorter prefixes.
fn shorter(host: &VirtualHost, chosen: &Route) -> String {
    let is_shorter = |route: &&Rc<Route>| {
        let rest = chosen.prefix.strip_prefix(&*route.prefix);
        route.prefix.len() < chosen.prefix.len()
            && rest.is_some_and(|rest| route.prefix.is_empty() || rest.starts_with(b"/"))
    };
    let others: Vec<String> = host.routes.iter().filter(is_shorter).map(|route| prefix(route)).collect();
    if others.is_empty() { String::new() } else { format!(", rather than {}", others.join(", ")) }
}
