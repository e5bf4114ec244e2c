//! The router of an HTTP listener: virtual hosts, their routes, and the handler of each route.
//!
//! A session fetches the router for each request, so a new configuration applies from the next
//! request on, also on open connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::handler::{AcmeChallenge, FileRoute, Files, Handler};
use crate::driver::Peer;
use crate::http::forward::PathRule;
use crate::http::path::{DecodedPath, is_read_alike};
use crate::http::{ErrorResponse, HostMatcher, RequestHead, Scheme, Status, Wildcard, path};
use crate::limit::Access;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::RouteCounters;
use crate::tls::ChallengeTokens;

/// The current router of a listener, shared by its sessions.
#[derive(Debug)]
pub struct RouterCell {
    router: RefCell<Rc<Router>>,
}

impl RouterCell {
    /// A cell that holds this router.
    pub fn new(router: Router) -> Rc<Self> {
        Rc::new(Self { router: RefCell::new(Rc::new(router)) })
    }

    /// The current router.
    pub fn router(&self) -> Rc<Router> {
        Rc::clone(&self.router.borrow())
    }

    /// Replaces the router for all requests from now on.
    pub fn replace(&self, router: Rc<Router>) {
        self.router.replace(router);
    }
}

/// The virtual hosts and routes of a listener.
#[derive(Debug)]
pub struct Router {
    hosts: Vec<VirtualHost>,
    /// Selects the host by the `Host` field.
    names: HostMatcher,
    /// Makes the error responses to requests that no route matches.
    pub fallback: Rc<FileRoute>,
    /// The scheme of the listener.
    pub scheme: Scheme,
    /// There is one host with one route, for all paths and all client addresses: nothing is
    /// matched.
    is_single: bool,
    announces: bool,
    /// Answers validations by an authority, while there are any, before the routes.
    challenges: Option<(Arc<ChallengeTokens>, Rc<Route>)>,
}

/// One or more host names, and their routes.
#[derive(Debug)]
pub struct VirtualHost {
    /// Names in lower case. `*.example.org` matches any name below; a name with a port matches only
    /// that port. Empty: the default host, for names that no other host has.
    pub names: Vec<String>,
    /// The client addresses that may use any of its routes.
    pub access: Access,
    /// The access log of its requests.
    pub access_log: Option<AccessLog>,
    pub routes: Vec<Rc<Route>>,
}

/// The handler of the paths below a prefix.
#[derive(Debug)]
pub struct Route {
    /// Decoded and normalised; empty for all paths.
    pub prefix: Vec<u8>,
    /// The client addresses that may use it.
    pub access: Access,
    /// Whether the client's connection is kept open after a response.
    pub keep_alive: bool,
    /// The handler of its requests.
    pub handler: Box<dyn Handler>,
    /// Makes the server's own responses: the files, or the route's error responses.
    pub file_route: Rc<FileRoute>,
    /// What counts its requests; `None`: they count as those that no route serves.
    pub counters: Option<Rc<RouteCounters>>,
}

impl Route {
    /// Whether paths sent to upstreams must stay below a prefix.
    fn replaces_prefix(&self) -> bool {
        self.handler.proxy_route().is_some_and(|proxy_route| proxy_route.request.path != PathRule::Keep)
    }

    /// Whether its responses come from the store.
    pub(super) fn serves_files(&self) -> bool {
        self.handler.name() == Files::NAME
    }

    fn announces(&self) -> bool {
        self.handler.proxy_route().is_some_and(|proxy_route| proxy_route.group.announces().is_some())
    }
}

impl Router {
    /// A router. Of two matching routes, the one with the longer prefix is used.
    pub fn new(scheme: Scheme, mut hosts: Vec<VirtualHost>, fallback: Rc<FileRoute>) -> Self {
        for host in &mut hosts {
            host.routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        let is_single = match hosts.as_slice() {
            [host] => {
                let is_open =
                    |route: &Rc<Route>| route.prefix.is_empty() && route.access.is_open() && !route.replaces_prefix();
                host.access.is_open() && matches!(host.routes.as_slice(), [route] if is_open(route))
            }
            _ => false,
        };
        let announces = hosts.iter().flat_map(|host| &host.routes).any(|route| route.announces());
        let names = hosts.iter().map(|host| host.names.as_slice());
        let names = HostMatcher::new(scheme.default_port(), Wildcard::Labels, names);
        Self { hosts, names, fallback, scheme, is_single, announces, challenges: None }
    }

    /// The same router, which answers requests for these tokens, whatever its routes are.
    #[must_use]
    pub fn answering(self, tokens: Arc<ChallengeTokens>) -> Self {
        let route = Route {
            prefix: Vec::new(),
            access: Access::default(),
            keep_alive: true,
            handler: Box::new(AcmeChallenge { tokens: Arc::clone(&tokens) }),
            file_route: Rc::clone(&self.fallback),
            counters: None,
        };
        Self { challenges: Some((tokens, Rc::new(route))), ..self }
    }

    /// The route of a request for a pending token.
    pub fn challenge(&self, head: &RequestHead<'_>) -> Option<&Rc<Route>> {
        let (tokens, route) = self.challenges.as_ref()?;
        tokens.answer(head.target.path()).map(|_| route)
    }

    /// A router with one handler for all requests.
    pub fn of(handler: Box<dyn Handler>, file_route: Rc<FileRoute>) -> Self {
        let fallback = Rc::clone(&file_route);
        let (prefix, access) = (Vec::new(), Access::default());
        let route = Route { prefix, access, keep_alive: true, handler, file_route, counters: None };
        let host = VirtualHost {
            names: Vec::new(),
            access: Access::default(),
            access_log: None,
            routes: vec![Rc::new(route)],
        };
        Self::new(Scheme::Http, vec![host], fallback)
    }

    /// The access log for malformed requests and for requests without a host: that of the first
    /// host.
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.hosts.first()?.access_log.as_ref()
    }

    /// Whether connections to any upstream begin with a PROXY protocol header.
    pub const fn announces(&self) -> bool {
        self.announces
    }

    /// The route of a host for a client's request; `None` if there is none.
    ///
    /// # Errors
    /// The path cannot be decoded, access is denied to the client's address, or an upstream could
    /// read the path as one of another route.
    pub fn route<'f>(
        &self,
        host: &'f VirtualHost,
        head: &RequestHead<'_>,
        client_address: Peer,
    ) -> Result<Option<&'f Rc<Route>>, ErrorResponse> {
        if self.is_single {
            return Ok(host.routes.first());
        }
        let path = head.target.path().map(|raw| Ok((raw, path::decode(raw)?))).transpose()?;
        let route = match &path {
            Some((_, decoded)) => host.route(decoded.as_bytes()),
            // `OPTIONS *` is about the server as a whole: the route with the shortest prefix.
            None => host.routes.last(),
        };
        if !host.access.admits(client_address) || !route.is_none_or(|route| route.access.admits(client_address)) {
            return Err(ErrorResponse::new(Status::FORBIDDEN, "access denied for your address"));
        }
        if let Some((raw, decoded)) = &path
            && let Some(proxy_route) = route.and_then(|route| route.handler.proxy_route())
            && !host.is_unambiguous(&proxy_route.request.path, raw, decoded)
        {
            return Err(ErrorResponse::bad_request(
                "the path is ambiguous: servers may decode it to that of another route",
            ));
        }
        Ok(route)
    }

    /// The virtual host of a request; `None` if no host has that name and there is no default host.
    pub fn host_for(&self, head: &RequestHead<'_>) -> Option<&VirtualHost> {
        self.host_named(head.host)
    }

    /// The virtual host of a name with an optional port.
    pub fn host_named(&self, name: Option<&str>) -> Option<&VirtualHost> {
        self.names.find(name).and_then(|host| self.hosts.get(host))
    }
}

impl VirtualHost {
    fn route(&self, path: &[u8]) -> Option<&Rc<Route>> {
        self.routes.iter().find(|route| path::rest_beneath(path, &route.prefix).is_some())
    }

    /// Whether every server finds the same route for a path that is forwarded by `rule`, however it
    /// decodes and resolves the path: the access that is checked here must be that of the path that
    /// the upstream serves. `decoded` is the path as this server reads it.
    fn is_unambiguous(&self, rule: &PathRule, raw: &str, decoded: &DecodedPath) -> bool {
        let route_of = |path: &[u8]| {
            let is_beneath = rule.prefix().map(|prefix| path::rest_beneath(path, prefix.decoded()).is_some());
            (self.route(path).map(Rc::as_ptr), is_beneath)
        };
        if rule.keeps_spelling_of(raw) {
            return decoded.is_plain(raw) || is_read_alike(raw.as_bytes(), route_of);
        }
        let mut respelled = Vec::new();
        path::encode_path(decoded.as_bytes(), decoded.ends_with_slash(), &mut respelled);
        is_read_alike(&respelled, route_of)
    }
}
