//! Routes of the configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::FileOptions;
use super::proxy::ProxyOptions;
use super::text::{ErrorStatus, Network, PathPrefix, RedirectUrl, RouteName};

/// A route: how to handle requests for a path and all paths beneath it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct Route {
    /// The path prefix. `/api` matches `/api` and `/api/users`, but not `/apis`. Paths are compared
    /// after percent-decoding and removal of dot segments: `/%61pi` and `//x/../api` match `/api`.
    /// `reverse_proxy` rejects paths that upstreams could read differently, see
    /// [proxies](#proxies).
    pub req_path: PathPrefix,
    /// Its name in the metrics: letters, digits, `_`, `.` and `-`, beginning with a letter or a digit.
    /// Routes of one server with the same name and type are counted together. Default: `req_path`.
    #[serde(default)]
    pub name: Option<RouteName>,
    /// How requests are handled.
    #[serde(rename = "type")]
    pub kind: RouteKind,
    /// Only clients in these networks are allowed, except those in `ip_blacklist`. Empty: all
    /// clients that the server allows.
    #[serde(default)]
    pub ip_whitelist: Vec<Network>,
    /// Clients in these networks are denied.
    #[serde(default)]
    pub ip_blacklist: Vec<Network>,
    /// Keep connections open for further requests.
    #[serde(default = "yes")]
    pub keep_alive: bool,
    /// Files to send instead of the built-in error pages, by status.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "error-status" }))]
    pub error_pages: BTreeMap<ErrorStatus, PathBuf>,
    /// For `redirect`: the status, 3xx except 304.
    #[serde(default = "found")]
    pub http_status_code: u16,
    /// For `redirect`: the target. `$host`, `$path` and `$query` are replaced by those of the
    /// request.
    #[serde(default)]
    pub redirect_url: Option<RedirectUrl>,
    /// Options of `file_serve`.
    #[serde(flatten)]
    pub files: FileOptions,
    /// Options of `reverse_proxy`.
    #[serde(flatten)]
    pub proxy: ProxyOptions,
}

const fn yes() -> bool {
    true
}

const fn found() -> u16 {
    302
}

/// How requests for a route are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// Serve files from `dir_path`.
    FileServe,
    /// Forward to one of `upstreams`.
    ReverseProxy,
    /// Redirect to `redirect_url`.
    Redirect,
    /// Respond with the server's metrics.
    Metrics,
    /// Respond with the JSON object of eXpServer's metrics.
    Api,
}

impl RouteKind {
    /// The name in the configuration file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FileServe => "file_serve",
            Self::ReverseProxy => "reverse_proxy",
            Self::Redirect => "redirect",
            Self::Metrics => "metrics",
            Self::Api => "api",
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::FileServe, Self::ReverseProxy, Self::Redirect, Self::Metrics, Self::Api]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}
