//! From a listener's configuration to what its sessions are made from, in two steps.
//!
//! A [`Blueprint`] is made once: folders are opened, so that what is missing is noticed before anything starts. It can go
//! to other threads; there each worker builds a [`Template`] of its own, whose parts its sessions share.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::server::StartError;
use crate::admission::Access;
use crate::config::{
    AnswerConfig, ForwardConfig, FrontConfig, HandlerConfig, HostConfig, OnMissing, RouteConfig, Service, SiteConfig,
};
use crate::driver::{Fault, Links, Root};
use crate::file::store::{Place, WeakPlace};
use crate::http::forward::Authority;
use crate::http::{Status, redirect};
use crate::session::http::{Door, Forwarding, Front, Handler, Host, Route, Site, Source, WELCOME_PAGES};
use crate::session::{Content, Destination, Naming, Template};
use crate::telemetry::access::AccessLog;
use crate::upstream::{Group, GroupConfig, Rules, Upstreams};

/// What a worker needs to make a [`Template`] of its own, in a form that can go to its thread.
#[derive(Clone, Debug)]
pub(super) enum Blueprint {
    Echo,
    Reverse,
    Proxy(GroupConfig, Rules),
    SendText(&'static [u8]),
    SendFile(Arc<Root>, CString),
    /// A file whose folder is not there: each connection is closed.
    SendNothing(Fault),
    Receive(Arc<Destination>),
    Http(FrontBlueprint),
}

/// What an HTTP listener offers, with its folders open.
#[derive(Clone, Debug)]
pub(super) struct FrontBlueprint {
    answers: AnswerConfig,
    hosts: Vec<HostBlueprint>,
}

#[derive(Clone, Debug)]
struct HostBlueprint {
    names: Vec<String>,
    access: Access,
    access_log: Option<AccessLog>,
    routes: Vec<RouteBlueprint>,
}

#[derive(Clone, Debug)]
struct RouteBlueprint {
    prefix: Vec<u8>,
    access: Access,
    keep_alive: bool,
    handler: HandlerBlueprint,
    answers: AnswerConfig,
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
    /// The folders of the templates that are there, also of those before a reload, so that what is cached of them stays.
    known_places: HashMap<(Arc<Path>, Links), WeakPlace>,
    /// Those of the templates built since they were last taken, each with what its path led to.
    places: Vec<(Place, Arc<Root>)>,
    /// What an upstream may have in all is shared by so many; 0: this is the only one.
    workers: usize,
    /// Which of them this is.
    number: usize,
    groups: Vec<Rc<Group>>,
    upstreams: Upstreams,
    /// Workers that drew the same would all run to the same upstreams, and check them in the same moment.
    seeds: RandomState,
    groups_made: u64,
}

impl Blueprint {
    pub(super) fn new(service: &Service) -> Result<Self, StartError> {
        Ok(match service {
            Service::Http(front) => Self::Http(FrontBlueprint::new(front)?),
            Service::Echo => Self::Echo,
            Service::Reverse => Self::Reverse,
            Service::TcpProxy(group, rules) => Self::Proxy(group.clone(), *rules),
            Service::Receive { root, name, naming } => Self::Receive(
                destination(root, name, *naming)
                    .map_err(|source| StartError::Receive { path: root.join(name), source })?,
            ),
            Service::SendText(text) => Self::SendText(text),
            Service::SendFile { root, path, on_missing } => sent_from(root, path, *on_missing)
                .map_err(|source| StartError::File { path: root.join(path), source })?,
        })
    }
}

impl FrontBlueprint {
    fn new(config: &FrontConfig) -> Result<Self, StartError> {
        let host = |host: &HostConfig| {
            Ok(HostBlueprint {
                names: host.names.clone(),
                access: host.access.clone(),
                access_log: host.access_log.clone(),
                routes: host.routes.iter().map(RouteBlueprint::new).collect::<Result<_, StartError>>()?,
            })
        };
        let hosts = config.hosts.iter().map(host).collect::<Result<_, StartError>>()?;
        Ok(Self { answers: config.answers.clone(), hosts })
    }
}

impl RouteBlueprint {
    fn new(config: &RouteConfig) -> Result<Self, StartError> {
        Ok(Self {
            prefix: config.prefix.clone(),
            access: config.access.clone(),
            keep_alive: config.keep_alive,
            handler: HandlerBlueprint::new(&config.handler)?,
            answers: config.answers.clone(),
        })
    }
}

impl HandlerBlueprint {
    fn new(config: &HandlerConfig) -> Result<Self, StartError> {
        Ok(match config {
            HandlerConfig::Site(site) => {
                let open = |path: &PathBuf| {
                    Root::open_with(path, site.links).map_err(|source| StartError::File { path: path.clone(), source })
                };
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
            Blueprint::Proxy(group, rules) => Template::Proxy(self.group(group), rules),
            Blueprint::SendText(text) => Template::Deliver(Content::Text(text)),
            Blueprint::SendFile(root, path) => Template::Deliver(Content::File { place: self.place(root), path }),
            Blueprint::SendNothing(fault) => Template::Deliver(Content::Refused(fault)),
            Blueprint::Receive(destination) => Template::Receive(destination),
        }
    }

    pub(super) fn front(&mut self, blueprint: FrontBlueprint) -> Front {
        let FrontBlueprint { answers, hosts } = blueprint;
        let hosts = hosts.into_iter().map(|host| self.host(host)).collect();
        Front::new(hosts, Rc::new(Site::nothing(answers)))
    }

    fn host(&mut self, HostBlueprint { names, access, access_log, routes }: HostBlueprint) -> Host {
        Host { names, access, access_log, routes: routes.into_iter().map(|route| self.route(route)).collect() }
    }

    fn route(&mut self, blueprint: RouteBlueprint) -> Route {
        let RouteBlueprint { prefix, access, keep_alive, handler, answers } = blueprint;
        let (handler, site) = match handler {
            HandlerBlueprint::Site(root, config) => {
                let source = match root {
                    Some(root) => Source::Folder(self.place(root)),
                    None => Source::BuiltIn(WELCOME_PAGES),
                };
                (Handler::Files, Rc::new(Site::new(source, *config, answers, &prefix)))
            }
            HandlerBlueprint::Redirect(status, url) => {
                (Handler::Redirect(status, Rc::new(url)), Rc::new(Site::nothing(answers)))
            }
            HandlerBlueprint::Metrics => (Handler::Metrics, Rc::new(Site::nothing(answers))),
            HandlerBlueprint::Forward(config, authority) => {
                let site = Rc::new(Site::nothing(answers));
                let forwarding = self.forwarding(*config, authority, Rc::clone(&site));
                (Handler::Forward(Rc::new(forwarding)), site)
            }
        };
        Route { prefix, access, keep_alive, handler, site }
    }

    fn forwarding(&mut self, config: ForwardConfig, authority: Authority, site: Rc<Site>) -> Forwarding {
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
            site,
        }
    }

    /// The place of this folder's path: the same one for each route that has it, and over reloads.
    fn place(&mut self, root: Arc<Root>) -> Place {
        let key = (Arc::clone(root.path()), root.links());
        let place = self.known_places.get(&key).and_then(WeakPlace::upgrade).unwrap_or_else(|| {
            let place = Place::new(Arc::clone(root.path()), root.links());
            self.known_places.insert(key, place.downgrade());
            place
        });
        self.places.push((place.clone(), root));
        place
    }

    /// The places of the templates built since this was asked last.
    pub(super) fn take_places(&mut self) -> Vec<(Place, Arc<Root>)> {
        self.known_places.retain(|_, place| place.upgrade().is_some());
        std::mem::take(&mut self.places)
    }

    /// This is worker `number` of so many that do the same.
    pub(super) const fn share_among(&mut self, number: usize, workers: usize) {
        (self.number, self.workers) = (number, workers);
    }

    fn group(&mut self, mut config: GroupConfig) -> Rc<Group> {
        for member in config.members.iter_mut().filter(|member| member.connections_max > 0) {
            // Workers know nothing of each other; one that might send none could serve nobody.
            member.connections_max = (member.connections_max / self.workers.max(1)).max(1);
        }
        self.groups_made += 1;
        let group = Group::sharing(&mut self.upstreams, config, self.seeds.hash_one(self.groups_made));
        group.start_apart(self.number, self.workers);
        self.groups.push(Rc::clone(&group));
        group
    }

    /// The groups of the templates built since this was asked last, which take the place of all before.
    pub(super) fn take_groups(&mut self) -> Vec<Rc<Group>> {
        let groups = std::mem::take(&mut self.groups);
        self.upstreams.put_in_force(&groups);
        groups
    }
}

/// What the first upstream is called in `Host`.
fn authority_of(group: &GroupConfig) -> Result<Authority, StartError> {
    let first = group.members.first().map(|member| member.address.authority()).unwrap_or_default();
    Authority::new(&first).map_err(|bad| StartError::Upstream { address: first, reason: bad.reason })
}

/// Opens the folder that files are written to.
fn destination(root: &Path, name: &Path, naming: Naming) -> io::Result<Arc<Destination>> {
    let name = CString::new(name.as_os_str().as_bytes())?;
    Ok(Destination::new(Root::open(root)?, name, naming))
}

/// The file is opened anew for each connection, so it may change; but it should be there now.
fn sent_from(root: &Path, path: &Path, on_missing: OnMissing) -> io::Result<Blueprint> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let opened = match (Root::open(root), on_missing) {
        (Ok(opened), OnMissing::Close) => return Ok(Blueprint::SendFile(opened, name)),
        (Err(error), OnMissing::Close) => return Ok(Blueprint::SendNothing(Fault::from_io(&error))),
        (opened, OnMissing::Refuse) => opened?,
    };
    let file = root.join(path);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Every connection would meet it; better it is said now.
    if !file.canonicalize()?.starts_with(root.canonicalize()?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is not in {}", root.display())));
    }
    Ok(Blueprint::SendFile(opened, name))
}
