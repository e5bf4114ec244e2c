//! Checks that what a configuration names is there, on this host and for this user.
//!
//! Nothing is created, no configured port is opened and no upstream is contacted. A start looks before
//! it opens anything, and `xps check` only looks.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use super::opened::{OpenedHandler, OpenedService, error_pages};
use super::server::StartError;
use crate::config::{
    FileRouteConfig, HandlerConfig, ListenAddress, ListenerConfig, RouteConfig, RouterConfig, ServerConfig,
    ServiceConfig,
};
use crate::driver::access::{is_missing, may_write};
use crate::driver::probe::choose;
use crate::http::redirect::without_port;
use crate::tls::certificates::Certificate;
use crate::tls::server::Crypto;
use crate::tls::{AcmeSource, CertificateSource, ClientSettings, Issued, Notice};

/// What a look has found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Each prevents a server from starting.
    pub problems: Vec<StartError>,
    /// A server starts in spite of these, and something does not work.
    pub warnings: Vec<String>,
}

/// Looks at everything: the back-end, the addresses, and what [`missing`] looks at.
pub fn look(config: &ServerConfig) -> Findings {
    let mut findings = Findings { problems: missing(config), warnings: Vec::new() };
    if let Err(unavailable) = choose(config.backend, config.uring_off, config.workers) {
        findings.warnings.push(unavailable.to_string());
    }
    for listener in &config.listeners {
        findings.address(&listener.address);
        findings.tls(listener);
        if let ServiceConfig::Http(router) = &listener.service {
            routes(router).for_each(|route| findings.route(route));
        }
    }
    for (_, listener) in config.operator.listeners() {
        findings.address(&listener.address);
    }
    findings.without_repetitions()
}

/// The folders, files, logs, error pages and certificates that are not there, or cannot be used.
pub fn missing(config: &ServerConfig) -> Vec<StartError> {
    let mut problems = Vec::new();
    if let Some(path) = &config.operator.pid_file {
        let failed = |source| StartError::PidFile { path: path.clone(), source };
        let writable = if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { may_write(parent(path)) };
        problems.extend(writable.err().map(failed));
    }
    for listener in &config.listeners {
        if let Some(Err(errors)) = listener.tls.as_ref().map(|settings| settings.load(&Crypto::default())) {
            problems.extend(errors.into_iter().map(StartError::Tls));
        }
        problems.extend(acme(listener));
        match &listener.service {
            ServiceConfig::Http(router) => {
                for log in router.hosts.iter().filter_map(|host| host.access_log.as_ref()) {
                    let failed = |source| StartError::AccessLog { output: log.output.clone(), source };
                    problems.extend(log.output.look().err().map(failed));
                }
                for route in routes(router) {
                    problems.extend(OpenedHandler::new(&route.handler).err());
                    problems.extend(error_pages(&route.responses).filter_map(Result::err));
                }
            }
            service => problems.extend(OpenedService::new(service, None).err()),
        }
    }
    problems
}

/// What is missing to obtain certificates.
fn acme(listener: &ListenerConfig) -> Vec<StartError> {
    let sources = listener.tls.iter().flat_map(|settings| &settings.certificates);
    let mut problems = Vec::new();
    for source in sources {
        let CertificateSource::Acme(AcmeSource { issuer, .. }) = source else { continue };
        let path = &issuer.storage;
        // It is made if it is missing.
        let existing = path.ancestors().find(|folder| !is_missing(folder)).unwrap_or(path);
        let usable = if existing.is_dir() { may_write(existing) } else { Err(io::ErrorKind::NotADirectory.into()) };
        problems.extend(usable.err().map(|source| StartError::AcmeStorage { path: path.clone(), source }));
        let trust = ClientSettings { ca: issuer.ca.clone(), ..ClientSettings::default() };
        if issuer.ca.is_some() {
            problems.extend(trust.load(&Crypto::default()).err().map(StartError::Tls));
        }
    }
    problems
}

fn routes(router: &RouterConfig) -> impl Iterator<Item = &RouteConfig> {
    router.hosts.iter().flat_map(|host| &host.routes)
}

impl Findings {
    /// Several routes may name the same folder.
    fn without_repetitions(mut self) -> Self {
        let mut seen = Vec::new();
        let mut is_new = |text: String| {
            !seen.contains(&text) && {
                seen.push(text);
                true
            }
        };
        self.problems.retain(|problem| is_new(problem.to_string()));
        self.warnings.retain(|warning| is_new(warning.clone()));
        self
    }

    /// Checks that the address exists on this host. Not checked: whether the port is free (a server
    /// with this configuration may be running) and whether binding is permitted (a service manager
    /// may pass the socket).
    fn address(&mut self, address: &ListenAddress) {
        match address {
            ListenAddress::Inet(inet) => {
                if let Err(error) = TcpListener::bind((inet.ip(), 0)) {
                    self.warnings.push(format!("cannot listen on {inet} here: {error}"));
                }
            }
            ListenAddress::Unix { path, .. } => {
                let path: &Path = path.as_ref();
                let problem = match fs::symlink_metadata(path) {
                    Ok(found) if found.file_type().is_socket() => None,
                    Ok(_) => Some(io::Error::other("the path exists and is not a socket")),
                    Err(_) => may_write(parent(path)).err(),
                };
                let failed = |source| StartError::Bind { address: address.address(), source };
                self.problems.extend(problem.map(failed));
            }
        }
    }

    /// Notices of the certificates, and host names that none of them has.
    fn tls(&mut self, listener: &ListenerConfig) {
        // What cannot be loaded is a problem already.
        let Some(Ok(loaded)) = listener.tls.as_ref().map(|settings| settings.load(&Crypto::default())) else { return };
        self.warnings.extend(loaded.notices().iter().map(Notice::to_string));
        let ServiceConfig::Http(router) = &listener.service else { return };
        for name in router.hosts.iter().flat_map(|host| &host.names) {
            let is_covered = |certificate: &Certificate| {
                // A host `*.example.org` has names that no certificate covers, but some that it does.
                certificate.covers(name) || certificate.dns_names.iter().any(|known| known == without_port(name))
            };
            // It may not have been obtained yet.
            let is_obtained = |issued: &Arc<Issued>| issued.source().domain == without_port(name);
            let certificates = loaded.certificates();
            if !certificates.iter().any(|it| is_covered(&it)) && !certificates.issued().any(is_obtained) {
                let address = listener.address.address();
                self.warnings
                    .push(format!("no certificate of {address} has the host name {name}: clients will refuse it"));
            }
        }
    }

    fn route(&mut self, route: &RouteConfig) {
        let HandlerConfig::Files(files) = &route.handler else { return };
        let FileRouteConfig { root: Some(root), index, listing, fallback, .. } = &**files else { return };
        if is_missing(root) {
            // A problem already.
            return;
        }
        if let Some(fallback) = fallback
            && is_missing(&root.join(fallback))
        {
            self.warnings.push(format!("the fallback {} does not exist", root.join(fallback).display()));
        }
        let has_index = index.iter().any(|name| !is_missing(&root.join(name)));
        if !has_index && !listing && fallback.is_none() {
            let (root, names) = (root.display(), index.join(", "));
            self.warnings.push(format!("{root} has no index ({names}) and listing is off: requests for it get 403"));
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
