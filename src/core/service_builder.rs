//! Builds a worker's services from the configuration of listeners, in two steps.
//!
//! A [`ResolvedService`] is made once per configuration. It opens folders, so that a missing one is
//! reported before anything starts, and it can be sent to other threads. From it each worker builds
//! a [`Service`] of its own, whose parts its sessions share.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::server::StartError;
use crate::config::{
    FileRouteConfig, ForwardConfig, HandlerConfig, OnMissing, ResponseConfig, RouteConfig, RouterConfig, ServiceConfig,
    VirtualHostConfig,
};
use crate::driver::{Fault, Root, SymlinkPolicy};
use crate::file::store::{RootPath, WeakRootPath};
use crate::http::forward::Authority;
use crate::http::{Status, redirect};
use crate::limit::Access;
use crate::session::http::{
    FileRoute, Handler, ProxyRoute, Route, Router, RouterCell, Source, VirtualHost, WELCOME_PAGES,
};
use crate::session::{Content, Destination, Naming, Service};
use crate::telemetry::access_log::AccessLog;
use crate::upstream::{ConnectPolicy, GroupConfig, UpstreamGroup, Upstreams};

/// What a worker builds a [`Service`] from; it can be sent to the worker's thread.
#[derive(Clone, Debug)]
pub(super) enum ResolvedService {
    Echo,
    Reverse,
    Proxy(GroupConfig, ConnectPolicy),
    SendText(&'static [u8]),
    SendFile(Arc<Root>, CString),
    /// A file whose folder is missing: each connection is closed.
    SendNothing(Fault),
    Receive(Arc<Destination>),
    Http(ResolvedRouter),
}

/// The virtual hosts of an HTTP listener, with their folders open.
#[derive(Clone, Debug)]
pub(super) struct ResolvedRouter {
    responses: ResponseConfig,
    hosts: Vec<ResolvedHost>,
}

#[derive(Clone, Debug)]
struct ResolvedHost {
    names: Vec<String>,
    access: Access,
    access_log: Option<AccessLog>,
    routes: Vec<ResolvedRoute>,
}

#[derive(Clone, Debug)]
struct ResolvedRoute {
    prefix: Vec<u8>,
    access: Access,
    keep_alive: bool,
    handler: ResolvedHandler,
    responses: ResponseConfig,
}

#[derive(Clone, Debug)]
enum ResolvedHandler {
    Files(Option<Arc<Root>>, Box<FileRouteConfig>),
    Forward(Box<ForwardConfig>, Authority),
    Redirect(Status, redirect::RedirectTemplate),
    Metrics,
}

/// Builds one worker's services.
#[derive(Debug, Default)]
pub(super) struct ServiceBuilder {
    /// The folders of the services that are there, also of those before a reload, so that what is cached of them stays.
    /// Root paths in use, including those of services from before a reload, so that their cache is
    /// kept.
    known_root_paths: HashMap<(Arc<Path>, SymlinkPolicy), WeakRootPath>,
    /// Root paths of the services built since they were last taken, each with the folder it led to.
    root_paths: Vec<(RootPath, Arc<Root>)>,
    /// Number of workers that share the connection limit of an upstream. 0: this is the only one.
    workers: usize,
    /// Number of this worker.
    number: usize,
    groups: Vec<Rc<UpstreamGroup>>,
    upstreams: Upstreams,
    /// Differs for each worker. With equal seeds, all workers would pick the same upstreams, and
    /// check them at the same moment.
    seeds: RandomState,
    groups_made: u64,
}

impl ResolvedService {
    pub(super) fn new(service: &ServiceConfig) -> Result<Self, StartError> {
        Ok(match service {
            ServiceConfig::Http(router) => Self::Http(ResolvedRouter::new(router)?),
            ServiceConfig::Echo => Self::Echo,
            ServiceConfig::Reverse => Self::Reverse,
            ServiceConfig::TcpProxy(group, connect_policy) => Self::Proxy(group.clone(), *connect_policy),
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

impl ResolvedRouter {
    fn new(config: &RouterConfig) -> Result<Self, StartError> {
        let host = |host: &VirtualHostConfig| {
            Ok(ResolvedHost {
                names: host.names.clone(),
                access: host.access.clone(),
                access_log: host.access_log.clone(),
                routes: host.routes.iter().map(ResolvedRoute::new).collect::<Result<_, StartError>>()?,
            })
        };
        let hosts = config.hosts.iter().map(host).collect::<Result<_, StartError>>()?;
        Ok(Self { responses: config.responses.clone(), hosts })
    }
}

impl ResolvedRoute {
    fn new(config: &RouteConfig) -> Result<Self, StartError> {
        Ok(Self {
            prefix: config.prefix.clone(),
            access: config.access.clone(),
            keep_alive: config.keep_alive,
            handler: ResolvedHandler::new(&config.handler)?,
            responses: config.responses.clone(),
        })
    }
}

impl ResolvedHandler {
    fn new(config: &HandlerConfig) -> Result<Self, StartError> {
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
            HandlerConfig::Forward(forward) => Self::Forward(forward.clone(), authority_of(&forward.group)?),
        })
    }
}

impl ServiceBuilder {
    pub(super) fn service(&mut self, resolved: ResolvedService) -> Service {
        match resolved {
            ResolvedService::Http(router) => Service::Http(RouterCell::new(self.router(router))),
            ResolvedService::Echo => Service::Echo,
            ResolvedService::Reverse => Service::Reverse,
            ResolvedService::Proxy(group, connect_policy) => Service::Proxy(self.group(group), connect_policy),
            ResolvedService::SendText(text) => Service::Send(Content::Text(text)),
            ResolvedService::SendFile(root, path) => {
                Service::Send(Content::File { root_path: self.root_path(root), path })
            }
            ResolvedService::SendNothing(fault) => Service::Send(Content::Refused(fault)),
            ResolvedService::Receive(destination) => Service::Receive(destination),
        }
    }

    pub(super) fn router(&mut self, resolved: ResolvedRouter) -> Router {
        let ResolvedRouter { responses, hosts } = resolved;
        let hosts = hosts.into_iter().map(|host| self.host(host)).collect();
        Router::new(hosts, Rc::new(FileRoute::nothing(responses)))
    }

    fn host(&mut self, ResolvedHost { names, access, access_log, routes }: ResolvedHost) -> VirtualHost {
        VirtualHost { names, access, access_log, routes: routes.into_iter().map(|route| self.route(route)).collect() }
    }

    fn route(&mut self, resolved: ResolvedRoute) -> Route {
        let ResolvedRoute { prefix, access, keep_alive, handler, responses } = resolved;
        let (handler, file_route) = match handler {
            ResolvedHandler::Files(root, config) => {
                let source = match root {
                    Some(root) => Source::Folder(self.root_path(root)),
                    None => Source::BuiltIn(WELCOME_PAGES),
                };
                (Handler::Files, Rc::new(FileRoute::new(source, *config, responses, &prefix)))
            }
            ResolvedHandler::Redirect(status, url) => {
                (Handler::Redirect(status, Rc::new(url)), Rc::new(FileRoute::nothing(responses)))
            }
            ResolvedHandler::Metrics => (Handler::Metrics, Rc::new(FileRoute::nothing(responses))),
            ResolvedHandler::Forward(config, authority) => {
                let file_route = Rc::new(FileRoute::nothing(responses));
                let proxy_route = self.proxy_route(*config, authority, Rc::clone(&file_route));
                (Handler::Forward(Rc::new(proxy_route)), file_route)
            }
        };
        Route { prefix, access, keep_alive, handler, file_route }
    }

    fn proxy_route(&mut self, config: ForwardConfig, authority: Authority, file_route: Rc<FileRoute>) -> ProxyRoute {
        ProxyRoute {
            group: self.group(config.group),
            connect_policy: ConnectPolicy { tries_max: config.tries_max, connect_timeout: config.connect_timeout },
            request: config.request,
            response: config.response,
            authority,
            keep_alive: config.keep_alive,
            response_timeout: config.response_timeout,
            upgrades: config.upgrades,
            body_bytes_max: config.body_bytes_max,
            file_route,
        }
    }

    /// The root path of this folder: one instance for all routes that have it, kept over reloads.
    fn root_path(&mut self, root: Arc<Root>) -> RootPath {
        let key = (Arc::clone(root.path()), root.symlinks());
        let root_path = self.known_root_paths.get(&key).and_then(WeakRootPath::upgrade).unwrap_or_else(|| {
            let root_path = RootPath::new(Arc::clone(root.path()), root.symlinks());
            self.known_root_paths.insert(key, root_path.downgrade());
            root_path
        });
        self.root_paths.push((root_path.clone(), root));
        root_path
    }

    /// Takes the root paths of the services built since the last call.
    pub(super) fn take_root_paths(&mut self) -> Vec<(RootPath, Arc<Root>)> {
        self.known_root_paths.retain(|_, root_path| root_path.upgrade().is_some());
        std::mem::take(&mut self.root_paths)
    }

    /// This is worker `number` of `workers` that have the same plan.
    pub(super) const fn share_among(&mut self, number: usize, workers: usize) {
        (self.number, self.workers) = (number, workers);
    }

    fn group(&mut self, mut config: GroupConfig) -> Rc<UpstreamGroup> {
        for endpoint in config.endpoints.iter_mut().filter(|endpoint| endpoint.connections_max > 0) {
            // Workers do not coordinate. Each gets at least one connection, else it could serve no
            // request.
            endpoint.connections_max = (endpoint.connections_max / self.workers.max(1)).max(1);
        }
        self.groups_made += 1;
        let group = UpstreamGroup::sharing(&mut self.upstreams, config, self.seeds.hash_one(self.groups_made));
        group.start_apart(self.number, self.workers);
        self.groups.push(Rc::clone(&group));
        group
    }

    /// Takes the groups of the services built since the last call, which replace all earlier ones.
    pub(super) fn take_groups(&mut self) -> Vec<Rc<UpstreamGroup>> {
        let groups = std::mem::take(&mut self.groups);
        self.upstreams.put_in_force(&groups);
        groups
    }
}

/// The `Host` value for a group: the authority of its first upstream.
fn authority_of(group: &GroupConfig) -> Result<Authority, StartError> {
    let first = group.endpoints.first().map(|endpoint| endpoint.address.authority()).unwrap_or_default();
    Authority::new(&first).map_err(|bad| StartError::Upstream { address: first, reason: bad.reason })
}

/// Opens the folder for received files.
fn destination(root: &Path, name: &Path, naming: Naming) -> io::Result<Arc<Destination>> {
    let name = CString::new(name.as_os_str().as_bytes())?;
    Ok(Destination::new(Root::open(root)?, name, naming))
}

/// Checks a file to be sent. Each connection opens the file again, so it may change later; but it
/// should exist now.
fn sent_from(root: &Path, path: &Path, on_missing: OnMissing) -> io::Result<ResolvedService> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let opened = match (Root::open(root), on_missing) {
        (Ok(opened), OnMissing::Close) => return Ok(ResolvedService::SendFile(opened, name)),
        (Err(error), OnMissing::Close) => return Ok(ResolvedService::SendNothing(Fault::from_io(&error))),
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
    Ok(ResolvedService::SendFile(opened, name))
}
