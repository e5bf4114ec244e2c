//! The TLS settings of listeners.

use super::Resolver;
use crate::config::file::{CertificateFiles, ClientAuth, Tls, UpstreamTls};
use crate::tls::{self, CertificateSource, ClientSettings, ServerSettings};

impl Resolver<'_> {
    /// The settings of a listener that `options` describe, with the certificates of all servers on it.
    /// `alpn`: the application protocols if the options name none.
    pub(super) fn tls<'o>(
        self,
        options: &Tls,
        all: impl IntoIterator<Item = &'o Tls>,
        alpn: &[&str],
    ) -> ServerSettings {
        let mut certificates: Vec<CertificateSource> = Vec::new();
        for CertificateFiles { cert, key } in all.into_iter().flat_map(|tls| &tls.certificates) {
            let (cert, key) = (self.folder.join(cert), self.folder.join(key.as_ref().unwrap_or(cert)));
            let source = CertificateSource::Files { cert, key };
            // Servers that share a listener often share a certificate, too.
            if !certificates.contains(&source) {
                certificates.push(source);
            }
        }
        let auth = |auth: &ClientAuth| tls::ClientAuth { ca: self.folder.join(&auth.ca), mode: auth.mode.into() };
        ServerSettings {
            certificates,
            min_version: options.min_version.into(),
            client_auth: options.client_auth.as_ref().map(auth),
            alpn: match &options.alpn {
                Some(protocols) => protocols.iter().map(|protocol| protocol.0.clone().into_bytes()).collect(),
                None => alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
            },
            tickets: options.tickets,
            session_cache: options.session_cache as usize,
            unknown_name: options.unknown_name.into(),
            misdirected: options.misdirected.into(),
        }
    }

    /// The settings of connections to upstreams. `alpn`: the application protocols that are named.
    pub(super) fn upstream_tls(self, options: &UpstreamTls, alpn: &[&str]) -> ClientSettings {
        let UpstreamTls { verify, ca, server_name, certificate } = options;
        let files = |CertificateFiles { cert, key }: &CertificateFiles| CertificateSource::Files {
            cert: self.folder.join(cert),
            key: self.folder.join(key.as_ref().unwrap_or(cert)),
        };
        ClientSettings {
            verify: *verify,
            ca: ca.as_ref().map(|ca| self.folder.join(ca)),
            server_name: server_name.as_ref().map(ToString::to_string),
            certificate: certificate.as_ref().map(files),
            alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
        }
    }
}
