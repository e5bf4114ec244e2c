//! What a configuration names, opened once for all workers: folders, logs, error pages.
//!
//! Whatever is missing is reported here, before a socket is bound or a thread is started.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::server::StartError;
use crate::config::{
    FileRouteConfig, ForwardConfig, HandlerConfig, NameRouteConfig, OnMissing, ResponseConfig, RouteConfig,
    RouterConfig, ServiceConfig,
};
use crate::driver::{Fault, Root};
use crate::http::error_page::{ErrorPage, ErrorPages};
use crate::http::forward::Authority;
use crate::http::media_type::MediaType;
use crate::http::{Scheme, Status, redirect};
use crate::limit::Access;
use crate::session::http::{Api, Files, Metrics, Operator, Proxy, Redirect};
use crate::session::{Destination, Naming};
use crate::telemetry::access_log::{AccessLog, AccessLogConfig, AccessLogs};
use crate::telemetry::metrics::{CertificateExpiry, RouteLabels, RouteSeries};
use crate::tls::certificates::Certificate;
use crate::tls::server::Crypto;
use crate::tls::{Issued, ServerSettings, ServerTls, TicketKeys, TlsPeer};
use crate::upstream::group::EndpointConfig;
use crate::upstream::{ConnectPolicy, GroupConfig, UpstreamAddress};

/// A service with everything that it needs open. It can be sent to the thread of a worker, which builds
/// its own `Service` from it.
#[derive(Clone, Debug)]
pub(super) enum OpenedService {
    Echo,
    Reverse,
    Proxy(Box<OpenedGroup>, ConnectPolicy),
    ProxyByName(Vec<OpenedNameRoute>),
    SendText(&'static [u8]),
    SendFile(Arc<Root>, CString),
    /// A file whose folder is missing: each connection is closed.
    SendNothing(Fault),
    Receive(Arc<Destination>),
    Http(OpenedRouter),
}

/// A group, and what TLS to each of its endpoints needs; `None` for those in plain text.
pub(super) type OpenedGroup = (GroupConfig, Vec<Option<TlsPeer>>);

/// Where a TCP proxy relays connections to some server names.
#[derive(Clone, Debug)]
pub(super) struct OpenedNameRoute {
    pub(super) names: Vec<String>,
    pub(super) access: Access,
    pub(super) group: OpenedGroup,
    pub(super) connect_policy: ConnectPolicy,
}

/// The virtual hosts of an HTTP listener.
#[derive(Clone, Debug)]
pub(super) struct OpenedRouter {
    pub(super) scheme: Scheme,
    pub(super) responses: ResponseConfig,
    pub(super) hosts: Vec<OpenedHost>,
}

#[derive(Clone, Debug)]
pub(super) struct OpenedHost {
    pub(super) names: Vec<String>,
    pub(super) access: Access,
    pub(super) access_log: Option<AccessLog>,
    pub(super) routes: Vec<OpenedRoute>,
}

#[derive(Clone, Debug)]
pub(super) struct OpenedRoute {
    pub(super) prefix: Vec<u8>,
    pub(super) access: Access,
    pub(super) keep_alive: bool,
    pub(super) handler: OpenedHandler,
    pub(super) responses: ResponseConfig,
    pub(super) error_pages: ErrorPages,
    /// Its name in the metrics, if it has one.
    pub(super) name: Option<String>,
    /// What counts its requests.
    pub(super) series: Option<Arc<RouteSeries>>,
}

#[derive(Clone, Debug)]
pub(super) enum OpenedHandler {
    Files(Option<Arc<Root>>, Box<FileRouteConfig>),
    Forward(Box<ForwardConfig>, Authority, Vec<Option<TlsPeer>>),
    Redirect(Status, redirect::RedirectTemplate),
    Metrics,
    Api,
    Operator { commands: bool },
}

impl OpenedService {
    /// Opens what a service needs. Without `logs`, no access log is opened or written.
    pub(super) fn new(service: &ServiceConfig, logs: Option<&mut AccessLogs>) -> Result<Self, StartError> {
        Ok(match service {
            ServiceConfig::Http(router) => Self::Http(OpenedRouter::new(router, logs)?),
            ServiceConfig::Echo => Self::Echo,
            ServiceConfig::Reverse => Self::Reverse,
            ServiceConfig::TcpProxy(group, connect_policy) => {
                Self::Proxy(Box::new((group.clone(), tls_peers(group)?)), *connect_policy)
            }
            ServiceConfig::TcpProxyByName(routes) => {
                let route = |route: &NameRouteConfig| {
                    let NameRouteConfig { names, access, group, connect_policy } = route.clone();
                    let tls = tls_peers(&group)?;
                    Ok(OpenedNameRoute { names, access, group: (group, tls), connect_policy })
                };
                Self::ProxyByName(routes.iter().map(route).collect::<Result<_, StartError>>()?)
            }
            ServiceConfig::Receive { root, name, naming } => Self::Receive(
                destination(root, name, *naming)
                    .map_err(|source| StartError::Receive { path: root.join(name), source })?,
            ),
            ServiceConfig::SendText(text) => Self::SendText(text),
            ServiceConfig::SendFile { root, path, on_missing } => sent_from(root, path, *on_missing)
                .map_err(|source| StartError::File { path: root.join(path), source })?,
        })
    }
}

impl OpenedService {
    /// The hosts with their routes, if it has any.
    fn hosts(&self) -> &[OpenedHost] {
        match self {
            Self::Http(router) => &router.hosts,
            _ => &[],
        }
    }

    /// What names the series of its routes.
    pub(super) fn route_labels(&self) -> impl Iterator<Item = RouteLabels> + '_ {
        self.hosts().iter().flat_map(|host| host.routes.iter().map(|route| route.labels(host.name())))
    }

    /// Sets what counts the requests of its routes, in the order of [`OpenedService::route_labels`].
    pub(super) fn count_by(&mut self, series: &mut impl Iterator<Item = Arc<RouteSeries>>) {
        if let Self::Http(router) = self {
            for route in router.hosts.iter_mut().flat_map(|host| &mut host.routes) {
                route.series = series.next();
            }
        }
    }
}

impl OpenedRouter {
    fn new(config: &RouterConfig, mut logs: Option<&mut AccessLogs>) -> Result<Self, StartError> {
        let mut hosts = Vec::with_capacity(config.hosts.len());
        for host in &config.hosts {
            let routes = host.routes.iter().map(OpenedRoute::new).collect::<Result<_, StartError>>()?;
            let access_log = match (&host.access_log, &mut logs) {
                (Some(config), Some(logs)) => Some(open_log(config, logs)?),
                (None, _) | (_, None) => None,
            };
            hosts.push(OpenedHost { names: host.names.clone(), access: host.access.clone(), access_log, routes });
        }
        Ok(Self { scheme: config.scheme, responses: config.responses.clone(), hosts })
    }
}

impl OpenedRoute {
    fn new(config: &RouteConfig) -> Result<Self, StartError> {
        Ok(Self {
            prefix: config.prefix.clone(),
            access: config.access.clone(),
            keep_alive: config.keep_alive,
            handler: OpenedHandler::new(&config.handler)?,
            responses: config.responses.clone(),
            error_pages: error_pages(&config.responses).collect::<Result<_, _>>()?,
            name: config.name.clone(),
            series: None,
        })
    }
}

impl OpenedHost {
    /// Its name in labels.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("*", String::as_str)
    }
}

impl OpenedRoute {
    pub(super) fn labels(&self, host: &str) -> RouteLabels {
        let of_prefix = || format!("/{}", String::from_utf8_lossy(&self.prefix));
        let handler = match &self.handler {
            OpenedHandler::Files(..) => Files::NAME,
            OpenedHandler::Forward(..) => Proxy::NAME,
            OpenedHandler::Redirect(..) => Redirect::NAME,
            OpenedHandler::Metrics => Metrics::NAME,
            OpenedHandler::Api => Api::NAME,
            OpenedHandler::Operator { .. } => Operator::NAME,
        };
        RouteLabels { host: host.to_owned(), route: self.name.clone().unwrap_or_else(of_prefix), handler }
    }
}

/// The TLS of a listener, with its files loaded.
#[derive(Debug)]
pub(super) struct OpenedTls {
    pub(super) tls: Arc<ServerTls>,
    pub(super) expiries: Vec<CertificateExpiry>,
    /// The certificates that are obtained while the server runs.
    pub(super) issued: Vec<Arc<Issued>>,
}

/// Reads the certificates and keys of a listener. What is worth a warning is logged.
pub(super) fn open_tls(settings: &ServerSettings, keys: &Arc<TicketKeys>) -> Result<OpenedTls, StartError> {
    let loaded = settings.load(&Crypto::default()).map_err(|errors| match errors.into_iter().next() {
        Some(error) => StartError::Tls(error),
        None => StartError::TlsSettings(rustls::Error::NoCertificatesPresented),
    })?;
    let mut expiries = Vec::new();
    for certificate in loaded.certificates().iter() {
        let Certificate { source, not_after, .. } = &*certificate;
        let (names, fingerprint) = (certificate.names().collect::<Vec<_>>().join(", "), certificate.fingerprint());
        tracing::info!(certificate = source, names, fingerprint, not_after, "certificate loaded");
        expiries.push(CertificateExpiry { certificate: source.clone(), not_after: *not_after });
    }
    for notice in loaded.notices() {
        tracing::warn!("{notice}");
    }
    let tls = loaded.server_tls(keys).map_err(StartError::TlsSettings)?;
    let issued = loaded.certificates().issued().map(Arc::clone).collect();
    Ok(OpenedTls { tls, expiries, issued })
}

/// Reads the configured error pages.
pub(super) fn error_pages(
    config: &ResponseConfig,
) -> impl Iterator<Item = Result<(Status, ErrorPage), StartError>> + '_ {
    config.error_pages.iter().map(|(status, path)| {
        let page = error_page(path).map_err(|source| StartError::ErrorPage { path: path.clone(), source })?;
        Ok((*status, page))
    })
}

fn open_log(config: &AccessLogConfig, logs: &mut AccessLogs) -> Result<AccessLog, StartError> {
    logs.open(config).map_err(|source| StartError::AccessLog { output: config.output.clone(), source })
}

impl OpenedHandler {
    pub(super) fn new(config: &HandlerConfig) -> Result<Self, StartError> {
        Ok(match config {
            HandlerConfig::Files(files) => {
                let open = |path: &PathBuf| {
                    Root::open_with(path, files.symlinks)
                        .map_err(|source| StartError::File { path: path.clone(), source })
                };
                Self::Files(files.root.as_ref().map(open).transpose()?, files.clone())
            }
            HandlerConfig::Redirect { status, url } => Self::Redirect(*status, url.clone()),
            HandlerConfig::Metrics => Self::Metrics,
            HandlerConfig::Api => Self::Api,
            HandlerConfig::Operator { commands } => Self::Operator { commands: *commands },
            HandlerConfig::Forward(forward) => {
                Self::Forward(forward.clone(), authority_of(&forward.group)?, tls_peers(&forward.group)?)
            }
        })
    }
}

/// Maximum size of an error page. Pages are kept in memory.
const ERROR_PAGE_BYTES_MAX: u64 = 1 << 20;

/// Reads a page that replaces a built-in error page.
///
/// # Errors
/// It cannot be read, or is larger than 1 MiB.
fn error_page(path: &Path) -> io::Result<ErrorPage> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        // Reading a FIFO could block, and a device may have no end.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > ERROR_PAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an error page can be at most 1 MiB"));
    }
    let content_type = MediaType::of_name(path.as_os_str().as_bytes()).as_str().to_owned();
    Ok(ErrorPage { content_type, body: std::fs::read(path)?.into() })
}

/// The `Host` value for a group: the authority of its first upstream.
fn authority_of(group: &GroupConfig) -> Result<Authority, StartError> {
    let first = group.endpoints.first().map(|endpoint| endpoint.address.authority()).unwrap_or_default();
    Authority::new(&first).map_err(|bad| StartError::Upstream { address: first, reason: bad.reason })
}

/// What TLS to each endpoint of a group needs. Nothing is read if all are in plain text.
fn tls_peers(group: &GroupConfig) -> Result<Vec<Option<TlsPeer>>, StartError> {
    if !group.endpoints.iter().any(|endpoint| endpoint.address.is_tls()) {
        return Ok(Vec::new());
    }
    let tls = group.tls.load(&Crypto::default()).map_err(StartError::Tls)?;
    let peer = |endpoint: &EndpointConfig| match &endpoint.address {
        UpstreamAddress::Tcp { host, is_tls: true, .. } => {
            let address = endpoint.address.to_string();
            let reason = "no certificate can have this name: it is neither a host name nor an IP address";
            tls.peer(host).map(Some).map_err(|_| StartError::Upstream { address, reason })
        }
        UpstreamAddress::Tcp { .. } | UpstreamAddress::Unix(_) => Ok(None),
    };
    group.endpoints.iter().map(peer).collect()
}

/// Opens the folder for received files.
fn destination(root: &Path, name: &Path, naming: Naming) -> io::Result<Arc<Destination>> {
    let name = CString::new(name.as_os_str().as_bytes())?;
    Ok(Destination::new(Root::open(root)?, name, naming))
}

/// Checks a file to be sent. Each connection opens the file again, so it may change later; but it
/// should exist now.
fn sent_from(root: &Path, path: &Path, on_missing: OnMissing) -> io::Result<OpenedService> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let opened = match (Root::open(root), on_missing) {
        (Ok(opened), OnMissing::Close) => return Ok(OpenedService::SendFile(opened, name)),
        (Err(error), OnMissing::Close) => return Ok(OpenedService::SendNothing(Fault::from_io(&error))),
        (opened, OnMissing::Refuse) => opened?,
    };
    let file = root.join(path);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Every connection would fail. Reporting it at start is better.
    if !file.canonicalize()?.starts_with(root.canonicalize()?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is not in {}", root.display())));
    }
    Ok(OpenedService::SendFile(opened, name))
}
