//! What is known of the TLS of a client's connection, once its handshake is complete.

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(feature = "internals")]
use super::planted_bug;
use super::server::{Misdirected, ServerTls};
use super::stream::HandshakeInfo;
use super::subject::Subject;
use crate::http::redirect::without_port;

/// What is known of the TLS of a client's connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The version, as `TLSv1.3`; printable ASCII.
    pub version: Cow<'static, str>,
    /// The name of the cipher suite; printable ASCII.
    pub cipher_suite: Cow<'static, str>,
    /// The application protocol (ALPN), if one was agreed on.
    pub protocol: Option<Box<[u8]>>,
    /// The client's certificate, if it has shown one that was accepted.
    pub certificate: Option<ClientCertificate>,
    /// The name that the client asked for (SNI), in lower case; printable ASCII.
    pub server_name: Option<Box<str>>,
    /// The listener, whose certificate decides which hosts requests may be for. `None`: any, since the
    /// connection is that of a trusted gateway.
    pub listener: Option<Arc<ServerTls>>,
}

/// The certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whose it is.
    pub subject: Subject,
    /// Whether it was shown in the session that this connection has resumed, not on the connection itself.
    pub is_of_session: bool,
}

impl ConnectionFacts {
    /// What a handshake with this listener has settled.
    pub fn of(info: &HandshakeInfo<'_>, listener: &Arc<ServerTls>) -> Self {
        Self {
            version: Cow::Borrowed(info.version),
            cipher_suite: Cow::Borrowed(info.cipher_suite),
            protocol: info.protocol.map(Box::from),
            certificate: certificate_of(info),
            server_name: info.server_name.map(Box::from),
            listener: Some(Arc::clone(listener)),
        }
    }

    /// The subject of the client's certificate (RFC 4514); printable ASCII, not empty.
    pub fn client_subject(&self) -> Option<&str> {
        let subject = self.certificate.as_ref().map(|certificate| &*certificate.subject.text);
        subject.filter(|subject| !subject.is_empty())
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

fn certificate_of(info: &HandshakeInfo<'_>) -> Option<ClientCertificate> {
    let certificate = info.peer_certificates.first()?;
    #[cfg(feature = "internals")]
    if planted_bug::strikes(planted_bug::TlsBug::LostCertificate) {
        return None;
    }
    Some(ClientCertificate { subject: Subject::of(certificate), is_of_session: info.is_resumed })
}

#[cfg(test)]
impl ConnectionFacts {
    /// Facts for tests.
    pub fn sample() -> Self {
        Self {
            version: "TLSv1.3".into(),
            cipher_suite: "TLS_AES_128_GCM_SHA256".into(),
            protocol: Some(Box::from(&b"h2"[..])),
            certificate: Some(ClientCertificate { subject: Subject::of_common_name("a\"b"), is_of_session: false }),
            server_name: Some("a.org".into()),
            listener: None,
        }
    }
}
