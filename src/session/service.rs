//! The service of a listener, which makes the task of each new session.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::echo::Echo;
use super::file_sender::{Content, FileSender};
use super::http::{Http, Http2, RouterCell};
use super::name_routes::{NameRoutes, Named};
use super::proxy::Proxy;
use super::receive::{Destination, Receive};
use super::reverse::Reverse;
use crate::driver::{Fault, Peer, Time};
use crate::session::Limits;
use crate::tcp::proxy_header::{self, ProxyVersion};
use crate::tls::{ClientCertificate, ConnectionFacts, Subject};
use crate::upstream::{ConnectPolicy, UpstreamGroup};
use crate::waiter::SessionKey;

/// The service of one listener, and the state that its sessions share.
#[derive(Clone, Debug)]
pub enum Service {
    /// Echoes what it receives.
    Echo,
    /// Sends each line back reversed.
    Reverse,
    /// Relays bytes between the client and an upstream.
    Proxy(Rc<UpstreamGroup>, ConnectPolicy),
    /// Relays TLS connections, as they are, to the upstream of the name that the client asks for.
    ProxyByName(Rc<NameRoutes>),
    /// Sends a text or a file, then closes.
    Send(Content),
    /// Writes what each client sends to a file.
    Receive(Arc<Destination>),
    /// HTTP: serves files and forwards requests to upstreams.
    Http(Rc<RouterCell>),
}

/// The protocol of a connection to a service that has several. It is chosen before the task exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1 or HTTP/1.0. Also where there is nothing to choose.
    Http1,
    /// HTTP/2: agreed on by ALPN, or begun with its preface.
    Http2,
}

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<'a> {
    pub(super) peer: Peer,
    /// The local address, if it was looked up.
    pub(super) local: Option<SocketAddr>,
    /// What the client has agreed on, if it speaks TLS.
    pub(super) tls: Option<&'a ConnectionFacts>,
}

impl Ends<'_> {
    /// The PROXY protocol header for an upstream of HTTP requests. If the client has agreed on a protocol,
    /// it says HTTP/1.1, which follows: the requests of a client of HTTP/2 are written in it.
    pub(super) fn header(self, version: ProxyVersion) -> Vec<u8> {
        let protocol = self.tls.and_then(|facts| facts.protocol.as_ref()).map(|_| UPSTREAM_PROTOCOL.into());
        self.header_with(protocol, version)
    }

    /// The same for an upstream that gets the client's bytes as they are.
    pub(super) fn relayed_header(self, version: ProxyVersion) -> Vec<u8> {
        self.header_with(self.tls.and_then(|facts| facts.protocol.clone()), version)
    }

    /// Without an IP address of the client it says that the connection is the proxy's own. A local address
    /// that was not looked up is sent as 0.0.0.0:0.
    fn header_with(self, protocol: Option<Box<[u8]>>, version: ProxyVersion) -> Vec<u8> {
        let ends = match self.peer {
            Peer::Inet(client) => {
                let server = self.local.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
                Some(proxy_header::Ends { client, server })
            }
            Peer::Local | Peer::Gone => None,
        };
        let tls = self.tls.filter(|_| version == ProxyVersion::V2).map(|facts| proxy_header::Tls {
            version: Some((*facts.version).into()),
            cipher_suite: Some((*facts.cipher_suite).into()),
            server_name: facts.server_name.clone(),
            protocol,
            certificate: facts.certificate.as_ref().map(|certificate| proxy_header::Certificate {
                common_name: certificate.subject.common_name.clone(),
                is_of_session: certificate.is_of_session,
            }),
        });
        proxy_header::header(version, ends, tls.as_ref())
    }
}

/// The name in ALPN of what forwarded requests are written in (RFC 7301, 6).
const UPSTREAM_PROTOCOL: &[u8] = b"http/1.1";

/// What a trusted proxy says of its client's TLS, as if the client had agreed on it with this server.
pub(super) fn facts_of(told: proxy_header::Tls) -> ConnectionFacts {
    let proxy_header::Tls { version, cipher_suite, server_name, protocol, certificate } = told;
    let named = |name: Option<Box<str>>| name.map_or(Cow::Borrowed("unknown"), |name| Cow::Owned(name.into_string()));
    ConnectionFacts {
        version: named(version),
        cipher_suite: named(cipher_suite),
        protocol,
        certificate: certificate.map(|certificate| ClientCertificate {
            subject: certificate.common_name.map(|name| Subject::of_common_name(&name)).unwrap_or_default(),
            is_of_session: certificate.is_of_session,
        }),
        // A name can be nothing else; elsewhere it is expected to be so.
        server_name: server_name.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic())),
        listener: None,
    }
}

impl Service {
    /// Replaces the service by `newer` for new sessions. HTTP sessions that are open use the new
    /// router from their next request on.
    pub fn replaced_by(&self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Http(router_cell), Self::Http(newer)) => {
                router_cell.replace(newer.router());
                Self::Http(Rc::clone(router_cell))
            }
            (_, newer) => newer,
        }
    }

    /// Whether a PROXY protocol header to an upstream needs the local address.
    pub fn wants_local_address(&self) -> bool {
        match self {
            Self::Proxy(group, _) => group.announces().is_some(),
            Self::ProxyByName(routes) => routes.announces(),
            Self::Http(router_cell) => router_cell.router().announces(),
            Self::Echo | Self::Reverse | Self::Send(_) | Self::Receive(_) => false,
        }
    }

    /// Whether the protocol has an error response for connections over the limit.
    pub const fn can_refuse(&self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Echo | Self::Reverse | Self::Proxy(..) | Self::ProxyByName(_) | Self::Send(_) | Self::Receive(_) => {
                false
            }
        }
    }

    /// The task of a connection whose route was chosen by name.
    pub(super) fn named_task(named: Named, session: SessionKey, ends: Ends<'_>) -> Box<dyn Task> {
        let Named { route, server_name, opening } = named;
        let proxy = Proxy::new(session, Rc::clone(&route.group), route.connect_policy, ends);
        Box::new(proxy.named(server_name, opening))
    }

    /// The task of a connection. `since`: when the time for its first request began.
    pub(super) fn task(
        &self,
        protocol: Protocol,
        session: SessionKey,
        ends: Ends<'_>,
        is_over_limit: bool,
        since: Time,
        limits: &Limits,
    ) -> Box<dyn Task> {
        match self {
            Self::Echo => Box::new(Echo::new()),
            Self::Reverse => Box::new(Reverse::new(limits)),
            Self::Proxy(group, connect_policy) => {
                Box::new(Proxy::new(session, Rc::clone(group), *connect_policy, ends))
            }
            // The setup chooses a route, or ends the session.
            Self::ProxyByName(_) => Box::new(FileSender::new(session, Content::Refused(Fault::Os(libc::EDESTADDRREQ)))),
            Self::Http(router_cell) => match protocol {
                Protocol::Http1 => Box::new(Http::new(Rc::clone(router_cell), is_over_limit, since)),
                Protocol::Http2 => Box::new(Http2::new(Rc::clone(router_cell), is_over_limit, since, limits)),
            },
            Self::Receive(destination) => Box::new(Receive::new(session, Arc::clone(destination))),
            Self::Send(content) => Box::new(FileSender::new(session, content.clone())),
        }
    }
}
