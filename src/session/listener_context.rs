//! The settings of one listener that each of its sessions needs.

use super::Service;
use crate::limit::Access;

/// The access list, PROXY protocol and service of a listener.
#[derive(Clone, Debug)]
pub struct ListenerContext {
    /// The client addresses that may connect.
    pub access: Access,
    /// Every connection must begin with a PROXY protocol header.
    pub expects_proxy_header: bool,
    /// The service that handles the connections.
    pub service: Service,
}

impl From<Service> for ListenerContext {
    /// With access for all addresses, and without PROXY protocol.
    fn from(service: Service) -> Self {
        Self { access: Access::default(), expects_proxy_header: false, service }
    }
}

impl ListenerContext {
    /// Replaces the context by `newer` for new sessions. HTTP sessions that are open use the new
    /// router from their next request on.
    pub fn replaced_by(&self, newer: Self) -> Self {
        Self { service: self.service.replaced_by(newer.service), ..newer }
    }
}
