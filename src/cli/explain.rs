//! `xps explain`: what a server would do with a request, found out by the code that would do it; nothing is contacted.

mod files;
mod report;
mod request;
mod response;
mod upstreams;

use std::net::SocketAddr;
use std::sync::Arc;

use self::report::Report;
use self::request::Request;
use self::response::DryRunResponse;
use self::upstreams::{forwarded, policy, upstreams};
use super::args::ExplainOptions;
use super::failure::Failure;
use super::run::{place, read, without_logs};
use crate::config::build::ConfigBuilder;
use crate::config::{ListenerConfig, ServerConfig, ServiceConfig};
use crate::core;
use crate::driver::Peer;
use crate::http::forward::forwards_left;
use crate::http::request::{Parsed, parse};
use crate::http::{ErrorResponse, Known};
use crate::limit::{Access, Admission};
use crate::session::http::{Handler, Route, Router, VirtualHost};

/// Prints the explanation. Where the request would be refused, that is a failure, too.
pub fn run(options: &ExplainOptions) -> Result<(), Failure> {
    let (folder, path) = place(&options.file)?;
    let mut file = read(&path, options.profile.unwrap_or_default())?;
    without_logs(&mut file);
    let config = ConfigBuilder::new(&folder).server(&file, 1)?;
    let request = Request::of(options)?;
    let mut report = Report::new();
    let verdict = explain(&config, &request, &mut report);
    super::print(report.text(&request).as_bytes())?;
    verdict
}

fn explain(config: &ServerConfig, request: &Request, report: &mut Report) -> Result<(), Failure> {
    let reached = config.listeners.iter().filter(|listener| request.reaches(&listener.address));
    // As with the kernel, an address of its own goes before all addresses.
    let is_for_all =
        |listener: &&ListenerConfig| listener.address.inet().is_some_and(|address| address.ip().is_unspecified());
    let listener = reached.min_by_key(is_for_all).ok_or_else(|| {
        let all: Vec<String> = config.listeners.iter().map(|listener| listener.address.address().to_string()).collect();
        Failure::NotServed(format!("nobody listens there, but at {}", all.join(", ")))
    })?;
    let service = &listener.service;
    report.add("listener", format!("{}, {}", listener.address.address(), service.name()));
    if listener.expects_proxy_header {
        report.add("", "begins with a header of the PROXY protocol");
    }
    let peer = Peer::Inet(SocketAddr::new(request.client, 0));
    match core::router_of(service)? {
        Some(router) => explain_http(config, listener, &router, request, peer, report),
        None => explain_tcp(listener, peer, report),
    }
}

fn explain_tcp(listener: &ListenerConfig, peer: Peer, report: &mut Report) -> Result<(), Failure> {
    report.add("client", shown(peer));
    access(&listener.access, report);
    if !listener.access.admits(peer) {
        return Err(Failure::NotServed("the connection is reset: this address is not let in".to_owned()));
    }
    report.add(
        "to",
        match &listener.service {
            ServiceConfig::Echo => "whatever comes is sent back".to_owned(),
            ServiceConfig::Reverse => "each line is sent back reversed".to_owned(),
            ServiceConfig::TcpProxy(group, _) => {
                let endpoints: Vec<String> =
                    group.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
                match endpoints.as_slice() {
                    [only] => format!("bytes are relayed to {only}"),
                    several => {
                        format!("bytes are relayed to one of {}, {}", several.join(", "), policy(&group.policy))
                    }
                }
            }
            ServiceConfig::SendText(_) => "a text is sent".to_owned(),
            ServiceConfig::Receive { root, name, .. } => {
                format!("what comes is written to {}", root.join(name).display())
            }
            ServiceConfig::SendFile { root, path, .. } => format!("the file {} is sent", root.join(path).display()),
            ServiceConfig::Http(_) => "HTTP".to_owned(),
        },
    );
    Ok(())
}

fn explain_http(
    config: &ServerConfig,
    listener: &ListenerConfig,
    router: &Router,
    request: &Request,
    peer: Peer,
    report: &mut Report,
) -> Result<(), Failure> {
    let head = match parse(request.head.as_bytes(), &config.limits.http.head) {
        Ok(Parsed::Complete { head, .. }) => head,
        Ok(Parsed::Partial) => return Err(Failure::NotServed("this is no request".to_owned())),
        Err(error) => return Err(refused(error)),
    };
    let admission = Admission::succeeding(&Admission::default(), &config.admission);
    let client_address = admission.client_address(peer, head.fields.all_known(Known::XForwardedFor));
    let is_told = client_address.ip() != peer.ip();
    report
        .add("client", if is_told { format!("{}, says {}", shown(client_address), shown(peer)) } else { shown(peer) });
    limits(config, report);
    let Some(host) = router.host_for(&head) else {
        let name = head.host.unwrap_or("requests without a host");
        return Err(Failure::NotServed(format!("404: no server at {} is for {name}", listener.address.address())));
    };
    report.add("server", if host.names.is_empty() { "for every host".to_owned() } else { host.names.join(", ") });
    access(&host.access, report);
    let route = match router.route(host, &head, client_address) {
        Ok(Some(route)) => route,
        Ok(None) => {
            let all: Vec<String> = host.routes.iter().map(prefix).collect();
            return Err(Failure::NotServed(format!("404: no route fits; there are {}", all.join(", "))));
        }
        Err(error) => return Err(refused(error)),
    };
    report.add("route", format!("{}{}", prefix(route), shorter(host, route)));
    access(&route.access, report);
    if let Handler::Forward(proxy_route) = &route.handler
        && forwards_left(&head) != Some(0)
    {
        proxy_route.check(&head).map_err(refused)?;
        upstreams(proxy_route, report);
        report.then("The upstream gets:", &forwarded(proxy_route, &head, peer, &admission));
        return Ok(());
    }
    let limits = config.limits.clone();
    let bytes = core::dry_run(&listener.service, request.head.clone().into(), peer, Arc::clone(&admission), limits)?;
    let response = DryRunResponse::of(&bytes)
        .ok_or_else(|| Failure::NotServed("the connection is closed without an answer".to_owned()))?;
    report.then("The client gets:", &response.without_date());
    match &route.handler {
        Handler::Files => files::explain(&route.file_route, &head, &response, report),
        Handler::Metrics if response.status == 200 => {
            report.add("to", "the server's counters");
            Ok(())
        }
        Handler::Redirect(..) | Handler::Metrics | Handler::Forward(_) => response.plainly(report),
    }
}

fn refused(error: ErrorResponse) -> Failure {
    Failure::NotServed(format!("{}: {}", error.status.code(), error.reason))
}

fn shown(peer: Peer) -> String {
    peer.ip().map_or_else(|| "unknown".to_owned(), |ip| ip.to_string())
}

/// Who is let in, if not everybody.
fn access(access: &Access, report: &mut Report) {
    let list =
        |networks: &crate::limit::Networks| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (access.allow.is_empty(), access.deny.is_empty()) {
        (true, true) => {}
        (true, false) => report.add("", format!("not for {}", list(&access.deny))),
        (false, true) => report.add("", format!("only for {}", list(&access.allow))),
        (false, false) => {
            report.add("", format!("only for {}, without {}", list(&access.allow), list(&access.deny)));
        }
    }
}

/// What bounds everybody.
fn limits(config: &ServerConfig, report: &mut Report) {
    let admission = &config.admission;
    let mut bounds = Vec::new();
    if let Some(rate) = admission.rate {
        bounds.push(format!("{} requests a second from one address, {} at once", rate.per_second, rate.burst));
    }
    if admission.connections_per_address > 0 {
        bounds.push(format!("{} connections from one address", admission.connections_per_address));
    }
    if admission.connections_max > 0 {
        bounds.push(format!("{} connections of all", admission.connections_max));
    }
    if !bounds.is_empty() {
        report.add("limits", bounds.join("; "));
    }
}

fn prefix(route: &Route) -> String {
    format!("/{}", String::from_utf8_lossy(&route.prefix))
}

/// The other routes that fit.
fn shorter(host: &VirtualHost, chosen: &Route) -> String {
    let is_shorter = |route: &&Route| {
        let rest = chosen.prefix.strip_prefix(&*route.prefix);
        route.prefix.len() < chosen.prefix.len()
            && rest.is_some_and(|rest| route.prefix.is_empty() || rest.starts_with(b"/"))
    };
    let others: Vec<String> = host.routes.iter().filter(is_shorter).map(prefix).collect();
    if others.is_empty() { String::new() } else { format!(", rather than {}", others.join(", ")) }
}
