//! From a listener's configuration to what its sessions are made from, in two steps.
//!
//! A [`Blueprint`] is made once: folders are opened, so that what is missing is noticed before anything starts. It can go
//! to other threads; there each worker builds a [`Template`] of its own, whose parts its sessions share.

use std::ffi::CString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::server::StartError;
use crate::admission::Access;
use crate::config::{ForwardConfig, FrontConfig, HandlerConfig, Service, SiteConfig};
use crate::driver::Root;
use crate::file::store::Place;
use crate::http::forward::Authority;
use crate::http::{Status, redirect};
use crate::session::http::{Door, Forwarding, Front, Handler, Host, Route, Site, Source, WELCOME_PAGES};
use crate::session::{Content, Template};
use crate::telemetry::access::AccessLog;
use crate::upstream::{Group, GroupConfig, Rules};

/// What a worker needs to make a [`Template`] of its own, in a form that can go to its thread.
#[derive(Clone, Debug)]
pub(super) enum Blueprint {
    Echo,
    Reverse,
    Proxy(GroupConfig),
    Deliver(Content),
    Http(FrontBlueprint),
}

/// What an HTTP listener offers, with its folders open.
#[derive(Clone, Debug)]
pub(super) struct FrontBlueprint {
    server_name: Option<String>,
    hosts: Vec<HostBlueprint>,
    access: Option<AccessLog>,
}

#[derive(Clone, Debug)]
struct HostBlueprint {
    names: Vec<String>,
    access: Access,
    routes: Vec<(Vec<u8>, Access, HandlerBlueprint)>,
}

#[derive(Clone, Debug)]
enum HandlerBlueprint {
    Site(Option<Arc<Root>>, Box<SiteConfig>),
    Forward(Box<ForwardConfig>, Authority),
    Redirect(Status, redirect::Template),
    Metrics,
}

/// Builds one worker's templates.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// How many folders have been given a number, which tells them apart in the worker's store.
    places: u16,
    groups: Vec<Rc<Group>>,
    /// Workers that drew the same would all run to the same upstreams, and check them in the same moment.
    seeds: RandomState,
    groups_made: u64,
}

impl Blueprint {
    pub(super) fn new(service: &Service) -> Result<Self, StartError> {
        Ok(match service {
            Service::Http { front, access } => Self::Http(FrontBlueprint::new(front, access.clone())?),
            Service::Echo => Self::Echo,
            Service::Reverse => Self::Reverse,
            Service::TcpProxy(group) => Self::Proxy(group.clone()),
            Service::SendText(text) => Self::Deliver(Content::Text(text)),
            Service::SendFile { root, path } => Self::Deliver(
                file_content(root, path).map_err(|source| StartError::File { path: root.join(path), source })?,
            ),
        })
    }
}

impl FrontBlueprint {
    fn new(config: &FrontConfig, access: Option<AccessLog>) -> Result<Self, StartError> {
        let mut hosts = Vec::with_capacity(config.hosts.len());
        for host in &config.hosts {
            let mut routes = Vec::with_capacity(host.routes.len());
            for route in &host.routes {
                let prefix = route.prefix.trim_matches('/').as_bytes().to_vec();
                routes.push((prefix, route.access.clone(), HandlerBlueprint::new(&route.handler)?));
            }
            hosts.push(HostBlueprint { names: host.names.clone(), access: host.access.clone(), routes });
        }
        Ok(Self { server_name: config.server_name.clone(), hosts, access })
    }
}

impl HandlerBlueprint {
    fn new(config: &HandlerConfig) -> Result<Self, StartError> {
        Ok(match config {
            HandlerConfig::Site(site) => {
                let open =
                    |path: &PathBuf| Root::open(path).map_err(|source| StartError::File { path: path.clone(), source });
                Self::Site(site.root.as_ref().map(open).transpose()?, site.clone())
            }
            HandlerConfig::Redirect { status, url } => Self::Redirect(*status, url.clone()),
            HandlerConfig::Metrics => Self::Metrics,
            HandlerConfig::Forward(forward) => Self::Forward(forward.clone(), authority_of(&forward.group)?),
        })
    }
}

impl Builder {
    pub(super) fn template(&mut self, blueprint: Blueprint) -> Template {
        match blueprint {
            Blueprint::Http(front) => Template::Http(Door::new(self.front(front))),
            Blueprint::Echo => Template::Echo,
            Blueprint::Reverse => Template::Reverse,
            Blueprint::Proxy(group) => Template::Proxy(self.group(group)),
            Blueprint::Deliver(content) => Template::Deliver(content),
        }
    }

    pub(super) fn front(&mut self, blueprint: FrontBlueprint) -> Front {
        let FrontBlueprint { server_name, hosts, access } = blueprint;
        let hosts = hosts.into_iter().map(|host| self.host(host)).collect();
        Front::new(hosts, Rc::new(Site::nothing(server_name)), access)
    }

    fn host(&mut self, HostBlueprint { names, access, routes }: HostBlueprint) -> Host {
        let mut route = |(prefix, access, handler): (Vec<u8>, _, _)| {
            let handler = self.handler(handler, &prefix);
            Route { prefix, access, handler }
        };
        Host { names, access, routes: routes.into_iter().map(&mut route).collect() }
    }

    fn handler(&mut self, blueprint: HandlerBlueprint, prefix: &[u8]) -> Handler {
        match blueprint {
            HandlerBlueprint::Site(root, config) => {
                let source = match root {
                    Some(root) => {
                        self.places += 1;
                        Source::Folder(Place { root, number: self.places })
                    }
                    None => Source::BuiltIn(WELCOME_PAGES),
                };
                Handler::Site(Rc::new(Site::new(source, *config, prefix)))
            }
            HandlerBlueprint::Redirect(status, url) => Handler::Redirect(status, Rc::new(url)),
            HandlerBlueprint::Metrics => Handler::Metrics,
            HandlerBlueprint::Forward(config, authority) => {
                Handler::Forward(Rc::new(self.forwarding(*config, authority)))
            }
        }
    }

    fn forwarding(&mut self, config: ForwardConfig, authority: Authority) -> Forwarding {
        Forwarding {
            group: self.group(config.group),
            rules: Rules { tries_max: config.tries_max, connect_timeout: config.connect_timeout },
            request: config.request,
            response: config.response,
            authority,
            keep_alive: config.keep_alive,
            response_timeout: config.response_timeout,
            upgrades: config.upgrades,
            body_bytes_max: config.body_bytes_max,
        }
    }

    fn group(&mut self, config: GroupConfig) -> Rc<Group> {
        self.groups_made += 1;
        let group = Group::new(config, self.seeds.hash_one(self.groups_made));
        self.groups.push(Rc::clone(&group));
        group
    }

    /// The groups of the templates built since this was asked last.
    pub(super) fn take_groups(&mut self) -> Vec<Rc<Group>> {
        std::mem::take(&mut self.groups)
    }
}

/// What the first upstream is called in `Host`.
fn authority_of(group: &GroupConfig) -> Result<Authority, StartError> {
    let first = group.members.first().map(|member| member.address.authority()).unwrap_or_default();
    Authority::new(&first).map_err(|bad| StartError::Upstream { address: first, reason: bad.reason })
}

/// The file is opened anew for each connection, so it may change; but it should be there now.
fn file_content(root: &Path, path: &Path) -> io::Result<Content> {
    let opened = Root::open(root)?;
    if !root.join(path).metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Content::File { root: opened, path: CString::new(path.as_os_str().as_bytes())? })
}
