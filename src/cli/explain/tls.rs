//! What a client would be offered in its handshake.

use super::report::Report;
use super::request::Request;
use crate::cli::failure::Failure;
use crate::config::{ListenerConfig, ServiceConfig};
use crate::core::StartError;
use crate::http::Scheme;
use crate::tls::server::Crypto;
use crate::tls::{ClientAuthMode, ServerSettings};

/// Reports certificate, versions and protocols. A URL with the other scheme than the listener's is a
/// failure.
pub(super) fn explain(listener: &ListenerConfig, request: &Request, report: &mut Report) -> Result<(), Failure> {
    let address = listener.address.address();
    if matches!(listener.service, ServiceConfig::TcpProxyByName(_)) {
        return match request.scheme {
            Scheme::Https => {
                report.add("tls", "passed on to the upstream as it is");
                Ok(())
            }
            Scheme::Http => Err(Failure::NotServed(format!(
                "the connection is closed: {address} reads the name that a TLS client asks for; write https:// in the URL"
            ))),
        };
    }
    let settings = match (&listener.tls, request.scheme) {
        (Some(settings), Scheme::Https) => settings,
        (None, Scheme::Http) => return Ok(()),
        (Some(_), Scheme::Http) => {
            return Err(Failure::NotServed(format!("400: {address} expects TLS; write https:// in the URL")));
        }
        (None, Scheme::Https) => {
            return Err(Failure::NotServed(format!("{address} has no TLS, so the handshake fails; write http://")));
        }
    };
    let loaded = settings.load(&Crypto::default());
    let loaded = loaded.map_err(|errors| match errors.into_iter().next() {
        Some(error) => Failure::Start(StartError::Tls(error)),
        None => Failure::NotServed("there is no certificate".to_owned()),
    })?;
    report.add("tls", offered(settings));
    let Some(certificate) = loaded.certificates().choose(request.server_name()) else {
        let name = request.server_name().unwrap_or("no name");
        if loaded.certificates().issued().any(|issued| Some(issued.source().domain.as_str()) == request.server_name()) {
            let reason = format!("the handshake fails: the certificate for {name} has not been obtained yet");
            return Err(Failure::NotServed(reason));
        }
        return Err(Failure::NotServed(format!("the handshake fails: no certificate for {name}, see `unknown_name`")));
    };
    let names: Vec<String> = certificate.names().collect();
    report.add("", format!("certificate {} for {}", certificate.source, names.join(", ")));
    if !certificate.covers(&request.host) {
        report.add("", format!("which is not for {}: clients refuse it", request.host));
    }
    Ok(())
}

/// Versions, application protocols and client certificates.
fn offered(settings: &ServerSettings) -> String {
    let mut text = settings.min_version.names().to_owned();
    if !settings.alpn.is_empty() {
        let protocols: Vec<_> = settings.alpn.iter().map(|protocol| String::from_utf8_lossy(protocol)).collect();
        text.push_str(&format!(", ALPN {}", protocols.join(", ")));
    }
    match settings.client_auth.as_ref().map(|auth| auth.mode) {
        Some(ClientAuthMode::Require) => text.push_str(", a certificate of the client is required"),
        Some(ClientAuthMode::Request) => text.push_str(", a certificate of the client is requested"),
        None => {}
    }
    text
}
