//! What one HTTP listener offers, as its sessions share it: hosts, routes, and what answers for each.
//!
//! A session asks for the router anew with each request, so that a new configuration holds from the next request on,
//! also on connections that are already there.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::FileRoute;
use super::host_matcher::HostMatcher;
use crate::driver::Peer;
use crate::http::forward::{Authority, PathRule, RequestRules, ResponseRules};
use crate::http::path::{DecodedPath, is_read_alike};
use crate::http::redirect::RedirectTemplate;
use crate::http::{ErrorResponse, RequestHead, Status, path};
use crate::limit::Access;
use crate::telemetry::access_log::AccessLog;
use crate::upstream::{ConnectPolicy, KeepAlive, UpstreamGroup};

/// Where the sessions of a listener find its router.
#[derive(Debug)]
pub struct RouterCell {
    router: RefCell<Rc<Router>>,
}

impl RouterCell {
    /// A router cell to this router.
    pub fn new(router: Router) -> Rc<Self> {
        Rc::new(Self { router: RefCell::new(Rc::new(router)) })
    }

    /// The router as it is now.
    pub fn router(&self) -> Rc<Router> {
        Rc::clone(&self.router.borrow())
    }

    /// From now on requests find this router.
    pub fn replace(&self, router: Rc<Router>) {
        self.router.replace(router);
    }
}

/// What a listener offers.
#[derive(Debug)]
pub struct Router {
    hosts: Vec<VirtualHost>,
    /// Which of them is meant.
    names: HostMatcher,
    /// What answers where no route does: an error, in its way.
    pub fallback: Rc<FileRoute>,
    /// Whether the first route of the first host is all there is, and takes everything of everybody.
    is_single: bool,
    announces: bool,
}

/// One or several host names, and the routes beneath them.
#[derive(Debug)]
pub struct VirtualHost {
    /// Names in lower case; `*.example.org` is any name beneath, a port behind one means that port only. None: this host is
    /// for everybody whom no other one has.
    pub names: Vec<String>,
    /// Who may see any of it.
    pub access: Access,
    /// Where requests are recorded.
    pub access_log: Option<AccessLog>,
    /// The routes.
    pub routes: Vec<Route>,
}

/// What answers for the paths beneath a prefix.
#[derive(Debug)]
pub struct Route {
    /// Decoded and normalised; empty for everything.
    pub prefix: Vec<u8>,
    /// Who may see it.
    pub access: Access,
    /// Whether a connection goes on after a response.
    pub keep_alive: bool,
    /// What answers.
    pub handler: Handler,
    /// What answers in our own name: the files, or errors in the route's way.
    pub file_route: Rc<FileRoute>,
}

/// What answers a request.
#[derive(Clone, Debug)]
pub enum Handler {
    /// The route's file route.
    Files,
    /// Upstreams.
    Forward(Rc<ProxyRoute>),
    /// Another URL, with this status.
    Redirect(Status, Rc<RedirectTemplate>),
    /// What the server counts.
    Metrics,
}

impl Handler {
    /// Whether what is sent to upstreams must stay beneath a prefix.
    fn replaces_prefix(&self) -> bool {
        matches!(self, Self::Forward(proxy_route) if proxy_route.request.path != PathRule::Keep)
    }

    fn announces(&self) -> bool {
        match self {
            Self::Forward(proxy_route) => proxy_route.group.announces().is_some(),
            Self::Files | Self::Redirect(..) | Self::Metrics => false,
        }
    }
}

/// How requests are forwarded to upstreams.
#[derive(Debug)]
pub struct ProxyRoute {
    /// The upstreams.
    pub group: Rc<UpstreamGroup>,
    /// How hard it is tried to reach one.
    pub connect_policy: ConnectPolicy,
    /// What becomes of a request's head.
    pub request: RequestRules,
    /// What becomes of a response's head.
    pub response: ResponseRules,
    /// The name of an upstream, for requests without a host.
    pub authority: Authority,
    /// How connections wait to be used again.
    pub keep_alive: KeepAlive,
    /// How long an upstream may be silent while it is waited for; zero: no limit.
    pub response_timeout: Duration,
    /// Whether requests to speak another protocol are passed on.
    pub upgrades: bool,
    /// The longest body of a request that is passed on, in bytes; 0: no limit.
    pub body_bytes_max: u64,
    /// What answers if no upstream does.
    pub file_route: Rc<FileRoute>,
}

impl ProxyRoute {
    /// Whether every server that may read this path takes it for one of this route, whatever it decodes and resolves: what
    /// is judged here is what is asked for there. `decoded` is the path as it is read here.
    fn is_unambiguous(&self, host: &VirtualHost, raw: &str, decoded: &DecodedPath) -> bool {
        let rule = &self.request.path;
        let route_of = |path: &[u8]| {
            let is_beneath = rule.prefix().map(|prefix| path::rest_beneath(path, prefix.decoded()).is_some());
            (host.route(path).map(std::ptr::from_ref), is_beneath)
        };
        if rule.keeps_spelling_of(raw) {
            return decoded.is_plain(raw) || is_read_alike(raw.as_bytes(), route_of);
        }
        let mut respelled = Vec::new();
        path::encode_path(decoded.as_bytes(), decoded.ends_with_slash(), &mut respelled);
        is_read_alike(&respelled, route_of)
    }

    /// Whether a request may be forwarded at all.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, head: &RequestHead<'_>) -> Result<(), ErrorResponse> {
        super::forward::check(head, self)
    }
}

impl Router {
    /// A router. Of two routes that fit, the one with the longer prefix holds.
    pub fn new(mut hosts: Vec<VirtualHost>, fallback: Rc<FileRoute>) -> Self {
        for host in &mut hosts {
            host.routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        let is_single = match hosts.as_slice() {
            [host] => {
                let is_open = |route: &Route| {
                    route.prefix.is_empty() && route.access.is_open() && !route.handler.replaces_prefix()
                };
                host.access.is_open() && matches!(host.routes.as_slice(), [route] if is_open(route))
            }
            _ => false,
        };
        let announces = hosts.iter().flat_map(|host| &host.routes).any(|route| route.handler.announces());
        let names = HostMatcher::new(hosts.iter().map(|host| host.names.as_slice()));
        Self { hosts, names, fallback, is_single, announces }
    }

    /// A router with one handler for everything.
    pub fn of(handler: Handler, file_route: Rc<FileRoute>) -> Self {
        let fallback = Rc::clone(&file_route);
        let route = Route { prefix: Vec::new(), access: Access::default(), keep_alive: true, handler, file_route };
        let host = VirtualHost { names: Vec::new(), access: Access::default(), access_log: None, routes: vec![route] };
        Self::new(vec![host], fallback)
    }

    /// Where it is recorded what is no request.
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.hosts.first()?.access_log.as_ref()
    }

    /// Whether connections to upstreams begin with a header that tells of the client's.
    pub const fn announces(&self) -> bool {
        self.announces
    }

    /// The route of a host for a client's request; `None` if there is none.
    ///
    /// # Errors
    /// The path cannot be decoded, what is there is not for this client, or an upstream could read the path as that of
    /// another route.
    pub fn route<'f>(
        &self,
        host: &'f VirtualHost,
        head: &RequestHead<'_>,
        client_address: Peer,
    ) -> Result<Option<&'f Route>, ErrorResponse> {
        if self.is_single {
            return Ok(host.routes.first());
        }
        let path = head.target.path().map(|raw| Ok((raw, path::decode(raw)?))).transpose()?;
        let route = match &path {
            Some((_, decoded)) => host.route(decoded.as_bytes()),
            // `OPTIONS *` is about the server as a whole.
            None => host.routes.last(),
        };
        if !host.access.admits(client_address) || !route.is_none_or(|route| route.access.admits(client_address)) {
            return Err(ErrorResponse::new(Status::FORBIDDEN, "this is not for your address"));
        }
        if let (Some(Route { handler: Handler::Forward(proxy_route), .. }), Some((raw, decoded))) = (route, &path)
            && !proxy_route.is_unambiguous(host, raw, decoded)
        {
            return Err(ErrorResponse::bad_request(
                "the path is ambiguous: servers may decode it to that of another route",
            ));
        }
        Ok(route)
    }

    /// The host that a request is for; `None` if nobody here answers for that name.
    pub fn host_for(&self, head: &RequestHead<'_>) -> Option<&VirtualHost> {
        self.names.find(head.host).and_then(|host| self.hosts.get(host))
    }
}

impl VirtualHost {
    fn route(&self, path: &[u8]) -> Option<&Route> {
        self.routes.iter().find(|route| path::rest_beneath(path, &route.prefix).is_some())
    }
}
