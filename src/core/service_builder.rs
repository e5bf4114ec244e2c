//! Builds a worker's own services from the opened ones, which all workers share.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::opened::{OpenedHandler, OpenedHost, OpenedNameRoute, OpenedRoute, OpenedRouter, OpenedService};
use crate::config::ForwardConfig;
use crate::driver::{Root, SymlinkPolicy};
use crate::file::store::{RootPath, WeakRootPath};
use crate::http::error_page::ErrorPages;
use crate::http::forward::Authority;
use crate::session::control::Control;
use crate::session::http::{
    Api, FileRoute, Files, Handler, Metrics, Operator, Proxy, ProxyRoute, Redirect, Route, Router, RouterCell, Source,
    VirtualHost, WELCOME_PAGES,
};
use crate::session::{Content, NameRoute, NameRoutes, Service};
use crate::telemetry::metrics;
use crate::tls::{ChallengeTokens, TlsPeer};
use crate::upstream::{ConnectPolicy, GroupConfig, SharedEndpoints, UpstreamGroup, Upstreams};

/// Builds one worker's services.
#[derive(Debug, Default)]
pub(super) struct ServiceBuilder {
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
    /// Differs for each worker. With equal seeds, all workers would pick the same upstreams.
    seeds: RandomState,
    groups_made: u64,
    /// What the operators' requests share with the server.
    control: Arc<Control>,
    /// What counts the requests to endpoints; `None`: nothing.
    metrics: Option<Arc<metrics::Metrics>>,
    /// The groups in force.
    groups_in_force: Vec<Rc<UpstreamGroup>>,
    /// The pending validations of certificates.
    challenge_tokens: Option<Arc<ChallengeTokens>>,
}

impl ServiceBuilder {
    pub(super) fn service(&mut self, opened: OpenedService) -> Service {
        match opened {
            OpenedService::Http(router) => Service::Http(RouterCell::new(self.router(router))),
            OpenedService::Echo => Service::Echo,
            OpenedService::Reverse => Service::Reverse,
            OpenedService::Proxy(opened, connect_policy) => {
                let (group, tls) = *opened;
                Service::Proxy(self.group(group, &tls), connect_policy)
            }
            OpenedService::ProxyByName(routes) => {
                let routes = routes.into_iter().map(|route| self.name_route(route)).collect();
                Service::ProxyByName(NameRoutes::new(routes))
            }
            OpenedService::SendText(text) => Service::Send(Content::Text(text)),
            OpenedService::SendFile(root, path) => {
                Service::Send(Content::File { root_path: self.root_path(root), path })
            }
            OpenedService::SendNothing(fault) => Service::Send(Content::Refused(fault)),
            OpenedService::Receive(destination) => Service::Receive(destination),
        }
    }

    fn name_route(&mut self, opened: OpenedNameRoute) -> NameRoute {
        let OpenedNameRoute { names, access, group: (group, tls), connect_policy } = opened;
        NameRoute { names, access, group: self.group(group, &tls), connect_policy }
    }

    pub(super) fn router(&mut self, opened: OpenedRouter) -> Router {
        let OpenedRouter { scheme, responses, hosts } = opened;
        let hosts = hosts.into_iter().map(|host| self.host(host)).collect();
        let router = Router::new(scheme, hosts, Rc::new(FileRoute::nothing(responses, ErrorPages::default())));
        match &self.challenge_tokens {
            Some(tokens) => router.answering(Arc::clone(tokens)),
            None => router,
        }
    }

    /// The routers from now on answer these validations.
    pub(super) fn answer_challenges(&mut self, tokens: Option<Arc<ChallengeTokens>>) {
        self.challenge_tokens = tokens;
    }

    /// The requests to endpoints are counted there.
    pub(super) fn count_by(&mut self, metrics: Arc<metrics::Metrics>) {
        self.metrics = Some(metrics);
    }

    /// The operators' requests from now on share this with the server.
    pub(super) fn control_by(&mut self, control: Arc<Control>) {
        self.control = control;
    }

    fn host(&mut self, opened: OpenedHost) -> VirtualHost {
        let OpenedHost { names, access, access_log, routes } = opened;
        VirtualHost {
            names,
            access,
            access_log,
            routes: routes.into_iter().map(|route| Rc::new(self.route(route))).collect(),
        }
    }

    fn route(&mut self, opened: OpenedRoute) -> Route {
        let OpenedRoute { prefix, access, keep_alive, handler, responses, error_pages, name: _, series } = opened;
        let counters = series.map(|series| Rc::new(series.of_worker(self.number)));
        let (handler, file_route): (Box<dyn Handler>, _) = match handler {
            OpenedHandler::Files(root, config) => {
                let source = match root {
                    Some(root) => Source::Folder(self.root_path(root)),
                    None => Source::BuiltIn(WELCOME_PAGES),
                };
                (Box::new(Files), Rc::new(FileRoute::new(source, *config, responses, error_pages, &prefix)))
            }
            OpenedHandler::Redirect(status, template) => {
                (Box::new(Redirect { status, template }), Rc::new(FileRoute::nothing(responses, error_pages)))
            }
            OpenedHandler::Api => (Box::new(Api), Rc::new(FileRoute::nothing(responses, error_pages))),
            OpenedHandler::Metrics => (Box::new(Metrics), Rc::new(FileRoute::nothing(responses, error_pages))),
            OpenedHandler::Operator { commands } => {
                let operator = Operator { control: Arc::clone(&self.control), has_commands: commands };
                (Box::new(operator), Rc::new(FileRoute::nothing(responses, error_pages)))
            }
            OpenedHandler::Forward(config, authority, tls) => {
                let file_route = Rc::new(FileRoute::nothing(responses, error_pages));
                let proxy_route = self.proxy_route(&prefix, *config, authority, &tls, Rc::clone(&file_route));
                (Box::new(Proxy(Rc::new(proxy_route))), file_route)
            }
        };
        Route { prefix, access, keep_alive, handler, file_route, counters }
    }

    fn proxy_route(
        &mut self,
        prefix: &[u8],
        config: ForwardConfig,
        authority: Authority,
        tls: &[Option<TlsPeer>],
        file_route: Rc<FileRoute>,
    ) -> ProxyRoute {
        ProxyRoute {
            name: if prefix.is_empty() { "/".into() } else { String::from_utf8_lossy(prefix).into() },
            group: self.group(config.group, tls),
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

    /// The groups made from now on share their endpoints with those of the other workers.
    pub(super) fn share_endpoints(&mut self, endpoints: Arc<SharedEndpoints>) {
        self.upstreams.share(endpoints);
    }

    fn group(&mut self, mut config: GroupConfig, tls: &[Option<TlsPeer>]) -> Rc<UpstreamGroup> {
        let counters = self
            .metrics
            .as_ref()
            .map(|metrics| config.labels().map(|labels| metrics.endpoint(&labels, self.number)).collect());
        for endpoint in config.endpoints.iter_mut().filter(|endpoint| endpoint.connections_max > 0) {
            // Workers do not coordinate. Each gets at least one connection, else it could serve no
            // request.
            endpoint.connections_max = (endpoint.connections_max / self.workers.max(1)).max(1);
        }
        self.groups_made += 1;
        let group = UpstreamGroup::sharing(&mut self.upstreams, config, tls, self.seeds.hash_one(self.groups_made));
        group.start_apart(self.number, self.workers);
        if let Some(counters) = counters {
            group.count_by(counters);
        }
        self.groups.push(Rc::clone(&group));
        group
    }

    /// Takes the groups of the services built since the last call, which replace all earlier ones.
    pub(super) fn take_groups(&mut self) -> Vec<Rc<UpstreamGroup>> {
        let groups = std::mem::take(&mut self.groups);
        self.upstreams.put_in_force(&groups);
        self.groups_in_force.clone_from(&groups);
        groups
    }

    /// The groups of the services in force.
    pub(super) fn groups_in_force(&self) -> &[Rc<UpstreamGroup>] {
        &self.groups_in_force
    }
}
