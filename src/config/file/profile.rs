//! Profiles: sets of defaults that follow the behaviour of another server.
//!
//! A profile is a list of keys and values. They are added to a configuration file where it does not
//! have the key. So the file's own keys take precedence, and a profile cannot express more than a
//! file could.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value as Json;

use super::model::{METRICS_PORT, Profile};

/// A key and the value that a profile gives it.
struct ProfileDefault {
    scope: Scope,
    key: &'static str,
    /// As JSON.
    value: &'static str,
    /// The effect, for the reference.
    meaning: &'static str,
}

/// The objects to which a key is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The top level, beside `servers`.
    Document,
    /// The top level, unless a listener of the file has this port.
    DocumentWithout(u16),
    /// Each server with this `handler`.
    Handler(&'static str),
    /// Each route of this `type`.
    Route(&'static str),
}

/// The defaults of [`Profile::Expserver`].
const EXPSERVER: [ProfileDefault; 7] = [
    ProfileDefault {
        scope: Scope::Document,
        key: "server_name",
        value: r#""eXpServer""#,
        meaning: "`Server: eXpServer`",
    },
    ProfileDefault {
        scope: Scope::Document,
        key: "cors",
        value: r#""*""#,
        meaning: "`Access-Control-Allow-Origin: *` on every response: files, listings, redirects, errors, and those of \
                  upstreams that have no such field",
    },
    ProfileDefault {
        scope: Scope::DocumentWithout(METRICS_PORT),
        key: "metrics",
        value: r#"{ "host": "0.0.0.0", "port": 8004 }"#,
        meaning: "metrics on port 8004 of every IPv4 address; `false` switches them off",
    },
    ProfileDefault {
        scope: Scope::Route("file_serve"),
        key: "charset",
        value: r#""off""#,
        meaning: "`Content-Type` is the media type without parameters",
    },
    ProfileDefault {
        scope: Scope::Route("file_serve"),
        key: "listing_style",
        value: r#""expserver""#,
        meaning: "listings are `text/html` without a charset, and their links to folders have no slash at the end",
    },
    ProfileDefault {
        scope: Scope::Route("file_serve"),
        key: "unlisted",
        value: r#""not_found""#,
        meaning: "404 for a folder without an index file if `listing` is off",
    },
    ProfileDefault {
        scope: Scope::Handler("send_file"),
        key: "on_missing",
        value: r#""close""#,
        meaning: "the server starts even if the file is missing or outside its root, and closes each connection without \
                  sending anything",
    },
];

impl Profile {
    /// The profile that a configuration file names, if any.
    pub(super) fn of(document: &Json) -> Option<Self> {
        Self::deserialize(&document["profile"]).ok()
    }

    const fn defaults(self) -> &'static [ProfileDefault] {
        match self {
            Self::Xps => &[],
            Self::Expserver => &EXPSERVER,
        }
    }

    /// Adds the profile's keys to a checked configuration file where it does not have them.
    pub(super) fn apply(self, document: &mut Json) {
        for default in self.defaults() {
            match default.scope {
                Scope::Document => default.add_to(document),
                Scope::DocumentWithout(port) => {
                    let has_it = |listener: &Json| listener["port"] == port;
                    if !servers(document).any(|server| elements(server, "listeners").any(|it| has_it(it))) {
                        default.add_to(document);
                    }
                }
                Scope::Handler(handler) => {
                    servers(document).filter(|server| server["handler"] == handler).for_each(|it| default.add_to(it));
                }
                Scope::Route(kind) => {
                    let routes = servers(document).flat_map(|server| elements(server, "routes"));
                    routes.filter(|route| route["type"] == kind).for_each(|it| default.add_to(it));
                }
            }
        }
    }
}

impl ProfileDefault {
    fn json(&self) -> Json {
        // A test parses all of them.
        serde_json::from_str(self.value).unwrap_or_default()
    }

    fn add_to(&self, object: &mut Json) {
        if let Some(defaults) = object.as_object_mut()
            // `null` counts as absent.
            && defaults.get(self.key).is_none_or(Json::is_null)
        {
            defaults.insert(self.key.to_owned(), self.json());
        }
    }
}

fn servers(document: &mut Json) -> impl Iterator<Item = &mut Json> {
    elements(document, "servers")
}

fn elements<'j>(object: &'j mut Json, key: &str) -> impl Iterator<Item = &'j mut Json> {
    object.get_mut(key).and_then(Json::as_array_mut).into_iter().flatten()
}

/// The defaults of each profile, in Markdown, for the reference.
pub(super) fn describe(out: &mut String) {
    out.push_str(
        "\n## The profile `expserver`\n\n\
         These defaults replace those of xps with `\"profile\": \"expserver\"`, and with `xps FILE` for a file that \
         names no profile. A key in the file takes precedence.\n\n\
         | where | key | value | effect |\n|---|---|---|---|\n",
    );
    for ProfileDefault { scope, key, value, meaning } in Profile::Expserver.defaults() {
        let scope = match scope {
            Scope::Document => "top level".to_owned(),
            Scope::DocumentWithout(port) => format!("top level, unless a listener has port {port}"),
            Scope::Handler(handler) => format!("servers with `\"handler\": \"{handler}\"`"),
            Scope::Route(kind) => format!("routes with `\"type\": \"{kind}\"`"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| {scope} | `{key}` | `{value}` | {meaning} |");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::file::{File, ListenTarget, ListingStyle, OnMissing, Unlisted, parse, parse_with};

    /// A configuration file with a server and a route of each kind that the profile changes, and
    /// these keys in them.
    fn document(top: &str, route: &str, tcp: &str) -> String {
        format!(
            r#"{{ {top} "servers": [
                {{ "listeners": [{{ "port": 1 }}], "routes": [
                    {{ {route} "req_path": "/", "type": "file_serve", "dir_path": "." }},
                    {{ "req_path": "/r", "type": "redirect", "redirect_url": "/" }}
                ] }},
                {{ {tcp} "listeners": [{{ "port": 2 }}], "protocol": "tcp", "handler": "send_file", "file": "f" }},
                {{ "listeners": [{{ "port": 3 }}], "protocol": "tcp", "handler": "echo" }}
            ] }}"#
        )
    }

    /// The values that the profile sets, in the order of `EXPSERVER`.
    fn decided(file: &File) -> (String, Option<String>, String, ListingStyle, Unlisted, OnMissing) {
        let files = &file.servers[0].routes[0].files;
        (
            file.server_name.0.clone(),
            file.cors.as_ref().map(|origin| origin.0.clone()),
            files.charset.to_string(),
            files.listing_style,
            files.unlisted,
            file.servers[1].tcp.on_missing,
        )
    }

    #[test]
    fn a_profile_gives_defaults() {
        let with = parse(&document(r#""profile": "expserver","#, "", "")).unwrap();
        let expected = ("eXpServer".to_owned(), Some("*".to_owned()), "off".to_owned());
        let (server_name, cors, charset, style, unlisted, on_missing) = decided(&with);
        assert_eq!((server_name, cors, charset), expected);
        assert_eq!((style, unlisted, on_missing), (ListingStyle::Expserver, Unlisted::NotFound, OnMissing::Close));
        let plain = document("", "", "");
        assert_eq!(decided(&parse_with(&plain, Profile::Expserver).unwrap()), decided(&with));
        assert_ne!(decided(&parse(&plain).unwrap()), decided(&with));
    }

    #[test]
    fn the_documents_own_keys_win() {
        let top = r#""server_name": "mine", "cors": "https://example.org","#;
        let route = r#""charset": "auto", "listing_style": "standard", "unlisted": "forbidden","#;
        let own = document(top, route, r#""on_missing": "refuse","#);
        assert_eq!(decided(&parse_with(&own, Profile::Expserver).unwrap()), decided(&parse(&own).unwrap()));
        let named = document(r#""profile": "xps","#, "", "");
        let without = parse(&document("", "", "")).unwrap();
        assert_eq!(decided(&parse_with(&named, Profile::Expserver).unwrap()), decided(&without));
    }

    #[test]
    fn metrics_are_on_unless_their_port_is_taken_or_they_are_switched_off() {
        let metrics = |top: &str, port: &str| {
            let text = document(top, "", "").replace("\"port\": 3", port);
            parse_with(&text, Profile::Expserver).unwrap().metrics.listener().map(|listener| listener.target())
        };
        assert_eq!(metrics("", "\"port\": 3"), Some(ListenTarget::Tcp(Ipv4Addr::UNSPECIFIED.into(), 8004)));
        assert_eq!(metrics("", "\"port\": 8004"), None);
        assert_eq!(metrics(r#""metrics": false,"#, "\"port\": 3"), None);
        assert_eq!(
            metrics(r#""metrics": true,"#, "\"port\": 3"),
            Some(ListenTarget::Tcp(Ipv4Addr::LOCALHOST.into(), 8004))
        );
    }

    #[test]
    fn each_member_is_a_key_that_a_document_may_have() {
        for ProfileDefault { scope, key, value, .. } in &EXPSERVER {
            let default = format!("\"{key}\": {value},");
            let text = match scope {
                Scope::Document | Scope::DocumentWithout(_) => document(&default, "", ""),
                Scope::Handler(_) => document("", "", &default),
                Scope::Route(_) => document("", &default, ""),
            };
            assert!(parse(&text).is_ok(), "{key}");
        }
    }
}
