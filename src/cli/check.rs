//! `xps check`: finds errors in a configuration file, and in what it names on this host.
//!
//! [`read`] checks the file alone and reports all its errors at once, each with line and column. Then
//! come checks of the environment: whether folders and files exist, and whether logs and sockets
//! could be created. Nothing is created, and no configured port is opened or upstream contacted.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::args::CheckOptions;
use super::failure::Failure;
use super::run::{place, read, without_logs};
use crate::config::build::{self, ConfigBuilder};
use crate::config::file::{AccessTarget, File, Profile};
use crate::config::{
    FileRouteConfig, HandlerConfig, ListenAddress, RouterConfig, ServerConfig, ServiceConfig, VirtualHostConfig,
};
use crate::core;
use crate::driver::access::{is_missing, may_write};
use crate::driver::probe::choose;

/// Checks the file. Prints warnings, returns the problems.
pub fn run(options: &CheckOptions) -> Result<(), Failure> {
    let path = &options.file;
    let mut file = read(path, Profile::Xps)?;
    let (folder, _) = place(path)?;
    let mut findings = Findings::default();
    if !options.no_fs {
        findings.logs(&file, &folder);
        findings.error_pages(&file, &folder);
    }
    // The builder would open logs and read error pages. They were checked above.
    without_logs(&mut file);
    file.servers.iter_mut().flat_map(|server| &mut server.routes).for_each(|route| route.error_pages.clear());
    let config = ConfigBuilder::new(&folder).server(&file, 1)?;
    if !options.no_fs {
        findings.server(&config);
    }
    for warning in &findings.warnings {
        super::warn(&format!("{}: {warning}", path.display()));
    }
    if !findings.problems.is_empty() {
        let name = path.display();
        let lines: Vec<String> = findings.problems.iter().map(|problem| format!("{name}: {problem}")).collect();
        return Err(Failure::NotHere(lines.join("\n")));
    }
    let listeners: usize = file.servers.iter().map(|server| server.listeners.len()).sum();
    let routes: usize = file.servers.iter().map(|server| server.routes.len()).sum();
    let (listeners, routes) = (counted(listeners, "listener"), counted(routes, "route"));
    super::print(format!("{}: OK ({listeners}, {routes})\n", path.display()).as_bytes())
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Results of the checks of the environment.
#[derive(Debug, Default)]
struct Findings {
    /// Each prevents a server from starting.
    problems: Vec<String>,
    /// A server starts in spite of these, and something does not work.
    warnings: Vec<String>,
}

impl Findings {
    fn problem(&mut self, problem: String) {
        // Several routes may name the same folder.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn warning(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn logs(&mut self, file: &File, folder: &Path) {
        let targets = file.servers.iter().filter_map(|server| server.access_log.as_ref()).chain([&file.access_log]);
        for target in targets {
            if let AccessTarget::File(path) = target {
                let path = folder.join(path);
                if let Err(error) = could_append(&path) {
                    self.problem(format!("cannot write the access log {}: {error}", path.display()));
                }
            }
        }
    }

    fn error_pages(&mut self, file: &File, folder: &Path) {
        for path in file.servers.iter().flat_map(|server| &server.routes).flat_map(|route| route.error_pages.values()) {
            let path = folder.join(path);
            if let Err(error) = build::error_page(&path) {
                self.problem(format!("cannot read the error page {}: {error}", path.display()));
            }
        }
    }

    fn server(&mut self, config: &ServerConfig) {
        if let Err(unavailable) = choose(config.backend, config.uring_off, config.workers) {
            self.warning(format!("{unavailable}"));
        }
        for listener in &config.listeners {
            self.address(&listener.address);
            for service in parts(&listener.service) {
                if let Err(error) = core::look_for(&service) {
                    self.problem(error.to_string());
                    continue;
                }
                if let Some(file_route) = file_route(&service) {
                    self.file_route(file_route);
                }
            }
        }
    }

    /// Checks that the address exists on this host. Not checked: whether the port is free (a server
    /// with this file may be running) and whether binding is permitted (a service manager may pass
    /// the socket).
    fn address(&mut self, address: &ListenAddress) {
        match address {
            ListenAddress::Inet(address) => {
                if let Err(error) = TcpListener::bind((address.ip(), 0)) {
                    self.warning(format!("cannot listen on {address} here: {error}"));
                }
            }
            ListenAddress::Unix { path, .. } => {
                let name = path.to_string();
                let path: &Path = path.as_ref();
                let problem = match fs::symlink_metadata(path) {
                    Ok(found) if found.file_type().is_socket() => return,
                    Ok(_) => Some("the path exists and is not a socket".to_owned()),
                    Err(_) => may_write(parent(path)).err().map(|error| error.to_string()),
                };
                if let Some(problem) = problem {
                    self.problem(format!("cannot listen on {name}: {problem}"));
                }
            }
        }
    }

    fn file_route(&mut self, file_route: &FileRouteConfig) {
        let Some(root) = &file_route.root else { return };
        if let Some(fallback) = &file_route.fallback
            && is_missing(&root.join(fallback))
        {
            self.warning(format!("the fallback {} does not exist", root.join(fallback).display()));
        }
        let has_index = file_route.index.iter().any(|name| !is_missing(&root.join(name)));
        if !has_index && !file_route.listing && file_route.fallback.is_none() {
            let names = file_route.index.join(", ");
            self.warning(format!(
                "{} has no index ({names}) and listing is off: requests for it get 403",
                root.display()
            ));
        }
    }
}

/// Splits a service into one for each route, so that an error in one route does not hide errors in
/// the others.
fn parts(service: &ServiceConfig) -> Vec<ServiceConfig> {
    let ServiceConfig::Http(router) = service else { return vec![service.clone()] };
    let alone = |host: &VirtualHostConfig, route: usize| {
        let host = VirtualHostConfig { routes: vec![host.routes[route].clone()], ..host.clone() };
        ServiceConfig::Http(RouterConfig { hosts: vec![host], ..router.clone() })
    };
    router.hosts.iter().flat_map(|host| (0..host.routes.len()).map(move |route| alone(host, route))).collect()
}

/// The file route of a service that has a single route.
fn file_route(service: &ServiceConfig) -> Option<&FileRouteConfig> {
    let ServiceConfig::Http(router) = service else { return None };
    match &router.hosts.first()?.routes.first()?.handler {
        HandlerConfig::Files(file_route) => Some(file_route),
        HandlerConfig::Forward(_) | HandlerConfig::Redirect { .. } | HandlerConfig::Metrics => None,
    }
}

/// Checks that a file could be opened for appending, or created.
fn could_append(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(_) => may_write(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => may_write(parent(path)),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
