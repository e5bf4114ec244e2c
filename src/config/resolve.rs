//! From a configuration file to a server's configuration: paths become absolute, HTTP servers that
//! share a listener become the virtual hosts of one router, and TCP proxies that do its routes by name.
//!
//! The file was checked when it was read. What can still fail is the length of socket paths, which
//! depends on the file's folder. Nothing is opened or looked at.

use std::path::{Path, PathBuf};

mod forward;
mod tls;

pub use self::tls::storage_of_process;

use self::forward::connect_policy;
use super::file::{
    AccessLog, AccessTarget, Admin, ErrorStatus, File, FileOptions, Handler, Hostname, Hsts, HttpsRedirect,
    ListenTarget, Listener, Origin, Protocol, Route, RouteKind, Server, Symlinks, Unlisted,
};
use super::{
    FileRouteConfig, HTTP_PROTOCOLS, HandlerConfig, Limits, ListenAddress, ListenerConfig, NameRouteConfig,
    OperatorConfig, ResponseConfig, RouteConfig, RouterConfig, ServerConfig, ServiceConfig, VirtualHostConfig,
};
use crate::driver::{InvalidUnixPath, SymlinkPolicy, UnixPath};
use crate::file::compress::Compression;
use crate::http::forward::BadRule;
use crate::http::redirect::RedirectTemplate;
use crate::http::{Scheme, Status};
use crate::limit::{Access, AdmissionConfig, Network, RateConfig};
use crate::telemetry::access_log::{AccessFormat, AccessLogConfig, AccessLogOutput, LineFormat, Sample};
use crate::upstream::GroupConfig;

/// Why a valid configuration file cannot be used in its folder.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// A unix socket's path is not valid with the configuration file's folder in front.
    #[error("cannot use the socket {}: {error}", path.display())]
    Socket { path: PathBuf, error: InvalidUnixPath },
    /// There is no folder for the certificates that are obtained.
    #[error("there is no folder for certificates: neither STATE_DIRECTORY nor HOME is set; set `acme.storage`")]
    NoStorage,
    /// A text passed the checks but cannot be used. This is a bug.
    #[error("`{text}` cannot be used: {reason}")]
    Text { text: String, reason: &'static str },
}

/// The configuration of the server that a file describes. Its relative paths start at `folder`, which
/// is absolute. `workers` is used if the file does not set the number.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve(file: &File, folder: &Path, workers: usize) -> Result<ServerConfig, ResolveError> {
    Resolver { folder }.server(file, workers)
}

/// A listener that servers share, and these servers, each with the listener as it wrote it.
struct Shared<'f> {
    listener: &'f Listener,
    servers: Vec<(&'f Server, &'f Listener)>,
}

/// What relative paths need.
#[derive(Clone, Copy, Debug)]
struct Resolver<'f> {
    /// The configuration file's folder.
    folder: &'f Path,
}

impl Resolver<'_> {
    fn server(self, file: &File, workers: usize) -> Result<ServerConfig, ResolveError> {
        let limits = Limits::from(&file.limits);
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        let (mut http_listeners, mut named_listeners): (Vec<Shared<'_>>, Vec<Shared<'_>>) = (Vec::new(), Vec::new());
        for server in &file.servers {
            for listener in &server.listeners {
                match server.protocol {
                    Protocol::Tcp if chooses_by_name(file, server, listener) => {
                        share(&mut named_listeners, server, listener);
                    }
                    Protocol::Tcp => {
                        let mut service = self.tcp_service(server, &limits)?;
                        let (address, access) = (self.target(&listener.target)?, access(server));
                        if let ServiceConfig::TcpProxy(group, _) = &mut service {
                            group.name = address.address().to_string();
                        }
                        let expects_proxy_header = listener.accept_proxy_protocol;
                        let tls = listener.tls.as_ref().map(|tls| self.tls(tls, [(server, tls)], &[])).transpose()?;
                        let plain = ListenerConfig::new(address, service);
                        listeners.push(ListenerConfig { access, expects_proxy_header, tls, ..plain });
                    }
                    Protocol::Http => share(&mut http_listeners, server, listener),
                }
            }
        }
        for Shared { listener, servers } in named_listeners {
            let routes = servers.iter().map(|(server, _)| self.name_route(server, &limits));
            let service = ServiceConfig::TcpProxyByName(routes.collect::<Result<_, _>>()?);
            let expects_proxy_header = listener.accept_proxy_protocol;
            let address = self.target(&listener.target)?;
            listeners.push(ListenerConfig { expects_proxy_header, ..ListenerConfig::new(address, service) });
        }
        for Shared { listener, mut servers } in http_listeners {
            // The server without host names serves all names that no other server has. It comes first,
            // and so does its certificate. (The sort is stable.)
            servers.sort_by_key(|(server, _)| !server.hostnames.is_empty());
            let service = ServiceConfig::Http(self.router(file, &servers, &limits)?);
            let expects_proxy_header = listener.accept_proxy_protocol;
            let address = self.target(&listener.target)?;
            let h2c = listener.h2c;
            let resolved = ListenerConfig { expects_proxy_header, h2c, ..ListenerConfig::new(address, service) };
            let certificates = servers.iter().filter_map(|(server, listener)| Some((*server, listener.tls.as_ref()?)));
            listeners.push(match &listener.tls {
                Some(tls) => resolved.over_tls(self.tls(tls, certificates, &HTTP_PROTOCOLS)?),
                None => resolved,
            });
        }
        let pid_file = file.pid_file.as_deref().map(|path| self.folder.join(path));
        let operator = OperatorConfig { metrics: self.metrics(file)?, admin: self.admin(file)?, pid_file, file: None };
        Ok(ServerConfig { listeners, operator, ..without_listeners(file, workers) })
    }

    /// The listener for metrics.
    fn metrics(self, file: &File) -> Result<Option<ListenerConfig>, ResolveError> {
        let Some(listener) = file.metrics.listener() else { return Ok(None) };
        let access = networks(&listener.allow, &[]);
        Ok(Some(ListenerConfig::metrics(self.target(&listener.target())?, access, responses_of(file))))
    }

    /// The admin socket.
    fn admin(self, file: &File) -> Result<Option<ListenerConfig>, ResolveError> {
        let Some(Admin { unix, mode }) = &file.admin else { return Ok(None) };
        let address = ListenAddress::Unix { path: self.socket(unix)?, mode: Some(*mode) };
        Ok(Some(ListenerConfig::admin(address, responses_of(file))))
    }

    /// The address of a listener.
    fn target(self, target: &ListenTarget) -> Result<ListenAddress, ResolveError> {
        Ok(match target {
            ListenTarget::Tcp(ip, port) => ListenAddress::Inet((*ip, *port).into()),
            ListenTarget::Unix { path, mode } => ListenAddress::Unix { path: self.socket(path)?, mode: *mode },
        })
    }

    /// A unix socket's path, relative to the file's folder.
    fn socket(self, path: &Path) -> Result<UnixPath, ResolveError> {
        let path = self.folder.join(path);
        UnixPath::new(&path).map_err(|error| ResolveError::Socket { path, error })
    }

    fn tcp_service(self, server: &Server, limits: &Limits) -> Result<ServiceConfig, ResolveError> {
        let tcp = &server.tcp;
        Ok(match tcp.handler {
            Some(Handler::Reverse) => ServiceConfig::Reverse,
            Some(Handler::TcpProxy) => {
                ServiceConfig::TcpProxy(self.group(&tcp.group, &[])?, connect_policy(&tcp.group, limits))
            }
            Some(Handler::SendFile) => {
                let file = self.folder.join(tcp.file.as_deref().unwrap_or(Path::new("")));
                let folder = file.parent().unwrap_or(self.folder).to_owned();
                let root = tcp.root.as_deref().map_or(folder, |root| self.folder.join(root));
                let path = file.strip_prefix(&root).map(Path::to_owned).unwrap_or(file);
                ServiceConfig::SendFile { root, path, on_missing: tcp.on_missing.into() }
            }
            // The checks guarantee a handler.
            Some(Handler::Echo) | None => ServiceConfig::Echo,
        })
    }

    /// The route of a TCP proxy that is chosen by the name that a client asks for.
    fn name_route(self, server: &Server, limits: &Limits) -> Result<NameRouteConfig, ResolveError> {
        let group = &server.tcp.group;
        Ok(NameRouteConfig {
            names: server.hostnames.iter().map(Hostname::to_string).collect(),
            access: access(server),
            group: GroupConfig { name: group_name(server, ""), ..self.group(group, &[])? },
            connect_policy: connect_policy(group, limits),
        })
    }

    fn router(
        self,
        file: &File,
        servers: &[(&Server, &Listener)],
        limits: &Limits,
    ) -> Result<RouterConfig, ResolveError> {
        let mut hosts = Vec::with_capacity(servers.len());
        // It must not be sent in plain text (RFC 6797, 7.2).
        let hsts = |server: &Server, listener: &Listener| match listener.tls {
            Some(_) => server.hsts.as_ref().map(Hsts::field),
            None => None,
        };
        for (server, listener) in servers {
            let hsts = hsts(server, listener);
            let names = server.hostnames.iter().map(Hostname::to_string);
            let mut routes = Vec::with_capacity(server.routes.len());
            if let Some(url) = listener.redirect_to_https.url() {
                routes.push(redirect_all(file, &url)?);
            }
            for route in server.routes.iter().filter(|_| listener.redirect_to_https == HttpsRedirect::Off) {
                routes.push(RouteConfig {
                    prefix: route.req_path.0.decoded().to_vec(),
                    access: networks(&route.ip_whitelist, &route.ip_blacklist),
                    keep_alive: route.keep_alive,
                    handler: self.handler(file, server, route, limits, hsts.clone())?,
                    responses: self.responses(file, route, hsts.clone()),
                    name: route.name.as_ref().map(|name| name.0.clone()),
                });
            }
            let log = server.access_log.as_ref().unwrap_or(&file.access_log);
            let access_log = self.access_log(log, server.access_format.unwrap_or(file.access_format));
            hosts.push(VirtualHostConfig { names: names.collect(), access: access(server), access_log, routes });
        }
        // Responses where no route matches are of no server, so they have it if all servers do.
        let mut all = servers.iter().map(|(server, listener)| hsts(server, listener));
        let first = all.next().flatten().filter(|first| all.all(|other| other.as_ref() == Some(first)));
        let responses = ResponseConfig { hsts: first, ..responses_of(file) };
        Ok(RouterConfig { scheme: Scheme::Http, responses, hosts })
    }

    /// Settings of responses that xps generates on a route.
    fn responses(self, file: &File, route: &Route, hsts: Option<String>) -> ResponseConfig {
        let rules = &route.files.headers;
        let page = |(status, path): (&ErrorStatus, &PathBuf)| {
            let status = Status::from_code(status.0).unwrap_or(Status::INTERNAL_SERVER_ERROR);
            (status, self.folder.join(path))
        };
        ResponseConfig {
            server_name: server_name(file),
            cors: cors(file, route),
            fields: (rules.set.iter().chain(&rules.add))
                .flat_map(|(name, values)| values.iter().map(|value| (name.0.clone(), value.to_owned())))
                .collect(),
            without: rules.remove.iter().map(|name| name.0.clone()).collect(),
            replaced: rules.remove.iter().chain(rules.set.keys()).map(|name| name.0.clone()).collect(),
            error_pages: route.error_pages.iter().map(page).collect(),
            hsts,
        }
    }

    /// `default`: the format, if the log names none.
    fn access_log(self, log: &AccessLog, default: super::file::AccessFormat) -> Option<AccessLogConfig> {
        let output = match &log.path {
            AccessTarget::Off => return None,
            AccessTarget::Stdout => AccessLogOutput::Stdout,
            AccessTarget::File(path) => AccessLogOutput::of_path(self.folder.join(path)),
            AccessTarget::Syslog(config) => AccessLogOutput::Syslog(config.clone()),
        };
        let default = || LineFormat::from(AccessFormat::from(default));
        let format = log.format.as_ref().map_or_else(default, |format| format.0.clone());
        Some(AccessLogConfig { output, format, sample: Sample::new(log.sample) })
    }

    fn handler(
        self,
        file: &File,
        server: &Server,
        route: &Route,
        limits: &Limits,
        hsts: Option<String>,
    ) -> Result<HandlerConfig, ResolveError> {
        Ok(match route.kind {
            RouteKind::FileServe => HandlerConfig::Files(Box::new(self.file_route(&route.files))),
            RouteKind::ReverseProxy => {
                let mut forward = self.forward(&route.proxy, route, limits)?;
                forward.response.cors = cors(file, route);
                forward.response.hsts = hsts;
                forward.group.name = group_name(server, &route.req_path.to_string());
                HandlerConfig::Forward(Box::new(forward))
            }
            RouteKind::Redirect => redirect(route)?,
            RouteKind::Metrics => HandlerConfig::Metrics,
            RouteKind::Api => HandlerConfig::Api,
        })
    }

    fn file_route(self, options: &FileOptions) -> FileRouteConfig {
        FileRouteConfig {
            root: options.dir_path.as_ref().map(|path| self.folder.join(path)),
            index: options.index.iter().map(|path| path.0.clone()).collect(),
            listing: options.listing,
            listing_style: options.listing_style.into(),
            unlisted: match options.unlisted {
                Unlisted::Forbidden => Status::FORBIDDEN,
                Unlisted::NotFound => Status::NOT_FOUND,
            },
            dot_files: options.dot_files,
            fallback: options.fallback.as_ref().map(|path| path.0.clone()),
            symlinks: match options.symlinks {
                Symlinks::Beneath => SymlinkPolicy::Follow,
                Symlinks::Refuse => SymlinkPolicy::Refuse,
            },
            compression: options.compresses().then(|| compression(options)),
            precompressed: options.precompressed,
            charset: options.charset.clone(),
        }
    }
}

/// The name of a group for operators: the first host name of its server, or `*`, and the path of its route.
fn group_name(server: &Server, path: &str) -> String {
    let host = server.hostnames.first().map_or_else(|| "*".to_owned(), Hostname::to_string);
    format!("{host}{}", path.trim_end_matches('/'))
}

/// Adds a server to those that share its listener.
fn share<'f>(all: &mut Vec<Shared<'f>>, server: &'f Server, listener: &'f Listener) {
    match all.iter_mut().find(|shared| shared.listener.target == listener.target) {
        Some(shared) => shared.servers.push((server, listener)),
        None => all.push(Shared { listener, servers: vec![(server, listener)] }),
    }
}

/// Whether this TCP server is one of several that clients of the listener choose from by name, or the only
/// one, with names.
fn chooses_by_name(file: &File, server: &Server, listener: &Listener) -> bool {
    let is_proxy = |server: &Server| server.protocol == Protocol::Tcp && server.tcp.handler == Some(Handler::TcpProxy);
    let is_there = |other: &Server| other.listeners.iter().any(|there| there.target == listener.target);
    let mut others = file.servers.iter().filter(|other| is_proxy(other) && !other.hostnames.is_empty());
    is_proxy(server) && others.any(is_there)
}

/// Settings of responses that no route has settings for.
fn responses_of(file: &File) -> ResponseConfig {
    let (server_name, cors) = (server_name(file), origin(file.cors.as_ref()));
    ResponseConfig { server_name, cors, ..ResponseConfig::default() }
}

/// The only route of a listener whose requests are redirected. The status keeps the method and the
/// body (RFC 9110, 15.4.9).
fn redirect_all(file: &File, url: &str) -> Result<RouteConfig, ResolveError> {
    let url = RedirectTemplate::parse(url).map_err(|_| refused(url, BadRule { reason: "a variable is unknown" }))?;
    Ok(RouteConfig {
        prefix: Vec::new(),
        access: Access::default(),
        keep_alive: true,
        handler: HandlerConfig::Redirect { status: Status::PERMANENT_REDIRECT, url },
        responses: responses_of(file),
        name: None,
    })
}

fn server_name(file: &File) -> Option<String> {
    Some(file.server_name.0.clone()).filter(|name| !name.is_empty())
}

/// The value of `Access-Control-Allow-Origin` on a route.
fn cors(file: &File, route: &Route) -> Option<String> {
    origin(route.files.cors.as_ref().or(file.cors.as_ref()))
}

fn origin(configured: Option<&Origin>) -> Option<String> {
    configured.and_then(Origin::field).map(str::to_owned)
}

fn compression(options: &FileOptions) -> Compression {
    Compression {
        size_min: options.compression_min_size.0 as u64,
        more_types: options.gzip_mime_types.iter().map(|media_type| media_type.0.clone()).collect(),
        level: options.compression_level,
        gzip_level: options.gzip_level(),
    }
}

/// The configuration of a server without its listeners. `workers` is used if the file does not set
/// the number.
pub fn without_listeners(file: &File, workers: usize) -> ServerConfig {
    ServerConfig {
        listeners: Vec::new(),
        workers: file.workers.map_or(workers, usize::from),
        pin_workers: file.pin_workers,
        backend: file.backend.into(),
        uring_off: file.uring_off.iter().map(|feature| feature.0).collect(),
        admission: admission(file),
        limits: Limits::from(&file.limits),
        operator: OperatorConfig::default(),
    }
}

fn admission(file: &File) -> AdmissionConfig {
    let rate = |per_second| RateConfig { per_second, burst: if file.burst == 0 { per_second } else { file.burst } };
    AdmissionConfig {
        connections_max: file.max_connections,
        when_full: file.when_full.into(),
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

fn redirect(route: &Route) -> Result<HandlerConfig, ResolveError> {
    let text = route.redirect_url.as_ref().map(|url| url.0.as_str()).unwrap_or_default();
    let url = RedirectTemplate::parse(text).map_err(|_| refused(text, BadRule { reason: "a variable is unknown" }))?;
    let status = Status::from_code(route.http_status_code).unwrap_or(Status::FOUND);
    Ok(HandlerConfig::Redirect { status, url })
}

fn refused(text: &str, bad: BadRule) -> ResolveError {
    ResolveError::Text { text: text.to_owned(), reason: bad.reason }
}

#[cfg(test)]
mod tests;
