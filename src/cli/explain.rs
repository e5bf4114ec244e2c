//! `xps explain`: what a server would do with a request, found out by the code that would do it; nothing is contacted.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::args::ExplainOptions;
use super::failure::Failure;
use super::run::{place, read};
use crate::admission::Admission;
use crate::config::build::Builder;
use crate::config::file::{AccessTarget, File};
use crate::config::{ListenAddress, ListenerConfig, ServerConfig, Service};
use crate::core;
use crate::driver::{Address, Peer};
use crate::http::forward::{RequestContext, upgrade_to_forward, write_request};
use crate::http::request::{Parsed, parse};
use crate::http::{HeadLimits, Known, Refusal, RequestHead, path};
use crate::session::http::{Forwarding, Front, Handler, Host, Route, Site, Source};
use crate::upstream::Group;
use crate::upstream::group::{CheckKind, HashSource, Policy};

/// Prints the explanation. Where the request would be refused, that is a failure, too.
pub fn run(options: &ExplainOptions) -> Result<(), Failure> {
    let (folder, path) = place(&options.file)?;
    let mut file = read(&path)?;
    without_logs(&mut file);
    let config = Builder::new(&folder).server(&file, 1)?;
    let request = Request::of(options)?;
    let mut report = Report::new();
    let verdict = explain(&config, &request, &mut report);
    super::print(report.text(&request).as_bytes())?;
    verdict
}

/// Logs are neither opened nor made.
fn without_logs(file: &mut File) {
    file.access_log = AccessTarget::Off;
    for server in &mut file.servers {
        server.access_log = None;
    }
}

/// What is asked.
struct Request {
    line: String,
    /// As a client would send it.
    head: String,
    host: String,
    port: u16,
    client: IpAddr,
}

impl Request {
    fn of(options: &ExplainOptions) -> Result<Self, Failure> {
        let bad = |reason: &str| Failure::Usage(format!("`{}` cannot be explained: {reason}", options.url));
        let rest = options.url.strip_prefix("http://").ok_or_else(|| bad("write http://HOST:PORT/PATH"))?;
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("what follows the colon is no port"))?)
            }
            Some(_) | None => (authority, 80),
        };
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", options.method);
        for header in &options.header {
            // Writing to a string cannot fail, here and below.
            let _ = write!(head, "{}: {}\r\n", header.name, header.value);
        }
        head.push_str("\r\n");
        Ok(Self {
            line: format!("{} {}", options.method, options.url),
            head,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            client: options.client,
        })
    }

    /// Whether a connection to the URL's host would arrive at this address.
    fn reaches(&self, address: &ListenAddress) -> bool {
        match address.inet() {
            Some(address) if address.port() != self.port => false,
            Some(address) => match self.host.parse::<IpAddr>() {
                Ok(wanted) => address.ip().is_unspecified() || address.ip() == wanted,
                // Where a name leads is not looked up.
                Err(_) => true,
            },
            None => false,
        }
    }
}

fn explain(config: &ServerConfig, request: &Request, report: &mut Report) -> Result<(), Failure> {
    let listener = config.listeners.iter().find(|listener| request.reaches(&listener.address)).ok_or_else(|| {
        let all: Vec<String> = config.listeners.iter().map(|listener| listener.address.address().to_string()).collect();
        Failure::NotServed(format!("nobody listens there, but at {}", all.join(", ")))
    })?;
    let (address, service) = (listener.address.address(), &listener.service);
    report.add("listener", format!("{address}, {}", service.name()));
    if listener.expects_proxy_header {
        report.add("", "begins with a header of the PROXY protocol");
    }
    let peer = Peer::Inet(SocketAddr::new(request.client, 0));
    let Some(front) = core::front_of(service)? else { return explain_tcp(listener, peer, report) };
    explain_http(config, &front, &address, request, peer, report)
}

fn explain_tcp(listener: &ListenerConfig, peer: Peer, report: &mut Report) -> Result<(), Failure> {
    report.add("client", shown(peer));
    if !listener.access.admits(peer) {
        return Err(Failure::NotServed("the connection is reset: this address is not let in".to_owned()));
    }
    report.add(
        "to",
        match &listener.service {
            Service::Echo => "whatever comes is sent back".to_owned(),
            Service::Reverse => "each line is sent back reversed".to_owned(),
            Service::TcpProxy(group, _) => {
                let members: Vec<String> = group.members.iter().map(|member| member.address.to_string()).collect();
                format!("bytes are relayed to {}", members.join(", "))
            }
            Service::SendText(_) => "a text is sent".to_owned(),
            Service::SendFile { root, path } => format!("the file {} is sent", root.join(path).display()),
            Service::Http(_) => "HTTP".to_owned(),
        },
    );
    Ok(())
}

fn explain_http(
    config: &ServerConfig,
    front: &Front,
    address: &Address,
    request: &Request,
    peer: Peer,
    report: &mut Report,
) -> Result<(), Failure> {
    let head = match parse(request.head.as_bytes(), &HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        Ok(Parsed::Partial) => return Err(Failure::NotServed("this is no request".to_owned())),
        Err(refusal) => return Err(refused(refusal)),
    };
    let admission = Admission::succeeding(&Admission::default(), &config.admission);
    let visitor = admission.visitor(peer, head.fields.all_known(Known::XForwardedFor));
    let is_told = visitor.ip() != peer.ip();
    report.add("client", if is_told { format!("{}, says {}", shown(visitor), shown(peer)) } else { shown(peer) });
    limits(config, report);
    let Some(host) = front.host_for(&head) else {
        return Err(Failure::NotServed(format!("404: {address} has no server with routes")));
    };
    report.add("server", if host.names.is_empty() { "for every host".to_owned() } else { host.names.join(", ") });
    let route = match front.route(host, &head, visitor) {
        Ok(Some(route)) => route,
        Ok(None) => {
            let all: Vec<String> = host.routes.iter().map(prefix).collect();
            return Err(Failure::NotServed(format!("404: no route fits; there are {}", all.join(", "))));
        }
        Err(refusal) => return Err(refused(refusal)),
    };
    report.add("route", format!("{}{}", prefix(route), shorter(host, route)));
    match &route.handler {
        Handler::Files => files(&route.site, &head, report),
        Handler::Forward(forwarding) => {
            upstreams(forwarding, report);
            report.then("The upstream gets:", &forwarded(forwarding, &head, peer, &admission));
            Ok(())
        }
        Handler::Redirect(status, template) => {
            report.add("to", format!("{} {}", status.code(), status.reason()));
            report.add("", format!("Location: {}", String::from_utf8_lossy(&template.expand(&head))));
            Ok(())
        }
        Handler::Metrics => {
            report.add("to", "the server's counters");
            Ok(())
        }
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure::NotServed(format!("{}: {}", refusal.status.code(), refusal.reason))
}

fn shown(peer: Peer) -> String {
    peer.ip().map_or_else(|| "unknown".to_owned(), |ip| ip.to_string())
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
fn shorter(host: &Host, chosen: &Route) -> String {
    let is_shorter = |route: &&Route| {
        let rest = chosen.prefix.strip_prefix(&*route.prefix);
        route.prefix.len() < chosen.prefix.len()
            && rest.is_some_and(|rest| route.prefix.is_empty() || rest.starts_with(b"/"))
    };
    let others: Vec<String> = host.routes.iter().filter(is_shorter).map(prefix).collect();
    if others.is_empty() { String::new() } else { format!(", rather than {}", others.join(", ")) }
}

fn files(site: &Site, head: &RequestHead<'_>, report: &mut Report) -> Result<(), Failure> {
    let decoded = path::decode(head.target.path().unwrap_or("/")).map_err(refused)?;
    let Source::Folder(_) = site.source else {
        report.add("to", "the pages of the program itself");
        return Ok(());
    };
    let root = site.config.root.as_deref().unwrap_or(Path::new(""));
    report.add("folder", root.display().to_string());
    if decoded.has_dot_segment() && !site.config.dot_files {
        return Err(Failure::NotServed("404: files whose name begins with a dot are not served".to_owned()));
    }
    let beneath = decoded.beneath(&site.prefix).to_bytes();
    let wanted = if beneath == b"." { root.to_owned() } else { root.join(OsStr::from_bytes(beneath)) };
    let found = match wanted.metadata() {
        Ok(found) if found.is_dir() => return folder(site, &wanted, report),
        Ok(found) => found,
        Err(_) => return missing(site, root, &wanted, report),
    };
    report.add("to", format!("the file {}, {} bytes", wanted.display(), found.len()));
    compression(site, report);
    Ok(())
}

fn folder(site: &Site, wanted: &Path, report: &mut Report) -> Result<(), Failure> {
    let index = site.config.index.iter().map(|name| wanted.join(name)).find(|path| path.is_file());
    match index {
        Some(index) => report.add("to", format!("the file {}", index.display())),
        None if site.config.listing => report.add("to", format!("a list of what is in {}", wanted.display())),
        None => return Err(Failure::NotServed("403: there is no index file, and folders are not listed".to_owned())),
    }
    compression(site, report);
    Ok(())
}

fn missing(site: &Site, root: &Path, wanted: &Path, report: &mut Report) -> Result<(), Failure> {
    match &site.config.fallback {
        Some(fallback) => {
            report.add(
                "to",
                format!("the file {}, since there is none at {}", root.join(fallback).display(), wanted.display()),
            );
            Ok(())
        }
        None => Err(Failure::NotServed(format!("404: there is no {}", wanted.display()))),
    }
}

fn compression(site: &Site, report: &mut Report) {
    if site.config.compression.is_some() {
        report.add("", "compressed, if the client understands it and it gains by it");
    }
}

fn upstreams(forwarding: &Forwarding, report: &mut Report) {
    let group = &forwarding.group;
    let members: Vec<String> = group.ids().map(|id| group.upstream(id).address().to_string()).collect();
    match members.as_slice() {
        [only] => report.add("to", format!("the upstream {only}")),
        several => report.add("to", format!("one of {}, {}", several.join(", "), policy(group))),
    }
    if let Some(checks) = group.checks() {
        let how = match &checks.kind {
            CheckKind::Connect => "by connecting".to_owned(),
            CheckKind::Http { target } => format!("by GET {target}"),
        };
        report.add("", format!("checked every {:?} {how}", checks.interval));
    }
    let tries = if forwarding.rules.tries_max == 0 { members.len() as u32 } else { forwarding.rules.tries_max };
    let timeout = forwarding.response_timeout;
    let answer = if timeout.is_zero() { "without limit".to_owned() } else { format!("{timeout:?}") };
    report.add("tries", format!("{tries}; connecting {:?}, silence {answer}", forwarding.rules.connect_timeout));
}

fn policy(group: &Group) -> String {
    match group.policy() {
        Policy::RoundRobin => "in turn".to_owned(),
        Policy::LeastConnections => "the one with the fewest requests".to_owned(),
        Policy::RandomOfTwo => "the less loaded of two drawn".to_owned(),
        Policy::Hash(HashSource::Client) => "by the client's address".to_owned(),
        Policy::Hash(HashSource::Header(name)) => format!("by the field {name}"),
        Policy::Hash(HashSource::Path) => "by the path".to_owned(),
        Policy::Sticky { cookie } => format!("by the cookie {cookie}"),
    }
}

fn forwarded(forwarding: &Forwarding, head: &RequestHead<'_>, peer: Peer, admission: &Admission) -> String {
    let context = RequestContext {
        client: peer.ip(),
        client_is_trusted: admission.is_trusted(peer),
        scheme: "http",
        upstream_authority: &forwarding.authority,
        framing: head.framing,
        upgrade: upgrade_to_forward(head).filter(|_| forwarding.upgrades),
    };
    let mut out = Vec::new();
    write_request(head, &forwarding.request, &context, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Lines with names before them, one below the other.
struct Report {
    lines: Vec<(&'static str, String)>,
    appendix: String,
}

impl Report {
    const fn new() -> Self {
        Self { lines: Vec::new(), appendix: String::new() }
    }

    /// Adds a line; one without a name goes on with the one before.
    fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.lines.push((name, value.into()));
    }

    /// Adds a text after all lines.
    fn then(&mut self, title: &str, text: &str) {
        let indented: String = text.lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")).collect();
        self.appendix = format!("\n{title}\n{indented}");
    }

    fn text(&self, request: &Request) -> String {
        let lines: String = self.lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
        format!("{}\n\n{lines}{}", request.line, self.appendix)
    }
}
