//! TLS for the commands that take a certificate on the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{ProxyOptions, TlsOptions};
use super::failure::Failure;
use crate::config::file::AcmeDomain;
use crate::config::resolve::storage_of_process;
use crate::config::{ListenerConfig, UpstreamAddress, start};
use crate::core::StartError;
use crate::tls::server::Crypto;
use crate::tls::{AcmeIssuer, AcmeSource, CertificateSource, ClientSettings, SelfSigned, ServerSettings};

/// The settings of TLS to the upstreams of `xps proxy`. `alpn`: the application protocols.
pub fn to_upstreams(options: &ProxyOptions, alpn: &[&str]) -> Result<ClientSettings, Failure> {
    let is_given = options.upstream_ca.is_some() || options.upstream_insecure;
    if is_given && !options.upstream.iter().any(UpstreamAddress::is_tls) {
        let hint = "--upstream-ca and --upstream-insecure are for upstreams over TLS: write https://HOST:PORT";
        return Err(Failure::Usage(hint.to_owned()));
    }
    Ok(ClientSettings {
        verify: !options.upstream_insecure,
        ca: options.upstream_ca.as_deref().map(absolute).transpose()?,
        alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
        ..ClientSettings::default()
    })
}

/// Puts TLS on all listeners if the options ask for it. `alpn`: the application protocols. Returns lines
/// for the banner.
pub fn put(options: &TlsOptions, alpn: &[&str], listeners: &mut Vec<ListenerConfig>) -> Result<Vec<String>, Failure> {
    let addresses: Vec<IpAddr> =
        listeners.iter().filter_map(|listener| listener.address.inet()).map(|it| it.ip()).collect();
    let given = [options.tls_cert.is_some(), options.tls_self_signed, !options.acme.is_empty()];
    if given.iter().filter(|is_given| **is_given).count() > 1 {
        let message = "--tls-cert, --tls-self-signed and --acme cannot be used together: each is a certificate";
        return Err(Failure::Usage(message.to_owned()));
    }
    let (sources, hints) = if let Some(cert) = &options.tls_cert {
        let key = options.tls_key.as_ref().unwrap_or(cert);
        (vec![CertificateSource::Files { cert: absolute(cert)?, key: absolute(key)? }], Vec::new())
    } else if options.tls_self_signed {
        self_signed(&addresses)?
    } else if options.acme.is_empty() {
        return Ok(Vec::new());
    } else if alpn.is_empty() {
        return Err(Failure::Usage("--acme needs --http; a TCP proxy with it needs a configuration file".to_owned()));
    } else {
        obtained(options)?
    };
    let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let settings = ServerSettings { alpn, ..ServerSettings::new(sources) };
    let over_tls = |listener: ListenerConfig| listener.over_tls(settings.clone());
    *listeners = std::mem::take(listeners).into_iter().map(over_tls).collect();
    Ok(hints)
}

/// A certificate for `localhost` and the addresses, and lines that say so.
fn self_signed(addresses: &[IpAddr]) -> Result<(Vec<CertificateSource>, Vec<String>), Failure> {
    let names = names(addresses);
    let own = SelfSigned::new(names.clone(), Crypto::default().now())
        .map_err(|error| StartError::TlsSettings(rustls::Error::General(error.to_string())))?;
    let hints = vec![
        format!("  self-signed certificate for {}, valid for {} days", names.join(", "), SelfSigned::DAYS),
        format!("  SHA-256 {}", own.fingerprint()),
    ];
    Ok((vec![CertificateSource::SelfSigned(Arc::new(own))], hints))
}

/// The certificates that are obtained, and lines that say so.
fn obtained(options: &TlsOptions) -> Result<(Vec<CertificateSource>, Vec<String>), Failure> {
    let TlsOptions { acme, acme_email, acme_directory, acme_storage, .. } = options;
    let storage = match acme_storage {
        Some(storage) => absolute(storage)?,
        None => storage_of_process()?,
    };
    let directory = acme_directory.clone().unwrap_or_default().0;
    let hints = vec![format!("  certificates from {directory} are in {}", storage.display())];
    let email = acme_email.as_ref().map(|email| email.0.clone());
    let issuer = Arc::new(AcmeIssuer { directory, email, storage, ca: None, challenge: None });
    let source = |AcmeDomain(domain): &AcmeDomain| {
        CertificateSource::Acme(AcmeSource { domain: domain.clone(), issuer: Arc::clone(&issuer) })
    };
    Ok((acme.iter().map(source).collect(), hints))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    start::absolute(path).map_err(|error| Failure::File { path: path.to_owned(), error })
}

/// The names by which clients on this host, and those that use one of the addresses, reach the server.
fn names(addresses: &[IpAddr]) -> Vec<String> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut names = vec!["localhost".to_owned()];
    for address in loopback.iter().chain(addresses).filter(|address| !address.is_unspecified()) {
        let name = address.to_canonical().to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HTTP_PROTOCOLS, ListenAddress, ServiceConfig};

    #[test]
    fn a_self_signed_certificate_has_the_names_that_lead_to_the_server() {
        let addresses = ["127.0.0.1", "0.0.0.0", "192.0.2.1", "::", "::ffff:192.0.2.1"];
        let names = names(&addresses.map(|address| address.parse().unwrap()));
        assert_eq!(names, ["localhost", "127.0.0.1", "::1", "192.0.2.1"]);
    }

    #[test]
    fn all_listeners_have_tls_or_none() {
        let listeners = || {
            let listener =
                |text: &str| ListenerConfig::new(text.parse::<ListenAddress>().unwrap(), ServiceConfig::Echo);
            vec![listener("127.0.0.1:0"), listener("unix:/a")]
        };
        let mut plain = listeners();
        assert_eq!(put(&TlsOptions::default(), &[], &mut plain).unwrap().len(), 0);
        assert!(plain.iter().all(|listener| listener.tls.is_none()));
        let mut both = listeners();
        let options = TlsOptions { tls_self_signed: true, ..TlsOptions::default() };
        assert_eq!(put(&options, &HTTP_PROTOCOLS, &mut both).unwrap().len(), 2);
        assert!(
            both.iter()
                .all(|listener| listener.tls.as_ref().is_some_and(|tls| tls.alpn == HTTP_PROTOCOLS.map(str::as_bytes)))
        );
        let contradiction = TlsOptions { tls_cert: Some("a".into()), ..options };
        assert!(matches!(put(&contradiction, &HTTP_PROTOCOLS, &mut listeners()), Err(Failure::Usage(_))));
    }
}
