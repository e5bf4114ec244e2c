//! The routes of a TCP proxy that chooses its upstreams by the name that a TLS client asks for (SNI, RFC
//! 6066, 3). The connection is passed on as it is: the upstream has the certificate.
//!
//! A name selects a route as `Host` selects a virtual host, with wildcards. The route without names is
//! for all other names, and for clients that ask for none.

use std::rc::Rc;

use crate::http::{HostMatcher, Wildcard};
use crate::limit::Access;
use crate::upstream::{ConnectPolicy, UpstreamGroup};

/// The routes of a listener.
#[derive(Debug)]
pub struct NameRoutes {
    names: ServerNames,
    routes: Vec<Rc<NameRoute>>,
}

/// Where connections to some names go.
#[derive(Debug)]
pub struct NameRoute {
    /// The names, as those of a virtual host, but without ports. Empty: all other names, and none.
    pub names: Vec<String>,
    /// The client addresses that may use it.
    pub access: Access,
    /// The upstreams.
    pub group: Rc<UpstreamGroup>,
    /// How an upstream is connected to.
    pub connect_policy: ConnectPolicy,
}

impl NameRoutes {
    /// These routes.
    pub fn new(routes: Vec<NameRoute>) -> Rc<Self> {
        let names = ServerNames::new(routes.iter().map(|route| route.names.as_slice()));
        Rc::new(Self { names, routes: routes.into_iter().map(Rc::new).collect() })
    }

    /// The route for a client that asks for this name, or for none.
    pub(super) fn find(&self, server_name: Option<&str>) -> Option<&Rc<NameRoute>> {
        self.names.find(server_name).and_then(|at| self.routes.get(at))
    }

    /// Whether connections to any upstream begin with a PROXY protocol header.
    pub(super) fn announces(&self) -> bool {
        self.routes.iter().any(|route| route.group.announces().is_some())
    }
}

/// The names of routes. Each route is identified by its index in the list.
#[derive(Debug)]
pub struct ServerNames(HostMatcher);

impl ServerNames {
    /// The names of these routes.
    pub fn new<'n>(routes: impl Iterator<Item = &'n [String]>) -> Self {
        // No name of a ClientHello has a port, and none is left out.
        const NO_PORT: u16 = 0;
        Self(HostMatcher::new(NO_PORT, Wildcard::Labels, routes))
    }

    /// The route for this name, or for none.
    pub fn find(&self, server_name: Option<&str>) -> Option<usize> {
        // With a colon it is no host name, and must not be taken for one with a port.
        self.0.find(server_name.filter(|name| !name.contains(':')))
    }
}

/// A connection whose route is chosen, and what was read of it for that.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) route: Rc<NameRoute>,
    /// The name that the client asked for.
    pub(super) server_name: Option<Rc<str>>,
    /// The client's first bytes, for the upstream.
    pub(super) opening: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_routes_as_to_virtual_hosts() {
        let routes: [&[&str]; 4] = [&["a.org"], &["*.a.org", "b.org"], &[], &["x.a.org"]];
        let routes = routes.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let names = ServerNames::new(routes.iter().map(Vec::as_slice));
        for (name, route) in [
            (Some("a.org"), 0),
            (Some("y.a.org"), 1),
            (Some("z.y.a.org"), 1),
            (Some("x.a.org"), 3),
            (Some("c.org"), 2),
            (Some("a.org:443"), 2),
            (None, 2),
        ] {
            assert_eq!(names.find(name), Some(route), "{name:?}");
        }
        let names = ServerNames::new(routes[..2].iter().map(Vec::as_slice));
        assert_eq!([names.find(Some("c.org")), names.find(None)], [None, None]);
    }
}
