//! What those who operate the server use, in the configuration file.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listener::ListenTarget;
use super::text::{FileMode, ListenHost, Network};

/// The listener for metrics: whether there is one with the defaults, or one with options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Metrics {
    Switch(bool),
    Listener(MetricsListener),
}

impl Default for Metrics {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl Metrics {
    /// The listener, if there is one.
    pub fn listener(&self) -> Option<MetricsListener> {
        match self {
            Self::Switch(is_on) => is_on.then(MetricsListener::default),
            Self::Listener(listener) => Some(listener.clone()),
        }
    }
}

/// The listener for metrics. It has `/metrics`, `/livez` (200 while the process lives), `/readyz` (200, or
/// 503 once the server drains or is about to), and a page at `/`. A thread of its own serves it, also at
/// the connection limit and until the last connection of a client has ended. No limit or access list of
/// the servers applies to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsListener {
    /// IPv4 or IPv6 address, `localhost`, or `*` for all IPv4 addresses.
    pub host: ListenHost,
    /// TCP port. 0: the kernel chooses one.
    pub port: u16,
    /// Path of a unix socket, instead of `host` and `port`.
    #[schemars(length(min = 1, max = 107))]
    pub unix: Option<PathBuf>,
    /// Permissions of the unix socket, in octal, for example `"0660"`. Default: set by the umask.
    pub mode: Option<FileMode>,
    /// Only clients in these networks are allowed. Empty: all clients that reach the address.
    pub allow: Vec<Network>,
}

impl Default for MetricsListener {
    fn default() -> Self {
        let host = ListenHost(Ipv4Addr::LOCALHOST.into());
        Self { host, port: METRICS_PORT, unix: None, mode: None, allow: Vec::new() }
    }
}

impl MetricsListener {
    /// Its address.
    pub fn target(&self) -> ListenTarget {
        match &self.unix {
            Some(path) => ListenTarget::Unix { path: path.clone(), mode: self.mode },
            None => ListenTarget::Tcp(self.host.0, self.port),
        }
    }
}

/// The socket for commands: `xps ctl`, or HTTP. It also has the paths of the listener for
/// [metrics](#metrics), and is served by the same thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Path of the unix socket.
    #[schemars(length(min = 1, max = 107))]
    pub unix: PathBuf,
    /// Permissions of the socket, in octal. Every process that may write to it can control the server.
    /// The folder's permissions apply too.
    #[serde(default = "private")]
    pub mode: FileMode,
}

const fn private() -> FileMode {
    FileMode(0o600)
}

/// The port of metrics, as in eXpServer.
pub const METRICS_PORT: u16 = 8004;
