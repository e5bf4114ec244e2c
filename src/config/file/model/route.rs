//! What is behind a path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::FileOptions;
use super::proxy::ProxyOptions;
use super::text::{ErrorStatus, Network, PathPrefix, RedirectUrl};

/// What is behind a path and all beneath it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct Route {
    /// The path, and all beneath it: `/api` is for `/api` and `/api/users`, not for `/apis`. It is compared decoded and
    /// resolved: `/%61pi` and `//x/../api` are `/api`. What `reverse_proxy` would pass on as it came must be the same for
    /// every reader, see [proxies](#proxies).
    pub req_path: PathPrefix,
    /// What is done with requests for it.
    #[serde(rename = "type")]
    pub kind: RouteKind,
    /// Only these networks are let in, without those of `ip_blacklist`. None: all that the server lets in.
    #[serde(default)]
    pub ip_whitelist: Vec<Network>,
    /// These networks are not let in.
    #[serde(default)]
    pub ip_blacklist: Vec<Network>,
    /// Connections are kept for further requests.
    #[serde(default = "yes")]
    pub keep_alive: bool,
    /// Files that are sent in place of xps's own error pages, by status.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "error-status" }))]
    pub error_pages: BTreeMap<ErrorStatus, PathBuf>,
    /// For `redirect`: the status, one of 3xx.
    #[serde(default = "found")]
    pub http_status_code: u16,
    /// For `redirect`: where to. `$host`, `$path` and `$query` stand for those of the request.
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

/// What is done with requests for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// Files of `dir_path` are sent.
    FileServe,
    /// They are passed on to one of `upstreams`.
    ReverseProxy,
    /// They are sent to `redirect_url`.
    Redirect,
    /// They are answered with the server's counters.
    Metrics,
}

impl RouteKind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FileServe => "file_serve",
            Self::ReverseProxy => "reverse_proxy",
            Self::Redirect => "redirect",
            Self::Metrics => "metrics",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::FileServe, Self::ReverseProxy, Self::Redirect, Self::Metrics]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}
