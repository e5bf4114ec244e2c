//! The settings of one listener that each of its sessions needs.

use std::rc::Rc;
use std::sync::Arc;

use super::Service;
use crate::limit::Access;
use crate::telemetry::metrics::ListenerCounters;
use crate::tls::ServerTls;

/// The access list, PROXY protocol, TLS, protocols and service of a listener.
#[derive(Clone, Debug)]
pub struct ListenerContext {
    /// The client addresses that may connect.
    pub access: Access,
    /// Every connection must begin with a PROXY protocol header.
    pub expects_proxy_header: bool,
    /// What TLS needs, shared by all workers; `None`: plain text. After a PROXY protocol header, if one
    /// is expected, every connection begins with a handshake.
    pub tls: Option<Arc<ServerTls>>,
    /// HTTP without TLS: a connection that begins with the preface of HTTP/2 speaks it. Has no effect with
    /// TLS, where ALPN chooses.
    pub h2c: bool,
    /// The service that handles the connections.
    pub service: Service,
    /// What counts the connections; `None`: only the worker does.
    pub counters: Option<Rc<ListenerCounters>>,
}

impl From<Service> for ListenerContext {
    /// With access for all addresses, and without PROXY protocol, TLS and HTTP/2.
    fn from(service: Service) -> Self {
        Self { access: Access::default(), expects_proxy_header: false, tls: None, h2c: false, service, counters: None }
    }
}

impl ListenerContext {
    /// Replaces the context by `newer` for new sessions. HTTP sessions that are open use the new
    /// router from their next request on.
    pub fn replaced_by(&self, newer: Self) -> Self {
        Self { service: self.service.replaced_by(newer.service), ..newer }
    }
}
