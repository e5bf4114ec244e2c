//! The TLS settings of listeners.

use std::path::PathBuf;
use std::sync::Arc;

use super::{ResolveError, Resolver};
use crate::config::file::{Acme, CertificateFiles, ClientAuth, Server, Tls, UpstreamTls};
use crate::tls::acme::default_storage;
use crate::tls::{self, AcmeIssuer, AcmeSource, CertificateSource, ClientSettings, ServerSettings};

impl Resolver<'_> {
    /// The settings of a listener that `options` describe, with the certificates of all servers on it.
    /// `alpn`: the application protocols if the options name none.
    ///
    /// # Errors
    /// There is no place for the certificates that are obtained.
    pub(super) fn tls<'o>(
        self,
        options: &Tls,
        all: impl IntoIterator<Item = (&'o Server, &'o Tls)>,
        alpn: &[&str],
    ) -> Result<ServerSettings, ResolveError> {
        let mut certificates: Vec<CertificateSource> = Vec::new();
        for (server, tls) in all {
            let files = tls.certificates.iter().map(|CertificateFiles { cert, key }| {
                let (cert, key) = (self.folder.join(cert), self.folder.join(key.as_ref().unwrap_or(cert)));
                CertificateSource::Files { cert, key }
            });
            let obtained = tls.acme.as_ref().map(|acme| self.acme(acme, server)).transpose()?;
            for source in files.chain(obtained.into_iter().flatten()) {
                // Servers that share a listener often share a certificate, too.
                if !certificates.contains(&source) {
                    certificates.push(source);
                }
            }
        }
        let auth = |auth: &ClientAuth| tls::ClientAuth { ca: self.folder.join(&auth.ca), mode: auth.mode.into() };
        Ok(ServerSettings {
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
        })
    }

    /// The certificates that are obtained for a server.
    fn acme(self, options: &Acme, server: &Server) -> Result<Vec<CertificateSource>, ResolveError> {
        let Acme { domains, email, directory, storage, ca, challenge } = options;
        let storage = match storage {
            Some(storage) => self.folder.join(storage),
            None => storage_of_process()?,
        };
        let issuer = Arc::new(AcmeIssuer {
            directory: directory.0.clone(),
            email: email.as_ref().map(|email| email.0.clone()),
            storage,
            ca: ca.as_ref().map(|ca| self.folder.join(ca)),
            challenge: challenge.map(Into::into),
        });
        let source = |domain: String| CertificateSource::Acme(AcmeSource { domain, issuer: Arc::clone(&issuer) });
        Ok(match domains {
            Some(domains) => domains.iter().map(|domain| source(domain.0.clone())).collect(),
            None => server.hostnames.iter().map(|name| source(name.name.clone())).collect(),
        })
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

/// The folder for certificates that are obtained, if none is configured.
///
/// # Errors
/// The environment of this process names none.
pub fn storage_of_process() -> Result<PathBuf, ResolveError> {
    default_storage(|name| std::env::var_os(name).map(PathBuf::from)).ok_or(ResolveError::NoStorage)
}
