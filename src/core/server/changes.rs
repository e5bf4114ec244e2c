//! What a reload changes: the difference of two configurations, for operators who asked for it.

use std::fmt;

use serde_json::{Value, json};

use crate::config::{ListenerConfig, RouteConfig, RouterConfig, ServerConfig, ServiceConfig, VirtualHostConfig};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    what: What,
    /// What kind of thing it is.
    kind: &'static str,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Added,
    Removed,
    Changed,
}

impl Change {
    pub(super) fn json(&self) -> Value {
        let what = match self.what {
            What::Added => "added",
            What::Removed => "removed",
            What::Changed => "changed",
        };
        json!({ "change": what, "kind": self.kind, "name": self.name })
    }
}

/// The differences of two configurations: listeners, their hosts, and the routes of these; and limits.
/// Files that have changed, such as certificates, are not looked at.
pub(super) fn between(old: &ServerConfig, new: &ServerConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    let listeners = |config: &ServerConfig| -> Vec<ListenerConfig> {
        config.listeners.iter().chain(config.operator.listeners().map(|(_, listener)| listener)).cloned().collect()
    };
    let name = |listener: &ListenerConfig| listener.address.address().to_string();
    pair("listener", &listeners(old), &listeners(new), name, &mut changes, |old, new, changes| {
        match (&old.service, &new.service) {
            (ServiceConfig::Http(old_router), ServiceConfig::Http(new_router)) => {
                between_routers(old_router, new_router, &name(new), changes);
                is_same(&head(old, old_router), &head(new, new_router))
            }
            _ => is_same(old, new),
        }
    });
    let limits = |config: &ServerConfig| format!("{:?} {:?}", config.limits, config.admission);
    if limits(old) != limits(new) {
        changes.push(Change { what: What::Changed, kind: "limits", name: "limits".to_owned() });
    }
    changes
}

/// An HTTP listener without its hosts.
fn head(listener: &ListenerConfig, router: &RouterConfig) -> ListenerConfig {
    let hosts = Vec::new();
    let router = RouterConfig { scheme: router.scheme, responses: router.responses.clone(), hosts };
    ListenerConfig { service: ServiceConfig::Http(router), ..listener.clone() }
}

fn between_routers(old: &RouterConfig, new: &RouterConfig, address: &str, changes: &mut Vec<Change>) {
    let name = |host: &VirtualHostConfig| match host.names.as_slice() {
        [] => format!("any host on {address}"),
        names => format!("{} on {address}", names.join(", ")),
    };
    pair("host", &old.hosts, &new.hosts, name, changes, |old, new, changes| {
        let host = name(new);
        let route = |route: &RouteConfig| format!("/{} of {host}", String::from_utf8_lossy(&route.prefix));
        pair("route", &old.routes, &new.routes, route, changes, |old, new, _| is_same(old, new));
        let without_routes = |host: &VirtualHostConfig| VirtualHostConfig { routes: Vec::new(), ..host.clone() };
        is_same(&without_routes(old), &without_routes(new))
    });
}

/// Compares the things of one kind that have the same name. `compare` says whether two are the same, apart
/// from what it adds to the changes itself.
fn pair<T>(
    kind: &'static str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> String,
    changes: &mut Vec<Change>,
    compare: impl Fn(&T, &T, &mut Vec<Change>) -> bool,
) {
    for gone in old.iter().filter(|gone| !new.iter().any(|other| name(other) == name(gone))) {
        changes.push(Change { what: What::Removed, kind, name: name(gone) });
    }
    for thing in new {
        let at = changes.len();
        let what = match old.iter().find(|other| name(other) == name(thing)) {
            None => What::Added,
            Some(before) if !compare(before, thing, changes) => What::Changed,
            Some(_) => continue,
        };
        changes.insert(at, Change { what, kind, name: name(thing) });
    }
}

/// Configurations cannot be compared, as they hold functions and keys of other libraries; what they show
/// of themselves can.
fn is_same(old: &impl fmt::Debug, new: &impl fmt::Debug) -> bool {
    format!("{old:?}") == format!("{new:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;
    use crate::config::resolve::resolve;

    fn config(servers: &str) -> ServerConfig {
        let file = parse(servers).map_err(|problems| problems[0].to_string()).unwrap();
        resolve(&file, std::path::Path::new("/srv"), 1).unwrap()
    }

    fn shown(old: &str, new: &str) -> Vec<String> {
        let changes = between(&config(old), &config(new));
        changes.iter().map(|Change { what, kind, name }| format!("{what:?} {kind} {name}")).collect()
    }

    #[test]
    fn listeners_hosts_routes_and_limits_are_compared_by_their_names() {
        let old = r#"{ "servers": [
            { "listeners": [{ "port": 81 }], "hostnames": ["a.test"], "routes": [
                { "req_path": "/", "type": "file_serve", "dir_path": "a" },
                { "req_path": "/old", "type": "metrics" }
            ] },
            { "listeners": [{ "port": 81 }], "hostnames": ["b.test"] },
            { "listeners": [{ "port": 82 }], "protocol": "tcp", "handler": "echo" },
            { "listeners": [{ "port": 83 }], "protocol": "tcp", "handler": "echo" }
        ] }"#;
        let new = r#"{ "metrics": true, "limits": { "idle_timeout": "1s" }, "servers": [
            { "listeners": [{ "port": 81 }], "hostnames": ["a.test"], "routes": [
                { "req_path": "/", "type": "file_serve", "dir_path": "b" },
                { "req_path": "/new", "type": "metrics" }
            ] },
            { "listeners": [{ "port": 81 }], "hostnames": ["c.test"] },
            { "listeners": [{ "port": 83 }], "protocol": "tcp", "handler": "reverse" }
        ] }"#;
        let expected = [
            "Removed listener 0.0.0.0:82",
            "Removed host b.test on 0.0.0.0:81",
            "Removed route /old of a.test on 0.0.0.0:81",
            "Changed route / of a.test on 0.0.0.0:81",
            "Added route /new of a.test on 0.0.0.0:81",
            "Added host c.test on 0.0.0.0:81",
            "Changed listener 0.0.0.0:83",
            "Added listener 127.0.0.1:8004",
            "Changed limits limits",
        ];
        let mut found = shown(old, new);
        let mut expected: Vec<String> = expected.map(str::to_owned).into();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(shown(old, old), [""; 0]);
    }
}
