//! What is known of the TLS of a client's connection, once its handshake is complete.

use std::sync::Arc;

use super::server::{Misdirected, ServerTls};
use super::stream::HandshakeInfo;
use crate::http::redirect::without_port;

/// What is known of the TLS of a client's connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The name that the client asked for (SNI), in lower case; printable ASCII.
    pub server_name: Option<Box<str>>,
    /// The listener, whose certificate decides which hosts requests may be for. `None`: any, since the
    /// connection is that of a trusted gateway.
    listener: Option<Arc<ServerTls>>,
}

impl ConnectionFacts {
    /// What a handshake with this listener has settled.
    pub fn of(info: &HandshakeInfo<'_>, listener: &Arc<ServerTls>) -> Self {
        Self { server_name: info.server_name.map(Box::from), listener: Some(Arc::clone(listener)) }
    }

    /// The same on the connection of a trusted gateway, which may send requests for every host (RFC
    /// 9110, 7.4).
    #[must_use]
    pub fn of_gateway(self) -> Self {
        Self { listener: None, ..self }
    }

    /// Whether the connection must not be used for a request to this host, a name or address and an
    /// optional port: the response is 421 (RFC 9110, 15.5.20). `is_same_server`: whether the name that
    /// the client asked for, with the port of the request, leads to the same virtual host as the request.
    ///
    /// A client that asked for no name has selected nothing, and neither has one that got the default
    /// certificate for a name that no certificate has: it knows, or does not care, whom it speaks to.
    /// Where clients are asked for certificates, another server is never reached by another name: who
    /// lets a client in by the name in the handshake is the one who responds.
    pub fn is_misdirected(&self, host: Option<&str>, is_same_server: impl FnOnce(&str) -> bool) -> bool {
        let (Some(listener), Some(name)) = (&self.listener, self.server_name.as_deref()) else { return false };
        let bare = host.map(without_port);
        if bare.is_some_and(|host| host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(name)) {
            return false;
        }
        if listener.asks_for_certificates {
            let port = host.zip(bare).and_then(|(host, bare)| host.get(bare.len()..)).unwrap_or_default();
            if !is_same_server(&format!("{name}{port}")) {
                return true;
            }
        }
        match listener.misdirected {
            Misdirected::Refuse => host.is_some_and(|host| !listener.certificates.covers(name, host)),
            Misdirected::Serve => false,
        }
    }
}
