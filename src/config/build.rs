//! From the configuration file's document to what a server is told.
//!
//! The document was checked when it was read; what can still fail is what only this machine knows: whether an access log
//! can be written. Servers that share a listener become the hosts of one front.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

mod forward;

use super::file::{AccessTarget, File, FileOptions, Handler, Listener, Place, Protocol, Route, RouteKind, Server};
use super::{
    FrontConfig, HandlerConfig, HostConfig, Limits, ListenAddress, ListenerConfig, RouteConfig, ServerConfig, Service,
    SiteConfig,
};
use crate::admission::{Access, AdmissionConfig, Network, RateConfig};
use crate::driver::{InvalidUnixPath, UnixPath};
use crate::http::Status;
use crate::http::forward::BadRule;
use crate::http::redirect::Template;
use crate::telemetry::access::{AccessFormat, AccessLog};

/// Why a document that is well cannot be put into practice here.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An access log cannot be written.
    #[error("cannot write the access log {}: {error}", path.display())]
    AccessLog {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// With the file's folder before it, a unix socket's path is none any more.
    #[error("cannot use the socket {}: {error}", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: InvalidUnixPath,
    },
    /// A text passed the checks and cannot be used all the same: a bug.
    #[error("`{text}` cannot be used: {reason}")]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Builds what a server is told. The access logs it has opened stay open for the next time.
#[derive(Debug)]
pub struct Builder {
    /// Where relative paths begin: the file's folder.
    folder: PathBuf,
    logs: HashMap<(PathBuf, AccessFormat), AccessLog>,
    stdout: HashMap<AccessFormat, AccessLog>,
}

impl Builder {
    /// Relative paths begin at `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), logs: HashMap::new(), stdout: HashMap::new() }
    }

    /// What a server is told; `workers` where the document does not say how many.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn server(&mut self, file: &File, workers: usize) -> Result<ServerConfig, BuildError> {
        let limits = Limits::from(&file.limits);
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        let mut fronts: Vec<(&Listener, Vec<&Server>)> = Vec::new();
        for server in &file.servers {
            for listener in &server.listeners {
                match server.protocol {
                    Protocol::Tcp => {
                        let service = self.tcp_service(server, &limits)?;
                        let (address, access) = (self.place(&listener.place)?, access(server));
                        let expects_proxy_header = listener.accept_proxy_protocol;
                        listeners.push(ListenerConfig { address, access, expects_proxy_header, service });
                    }
                    Protocol::Http => match fronts.iter_mut().find(|(other, _)| other.place == listener.place) {
                        Some((_, servers)) => servers.push(server),
                        None => fronts.push((listener, vec![server])),
                    },
                }
            }
        }
        for (listener, servers) in fronts {
            let service = self.http_service(file, &servers, &limits)?;
            let expects_proxy_header = listener.accept_proxy_protocol;
            let address = self.place(&listener.place)?;
            listeners.push(ListenerConfig { expects_proxy_header, ..ListenerConfig::new(address, service) });
        }
        Ok(ServerConfig {
            listeners,
            workers: file.workers.map_or(workers, usize::from),
            pin_workers: file.pin_workers,
            backend: file.backend.into(),
            uring_off: file.uring_off.iter().map(|feature| feature.0).collect(),
            admission: admission(file),
            limits,
        })
    }

    /// Where a listener is.
    fn place(&self, place: &Place) -> Result<ListenAddress, BuildError> {
        Ok(match place {
            Place::Tcp(ip, port) => ListenAddress::Inet((*ip, *port).into()),
            Place::Unix { path, mode } => ListenAddress::Unix { path: self.socket(path)?, mode: *mode },
        })
    }

    /// A unix socket's path, from the file's folder.
    fn socket(&self, path: &Path) -> Result<UnixPath, BuildError> {
        let path = self.folder.join(path);
        UnixPath::new(&path).map_err(|error| BuildError::Socket { path, error })
    }

    fn tcp_service(&self, server: &Server, limits: &Limits) -> Result<Service, BuildError> {
        let tcp = &server.tcp;
        Ok(match tcp.handler {
            Some(Handler::Reverse) => Service::Reverse,
            Some(Handler::TcpProxy) => Service::TcpProxy(self.group(&tcp.group)?),
            Some(Handler::SendFile) => {
                let file = self.folder.join(tcp.file.as_deref().unwrap_or(Path::new("")));
                let folder = file.parent().unwrap_or(&self.folder).to_owned();
                let root = tcp.root.as_deref().map_or(folder, |root| self.folder.join(root));
                let path = file.strip_prefix(&root).map(Path::to_owned).unwrap_or(file);
                Service::SendFile { root, path }
            }
            // The checks demand a handler.
            Some(Handler::Echo) | None => {
                let _ = limits;
                Service::Echo
            }
        })
    }

    fn http_service(&mut self, file: &File, servers: &[&Server], limits: &Limits) -> Result<Service, BuildError> {
        let server_name = Some(file.server_name.0.clone()).filter(|name| !name.is_empty());
        let mut hosts = Vec::with_capacity(servers.len());
        // Who names no hosts is for those that nobody names, and stands first.
        let (nameless, named): (Vec<&Server>, Vec<&Server>) =
            servers.iter().partition(|server| server.hostnames.is_empty());
        for server in nameless.into_iter().chain(named) {
            let names = server.hostnames.iter().map(|host| match host.is_wildcard {
                true => format!("*.{}", host.name),
                false => host.name.clone(),
            });
            let mut routes = Vec::with_capacity(server.routes.len());
            for route in &server.routes {
                let handler = self.handler(route, server_name.as_deref(), limits)?;
                let access = networks(&route.ip_whitelist, &route.ip_blacklist);
                routes.push(RouteConfig { prefix: route.req_path.0.clone(), access, handler });
            }
            hosts.push(HostConfig { names: names.collect(), access: access(server), routes });
        }
        let first = servers.first();
        let target = first.and_then(|server| server.access_log.as_ref()).unwrap_or(&file.access_log);
        let format = first.and_then(|server| server.access_format).unwrap_or(file.access_format);
        let access = self.access_log(target, format.into())?;
        Ok(Service::Http { front: FrontConfig { server_name, hosts }, access })
    }

    fn access_log(&mut self, target: &AccessTarget, format: AccessFormat) -> Result<Option<AccessLog>, BuildError> {
        match target {
            AccessTarget::Off => Ok(None),
            AccessTarget::Stdout => {
                Ok(Some(self.stdout.entry(format).or_insert_with(|| AccessLog::to_stdout(format)).clone()))
            }
            AccessTarget::File(path) => {
                let path = self.folder.join(path);
                if let Some(log) = self.logs.get(&(path.clone(), format)) {
                    return Ok(Some(log.clone()));
                }
                let log = AccessLog::to_file(&path, format)
                    .map_err(|error| BuildError::AccessLog { path: path.clone(), error })?;
                self.logs.insert((path, format), log.clone());
                Ok(Some(log))
            }
        }
    }

    fn handler(&self, route: &Route, server_name: Option<&str>, limits: &Limits) -> Result<HandlerConfig, BuildError> {
        Ok(match route.kind {
            RouteKind::FileServe => HandlerConfig::Site(Box::new(self.site(&route.files, server_name))),
            RouteKind::ReverseProxy => HandlerConfig::Forward(Box::new(self.forward(&route.proxy, route, limits)?)),
            RouteKind::Redirect => redirect(route)?,
            RouteKind::Metrics => HandlerConfig::Metrics,
        })
    }

    fn site(&self, options: &FileOptions, server_name: Option<&str>) -> SiteConfig {
        let fields = options.headers.set.iter().chain(&options.headers.add);
        SiteConfig {
            root: options.dir_path.as_ref().map(|path| self.folder.join(path)),
            index: options.index.iter().map(|path| path.0.clone()).collect(),
            listing: options.listing,
            dot_files: options.dot_files,
            fallback: options.fallback.as_ref().map(|path| path.0.clone()),
            compression: options.compresses(),
            precompressed: options.precompressed,
            server_name: server_name.map(str::to_owned),
            charset: options.charset.as_ref().map(|charset| charset.0.clone()),
            cors: options.cors.as_ref().map(|origin| origin.0.clone()),
            fields: fields
                .flat_map(|(name, values)| values.iter().map(|value| (name.0.clone(), value.to_owned())))
                .collect(),
        }
    }
}

fn admission(file: &File) -> AdmissionConfig {
    let rate = |per_second| RateConfig { per_second, burst: if file.burst == 0 { per_second } else { file.burst } };
    AdmissionConfig {
        connections_max: file.max_connections,
        connections_per_address: file.connections_per_address,
        rate: (file.requests_per_second > 0).then(|| rate(file.requests_per_second)),
        trusted: file.trusted_proxies.iter().copied().collect(),
    }
}

fn access(server: &Server) -> Access {
    networks(&server.ip_whitelist, &server.ip_blacklist)
}

fn networks(allow: &[Network], deny: &[Network]) -> Access {
    Access { allow: allow.iter().copied().collect(), deny: deny.iter().copied().collect() }
}

fn redirect(route: &Route) -> Result<HandlerConfig, BuildError> {
    let text = route.redirect_url.as_ref().map(|url| url.0.as_str()).unwrap_or_default();
    let url = Template::parse(text).map_err(|_| refused(text, BadRule { reason: "a variable is unknown" }))?;
    let status = Status::from_code(route.http_status_code).unwrap_or(Status::FOUND);
    Ok(HandlerConfig::Redirect { status, url })
}

fn refused(text: &str, bad: BadRule) -> BuildError {
    BuildError::Text { text: text.to_owned(), reason: bad.reason }
}
