//! How connections to one listener are received.

use super::Service;
use crate::limit::Access;

/// Who may connect to a listener, and what a connection is for.
#[derive(Clone, Debug)]
pub struct ListenerContext {
    /// Who may connect.
    pub access: Access,
    /// A connection begins with a header of the PROXY protocol.
    pub expects_proxy_header: bool,
    /// What for.
    pub service: Service,
}

impl From<Service> for ListenerContext {
    /// For everybody.
    fn from(service: Service) -> Self {
        Self { access: Access::default(), expects_proxy_header: false, service }
    }
}

impl ListenerContext {
    /// Puts `newer` in its place, for sessions to come and, where they look it up anew, for those that are there.
    pub fn replaced_by(&self, newer: Self) -> Self {
        Self { service: self.service.replaced_by(newer.service), ..newer }
    }
}
